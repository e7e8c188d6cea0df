"""Hands for the agent's flows: a small world that can be stopped at any effect, and can refuse one."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from enim import wire
from simulator import effects, errors
from simulator.agent import flows
from simulator.model import Attachment, Eni, EniId, EniRecord, Link, Subnet

SUBNET = Subnet("10.64.0.0/24", "10.64.0.1", "fd00:64::/64", "fd00:64::1")
NETWORK = "podlink"


def build_eni(number: int) -> Eni:
    mac = f"fa:26:00:00:00:{number:02x}"
    return Eni(
        EniId(f"eni-{number}"), mac, f"ens{number}", 1500, f"10.64.0.{10 + number}", f"fd00:64::{number}", SUBNET
    )


class Flight:
    """A flow that has been started and stands before the effect it has yielded."""

    def __init__(self, hands: "Hands", flow: effects.Flow[Any]) -> None:
        self.hands = hands
        self.flow = flow
        self.answer: Any = None
        self.is_over = False
        self.effect: Any = None
        self._resume(lambda: next(flow))

    def until(self, *kinds: type) -> "Flight":
        """Go on to the next effect of these kinds."""
        while not self.is_over and not isinstance(self.effect, kinds):
            self.step()
        return self

    def step(self) -> "Flight":
        """Carry out the effect it stands before."""
        effect = self.effect
        try:
            outcome = self.hands.carry_out(effect)
        except errors.WorldFault as fault:
            return self.fail(fault)
        return self.resume(outcome)

    def resume(self, outcome: Any) -> "Flight":
        """The effect it stands before has this outcome."""
        self._resume(lambda: self.flow.send(outcome))
        return self

    def fail(self, fault: Exception) -> "Flight":
        self._resume(lambda: self.flow.throw(fault))
        return self

    def end(self) -> Any:
        for _ in range(10_000):
            if self.is_over:
                return self.answer
            self.step()
        raise AssertionError("a flow that does not end")

    def _resume(self, resume: Callable[[], Any]) -> None:
        try:
            self.effect = resume()
        except StopIteration as end:
            self.effect, self.is_over, self.answer = None, True, end.value


class Hands:
    """An agent and the world it sees."""

    def __init__(self, eni_count: int = 2) -> None:
        self.enis = tuple(build_eni(number) for number in range(1, eni_count + 1))
        self.clock_ms = 1_000
        self.links = {eni.id: self._link(eni, index) for index, eni in enumerate(self.enis, start=2)}
        self.netns: dict[str, str] = {}  # path → identity
        self.inside: dict[str, str] = {}  # MAC → path
        self.strangers: list[Link] = []
        self.journal: list[dict[str, Any]] = []
        self.faults: dict[type, errors.WorldFault] = {}
        self.done: list[effects.Effect] = []
        self.deadline_ms: float | None = None
        self.restart()

    def restart(self) -> None:
        """Kill the agent and start it on its journal."""
        self.agent = flows.Agent(self.enis, self.journal)
        self.background = Flight(self, self.agent.reconcile())

    def settle(self, after_ms: int = 0) -> None:
        """Let time pass, then let the background do all that is due."""
        self.clock_ms += after_ms
        if isinstance(self.background.effect, effects.WaitForChange):
            self.background.step()
        self.background.until(effects.WaitForChange)
        deadline_ns = self.background.effect.deadline_ns
        self.deadline_ms = None if deadline_ns is None else deadline_ns / 1_000_000

    def request(self, method: str, container_id: str = "c1", **fields: Any) -> wire.Request:
        owner, ifname = fields.get("owner", "default/web-0"), fields.get("ifname", "eth0")
        netns, network = fields.get("netns", f"/run/netns/{container_id}"), fields.get("network", NETWORK)
        query = (("owner", owner), ("containerID", container_id), ("netns", netns), ("ifname", ifname))
        body = fields.get("body", b"")
        headers = (("content-type", "application/json"),) if body else ()
        headers += (("x-enim-network", network),) if network else ()
        return wire.Request(method, "/v1/eni", query, headers, body)

    def begin(self, method: str, container_id: str = "c1", **fields: Any) -> Flight:
        return Flight(self, self.agent.handle(self.request(method, container_id, **fields)))

    def add(self, container_id: str = "c1", **fields: Any) -> wire.Reply:
        return self.begin("POST", container_id, **fields).end()

    def delete(self, container_id: str = "c1", **fields: Any) -> wire.Reply:
        return self.begin("DELETE", container_id, **fields).end()

    def begin_asking(self, request: wire.Request) -> Flight:
        return Flight(self, self.agent.handle(request))

    def ask(self, request: wire.Request) -> wire.Reply:
        reply: wire.Reply = self.begin_asking(request).end()
        return reply

    def record(self, number: int = 1) -> EniRecord:
        return next(record for record in self.agent.records() if record.eni.id == f"eni-{number}")

    def states(self) -> list[str]:
        return [record.state for record in self.agent.records()]

    def attachment(self, container_id: str = "c1", ifname: str = "eth0") -> Attachment:
        return Attachment(NETWORK, container_id, ifname)

    def occupy(self, netns_lives: bool = True) -> None:
        """eni-1 is c1's, and its NIC is in c1's netns, which the agent has seen alive or never saw."""
        if netns_lives:
            self.netns["/run/netns/c1"] = "4:100"
        assert self.add("c1").status == 200
        self.move_in(1, "/run/netns/c1")
        self.settle()

    def move_in(self, number: int, path: str) -> None:
        """The upper plugin moves a NIC into a netns, which comes to be if there is none."""
        eni = self.enis[number - 1]
        self.netns.setdefault(path, f"4:{len(self.netns) + 100}")
        self.links.pop(eni.id)
        self.inside[eni.mac] = path

    def come_home(self, number: int, **changes: Any) -> None:
        """A NIC comes home, not as it left unless told so."""
        eni = self.enis[number - 1]
        self.inside.pop(eni.mac, None)
        self.links[eni.id] = replace(self._link(eni, 40 + number), alias=eni.name, name=f"dev{number}", **changes)

    def end_netns(self, path: str) -> None:
        """A netns dies, and the hardware brings home what was inside."""
        self.netns.pop(path)
        for number, eni in enumerate(self.enis, start=1):
            if self.inside.get(eni.mac) == path:
                self.come_home(number)

    def carry_out(self, effect: effects.Effect) -> Any:
        self.done.append(effect)
        if type(effect) in self.faults:
            raise self.faults[type(effect)]
        match effect:
            case effects.Now():
                return self.clock_ms * 1_000_000
            case effects.WaitForChange(deadline_ns):
                if effect is not self.background.effect and deadline_ns is not None:  # a request's own patience
                    self.clock_ms = max(self.clock_ms, -(-deadline_ns // 1_000_000))
                return None
            case effects.Persist(events):
                self.journal.extend(dict(event) for event in events)
                return None
            case effects.Measure():
                return effects.Measures(journal_entries=len(self.journal))
        return self._ask_kernel(effect)

    def _ask_kernel(self, effect: effects.Effect) -> Any:
        match effect:
            case effects.ListLinks():
                return (*self.links.values(), *self.strangers)
            case effects.InspectNetns(path, mac):
                link = Link(9, "eth0", mac, 1500, netns=path) if self.inside.get(mac) == path else None
                return effects.NetnsView(self.netns.get(path, ""), link)
            case effects.MoveHome(path, mac, _):
                assert self.inside.get(mac) == path
                self.come_home(next(number for number, eni in enumerate(self.enis, start=1) if eni.mac == mac))
                return None
            case effects.RestoreIdentity(ifindex, name, mtu):
                for eni_id, link in self.links.items():
                    if link.ifindex == ifindex:
                        self.links[eni_id] = replace(link, name=name, mtu=mtu, alias="", altnames=(), addresses=())
                return None
        raise AssertionError(effect)

    def _link(self, eni: Eni, ifindex: int) -> Link:
        return Link(ifindex, eni.name, eni.mac, eni.mtu)


@pytest.fixture
def hands() -> Hands:
    """Two ENIs at home, found and free."""
    ready = Hands()
    ready.settle()
    return ready


@pytest.fixture(scope="session")
def make_hands() -> Callable[[int], Hands]:
    """As many ENIs as asked for, not looked at yet."""
    return Hands


@pytest.fixture(scope="session")
def make_eni() -> Callable[[int], Eni]:
    return build_eni


@pytest.fixture(scope="session")
def store_fault() -> errors.StoreFault:
    return errors.StoreFault("append 1 events", 28, "No space left on device")


@pytest.fixture(scope="session")
def kernel_fault() -> errors.KernelFault:
    return errors.KernelFault("move ens1 home", 17, "File exists")
