from collections.abc import Generator
from typing import Any

import pytest

from simulator.effects import ListLinks, Now, WaitForChange
from simulator.errors import InvariantBroken, KernelFault
from simulator.virtual import driver

Flow = Generator[Any, Any, Any]


def clock(heap: driver.Driver) -> driver.Handlers:
    """Now is answered at once; ListLinks takes 10 ns."""
    return {
        Now: lambda _, pending: pending.succeed(heap.now_ns),
        ListLinks: lambda _, pending: pending.succeed((), after_ns=10),
    }


def test_flow_gets_outcomes_at_their_time_and_its_result_is_kept() -> None:
    heap = driver.Driver()

    def flow() -> Flow:
        began = yield Now()
        yield ListLinks()
        return began, (yield Now())

    process = heap.start("flow", flow(), clock(heap))
    heap.run(9)
    assert (process.is_alive, heap.now_ns, process.waits_for) == (True, 9, ListLinks())

    heap.run(100)
    assert (process.result(), heap.now_ns) == ((0, 10), 100)


def test_failure_is_thrown_in_at_the_yield() -> None:
    heap = driver.Driver()

    def flow() -> Flow:
        try:
            yield ListLinks()
        except KernelFault as fault:
            return fault.text
        return "no fault"

    handlers = {ListLinks: lambda _, pending: pending.fail(KernelFault("list", 5, "I/O error"), after_ns=3)}
    process = heap.start("flow", flow(), handlers)
    heap.run(3)

    assert process.result() == "I/O error"


def test_what_is_due_at_one_time_happens_in_the_order_in_which_it_was_asked_for() -> None:
    heap = driver.Driver()
    seen: list[str] = []

    def flow(name: str) -> Flow:
        for step in range(3):
            yield Now()
            seen.append(f"{name}{step}")

    for name in "abc":
        heap.start(name, flow(name), clock(heap))
    heap.run(0)

    assert " ".join(seen) == "a0 b0 c0 a1 b1 c1 a2 b2 c2"


def test_what_a_flow_lets_out_stops_the_run() -> None:
    heap = driver.Driver()

    def flow() -> Flow:
        yield Now()
        raise KeyError("a bug")

    heap.start("flow", flow(), clock(heap))
    with pytest.raises(KeyError, match="a bug"):
        heap.run(0)


def test_an_effect_that_nobody_handles_stops_the_run() -> None:
    heap = driver.Driver()

    def flow() -> Flow:
        yield WaitForChange(None)

    heap.start("flow", flow(), clock(heap))
    with pytest.raises(InvariantBroken, match="nobody handles WaitForChange"):
        heap.run(0)


def test_result_of_a_flow_that_has_not_ended_is_a_bug() -> None:
    heap = driver.Driver()

    def flow() -> Flow:
        yield ListLinks()

    process = heap.start("flow", flow(), clock(heap))
    heap.run(0)
    with pytest.raises(InvariantBroken, match="waits for ListLinks"):
        process.result()


def test_killed_flow_does_nothing_more_and_tells_only_who_waits_for_a_kill() -> None:
    heap = driver.Driver()
    told: list[str] = []

    def flow() -> Flow:
        try:
            yield ListLinks()
        except Exception:  # noqa: BLE001 - a kill must not look like a failure
            told.append("caught")
        told.append("went on")

    process = heap.start("flow", flow(), clock(heap))
    process.on_end.append(lambda: told.append("ended"))
    process.on_kill.append(lambda: told.append("killed"))
    heap.run(5)
    process.kill()
    process.kill()
    heap.run(100)

    assert (told, process.is_alive) == (["killed"], False)


def test_pending_takes_one_outcome_only() -> None:
    heap = driver.Driver()
    kept: list[driver.Pending] = []

    def flow() -> Flow:
        return (yield Now()), (yield Now())

    process = heap.start("flow", flow(), {Now: lambda _, pending: kept.append(pending)})
    heap.run(0)
    kept[0].succeed("first")
    kept[0].succeed("second")
    kept[0].fail(KeyError("third"))
    heap.run(0)
    assert (kept[0].is_open, kept[1].is_open) == (False, True)
    kept[1].succeed("fourth")
    heap.run(0)

    assert process.result() == ("first", "fourth")


def test_run_while_stops_as_soon_as_that_is_enough() -> None:
    heap = driver.Driver()
    done: list[int] = []
    for delay_ns in (1, 2, 3):
        heap.after(delay_ns, lambda delay_ns=delay_ns: done.append(delay_ns))

    heap.run_while(lambda: len(done) < 2, until_ns=100)

    assert (done, heap.now_ns) == ([1, 2], 2)


def test_busy_loop_is_found() -> None:
    heap = driver.Driver(steps_max=1_000)

    def flow() -> Flow:
        while True:
            yield Now()

    heap.start("flow", flow(), clock(heap))
    with pytest.raises(InvariantBroken, match="a busy loop"):
        heap.run(0)


def test_the_past_is_over() -> None:
    with pytest.raises(InvariantBroken):
        driver.Driver().after(-1, lambda: None)


def watcher(heap: driver.Driver, changes: driver.Changes, deadline_ns: int | None, seen: list[int]) -> driver.Process:
    def flow() -> Flow:
        while True:
            yield WaitForChange(deadline_ns)
            seen.append(heap.now_ns)
            if deadline_ns is not None and heap.now_ns >= deadline_ns:
                return

    process = heap.start("watcher", flow(), {WaitForChange: changes.wait})
    process.seen_changes = changes.count
    heap.run(0)
    return process


def test_changes_wake_who_waits() -> None:
    heap = driver.Driver()
    changes = driver.Changes(heap)
    seen: list[int] = []
    watcher(heap, changes, None, seen)

    heap.after(5, changes.note)
    heap.after(8, changes.note)
    heap.run(100)

    assert seen == [5, 8]


def test_changes_between_two_waits_are_not_missed_and_count_once() -> None:
    heap = driver.Driver()
    changes = driver.Changes(heap)
    seen: list[int] = []

    def flow() -> Flow:
        for _ in range(2):
            yield ListLinks()
            yield WaitForChange(None)
            seen.append(heap.now_ns)

    process = heap.start("flow", flow(), {**clock(heap), WaitForChange: changes.wait})
    heap.after(3, changes.note)
    heap.after(4, changes.note)
    heap.run(100)

    assert (seen, process.is_alive) == ([10], True)


@pytest.mark.parametrize("deadline_ns", [0, 7])
def test_deadline_ends_a_wait_exactly_then(deadline_ns: int) -> None:
    heap = driver.Driver()
    seen: list[int] = []

    watcher(heap, driver.Changes(heap), deadline_ns, seen)
    heap.run(100)

    assert seen == [deadline_ns]
