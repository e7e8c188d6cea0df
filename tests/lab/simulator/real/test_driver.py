import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from enim import wire
from simulator.agent import flows
from simulator.effects import (
    Effect,
    Flow,
    InspectNetns,
    ListLinks,
    MoveHome,
    NetnsView,
    Now,
    Persist,
    RestoreIdentity,
    WaitForChange,
)
from simulator.errors import InvariantBroken, KernelFault, StoreFault
from simulator.model import Eni, EniId, EniRecord, Link, Subnet
from simulator.real import clock, driver, store

PATIENCE_S = 10.0
SUBNET = Subnet("10.64.0.0/24", "10.64.0.1", "fd00:64::/64", "fd00:64::1")


def make_eni(number: int) -> Eni:
    mac = f"02:00:00:00:00:{number:02x}"
    name = f"eni{number}"
    return Eni(EniId(f"eni-{number}"), mac, name, 1500, f"10.64.0.{number + 10}", f"fd00:64::{number + 10}", SUBNET)


class HomeKernel:
    """A node without pods: every link is at home, and restoring one works."""

    def __init__(self, *links: Link) -> None:
        self.by_ifindex = {link.ifindex: link for link in links}
        self.callbacks: list[Callable[[], None]] = []
        self.moves: list[tuple[str, str, str]] = []
        self.fault: KernelFault | None = None

    def links(self) -> tuple[Link, ...]:
        if self.fault:
            raise self.fault
        return tuple(self.by_ifindex.values())

    def inspect(self, path: str, mac: str) -> NetnsView:
        return NetnsView(f"4:{len(path)}", None)

    def move_home(self, path: str, mac: str, name: str) -> None:
        self.moves.append((path, mac, name))

    def restore(self, ifindex: int, name: str, mtu: int) -> None:
        link = self.by_ifindex[ifindex]
        self.by_ifindex[ifindex] = Link(ifindex, name, link.mac, mtu)
        self.change()

    def watch(self, callback: Callable[[], None]) -> Callable[[], None]:
        self.callbacks.append(callback)
        return lambda: self.callbacks.remove(callback)

    def change(self) -> None:
        for callback in list(self.callbacks):
            callback()


class MemoryJournal:
    """Keeps events; can be told to refuse."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.offset_ns = 0
        self.is_full = False

    def append(self, events: Any, clock_ns: int = 0) -> None:
        if self.is_full:
            raise StoreFault("append", 28, "disk full")
        self.events += events

    def save_clock_offset(self, offset_ns: int) -> None:
        self.offset_ns = offset_ns


class ScriptedAgent:
    """An agent whose flow in the background is given, and which has no requests."""

    def __init__(self, background: Callable[[], Flow[None]] | None = None) -> None:
        self._background = background

    def handle(self, request: wire.Request) -> Flow[wire.Reply]:
        yield Now()
        return wire.Reply(200, request.path.encode())

    def reconcile(self) -> Flow[None]:
        if self._background is None:
            yield WaitForChange(None)
        else:
            yield from self._background()

    def records(self) -> tuple[EniRecord, ...]:
        return ()


def make_driver(
    background: Callable[[], Flow[None]] | None = None, kernel: HomeKernel | None = None, journal: Any = None
) -> driver.Driver:
    return driver.Driver(
        ScriptedAgent(background),
        kernel or HomeKernel(),
        MemoryJournal() if journal is None else journal,
        clock.Clock(),
    )


def asking(*wanted: Effect) -> Flow[list[Any]]:
    answers = []
    for effect in wanted:
        answer = yield effect
        answers.append(answer)
    return answers


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(32) as executor:
        yield executor


def test_run_carries_out_each_effect_and_returns_the_answer_of_the_flow() -> None:
    kernel = HomeKernel(Link(2, "dev2", "02:00:00:00:00:01", 1400, alias="eth0"))
    agent = make_driver(kernel=kernel)
    wanted = (
        RestoreIdentity(2, "eni1", 1500),
        ListLinks(),
        InspectNetns("/run/netns/p", "02:00:00:00:00:01"),
        MoveHome("/run/netns/p", "02:00:00:00:00:01", "eni1"),
    )
    answers = agent.run(asking(*wanted))
    assert answers == [None, (Link(2, "eni1", "02:00:00:00:00:01", 1500),), NetnsView("4:12", None), None]
    assert kernel.moves == [("/run/netns/p", "02:00:00:00:00:01", "eni1")]


def test_handle_answers_a_request() -> None:
    assert make_driver().handle(wire.Request("GET", "/v1/healthz")) == wire.Reply(200, b"/v1/healthz")


def test_fault_of_the_outside_is_thrown_into_the_flow_at_its_yield() -> None:
    kernel = HomeKernel()
    kernel.fault = KernelFault("list links", 105, "no buffer space")
    journal = MemoryJournal()
    journal.is_full = True

    def flow() -> Flow[list[str]]:
        said = []
        for effect in (ListLinks(), Persist(({"kind": "freed"},))):
            try:
                yield effect
            except (KernelFault, StoreFault) as fault:
                said.append(fault.text)
        return said

    assert make_driver(kernel=kernel, journal=journal).run(flow()) == ["no buffer space", "disk full"]
    assert journal.events == []


def test_bug_behind_an_effect_reaches_the_flow_first_so_that_it_lets_go_of_what_it_holds() -> None:
    held = {"eni-1"}

    def flow() -> Flow[None]:
        try:
            yield RestoreIdentity(99, "eni1", 1500)  # no such link: the fake kernel's KeyError
        finally:
            held.clear()

    with pytest.raises(KeyError):
        make_driver().run(flow())
    assert held == set()


def test_what_a_flow_persists_is_in_the_journal_in_the_order_in_which_memory_changed(
    pool: ThreadPoolExecutor, tmp_path: Path
) -> None:
    journal = store.Journal(tmp_path / "state.db")
    agent = make_driver(journal=journal)
    applied: list[int] = []
    ahead: list[int] = []

    def flow(number: int) -> Flow[None]:
        for turn in range(4):
            ahead.append(number)
            yield Persist(({"number": number * 10 + turn},))
            applied.append(number * 10 + turn)
            assert len(ahead) == len(applied)  # nobody moved between the yield and here
            yield ListLinks()

    list(pool.map(agent.run, map(flow, range(32))))
    assert [event["number"] for event in journal.read()] == applied
    assert len(applied) == 128
    journal.close()


def test_flow_runs_whole_between_two_yields_whatever_the_others_do(pool: ThreadPoolExecutor) -> None:
    agent = make_driver()
    shared = {"count": 0}

    def flow() -> Flow[None]:
        for _ in range(50):
            before = shared["count"]
            for _ in range(20):
                pass
            shared["count"] = before + 1
            yield ListLinks()

    list(pool.map(agent.run, [flow() for _ in range(32)]))
    assert shared["count"] == 1600


def test_kernel_that_hangs_for_one_flow_does_not_stop_the_others() -> None:
    entered, leave = threading.Event(), threading.Event()

    class HangingKernel(HomeKernel):
        def move_home(self, path: str, mac: str, name: str) -> None:
            entered.set()
            assert leave.wait(PATIENCE_S)

    agent = make_driver(kernel=HangingKernel())
    thread = threading.Thread(target=agent.run, args=(asking(MoveHome("/p", "m", "n")),))
    thread.start()
    assert entered.wait(PATIENCE_S)
    assert agent.handle(wire.Request("GET", "/v1/healthz")).status == 200
    assert agent.records()[0] == ()
    leave.set()
    thread.join(PATIENCE_S)


def test_wait_ends_at_its_deadline_in_real_time() -> None:
    def flow() -> Flow[tuple[int, int]]:
        before_ns = yield Now()
        yield WaitForChange(before_ns + 30_000_000)
        return before_ns, (yield Now())

    before_ns, after_ns = make_driver().run(flow())
    assert 30_000_000 <= after_ns - before_ns < 5_000_000_000


def test_wait_for_a_deadline_that_has_passed_ends_at_once() -> None:
    assert make_driver().run(asking(WaitForChange(0))) == [None]


def start_waiting(agent: driver.Driver, deadline_after_ms: int | None) -> tuple[threading.Thread, threading.Event]:
    """Run a flow that tells when it is about to wait, waits once, and ends."""
    about_to_wait = threading.Event()

    def flow() -> Flow[None]:
        now_ns = yield Now()
        about_to_wait.set()
        yield WaitForChange(None if deadline_after_ms is None else now_ns + deadline_after_ms * 1_000_000)

    thread = threading.Thread(target=agent.run, args=(flow(),))
    thread.start()
    assert about_to_wait.wait(PATIENCE_S)
    return thread, about_to_wait


def test_advance_wakes_who_waits_for_the_time_that_has_come_and_is_remembered() -> None:
    journal = MemoryJournal()
    agent = make_driver(journal=journal)
    thread, _ = start_waiting(agent, 3_600_000)
    before_ns = agent.records()[1]
    after_ns = agent.advance(3_600_000)
    thread.join(PATIENCE_S)
    assert not thread.is_alive()
    assert 0 <= after_ns - before_ns - 3_600_000_000_000 < 5_000_000_000
    assert journal.offset_ns == 3_600_000_000_000


def test_advance_to_before_the_deadline_wakes_nobody() -> None:
    agent = make_driver()
    thread, _ = start_waiting(agent, 3_600_000)
    agent.advance(1_000_000)
    thread.join(0.1)
    assert thread.is_alive()
    agent.advance(2_600_000)
    thread.join(PATIENCE_S)
    assert not thread.is_alive()


def test_wait_ends_when_links_change_or_another_flow_changes_the_state() -> None:
    kernel = HomeKernel()
    agent = make_driver(kernel=kernel)
    agent.start(lambda error: None)
    changes: list[Callable[[], object]] = [kernel.change, lambda: agent.run(asking(Persist(({},))))]
    for change in changes:
        thread, _ = start_waiting(agent, None)
        change()
        thread.join(PATIENCE_S)
        assert not thread.is_alive()
    agent.stop()
    assert kernel.callbacks == []


def test_change_between_two_waits_is_not_missed_and_counts_once() -> None:
    kernel = HomeKernel()
    agent = make_driver(kernel=kernel)
    agent.start(lambda error: None)
    said: list[str] = []

    def flow() -> Flow[None]:
        kernel.change()  # after the flow began, before it waits
        kernel.change()
        yield WaitForChange(None)
        said.append("first")
        now_ns = yield Now()
        yield WaitForChange(now_ns + 20_000_000)
        said.append("deadline" if (yield Now()) >= now_ns + 20_000_000 else "again")
        kernel.change()
        yield WaitForChange(None)
        said.append("second")

    agent.run(flow())
    agent.stop()
    assert said == ["first", "deadline", "second"]


def test_state_change_is_applied_before_who_waits_for_it_looks(pool: ThreadPoolExecutor) -> None:
    agent = make_driver()
    state: list[int] = []
    looking = threading.Semaphore(0)

    def watcher() -> Flow[int]:
        looking.release()
        yield WaitForChange(None)
        return len(state)

    def changer() -> Flow[None]:
        yield Persist(({},))
        state.append(1)
        yield Now()

    waiting = [pool.submit(agent.run, watcher()) for _ in range(8)]
    assert all(looking.acquire(timeout=PATIENCE_S) for _ in waiting)
    agent.run(changer())
    assert [future.result(PATIENCE_S) for future in waiting] == [1] * 8


def test_background_runs_from_start_to_stop() -> None:
    turns = threading.Semaphore(0)

    def background() -> Flow[None]:
        while True:
            turns.release()
            yield WaitForChange(None)

    kernel = HomeKernel()
    failed: list[BaseException] = []
    agent = make_driver(background, kernel)
    agent.start(failed.append)
    assert turns.acquire(timeout=PATIENCE_S)
    kernel.change()
    assert turns.acquire(timeout=PATIENCE_S)
    agent.stop()
    agent.stop()
    assert (failed, [thread.name for thread in threading.enumerate() if thread.name == "reconcile"]) == ([], [])


@pytest.mark.parametrize(
    ("ending", "expected"),
    [(InvariantBroken("two owners"), "two owners"), (None, "the flow in the background came to an end")],
)
def test_background_that_ends_by_itself_is_reported(ending: Exception | None, expected: str) -> None:
    def background() -> Flow[None]:
        yield Now()
        if ending is not None:
            raise ending

    failed: list[BaseException] = []
    reported = threading.Event()
    agent = make_driver(background)
    agent.start(lambda error: (failed.append(error), reported.set()))
    assert reported.wait(PATIENCE_S)
    agent.stop()
    assert list(map(str, failed)) == [expected]


def test_stop_ends_flows_that_wait_and_nothing_is_carried_out_any_more() -> None:
    journal = MemoryJournal()
    agent = make_driver(journal=journal)
    ended: list[type[BaseException]] = []

    def run(flow: Flow[Any]) -> None:
        try:
            agent.run(flow)
        except driver.Stopped as stopped:
            ended.append(type(stopped))

    about_to_wait = threading.Event()

    def waiting() -> Flow[None]:
        yield ListLinks()
        about_to_wait.set()
        yield WaitForChange(None)
        yield Persist(({},))

    thread = threading.Thread(target=run, args=(waiting(),))
    thread.start()
    assert about_to_wait.wait(PATIENCE_S)
    agent.stop()
    thread.join(PATIENCE_S)
    run(asking(Persist(({},))))
    assert (ended, journal.events) == ([driver.Stopped, driver.Stopped], [])


def test_effect_that_no_driver_knows_is_a_bug() -> None:
    with pytest.raises(InvariantBroken, match="no driver for Effect"):
        make_driver().run(asking(Effect()))


def test_many_requests_at_once_get_different_enis_and_those_that_are_over_none(
    pool: ThreadPoolExecutor, tmp_path: Path
) -> None:
    enis = [make_eni(number) for number in range(1, 9)]
    kernel = HomeKernel(*(Link(number, f"dev{number}", eni.mac, 1400) for number, eni in enumerate(enis, start=2)))
    journal = store.Journal(tmp_path / "state.db")
    agent = driver.Driver(flows.Agent(enis, journal.read()), kernel, journal, clock.Clock())
    failed: list[BaseException] = []
    agent.start(failed.append)

    def all_free() -> Flow[bool]:
        deadline_ns = (yield Now()) + int(PATIENCE_S * 1e9)
        while (yield Now()) < deadline_ns:
            yield WaitForChange(deadline_ns)
            if all(record.state == "free" for record in agent._agent.records()):
                return True
        return False

    kernel.change()
    assert agent.run(all_free())
    requests = [
        wire.Request("POST", "/v1/eni", (("owner", f"default/pod-{number}"), ("containerID", f"c{number}")))
        for number in range(200)
    ]
    replies = list(pool.map(agent.handle, requests))
    granted = [wire.parse_allocation(reply.body).mac for reply in replies if reply.status == 200]
    agent.stop()
    assert failed == []
    assert sorted(granted) == [eni.mac for eni in enis]
    assert {wire.error_text(reply) for reply in replies if reply.status != 200} == {"no available ENI to be allocated"}
    recovered = flows.Agent(enis, journal.read())
    assert {record.owner for record in recovered.records()} == {
        f"default/pod-{number}" for number, reply in enumerate(replies) if reply.status == 200
    }
    journal.close()
