import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any

import pytest

from enim import wire
from simulator.effects import (
    Flow,
    ListLinks,
    Now,
    Persist,
    WaitForChange,
)
from simulator.errors import InvariantBroken
from simulator.model import Link
from simulator.real import driver

PATIENCE_S = 10.0
HEALTH = wire.Request("GET", "/v1/healthz", ())


def test_wait_ends_at_its_deadline_in_real_time(stage: Any) -> None:
    def flow() -> Flow[tuple[int, int]]:
        before_ns = yield Now()
        yield WaitForChange(before_ns + 30_000_000)
        return before_ns, (yield Now())

    before_ns, after_ns = stage.driver().run(flow())
    assert 30_000_000 <= after_ns - before_ns < 5_000_000_000


def test_wait_for_a_deadline_that_has_passed_ends_at_once(stage: Any) -> None:
    assert stage.driver().run(stage.asking(WaitForChange(0))) == [None]


def start_waiting(agent: driver.Driver, deadline_after_ms: int | None) -> threading.Thread:
    """Run a flow that tells when it is about to wait, waits once, and ends."""
    about_to_wait = threading.Event()

    def flow() -> Flow[None]:
        now_ns = yield Now()
        about_to_wait.set()
        yield WaitForChange(None if deadline_after_ms is None else now_ns + deadline_after_ms * 1_000_000)

    thread = threading.Thread(target=agent.run, args=(flow(),))
    thread.start()
    assert about_to_wait.wait(PATIENCE_S)
    return thread


def test_advance_wakes_who_waits_for_the_time_that_has_come_and_is_remembered(stage: Any) -> None:
    journal = stage.Journal()
    agent = stage.driver(journal=journal)
    thread = start_waiting(agent, 3_600_000)
    before_ns = agent.state()[2]
    after_ns = agent.advance(3_600_000)
    thread.join(PATIENCE_S)
    assert not thread.is_alive()
    assert 0 <= after_ns - before_ns - 3_600_000_000_000 < 5_000_000_000
    assert journal.offset_ns == 3_600_000_000_000


def test_advance_to_before_the_deadline_wakes_nobody(stage: Any) -> None:
    agent = stage.driver()
    thread = start_waiting(agent, 3_600_000)
    agent.advance(1_000_000)
    thread.join(0.1)
    assert thread.is_alive()
    agent.advance(2_600_000)
    thread.join(PATIENCE_S)
    assert not thread.is_alive()


def test_wait_ends_when_links_change_or_another_flow_changes_the_state(stage: Any) -> None:
    kernel = stage.Kernel()
    agent = stage.driver(kernel=kernel)
    agent.start(lambda error: None)
    changes: list[Callable[[], object]] = [kernel.change, lambda: agent.run(stage.asking(Persist(({},))))]
    for change in changes:
        thread = start_waiting(agent, None)
        change()
        thread.join(PATIENCE_S)
        assert not thread.is_alive()
    agent.stop()
    assert kernel.callbacks == []


def test_change_between_two_waits_is_not_missed_and_counts_once(stage: Any) -> None:
    kernel = stage.Kernel()
    agent = stage.driver(kernel=kernel)
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


def test_state_change_is_applied_before_who_waits_for_it_looks(stage: Any, pool: ThreadPoolExecutor) -> None:
    agent = stage.driver()
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


class SlowKernel:
    """A kernel that lists its links only when it may."""

    def __init__(self, kernel: Any) -> None:
        self.may_answer = threading.Event()
        self.watch = kernel.watch

    def links(self) -> tuple[Any, ...]:
        assert self.may_answer.wait(PATIENCE_S)
        return ()


def test_request_is_answered_after_the_first_look(stage: Any, pool: ThreadPoolExecutor) -> None:
    kernel = SlowKernel(stage.Kernel())
    agent = stage.driver(lambda: stage.asking(ListLinks(), WaitForChange(None)), kernel)
    agent.start(lambda error: None)
    answer = pool.submit(agent.handle, HEALTH)
    assert wait([answer], 0.1).done == set()
    kernel.may_answer.set()
    assert answer.result(PATIENCE_S).status == 200
    agent.stop()


def test_look_that_takes_too_long_is_not_waited_for(stage: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "_FIRST_LOOK_S", 0.05)
    kernel = SlowKernel(stage.Kernel())
    agent = stage.driver(lambda: stage.asking(ListLinks(), WaitForChange(None)), kernel)
    agent.start(lambda error: None)
    assert agent.handle(HEALTH).status == 200
    kernel.may_answer.set()
    agent.stop()


def test_look_that_failed_is_not_waited_for(stage: Any) -> None:
    failures: list[BaseException] = []
    agent = stage.driver(lambda: stage.asking(Now()))
    agent.start(failures.append)
    assert agent.handle(HEALTH).status == 200
    assert [type(one) for one in failures] == [InvariantBroken]
    agent.stop()


def test_background_gives_way_to_a_request_but_not_to_one_that_waits(stage: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(driver, "_GIVE_WAY_S", PATIENCE_S)
    order: list[str] = []
    looked = threading.Event()

    def background() -> Flow[None]:
        while True:
            yield WaitForChange(None)
            order.append("background")
            looked.set()

    def request() -> Flow[None]:
        yield Persist(({},))  # a change, for which the background waits
        order.append("request")
        yield Now()
        looked.clear()
        yield WaitForChange((yield Now()) + 3_600_000_000_000)  # from here on it is the background's turn

    kernel = stage.Kernel()
    agent = stage.driver(background, kernel)
    agent.start(lambda error: None)
    thread = threading.Thread(target=agent.run, args=(request(),))
    thread.start()
    assert looked.wait(PATIENCE_S)
    kernel.change()
    thread.join(PATIENCE_S)
    agent.stop()
    assert order[:2] == ["request", "background"]


def test_background_gives_way_for_a_bounded_time(stage: Any) -> None:
    looked, end = threading.Event(), threading.Event()

    def background() -> Flow[None]:
        yield WaitForChange(None)
        looked.set()
        yield WaitForChange(None)

    class SlowKernel(stage.Kernel):  # type: ignore[name-defined,misc]
        def links(self) -> tuple[Link, ...]:
            end.wait(PATIENCE_S)
            return ()

    agent = stage.driver(background, SlowKernel())
    agent.start(lambda error: None)
    thread = threading.Thread(target=agent.run, args=(stage.asking(Persist(({},)), ListLinks()),))
    thread.start()
    assert looked.wait(PATIENCE_S)
    end.set()
    thread.join(PATIENCE_S)
    agent.stop()
