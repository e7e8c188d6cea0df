"""A heap with virtual time that runs flows of any kind on one clock: the agent's and the plugins'.

- One thing happens at a time. What is due at the same nanosecond happens in the order in which it was asked for, so the
  same program gives the same trace.
- An effect is dispatched by its type to a handler. The handler answers through a ``Pending``: now or later, with an
  outcome, or with a failure that is thrown into the flow at its yield.
- Between two yields a flow runs whole; between an effect and its outcome anything else may happen, also at the same
  nanosecond.
- What a flow lets out is a bug and stops the run: nothing is dropped.

No thread, no wall clock, no randomness. Modelled on simpy's core: a heap of (time, counter), generators as processes.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Generator, Mapping
from typing import Any, TypeAlias

from simulator import effects
from simulator.errors import InvariantBroken

Handler: TypeAlias = Callable[[Any, "Pending"], None]  # takes an effect, of the type it is registered for
Handlers: TypeAlias = Mapping[type, Handler]

STEPS_MAX = 1_000_000  # of one ``run``: more without end is a busy loop


class Process:
    """One flow on its way.

    Args:
        name: for people.
    """

    def __init__(self, name: str, flow: Generator[Any, Any, Any], handlers: Handlers) -> None:
        self.name = name
        self.is_alive = True
        self.waits_for: Any = None  # the effect it has yielded
        self.seen_changes = 0
        self.on_end: list[Callable[[], None]] = []
        self.on_kill: list[Callable[[], None]] = []
        self._flow = flow
        self._handlers = handlers
        self._has_ended = False
        self._answer: Any = None

    def kill(self) -> None:
        """End it where it stands, as SIGKILL does: it does nothing more, and has no result."""
        if not self.is_alive:
            return
        self.is_alive = False
        self._flow.close()
        for tell in self.on_kill:
            tell()

    def result(self) -> Any:
        """What the flow returned. Raises ``InvariantBroken`` if it has not ended by itself."""
        if not self._has_ended:
            raise InvariantBroken(f"{self.name} has not ended: it waits for {self.waits_for!r}")
        return self._answer

    def advance(self, driver: Driver, outcome: Any, failure: Exception | None) -> None:
        """Run to the next yield, and hand its effect to the handler. For the driver only."""
        if not self.is_alive:
            return
        self.waits_for = None
        try:
            effect = self._flow.send(outcome) if failure is None else self._flow.throw(failure)
        except StopIteration as end:
            self.is_alive = False
            self._has_ended = True
            self._answer = end.value
            for tell in self.on_end:
                tell()
        else:
            self.waits_for = effect
            handler = self._handlers.get(type(effect))
            if handler is None:
                raise InvariantBroken(f"{self.name}: nobody handles {effect!r}")
            handler(effect, Pending(driver, self))


class Pending:
    """An effect that has no outcome yet. It gets exactly one; a second, or one for a dead process, is of no effect."""

    def __init__(self, driver: Driver, process: Process) -> None:
        self.process = process
        self._driver = driver
        self._is_settled = False

    @property
    def is_open(self) -> bool:
        """Whether an outcome would still reach the flow."""
        return self.process.is_alive and not self._is_settled

    def succeed(self, outcome: Any = None, after_ns: int = 0) -> None:
        """Send ``outcome`` into the flow, ``after_ns`` from now."""
        self._settle(outcome, None, after_ns)

    def fail(self, failure: Exception, after_ns: int = 0) -> None:
        """Throw ``failure`` into the flow, ``after_ns`` from now."""
        self._settle(None, failure, after_ns)

    def _settle(self, outcome: Any, failure: Exception | None, after_ns: int) -> None:
        if not self.is_open:
            return
        self._is_settled = True
        self._driver.after(after_ns, lambda: self.process.advance(self._driver, outcome, failure))


class Driver:
    """The clock and what is due.

    Args:
        steps_max: how many things may happen in one ``run``.
    """

    def __init__(self, steps_max: int = STEPS_MAX) -> None:
        self.now_ns = 0
        self._steps_max = steps_max
        self._due: list[tuple[int, int, Callable[[], None]]] = []
        self._counter = 0

    def after(self, delay_ns: int, action: Callable[[], None]) -> None:
        """Do something ``delay_ns`` from now; 0 means next, after what is due now already."""
        if delay_ns < 0:
            raise InvariantBroken("the past is over")
        heapq.heappush(self._due, (self.now_ns + delay_ns, self._counter, action))
        self._counter += 1

    def start(self, name: str, flow: Generator[Any, Any, Any], handlers: Handlers) -> Process:
        """Start a flow; its first step is due now."""
        process = Process(name, flow, handlers)
        self.after(0, lambda: process.advance(self, None, None))
        return process

    def run(self, until_ns: int) -> None:
        """Let everything happen that is due until then, and leave the clock there."""
        self._run(until_ns, lambda: False)
        self.now_ns = max(self.now_ns, until_ns)

    def run_while(self, is_needed: Callable[[], bool], until_ns: int) -> None:
        """Let what is due until then happen, one by one, for as long as that is needed."""
        self._run(until_ns, lambda: not is_needed())

    def _run(self, until_ns: int, is_enough: Callable[[], bool]) -> None:
        for _ in range(self._steps_max):
            if is_enough() or not self._due or self._due[0][0] > until_ns:
                return
            self.now_ns, _, action = heapq.heappop(self._due)
            action()
        raise InvariantBroken(f"{self._steps_max} steps until {self.now_ns} ns: a busy loop")


class Changes:
    """What ``WaitForChange`` waits for: that something has changed which a flow has not seen, or its deadline."""

    def __init__(self, driver: Driver) -> None:
        self.count = 0
        self._driver = driver
        self._waiting: list[Pending] = []

    def note(self) -> None:
        """Something has changed: whoever waits goes on."""
        self.count += 1
        waiting, self._waiting = self._waiting, []
        for pending in waiting:
            self._wake(pending)

    def wait(self, effect: effects.WaitForChange, pending: Pending) -> None:
        """The handler. The agent's clock is the driver's."""
        self._waiting = [one for one in self._waiting if one.is_open]
        deadline_ns = effect.deadline_ns
        if pending.process.seen_changes != self.count or (
            deadline_ns is not None and deadline_ns <= self._driver.now_ns
        ):
            self._wake(pending)
            return
        self._waiting.append(pending)
        if deadline_ns is not None:
            self._driver.after(deadline_ns - self._driver.now_ns, lambda: self._wake(pending))

    def _wake(self, pending: Pending) -> None:
        if pending.is_open:
            pending.process.seen_changes = self.count
            pending.succeed()
