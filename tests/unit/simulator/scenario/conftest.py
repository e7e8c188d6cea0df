"""A world of the tests' own: an agent, a kernel and a plugin of a few lines each. It is honest until told to lie."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from simulator import topology
from simulator.errors import ScenarioError, WorldFault
from simulator.model import Attachment, Eni, EniRecord, Link, PluginCall, PluginOutcome, Snapshot
from simulator.report import events
from simulator.scenario import load, run

GOOD = """\
name: a-test
summary: a test
node: {enis: 2}
chains: [exclusive-device, host-device]
steps:
  - add: {pod: default/web-0, container: c1}
  - netns.delete: c1
  - add: {pod: default/web-0, container: c2}
    expect: {eni: {not: "${c1.eni}"}}
  - clock.advance: 3s
  - expect: {enis: {free: 1}, owner: {default/web-0: c2}}
  - del: {container: c1, netns: ""}
finally:
  - del: {container: c2}
"""
HEAD = "name: a\nsummary: b\nnode: {enis: 2}\nchain: exclusive-device\nsteps:\n"
SUPERSEDED_MS = 2_000


class FakeWorld:
    """One node. ``answers`` are what the next plugin runs do instead of the honest thing; ``faults``: method → what it
    raises.
    """

    def __init__(self, eni_count: int = 2) -> None:
        self.enis: Sequence[Eni] = topology.enis(eni_count)
        self.socket = "/run/agent.sock"
        self.state_directory = "/var/lib/cni"
        self.records = {eni.mac: EniRecord(eni, "free") for eni in self.enis}
        self.links = {eni.mac: self.at_home(eni) for eni in self.enis}
        self.namespaces = [""]
        self.is_running = True
        self.now_ms = 0
        self.calls: list[PluginCall] = []
        self.done: list[tuple[str, Any]] = []
        self.answers: list[Callable[[PluginCall], tuple[int, object]]] = []
        self.faults: dict[str, Exception] = {}
        self.on_pause: Callable[[], None] = lambda: None
        self.on_restart: Callable[[], None] = lambda: None
        self.shows = Snapshot((), agent_running=True, clock_ms=0)

    @staticmethod
    def at_home(eni: Eni) -> Link:
        return Link(int(eni.id[4:]) + 1, eni.name, eni.mac, eni.mtu)

    # --- the World

    def create_netns(self, name: str, *, dad: bool) -> str:
        self._do("create_netns", dad)
        self.namespaces.append(f"/n/{name}")
        return f"/n/{name}"

    def delete_netns(self, path: str) -> None:
        self._do("delete_netns", path)
        self.namespaces.remove(path)
        self.bring_home(lambda link: link.netns == path)

    def execute(self, call: PluginCall) -> PluginOutcome:
        self._do("execute", call.plugin)
        self.calls.append(call)
        code, said = self.answers.pop(0)(call) if self.answers else self.honest(call)
        stdout = said if isinstance(said, bytes) else b"" if said is None else json.dumps(said).encode()
        return PluginOutcome(call, code, stdout, b"", 5.0)

    def echo(self, netns: str, destination: str, timeout_ms: int) -> bool:
        self._do("echo", (netns, destination, timeout_ms))
        return any(link.netns == netns and link.up for link in self.links.values())

    def snapshot(self) -> Snapshot:
        self._do("snapshot", None)
        shown = {path: tuple(link for link in self.links.values() if link.netns == path) for path in self.namespaces}
        records = tuple(self.records.values()) if self.is_running else ()
        return replace(self.shows, records=records, agent_running=self.is_running, links=shown)

    def advance_clock(self, ms: int) -> None:
        self._do("advance_clock", ms)
        self._need_agent("clock.advance")
        if ms >= SUPERSEDED_MS:
            ended = {mac for mac, one in self.records.items() if one.netns and one.netns not in self.namespaces}
            late = {mac for mac, one in self.records.items() if one.state == "superseded"} | ended
            self.bring_home(lambda link: link.mac in late)
            self.records |= {mac: EniRecord(self.records[mac].eni, "free") for mac in late}

    def pause(self, ms: int) -> None:
        self.now_ms += ms
        self.on_pause()

    def elapsed_ms(self) -> float:
        return self.now_ms

    def start_agent(self, after_ms: int = 0) -> None:
        self._do("start_agent", after_ms)
        self.is_running = not after_ms
        self.on_restart()

    def kill_agent(self) -> None:
        self._do("kill_agent", None)
        self._need_agent("agent.kill")
        self.is_running = False

    def crash_agent_at(self, failpoint: str, back_after_ms: int) -> None:
        self._do("crash_agent_at", (failpoint, back_after_ms))

    # --- how it does that

    def _do(self, method: str, argument: Any) -> None:
        self.done.append((method, argument))
        if method in self.faults:
            raise self.faults[method]

    def _need_agent(self, operation: str) -> None:
        if not self.is_running:
            raise WorldFault(operation, 0, "the agent does not run")

    def bring_home(self, which: Callable[[Link], bool]) -> None:
        for eni in self.enis:
            if which(self.links[eni.mac]):
                self.links[eni.mac] = self.at_home(eni)

    def honest(self, call: PluginCall) -> tuple[int, object]:
        """What the whole chain does: exit code, and what is printed."""
        attachment = Attachment(
            json.loads(call.stdin)["name"], call.environment["CNI_CONTAINERID"], call.environment["CNI_IFNAME"]
        )
        if call.environment["CNI_COMMAND"] == "DEL":
            return self.release(attachment)
        free = [mac for mac, one in self.records.items() if one.state == "free"]
        if not free:
            return 1, {"code": 11, "msg": "no available ENI", "details": "try again"}
        arguments = dict(pair.split("=") for pair in call.environment["CNI_ARGS"].split(";"))
        owner = f"{arguments['K8S_POD_NAMESPACE']}/{arguments['K8S_POD_NAME']}"
        for mac, one in self.records.items():
            if one.owner == owner and one.state == "in_use":
                self.records[mac] = replace(one, state="superseded")
        return 0, self.give(free[0], attachment, owner, call.environment["CNI_NETNS"])

    def give(self, mac: str, attachment: Attachment, owner: str, netns: str) -> dict[str, Any]:
        """Move a NIC into a pod, as the agent's record says; the CNI result."""
        eni = self.records[mac].eni
        self.records[mac] = EniRecord(eni, "in_use", attachment, owner, netns)
        addresses = (f"{eni.ipv4}/24", f"{eni.ipv6}/64")
        self.links[mac] = Link(2, attachment.ifname, mac, 1500, addresses=addresses, up=True, netns=netns)
        interface = {"name": attachment.ifname, "mac": mac, "sandbox": netns}
        ips = [{"address": address, "interface": 0} for address in addresses]
        return {"cniVersion": "1.0.0", "interfaces": [interface], "ips": ips}

    def release(self, attachment: Attachment) -> tuple[int, object]:
        for mac, one in self.records.items():
            if one.attachment == attachment:
                self.records[mac] = EniRecord(one.eni, "free")
                self.bring_home(lambda link, mac=mac: link.mac == mac)  # type: ignore[misc]
        return 0, None


class Played:
    """One run of a scenario in a world."""

    def __init__(self, world: FakeWorld, steps: str, chain: str = "exclusive-device", *, whole: bool = False) -> None:
        head = "" if whole else HEAD.replace("exclusive-device", chain).replace("enis: 2", f"enis: {len(world.enis)}")
        self.world = world
        self.happened: list[events.Event] = []
        loaded = load.parse("s.yaml", (head + steps).encode())
        self.failed = run.ScenarioRun(loaded, chain, world, self.happened.append).run()

    @property
    def steps(self) -> list[tuple[str, str]]:
        """What each step that succeeded says of itself, and what it gave."""
        return [(event.step, event.outcome) for event in self.happened if isinstance(event, events.StepFinished)]

    @property
    def failure(self) -> events.Failed:
        assert self.failed is not None, "it passed"
        return self.failed


def said_of(text: str | bytes) -> str:
    """What a user reads of a file that is wrong."""
    with pytest.raises(ScenarioError) as caught:
        load.parse("s.yaml", text if isinstance(text, bytes) else text.encode())
    return str(caught.value)


@pytest.fixture(scope="session")
def good() -> str:
    """A scenario file in which nothing is wrong."""
    return GOOD


@pytest.fixture(scope="session")
def said() -> Callable[[str | bytes], str]:
    return said_of


@pytest.fixture
def world() -> FakeWorld:
    return FakeWorld()


@pytest.fixture(scope="session")
def make_world() -> Callable[[int], FakeWorld]:
    return FakeWorld


@pytest.fixture(scope="session")
def play() -> Callable[..., Played]:
    return Played
