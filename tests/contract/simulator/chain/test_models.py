"""The model of host-device against the real binaries: the same calls give the same answers and the same world.

Calls are drawn at random, but always the same ones; with ENIM_EXAMPLES=500 there are more. The IPAM plugin is a script,
and in memory its twin, that says what it is told to.
"""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Generator, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from enim import config, effects
from simulator import topology
from simulator.chain import execute, models
from simulator.errors import KernelFault
from simulator.lab import plugins as installed
from simulator.model import Link, PluginCall, PluginOutcome
from simulator.virtual import kernel as virtual
from simulator.virtual import plugins
from simulator.virtual.driver import Driver
from simulator.virtual.network import Network

EXAMPLES = int(os.environ.get("ENIM_EXAMPLES", "6"))
NEWEST = "github.com/containernetworking/plugins/plugins/main/host-device@v1.9.1"
GO_TIMEOUT_S = 45

InLab: TypeAlias = Callable[[Callable[[Path], Any]], Any]
Step: TypeAlias = tuple[Any, ...]
Said: TypeAlias = tuple[int, bytes]

ENIS = topology.enis(3)
PODS = ("p1", "p2")
GRANTED = {
    "cniVersion": "1.0.0",
    "ips": [
        {"address": "10.64.0.10/24", "gateway": "10.64.0.1", "interface": 7},
        {"address": "fd64::a/64", "gateway": "fd64::1"},
    ],
    "routes": [{"dst": "0.0.0.0/0"}, {"dst": "192.0.2.0/24", "gw": "10.64.0.9"}, {"dst": "::/0", "gw": "fd64::1"}],
    "dns": {"nameservers": ["192.0.2.53"]},
}
FAR = {**GRANTED, "routes": [{"dst": "0.0.0.0/0", "gw": "192.0.2.1"}]}
OLD = {"cniVersion": "0.2.0", "ip4": {"ip": "10.64.0.11/24", "gateway": "10.64.0.1", "routes": [{"dst": "0.0.0.0/0"}]}}
SAYS: Mapping[str, Said] = {
    "granted": (0, json.dumps(GRANTED).encode()),
    "granted in no version": (0, json.dumps({**GRANTED, "cniVersion": ""}).encode()),
    "granted in the oldest version": (0, json.dumps(OLD).encode()),
    "granted in a version to come": (0, json.dumps({**GRANTED, "cniVersion": "9.0.0"}).encode()),
    "no addresses": (0, b'{"cniVersion": "1.0.0"}'),
    "a gateway that is far away": (0, json.dumps(FAR).encode()),
    "nothing": (0, b""),
    "junk": (0, b"allocated!"),
    "null": (0, b"null"),
    "refused": (1, b'{"code": 11, "msg": "try again later", "details": "no ENI"}'),
    "refused without a code": (1, b'{"msg": "no"}'),
    "failed with junk": (1, b"panic: oh"),
    "failed with a list": (1, b"[]"),
    "failed without a word": (3, b""),
}
# What Go says of JSON, and what configuring says: their codes are compared, not their words.
FREE_TEXTS = ("json", "raw result", "diagnostic message", "failed to configure", "failed to add route", "field Result")


def told(outcome: PluginOutcome, scratch: str) -> tuple[int, Any]:
    """Exit code and what was printed, as far as it is stable."""
    text = outcome.stdout.decode().replace(scratch, "/pods")
    printed = json.loads(text) if text else None
    if isinstance(printed, dict) and any(word in printed.get("msg", "") for word in FREE_TEXTS):
        printed = {"code": printed["code"]}
    return outcome.exit_code, printed


class RealNode:
    """The binary, in a lab."""

    def __init__(self, real: Any, scratch: Path, binary: Path) -> None:
        self.kernel = real(scratch)
        self.scratch = str(scratch)
        self.bin = scratch / "bin"
        self.bin.mkdir()
        (self.bin / "host-device").symlink_to(binary)
        script = self.bin / "delegate"
        script.write_text(
            '#!/bin/sh\ncat >/dev/null\ncd "$(dirname "$0")"\necho $CNI_COMMAND >>heard\n'
            'cat "says.$CNI_COMMAND"\nexit "$(cat "code.$CNI_COMMAND")"\n'
        )
        script.chmod(0o755)

    def run(self, call: PluginCall, says: Mapping[str, Said]) -> tuple[tuple[int, Any], list[str]]:
        for command, (code, stdout) in says.items():
            (self.bin / f"says.{command}").write_bytes(stdout)
            (self.bin / f"code.{command}").write_text(str(code))
        (self.bin / "heard").write_text("")
        outcome = execute.run(call, self.bin)
        return told(outcome, self.scratch), (self.bin / "heard").read_text().split()

    def path(self, pod: str) -> str:
        return str(self.kernel.path(pod))


class ModelNode:
    """Its twin in memory."""

    def __init__(self, release: models.Release, *, live_rename: bool) -> None:
        self.links = virtual.Kernel(live_rename=live_rename)
        for eni in ENIS:
            self.links.attach(eni)
        self.kernel = ModelKernel(self.links)
        self.driver = Driver()
        self.says: Mapping[str, Said] = {}
        self.heard: list[str] = []
        files = {"host-device": functools.partial(models.main, release=release), "delegate": self.delegate}
        self.plugins = plugins.Plugins(self.driver, self.links, Network(self.driver, ""), files)

    def delegate(self, environment: Mapping[str, str], _stdin: bytes) -> Generator[effects.Effect, Any, int]:
        self.heard.append(environment["CNI_COMMAND"])
        code, stdout = self.says[environment["CNI_COMMAND"]]
        yield effects.Print(stdout)
        return code

    def run(self, call: PluginCall, says: Mapping[str, Said]) -> tuple[tuple[int, Any], list[str]]:
        self.says, self.heard = says, []
        process = self.plugins.start(call)
        self.driver.run(self.driver.now_ns + 1)
        return told(process.outcome(self.driver.now_ns), "/opt/cni"), self.heard

    def path(self, pod: str) -> str:
        return f"/pods/{pod}" if pod else ""


class ModelKernel:
    """The model's links under the names that the real one's helper has."""

    def __init__(self, links: virtual.Kernel) -> None:
        self.model = links
        self.restore = links.restore

    def create(self, pod: str) -> None:
        self.model.create_netns(f"/pods/{pod}")

    def delete(self, pod: str) -> None:
        self.model.delete_netns(f"/pods/{pod}")

    def unmount(self, pod: str) -> None:
        self.model.unmount_netns(f"/pods/{pod}")

    def is_netns(self, pod: str) -> bool:
        return self.model.is_netns(f"/pods/{pod}")

    def links(self, pod: str = "") -> tuple[Link, ...]:
        return tuple(
            Link(one.ifindex, one.name, one.mac, one.mtu, one.alias, one.altnames, one.addresses, one.up, pod)
            for one in self.model.links(f"/pods/{pod}" if pod else "")
        )

    def add_link(self, name: str, mac: str, pod: str) -> None:
        self.model.add_link(name, mac, f"/pods/{pod}" if pod else "")

    def change(self, link: Link, attribute: str, value: Any) -> None:
        self.model.change(link.name, f"/pods/{link.netns}" if link.netns else "", **{attribute: value})

    def add_altname(self, link: Link, name: str) -> None:
        self.change(link, "altnames", tuple(sorted((*link.altnames, name))))

    def settle(self) -> None:
        """It has no time."""


def take(node: Any, plan: list[Step]) -> list[Any]:
    """Take the steps; after each what it gave, and what can be seen."""
    seen = []
    for step in plan:
        try:
            answer = perform(node, *step)
        except KernelFault as fault:
            answer = fault.errno
        node.kernel.settle()
        netns = ["", *(pod for pod in PODS if node.kernel.is_netns(pod))]
        seen.append((step, answer, {one: node.kernel.links(one) for one in netns}))
    return seen


def perform(node: Any, verb: str, *arguments: Any) -> Any:
    if verb in ("ADD", "DEL"):
        return call_plugin(node, verb, *arguments)
    if verb in ("create", "delete", "unmount"):
        is_netns = node.kernel.is_netns(*arguments)
        return getattr(node.kernel, verb)(*arguments) if is_netns == (verb != "create") else "skipped"
    if verb == "clash":
        name, pod = arguments
        if pod and not node.kernel.is_netns(pod):
            return "skipped"
        return node.kernel.add_link(name, f"02:00:00:00:00:{sum(pod.encode()) % 200:02x}", pod)
    number, *rest = arguments
    link = next((link for link in node.kernel.links() if link.mac == ENIS[number].mac), None)
    if link is None:
        return "skipped"
    if verb == "restore":
        return node.kernel.restore(link.ifindex, ENIS[number].name, ENIS[number].mtu)
    return node.kernel.add_altname(link, *rest) if verb == "altname" else node.kernel.change(link, verb, *rest)


def call_plugin(node: Any, command: str, *arguments: Any) -> Any:
    pod, ifname, device, version, says = arguments
    netconf = {"cniVersion": version, "name": "net", "type": "host-device", **device}
    environment = {
        "CNI_COMMAND": command,
        "CNI_CONTAINERID": "c1",
        "CNI_NETNS": node.path(pod),
        "CNI_IFNAME": ifname,
    }
    said = {"ADD": SAYS[says[0]], "DEL": SAYS[says[1]]}
    return node.run(PluginCall("host-device", environment, json.dumps(netconf).encode()), said)


IPAM = {"ipam": {"type": "delegate"}, "dns": {"domain": "pod.example"}}
DEVICES = (
    {"device": "eni1", **IPAM},
    {"device": "eni2", **IPAM},
    {"hwaddr": ENIS[2].mac.upper(), **IPAM},
)
ODD_DEVICES = (
    {"device": "eth0", **IPAM},
    {"device": "eni1"},
    {"device": "nobody", **IPAM},
    {"hwaddr": "nonsense", **IPAM},
    {"hwaddr": "02:00:00:00:00:ff", **IPAM},
    {"device": "eni1", "ipam": {"type": "nowhere"}},
    {"pciBusID": "0000:ff:1f.7", **IPAM},
    {"runtimeConfig": {"deviceID": "0000:ff:1f.7"}, **IPAM},
    {"device": 7, **IPAM},
    IPAM,
)

pods, numbers = st.sampled_from(PODS), st.integers(0, len(ENIS) - 1)
names = st.sampled_from(("eth0", "net1", "eni1", "eni2"))
usually = st.sampled_from(("eth0", "eth0", "eth0", "net1", "eni2"))
devices = st.one_of(
    st.sampled_from(DEVICES), st.sampled_from(DEVICES), st.sampled_from(DEVICES), st.sampled_from(ODD_DEVICES)
)
versions = st.sampled_from(("1.0.0", "1.0.0", "1.0.0", "0.3.1", "0.2.0", "1.1.0", "2.0.0"))
says = st.tuples(st.sampled_from(("granted", *SAYS)), st.sampled_from(("nothing", "nothing", "nothing", *SAYS)))
additions = st.tuples(st.just("ADD"), pods, usually, devices, versions, says)
deletions = st.tuples(st.just("DEL"), st.sampled_from((*PODS, *PODS, "", "gone")), usually, devices, versions, says)
others = st.one_of(
    st.tuples(st.sampled_from(("create", "create", "delete", "unmount")), pods),
    st.tuples(st.just("clash"), names, st.sampled_from(("", *PODS))),
    st.tuples(st.just("altname"), numbers, names),
    st.tuples(st.just("alias"), numbers, st.sampled_from(("old", ""))),
    st.tuples(st.just("up"), numbers, st.booleans()),
    st.tuples(st.just("restore"), numbers),
)
steps = st.sampled_from((additions, additions, deletions, deletions, others)).flatmap(lambda kind: kind)
plans = st.lists(steps, min_size=8, max_size=16)
BEGIN: list[Step] = [("create", "p1"), ("create", "p2")]

derandomized = settings(
    max_examples=EXAMPLES,
    derandomize=True,
    database=None,
    deadline=None,
    phases=[Phase.generate],  # each run costs a lab: the failing plan is shown as it was found
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def assert_alike(in_lab: InLab, real: Any, plan: list[Step], binary: Path, release: models.Release) -> None:
    plan = [*BEGIN, *plan]
    expected = in_lab(lambda scratch: take(RealNode(real, scratch, binary), plan))
    for live_rename in (True, False):  # it renames only what it has set down, so this makes no difference (P5)
        modelled = take(ModelNode(release, live_rename=live_rename), plan)
        for number, (right, seen) in enumerate(zip(expected, modelled, strict=True)):
            assert seen == right, f"step {number + 1}, {seen[0]}, live_rename={live_rename}"


@pytest.fixture(scope="session")
def debian() -> Path:
    binary = installed.find().get("host-device")
    if binary is None:
        pytest.skip("host-device is not installed: enim-lab doctor --install")
    return binary


@pytest.fixture(scope="session")
def newest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("go") is None:
        pytest.skip("there is no go to build the newest host-device with")
    directory = tmp_path_factory.mktemp("go")
    environment = {**os.environ, "GOBIN": str(directory)}
    try:
        built = subprocess.run(
            ["go", "install", NEWEST],
            check=False,
            capture_output=True,
            text=True,
            env=environment,
            timeout=GO_TIMEOUT_S,
            cwd=tempfile.gettempdir(),
        )
    except subprocess.TimeoutExpired:
        pytest.skip(f"go install {NEWEST} did not end within {GO_TIMEOUT_S} s")
    if built.returncode != 0:
        pytest.skip(f"go install {NEWEST}: {built.stderr.strip()[-200:]}")
    return directory / "host-device"


@derandomized
@given(plan=plans)
def test_host_device_of_debian_does_as_its_model(in_lab: InLab, real: Any, debian: Path, plan: list[Step]) -> None:
    assert_alike(in_lab, real, plan, debian, models.DEBIAN)


@derandomized
@given(plan=plans)
def test_newest_host_device_does_as_its_model(in_lab: InLab, real: Any, newest: Path, plan: list[Step]) -> None:
    assert_alike(in_lab, real, plan, newest, models.NEWEST)


def calls(command: str, says: str, **changed: Any) -> Step:
    values = {"pod": "p1", "ifname": "eth0", "device": DEVICES[0], "version": "1.0.0", **changed}
    return (command, *values.values(), (says, says) if command == "DEL" else (says, "nothing"))


ADD, DEL = calls("ADD", "granted"), calls("DEL", "nothing")
AGAIN = [("restore", 0), ("up", 0, True)]  # eni1 as it was, but up
DEAD: list[Step] = [("delete", "p1"), ("create", "p1")]
EDGES: Mapping[str, list[Step]] = {
    "ADD, whatever IPAM says": [step for one in SAYS for step in (calls("ADD", one), DEL, *AGAIN)],
    "DEL, whatever IPAM says": [step for one in SAYS for step in (ADD, calls("DEL", one), *DEAD, *AGAIN)],
    "ADD and DEL of odd devices": [
        step
        for one in ODD_DEVICES
        for step in (calls("ADD", "granted", device=one), calls("DEL", "nothing", device=one), *DEAD, *AGAIN)
    ],
    "every version": [step for one in config.VERSIONS for step in (calls("ADD", "granted", version=one), DEL, *AGAIN)],
    "ADD and DEL again": [ADD, ADD, DEL, DEL, ADD],
    "DEL without a netns": [ADD, calls("DEL", "nothing", pod=""), ("unmount", "p1"), DEL, ("delete", "p1"), DEL, ADD],
    "CNI_IFNAME is taken in the pod": [("clash", "eth0", "p1"), ("up", 0, True), ADD, DEL],
    "the home name is taken in the pod": [("clash", "eni1", "p1"), ("up", 0, True), ADD, DEL],
    "the home name is taken in the pod on DEL": [ADD, ("clash", "eni1", "p1"), DEL],
    "the home name is taken at home on DEL": [ADD, ("clash", "eni1", ""), DEL],
    "an altname is taken in the pod": [("altname", 0, "net1"), ("clash", "net1", "p1"), ("up", 0, True), ADD, DEL],
    "an altname is CNI_IFNAME": [("altname", 0, "eth0"), ("up", 0, True), ADD, DEL],
    "a device by its altname": [("altname", 0, "eth0"), calls("ADD", "granted", ifname="net1", device=ODD_DEVICES[0])],
    "an alias of somebody else's": [("alias", 0, "old"), ("clash", "eth0", "p1"), ("up", 0, True), ADD, DEL],
    "a link without an alias": [("clash", "eth0", "p1"), DEL],
}


@pytest.mark.parametrize("plan", EDGES.values(), ids=EDGES)
@pytest.mark.parametrize("release", ["debian", "newest"])
def test_host_device_does_as_its_model_at_the_edges(
    in_lab: InLab, real: Any, request: pytest.FixtureRequest, release: str, plan: list[Step]
) -> None:
    binary = request.getfixturevalue(release)

    assert_alike(in_lab, real, plan, binary, {"debian": models.DEBIAN, "newest": models.NEWEST}[release])
