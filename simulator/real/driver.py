"""EDGE: carries the agent's flows out on real threads: one per request, and one for the flow in the background.

- One lock. Between two yields a flow runs whole while its thread holds it, so that flows need no locks of their own.
- Effects that may take long (the kernel, waiting) are carried out without the lock.
- ``Persist`` is carried out *with* it, from the yield to the flow's next one. So the order of the journal is the order
  in which memory changes, and no flow ever sees a state that is not durable, or misses one that is. The price is one
  sync (0.2 ms measured) during which no flow moves; they all need the same disk anyway.
- The flow in the background gives way: somebody waits for a request's answer, and one interpreter runs one thread.
- What an effect raises is thrown into its flow at the yield, also when it is a bug: only so does the flow put its part
  of the shared state right while it has the lock. What a flow lets out is a bug: the caller of a request gets it, and
  the one in the background ends the process.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Any, Protocol, TypeVar

from enim import wire
from simulator import effects, errors
from simulator.agent import failpoints
from simulator.model import EniRecord, Link
from simulator.real import clock

Answer = TypeVar("Answer")

_STOP_TIMEOUT_S = 2.0
_SETTLE_TIMEOUT_S = 1.0
_FIRST_LOOK_S = 5.0
_CALM_S = 0.004  # links change by the dozen, and whoever changed them has not done yet
_GIVE_WAY_S = 0.02  # no longer: an ENI that must come home is waited for too


class Agent(effects.Agent, Protocol):
    """An agent that can also be asked what it believes."""

    @property
    def adds_in_flight(self) -> int:
        """How many ADDs it is at work on."""
        ...

    def records(self) -> Iterable[EniRecord]:
        """What it believes of each ENI."""
        ...


class Kernel(Protocol):
    """The links of this node. Any thread may call it; failures are ``KernelFault``."""

    def links(self) -> tuple[Link, ...]:
        """Carry out ``ListLinks``."""
        ...

    def inspect(self, path: str, mac: str) -> effects.NetnsView:
        """Carry out ``InspectNetns``."""
        ...

    def move_home(self, path: str, mac: str, name: str) -> None:
        """Carry out ``MoveHome``."""
        ...

    def restore(self, ifindex: int, name: str, mtu: int) -> None:
        """Carry out ``RestoreIdentity``."""
        ...

    def watch(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call back, from another thread, when links of the initial netns may have changed. Outcome: ends that."""
        ...


class Journal(Protocol):
    """The agent's history; failures are ``StoreFault``."""

    def append(self, events: Iterable[dict[str, Any]], clock_ns: int = 0) -> None:
        """Carry out ``Persist`` at ``clock_ns``."""
        ...

    def save_clock_offset(self, offset_ns: int) -> None:
        """Remember what has been added to the clock."""
        ...


class Stopped(Exception):
    """The driver has stopped; the flow was given up between two effects, which recovery has an answer for."""


class Driver:
    """Drives one agent until it is stopped.

    Args:
        measure: carries out ``Measure``, on any thread.
    """

    def __init__(
        self,
        agent: Agent,
        kernel: Kernel,
        journal: Journal,
        agent_clock: clock.Clock,
        measure: Callable[[], effects.Measures] = effects.Measures,
    ) -> None:
        self._agent = agent
        self._kernel = kernel
        self._journal = journal
        self._clock = agent_clock
        self._measure = measure
        self._lock = threading.Lock()
        self._wake = threading.Condition()
        self._at_rest: set[int] = set()  # threads whose flow has seen every change and waits
        self._changes = 0  # how often links or the agent's state changed
        self._stopped = False
        self._waits = threading.local()
        self._requests = 0  # those at work, which is not: waiting for a change
        self._failpoint = ""
        self._crash: Callable[[], None] = lambda: None
        self._unwatch: Callable[[], None] | None = None
        self._background: threading.Thread | None = None
        self._has_looked = True  # without a flow in the background there is nothing to wait for
        self._look_until_ms = 0.0

    def start(self, failed: Callable[[BaseException], None]) -> None:
        """Watch the links and start the flow in the background.

        Args:
            failed: called from that flow's thread when the flow ended, which it must not; with what it raised.

        Raises:
            KernelFault: the links cannot be watched.
        """
        flow = self._agent.reconcile()
        self._unwatch = self._kernel.watch(self._note_change)
        self._has_looked = False
        self._look_until_ms = clock.monotonic_ms() + _FIRST_LOOK_S * 1000
        self._background = threading.Thread(target=self._reconcile, args=(flow, failed), name="reconcile", daemon=True)
        self._background.start()

    def stop(self) -> None:
        """Let every flow end at its next yield; after that no effect is carried out any more. May be called twice."""
        with self._wake:
            self._stopped = True
            self._wake.notify_all()
        with self._lock:  # whoever was in the middle of a step, or of a Persist, has finished it now
            unwatch, self._unwatch = self._unwatch, None
        if unwatch is not None:
            unwatch()
        if self._background is not None:
            self._background.join(_STOP_TIMEOUT_S)

    def handle(self, request: wire.Request) -> wire.Reply:
        """Answer one request of the public API. Raises what ``run`` raises.

        The first ones wait until the flow in the background has done what was due at the start, for at most 5 s: an ADD
        would hear that no ENI is free while it is only being looked for.
        """
        if not self._has_looked:
            self._await_first_look()
        return self.run(self._agent.handle(request))

    def _await_first_look(self) -> None:
        left_s = max(0.0, self._look_until_ms - clock.monotonic_ms()) / 1000
        with self._wake:
            self._wake.wait_for(lambda: self._has_looked or self._stopped, left_s)
            self._has_looked = True

    def run(self, flow: effects.Flow[Answer]) -> Answer:
        """Drive a flow to its end on the calling thread; several threads may do so at once.

        Raises:
            Stopped: the driver was stopped first.
            Exception: whatever the flow raises: a bug.
        """
        self._waits.ms = 0.0
        if threading.current_thread() is self._background:
            return self._run(flow)
        self._count_requests(1)
        try:
            return self._run(flow)
        finally:
            self._count_requests(-1)

    def _run(self, flow: effects.Flow[Answer]) -> Answer:
        seen = self._changes
        outcome: Any = None
        failure: Exception | None = None
        while True:
            try:
                effect = self._step(flow, outcome, failure)
            except StopIteration as end:
                answer: Answer = end.value
                return answer
            outcome, failure = None, None
            try:
                if isinstance(effect, effects.WaitForChange):
                    began_ms = clock.monotonic_ms()
                    seen = self._wait(seen, effect.deadline_ns)
                    self._waits.ms += clock.monotonic_ms() - began_ms
                else:
                    outcome = self._carry_out(effect)
            except Exception as error:  # noqa: BLE001 - a fault is the flow's to answer; of a bug it must undo its part
                failure = error

    def waited_ms(self) -> float:
        """How long the latest flow of the calling thread waited for others: for the lock, and for changes."""
        return float(getattr(self._waits, "ms", 0.0))

    def state(self) -> tuple[tuple[EniRecord, ...], int, int]:
        """What the agent believes, how many ADDs it is at work on, and its clock in ns, at one moment."""
        with self._lock:
            return tuple(self._agent.records()), self._agent.adds_in_flight, self._clock.now_ns()

    def advance(self, ms: int) -> int:
        """Add ``ms`` milliseconds to the agent's clock for good, and wake who waits for it; return the clock in ns.

        Raises:
            StoreFault: the offset could not be made durable; the clock was advanced all the same.
        """
        self._let_background_settle()
        with self._lock:
            self._clock.advance(ms)
            with self._wake:
                self._wake.notify_all()
            self._journal.save_clock_offset(self._clock.offset_ns)
            return self._clock.now_ns()

    def _let_background_settle(self) -> None:
        """What has happened before is looked at before time jumps, so that its own time starts before."""
        background = self._background
        if background is None:
            return
        with self._wake:
            self._wake.wait_for(lambda: self._stopped or background.ident in self._at_rest, _SETTLE_TIMEOUT_S)

    def _step(self, flow: effects.Flow[Any], outcome: Any, failure: Exception | None) -> effects.Effect:
        """Run a flow to its next effect that needs the outside, with the lock held all along."""
        began_ms = clock.monotonic_ms()
        with self._lock:
            self._waits.ms += clock.monotonic_ms() - began_ms
            while True:
                if self._stopped:
                    flow.close()
                    raise Stopped
                effect = flow.send(outcome) if failure is None else flow.throw(failure)
                outcome, failure = None, None
                if isinstance(effect, effects.Now):
                    outcome = self._clock.now_ns()
                elif isinstance(effect, effects.Persist):
                    failure = self._persist(effect)
                else:
                    return effect

    def crash_at(self, failpoint: str, crash: Callable[[], None]) -> None:
        """Call ``crash``, which does not return, when a flow comes to that failpoint (``agent.failpoints``)."""
        with self._lock:
            self._failpoint, self._crash = failpoint, crash

    def _persist(self, effect: effects.Persist) -> Exception | None:
        is_reached = failpoints.is_reached(self._failpoint, effect.events)
        if is_reached and not failpoints.FAILPOINTS[self._failpoint].is_durable:
            self._crash()
        try:
            self._journal.append(effect.events, self._clock.now_ns())
        except Exception as error:  # noqa: BLE001 - as in run
            return error
        if is_reached:
            self._crash()
        self._note_change()  # who wakes up needs the lock to look, and by then the flow has applied the events
        return None

    def _carry_out(self, effect: effects.Effect) -> Any:
        match effect:
            case effects.ListLinks():
                return self._kernel.links()
            case effects.InspectNetns(path, mac):
                return self._kernel.inspect(path, mac)
            case effects.MoveHome(path, mac, name):
                return self._kernel.move_home(path, mac, name)
            case effects.RestoreIdentity(ifindex, name, mtu):
                return self._kernel.restore(ifindex, name, mtu)
            case effects.Measure():
                return self._measure()
        raise errors.InvariantBroken(f"no driver for {effect!r}")

    def _wait(self, seen: int, deadline_ns: int | None) -> int:
        """Wait until there is a change that was not ``seen``, or the deadline has come; return the changes seen now."""
        me = threading.get_ident()
        is_background = threading.current_thread() is self._background
        with self._wake:
            if not is_background:
                self._count_requests(-1)
            while self._changes == seen and not self._stopped:
                left_ns = None if deadline_ns is None else deadline_ns - self._clock.now_ns()
                if left_ns is not None and left_ns <= 0:
                    break
                if me not in self._at_rest:
                    self._at_rest.add(me)
                    self._has_looked |= is_background
                    self._wake.notify_all()
                self._wake.wait(None if left_ns is None else min(left_ns / 1e9, threading.TIMEOUT_MAX))
            self._at_rest.discard(me)
            if is_background:
                if self._changes != seen:
                    self._wake.wait_for(lambda: self._stopped, _CALM_S)
                self._wake.wait_for(lambda: self._stopped or not self._requests, _GIVE_WAY_S)
            else:
                self._count_requests(1)
            return self._changes

    def _count_requests(self, more: int) -> None:
        with self._wake:
            self._requests += more
            if not self._requests:
                self._wake.notify_all()

    def _note_change(self) -> None:
        with self._wake:
            self._changes += 1
            self._wake.notify_all()

    def _reconcile(self, flow: effects.Flow[None], failed: Callable[[BaseException], None]) -> None:
        try:
            self.run(flow)
        except Stopped:
            return
        except BaseException as error:  # noqa: BLE001 - a thread has no caller: whoever ends the process is told
            failed(error)
        else:
            failed(errors.InvariantBroken("the flow in the background came to an end"))
        finally:
            with self._wake:
                self._has_looked = True
                self._wake.notify_all()
