"""Programs of others that drive plugins, and a node for them. A program that is missing is a skip by its name.

A test that takes the fixture ``node`` runs whole in a lab. Our plugins are installed there, and an agent with fake ENIs
is started, by ``enim-lab``, as a user does it.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from enim import effects, errors, transport, wire
from simulator import syscalls
from simulator.chain import execute
from simulator.lab import plugins
from simulator.model import PluginCall, PluginOutcome
from simulator.real import kernel

ENIM_LAB = Path(sys.executable).with_name("enim-lab")
NETWORK = "podnet"
PATIENCE_S = 20.0


class Node:
    """What a test does on its node. Everything of it lies in the lab and ends with it.

    Args:
        in_lab: runs a function in a fresh lab.
    """

    def __init__(self, in_lab: Callable[[Callable[[Path], Any]], Any]) -> None:
        self.run_in_lab = in_lab

    def enter(self, scratch: Path) -> None:
        """Called in the lab, before the test: its directories; libcni's cache has its one place under /var/lib."""
        self.scratch = scratch
        self.bin, self.conf = scratch / "bin", scratch / "net.d"
        self.socket, self.control = scratch / "agent.sock", scratch / "control.sock"
        self.conf.mkdir()
        syscalls.mount("enim", "/var/lib", "tmpfs")

    def enim_lab(self, *arguments: str | Path) -> str:
        """Run it to its end; what it printed."""
        ran = subprocess.run([ENIM_LAB, *arguments], check=False, capture_output=True, text=True)
        assert ran.returncode == 0, ran.stderr
        return ran.stdout

    def install(self, *others: Path) -> None:
        """Our plugins, and those of others beside them."""
        self.enim_lab("install", "--bin-dir", self.bin)
        for binary in others:
            if binary.parent != self.bin:
                shutil.copy(binary, self.bin)

    def write_conflist(self, chain: str, version: str, **keys: Any) -> None:
        """A network of one of our chains."""
        plugin = {"type": chain, "ipam": {"type": "enim", "socket": str(self.socket)}, **keys}
        conflist = {"cniVersion": version, "name": NETWORK, "plugins": [plugin]}
        (self.conf / "10-enim.conflist").write_text(json.dumps(conflist))

    def start_agent(self, enis: int = 2) -> subprocess.Popen[bytes]:
        """Start it; return when it has looked at its ENIs."""
        places = ("--socket", self.socket, "--control", self.control, "--state", self.scratch / "agent.state")
        agent = subprocess.Popen([ENIM_LAB, "agent", *places, "--enis", str(enis)])
        self.until(self.knows_its_enis, True)
        return agent

    def knows_its_enis(self) -> bool:
        states = self.enis().values()
        return bool(states) and not {"absent", "returning"} & set(states)

    def ask(self, method: str, path: str, **query: str) -> Any:
        """One request to the agent's private socket; {} while there is none."""
        request = wire.Request(method, path, tuple(query.items()))
        try:
            return json.loads(transport.round_trip(effects.Request(str(self.control), request, 5_000)).body)
        except errors.Unreachable:
            return {}

    def records(self) -> dict[str, dict[str, Any]]:
        """What the agent says of each ENI, by its name."""
        return {record["eni"]["name"]: record for record in self.ask("GET", "/state").get("records", [])}

    def enis(self) -> dict[str, str]:
        """The state of each ENI, by its name."""
        return {name: record["state"] for name, record in self.records().items()}

    def requests(self) -> list[str]:
        """The methods of what the agent was asked since the last look."""
        return [one["method"] for one in self.ask("GET", "/served")["served"]]

    def until(self, look: Callable[[], Any], wanted: Any) -> None:
        """Wait until ``look`` gives ``wanted``."""
        deadline = time.monotonic() + PATIENCE_S
        while (seen := look()) != wanted:
            assert time.monotonic() < deadline, f"{seen} is not {wanted}"
            time.sleep(0.02)

    def create_netns(self, name: str = "pod") -> Path:
        path = self.scratch / name
        kernel.create_netns(path, accept_dad=False)
        return path

    def delete_netns(self, path: Path) -> None:
        kernel.delete_netns(path)

    def ip(self, netns: Path, *arguments: str) -> None:
        """The ip program in a namespace."""
        subprocess.run(["nsenter", f"--net={netns}", "ip", *arguments], check=True)

    def links(self, netns: Path | str = "") -> dict[str, list[str]]:
        """The links but lo, by name: their addresses, but those of the link's own scope."""
        found = kernel.Kernel().netns_links(str(netns)) if netns else kernel.Kernel().links()
        return {link.name: sorted(link.addresses) for link in found if link.name != "lo"}

    def call(self, plugin: str, command: str, netns: Path | str, container: str = "c1") -> PluginOutcome:
        """Run a plugin of the conflist as a runtime does, but without a memory of earlier calls."""
        document = json.loads((self.conf / "10-enim.conflist").read_text())
        stdin = {"cniVersion": document["cniVersion"], "name": document["name"], **document["plugins"][0]}
        environment = {
            "CNI_COMMAND": command,
            "CNI_CONTAINERID": container,
            "CNI_NETNS": str(netns),
            "CNI_IFNAME": "eth0",
        }
        return execute.run(PluginCall(plugin, environment, json.dumps(stdin).encode()), self.bin)


@pytest.fixture
def node(in_lab: Callable[[Callable[[Path], Any]], Any]) -> Node:
    return Node(in_lab)


@pytest.fixture(scope="session")
def cnitool(driver: Callable[[str], Path]) -> Path:
    return driver("cnitool")


@pytest.fixture(scope="session")
def crictl(driver: Callable[[str], Path]) -> Path:
    return driver("crictl")


@pytest.fixture(scope="session")
def packaged() -> Path:
    """The host-device of this machine's distribution."""
    binary = plugins.find().get("host-device")
    if binary is None:
        pytest.skip("there is no packaged host-device here: run enim-lab doctor --install")
    return binary


@pytest.fixture(params=["packaged", "newest"])
def host_device(request: pytest.FixtureRequest) -> Path:
    return request.getfixturevalue(request.param)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """A test with a node runs in the node's lab; what it raises comes back from there."""
    node = pyfuncitem.funcargs.get("node")
    if not isinstance(node, Node):
        return None
    arguments = {name: pyfuncitem.funcargs[name] for name in pyfuncitem._fixtureinfo.argnames}

    def run(scratch: Path) -> None:
        node.enter(scratch)
        pyfuncitem.obj(**arguments)

    node.run_in_lab(run)
    return True
