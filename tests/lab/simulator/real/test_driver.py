import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from enim import wire
from simulator import topology
from simulator.agent import flows
from simulator.effects import (
    Effect,
    Flow,
    InspectNetns,
    ListLinks,
    Measure,
    Measures,
    MoveHome,
    NetnsView,
    Now,
    Persist,
    RestoreIdentity,
    WaitForChange,
)
from simulator.errors import InvariantBroken, KernelFault, StoreFault
from simulator.model import Link
from simulator.real import clock, driver, store

PATIENCE_S = 10.0


def test_run_carries_out_each_effect_and_returns_the_answer_of_the_flow(stage: Any) -> None:
    kernel = stage.Kernel(Link(2, "dev2", "02:00:00:00:00:01", 1400, alias="eth0"))
    agent = stage.driver(kernel=kernel)
    wanted = (
        RestoreIdentity(2, "eni1", 1500),
        ListLinks(),
        InspectNetns("/run/netns/p", "02:00:00:00:00:01"),
        MoveHome("/run/netns/p", "02:00:00:00:00:01", "eni1"),
    )
    answers = agent.run(stage.asking(*wanted))
    assert answers == [None, (Link(2, "eni1", "02:00:00:00:00:01", 1500),), NetnsView("4:12", None), None]
    assert kernel.moves == [("/run/netns/p", "02:00:00:00:00:01", "eni1")]


def test_measure_is_asked_of_whoever_measures(stage: Any) -> None:
    measured = Measures(journal_entries=7)
    agent = stage.driver(measure=lambda: measured)
    assert agent.run(stage.asking(Measure())) == [measured]
    assert stage.driver().run(stage.asking(Measure())) == [Measures()]


def test_handle_answers_a_request(stage: Any) -> None:
    assert stage.driver().handle(wire.Request("GET", "/v1/healthz")) == wire.Reply(200, b"/v1/healthz")


def test_fault_of_the_outside_is_thrown_into_the_flow_at_its_yield(stage: Any) -> None:
    kernel = stage.Kernel()
    kernel.fault = KernelFault("list links", 105, "no buffer space")
    journal = stage.Journal()
    journal.is_full = True

    def flow() -> Flow[list[str]]:
        said = []
        for effect in (ListLinks(), Persist(({"kind": "freed"},))):
            try:
                yield effect
            except (KernelFault, StoreFault) as fault:
                said.append(fault.text)
        return said

    assert stage.driver(kernel=kernel, journal=journal).run(flow()) == ["no buffer space", "disk full"]
    assert journal.events == []


def test_bug_behind_an_effect_reaches_the_flow_first_so_that_it_lets_go_of_what_it_holds(stage: Any) -> None:
    held = {"eni-1"}

    def flow() -> Flow[None]:
        try:
            yield RestoreIdentity(99, "eni1", 1500)  # no such link: the fake kernel's KeyError
        finally:
            held.clear()

    with pytest.raises(KeyError):
        stage.driver().run(flow())
    assert held == set()


def test_what_a_flow_persists_is_in_the_journal_in_the_order_in_which_memory_changed(
    stage: Any, pool: ThreadPoolExecutor, tmp_path: Path
) -> None:
    journal = store.Journal(tmp_path / "state.db")
    agent = stage.driver(journal=journal)
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


def test_flow_runs_whole_between_two_yields_whatever_the_others_do(stage: Any, pool: ThreadPoolExecutor) -> None:
    agent = stage.driver()
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


def test_kernel_that_hangs_for_one_flow_does_not_stop_the_others(stage: Any) -> None:
    entered, leave = threading.Event(), threading.Event()

    class HangingKernel(stage.Kernel):
        def move_home(self, path: str, mac: str, name: str) -> None:
            entered.set()
            assert leave.wait(PATIENCE_S)

    agent = stage.driver(kernel=HangingKernel())
    thread = threading.Thread(target=agent.run, args=(stage.asking(MoveHome("/p", "m", "n")),))
    thread.start()
    assert entered.wait(PATIENCE_S)
    assert agent.handle(wire.Request("GET", "/v1/healthz")).status == 200
    assert agent.state()[0] == ()
    leave.set()
    thread.join(PATIENCE_S)


def test_background_runs_from_start_to_stop(stage: Any) -> None:
    turns = threading.Semaphore(0)

    def background() -> Flow[None]:
        while True:
            turns.release()
            yield WaitForChange(None)

    kernel = stage.Kernel()
    failed: list[BaseException] = []
    agent = stage.driver(background, kernel)
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
def test_background_that_ends_by_itself_is_reported(stage: Any, ending: Exception | None, expected: str) -> None:
    def background() -> Flow[None]:
        yield Now()
        if ending is not None:
            raise ending

    failed: list[BaseException] = []
    reported = threading.Event()
    agent = stage.driver(background)
    agent.start(lambda error: (failed.append(error), reported.set()))
    assert reported.wait(PATIENCE_S)
    agent.stop()
    assert list(map(str, failed)) == [expected]


def test_stop_ends_flows_that_wait_and_nothing_is_carried_out_any_more(stage: Any) -> None:
    journal = stage.Journal()
    agent = stage.driver(journal=journal)
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
    run(stage.asking(Persist(({},))))
    assert (ended, journal.events) == ([driver.Stopped, driver.Stopped], [])


@pytest.mark.parametrize(
    ("failpoint", "kept"),
    [("add.A1", []), ("add.A2", ["reserved"]), ("del.D1", ["reserved"]), ("del.D2", ["reserved", "released"])],
)
def test_crash_comes_at_its_failpoint_before_or_after_the_event_is_durable(
    stage: Any, failpoint: str, kept: list[str]
) -> None:
    class Died(BaseException):
        """In place of SIGKILL."""

    def die() -> None:
        raise Died

    journal = stage.Journal()
    agent = stage.driver(journal=journal)
    agent.crash_at(failpoint, die)
    with pytest.raises(Died):
        agent.run(stage.asking(*(Persist(({"kind": kind},)) for kind in ("reserved", "released", "freed"))))
    assert [event["kind"] for event in journal.events] == kept


def test_effect_that_no_driver_knows_is_a_bug(stage: Any) -> None:
    with pytest.raises(InvariantBroken, match="no driver for Effect"):
        stage.driver().run(stage.asking(Effect()))


def test_many_requests_at_once_get_different_enis_and_those_that_are_over_none(
    stage: Any, pool: ThreadPoolExecutor, tmp_path: Path
) -> None:
    enis = topology.enis(8)
    kernel = stage.Kernel(*(Link(number, f"dev{number}", eni.mac, 1400) for number, eni in enumerate(enis, start=2)))
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
