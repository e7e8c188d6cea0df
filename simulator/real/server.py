"""EDGE: the agent as a process: puts its parts together, serves until a signal, and ends cleanly.

What is started last ends first: the sockets go, requests that have come are answered, the flows end, the journal is
closed. None of that is needed for safety, since every state change was durable before its answer; a SIGKILL at any
moment leaves a state that the next start goes on from.
"""

from __future__ import annotations

import contextlib
import functools
import queue
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import TypeAlias

from enim import wire
from simulator import effects
from simulator.agent import compaction, flows, pool
from simulator.errors import InvariantBroken, LabError, StoreFault
from simulator.model import Eni
from simulator.real import clock, cloud, connection, control, driver, kernel, listener, served, store

SWITCH_INTERVAL_S = 0.0002  # Python's 5 ms is what a request would wait for whatever goes on in the background

_Handle: TypeAlias = Callable[[wire.Request], wire.Reply]
_Note: TypeAlias = Callable[[wire.Request, int, float, float], None]


def run_agent(
    socket: Path, state: Path, enis: int, control: Path | None, ready: Callable[[], None] | None = None
) -> None:
    """Serve the agent's API until SIGTERM or SIGINT. Call it from the main thread.

    Args:
        socket: the public unix socket.
        state: the journal's file; a new one is a node without a history.
        enis: how many ENIs the cloud has attached to this node; the missing ones are made.
        control: the private unix socket (see ``simulator.real.control``), or None.
        ready: called once when both sockets can be connected.

    Raises:
        LabError: another agent has the socket or the state, or this machine cannot hold the agent.
        CloudFault: the ENIs could not be made.
        KernelFault: the links cannot be watched.
        Exception: a bug of the agent's flow in the background, or a broken invariant in a request.
    """
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    # First, because it may fork: there is no thread, open database or signal handler yet that a child could inherit.
    attached = cloud.attach(enis)
    ended: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()
    with contextlib.ExitStack() as stack:
        stack.enter_context(_signals(ended))
        journal = store.Journal(state)
        stack.callback(journal.close)
        agent_clock = clock.Clock(journal.clock_offset_ns(), journal.latest_clock_ns())
        log = served.Log()
        measure = functools.partial(_measure, log, journal)
        agent = driver.Driver(_agent(attached, journal, state), kernel.Kernel(), journal, agent_clock, measure)
        stack.callback(agent.stop)
        listeners = []
        for path, handle, note in _handlers(agent, log, socket, control):
            one = listener.Listener(path, functools.partial(_serve, handle, note, ended))
            stack.callback(one.stop)
            listeners.append(one)
        agent.start(ended.put)
        for one in listeners:
            one.start()
        if ready is not None:
            ready()
        bug = ended.get()
    if bug is not None:
        raise bug


def _agent(attached: Sequence[Eni], journal: store.Journal, state: Path) -> flows.Agent:
    """The agent in the state that its journal tells. Raises LabError if it tells none."""
    try:
        return flows.Agent(attached, _history(journal))
    except InvariantBroken as error:
        raise LabError(f"The state file {state} is damaged: {str(error)[:256]}", store.START_ANEW) from error


def _history(journal: store.Journal) -> list[pool.Event]:
    """Every event of a journal, which is shorter afterwards if it had become long, and replays to the same."""
    events = journal.read()
    count, snapshots = compaction.compact(events)
    if count:
        with contextlib.suppress(StoreFault):  # a full disk, say: the next start tries again
            journal.compact(count, snapshots)
    return events


def _measure(log: served.Log, journal: store.Journal) -> effects.Measures:
    return effects.Measures(log.durations(), journal.entry_count, journal.size_bytes())


def _handlers(
    agent: driver.Driver, log: served.Log, socket_path: Path, control_path: Path | None
) -> Iterator[tuple[Path, _Handle, _Note]]:
    def note(request: wire.Request, status: int, arrived_ms: float, began_ms: float) -> None:
        log.note(request, status, arrived_ms, began_ms + agent.waited_ms(), clock.monotonic_ms())

    def handle(request: wire.Request) -> wire.Reply:
        try:
            return agent.handle(request)
        except driver.Stopped as stopped:
            raise connection.NoAnswer from stopped

    yield socket_path, handle, note
    if control_path is not None:
        yield control_path, functools.partial(control.handle, agent, log), lambda *_: None


def _serve(
    handle: _Handle,
    note: _Note,
    ended: queue.SimpleQueue[BaseException | None],
    client: socket.socket,
    accepted_ms: float,
) -> None:
    def panicked(bug: Exception) -> None:
        if isinstance(
            bug, AssertionError
        ):  # InvariantBroken and its like: the state in memory cannot be trusted any more
            ended.put(bug)

    connection.Connection(client, handle, panicked, served=note, accepted_ms=accepted_ms).serve()


@contextlib.contextmanager
def _signals(ended: queue.SimpleQueue[BaseException | None]) -> Iterator[None]:
    """End at SIGTERM and SIGINT: a ``SimpleQueue`` is the one queue that a signal handler may put into."""

    def end(_number: int, _frame: FrameType | None) -> None:
        ended.put(None)

    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
