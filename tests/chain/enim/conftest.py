"""A node of one's own: a test that takes the fixture ``node`` runs whole in a child process, in new namespaces.

As root the child gets its own network and mount namespace; an ordinary user's gets a user namespace besides. What the
test makes ends with the child.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import signal
import socket
import subprocess
import threading
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from enim import wire
from simulator import syscalls
from simulator.chain import install

NIC_MAC = "02:00:00:00:00:01"


class Node:
    """NICs (veth pairs, whose far ends are up and named ``far-…``) and pods' network namespaces."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def enter(self) -> None:
        uid, gid = os.geteuid(), os.getegid()
        syscalls.unshare(syscalls.CLONE_NEWNET | syscalls.CLONE_NEWNS | (syscalls.CLONE_NEWUSER if uid else 0))
        if uid:
            Path("/proc/self/setgroups").write_text("deny")
            Path("/proc/self/uid_map").write_text(f"0 {uid} 1")
            Path("/proc/self/gid_map").write_text(f"0 {gid} 1")
        syscalls.mount("none", "/", flags=syscalls.MS_REC | syscalls.MS_PRIVATE)
        syscalls.mount("tmpfs", str(self.directory), "tmpfs")

    def create_netns(self, name: str = "pod", *, dad: bool = False) -> str:
        path = self.directory / name
        path.touch()
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        syscalls.unshare(syscalls.CLONE_NEWNET)
        syscalls.mount("/proc/thread-self/ns/net", str(path), flags=syscalls.MS_BIND)
        if not dad:
            Path("/proc/sys/net/ipv6/conf/default/accept_dad").write_text("0")
        syscalls.setns(home, syscalls.CLONE_NEWNET)
        os.close(home)
        return str(path)

    @contextlib.contextmanager
    def within(self, netns: str) -> Iterator[None]:
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        target = os.open(netns or "/proc/thread-self/ns/net", os.O_RDONLY)
        syscalls.setns(target, syscalls.CLONE_NEWNET)
        try:
            yield
        finally:
            syscalls.setns(home, syscalls.CLONE_NEWNET)
            os.close(home)
            os.close(target)

    def ip(self, *arguments: str, netns: str = "") -> Any:
        with self.within(netns):
            done = subprocess.run(["ip", "-json", "-details", *arguments], check=False, capture_output=True, text=True)
        assert done.returncode == 0, f"ip {' '.join(arguments)}: {done.stderr}"
        return json.loads(done.stdout or "[]")

    def create_nic(self, name: str = "eni1", mac: str = "02:00:00:00:00:01", *, up: bool = False) -> int:
        """Make a NIC; return its index."""
        self.ip("link", "add", name, "address", mac, "type", "veth", "peer", "name", f"far-{name}")
        self.ip("link", "set", f"far-{name}", "up")
        if up:
            self.ip("link", "set", name, "up")
        return int(self.show(name)["ifindex"])

    def show(self, name: str, netns: str = "") -> dict[str, Any]:
        """A link as ``ip`` shows it, with its addresses; {} if there is none of that name."""
        return next((link for link in self.ip("address", netns=netns) if link.get("ifname") == name), {})

    def names(self, netns: str = "") -> list[str]:
        """The links but lo and the far ends of the NICs, sorted."""
        found = [str(link["ifname"]) for link in self.ip("link", netns=netns) if link]
        return sorted(name for name in found if name != "lo" and not name.startswith("far-"))


@pytest.fixture(scope="session")
def plugins(python: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CNI bin directory with both plugins; for every Python in turn if ENIM_EVERY_PYTHON is set."""
    directory = tmp_path_factory.mktemp("bin")
    install.write(directory, install.bundle(python))
    return directory


class GrantingAgent(threading.Thread):
    """Grants the NIC ``eni1``; or answers with ``status``, and with ``delete_status`` what is undone then."""

    def __init__(self, path: Path, ifindex: int) -> None:
        super().__init__(daemon=True)
        self.status = self.delete_status = 200
        ipv4 = {"ip": "192.0.2.10", "cidrs": ["192.0.2.0/24"], "gateway": "192.0.2.1"}
        ipv4 |= {"master-mac": NIC_MAC, "interface-number": str(ifindex)}
        self.granted = json.dumps({"address": {"ipv4": "192.0.2.10"}, "ipv4": ipv4}).encode()
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(path))
        self.listener.listen(128)
        self.start()

    def run(self):
        while True:
            connection, _ = self.listener.accept()
            with connection:
                received = b""
                while (decoded := wire.decode_request(received)) is None:
                    received += connection.recv(65536)
                status = self.status if decoded[0].method == "POST" else self.delete_status
                body = self.granted if status == 200 else b'"no ENI is free"'
                connection.sendall(wire.encode_reply(wire.Reply(status, body, "application/json")))


class LoggedCaller:
    """Runs a plugin; enim under host-device with a dead netns, so that it needs no link."""

    def __init__(self, plugins: Path, directory: Path, ifindex: int = 7) -> None:
        self.plugins = plugins
        self.file = directory / "plugins.log"
        self.agent = GrantingAgent(directory / "agent.sock", ifindex)
        self.netns = "/var/run/netns/none"
        ipam = {"type": "enim", "socket": str(directory / "agent.sock")}
        self.netconf = {"cniVersion": "1.1.0", "name": "podnet", "type": "host-device", "device": "e1", "ipam": ipam}
        self.netconf["log-file"] = str(self.file)

    def start(self, plugin="enim", command="ADD", stdin=None, stdout=subprocess.PIPE, preexec_fn=None, **changes):
        variables = {name: changes.pop(name) for name in list(changes) if name.startswith("CNI_")}
        environment = {
            "CNI_COMMAND": command,
            "CNI_CONTAINERID": "c1",
            "CNI_NETNS": self.netns,
            "CNI_IFNAME": "eth0",
            "CNI_PATH": str(self.plugins),
            "CNI_ARGS": "K8S_POD_NAMESPACE=default;K8S_POD_NAME=web-0",
            **variables,
        }
        netconf = {key.replace("_", "-"): value for key, value in changes.items()}
        pipe = subprocess.PIPE
        process = subprocess.Popen(
            [self.plugins / plugin],
            env=environment,
            stdin=pipe,
            stdout=stdout,
            stderr=pipe,
            preexec_fn=preexec_fn,  # noqa: PLW1509 -- setrlimit and close take no lock
        )
        process.stdin.write(json.dumps({**self.netconf, **netconf}).encode() if stdin is None else stdin)
        process.stdin.close()
        process.stdin = None
        return process

    def run(self, *arguments, **options):
        """Exit code, stdout, stderr."""
        process = self.start(*arguments, **options)
        stdout, stderr = process.communicate(timeout=20)
        assert b"Traceback" not in stderr
        return process.returncode, stdout, stderr.decode()

    def lines(self):
        return self.file.read_text().splitlines()

    def logged(self):
        """The lines as objects; they must be JSON."""
        return [json.loads(line) for line in self.lines()]


@pytest.fixture
def log_caller(plugins: Path) -> Callable[..., LoggedCaller]:
    """Makes one, given its directory; within the node, if the test has one."""
    return functools.partial(LoggedCaller, plugins)


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    node = pyfuncitem.funcargs.get("node")
    if not isinstance(node, Node):
        return None
    report = _run_in_child(pyfuncitem, node)
    if report.startswith("skip "):
        pytest.skip(report.removeprefix("skip "))
    if report:
        pytest.fail(report, pytrace=False)
    return True


def _run_in_child(item: pytest.Function, node: Node) -> str:
    """What went wrong there, "" for nothing."""
    receiving, sending = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(receiving)
        try:
            os.write(sending, _outcome(item, node).encode("utf-8", "replace")[:60000])
        finally:
            os._exit(0)
    os.close(sending)
    try:
        with os.fdopen(receiving, "rb") as pipe:
            report = pipe.read().decode()
        status = os.waitpid(child, 0)[1]
    except BaseException:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        raise
    return report or (f"the child ended with status {status}" if status else "")


def _outcome(item: pytest.Function, node: Node) -> str:
    try:
        node.enter()
    except OSError as error:
        return f"skip no namespaces of one's own here: {error}"
    try:
        names = item._fixtureinfo.argnames
        item.obj(**{name: item.funcargs[name] for name in names})
    except BaseException:  # noqa: BLE001 -- the parent reports it
        return traceback.format_exc()
    return ""
