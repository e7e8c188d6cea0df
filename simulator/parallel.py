"""EDGE: runs independent jobs on several processes, and hands on what they say, as they say it.

Workers are forked, so they start at once and hold all that the caller has loaded. They end when the caller ends,
however that ends, and each job's labs end with its worker. SIGINT is the caller's business.
"""

from __future__ import annotations

import contextlib
import enum
import os
import signal
import traceback
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection, Pipe, wait
from typing import Any, NoReturn, TypeAlias, TypeVar

from simulator import syscalls
from simulator.errors import LabError, SimulatorError

Said = TypeVar("Said")
Job: TypeAlias = Callable[[int, Callable[[Said], None]], None]


class Turn(enum.Enum):
    """What a worker's message is."""

    SAYS = enum.auto()
    DONE = enum.auto()
    FAILED = enum.auto()


def run(job: Job[Said], count: int, workers: int) -> Iterator[tuple[int, Said]]:
    """``job(0, say)``, ``job(1, say)`` … ``job(count - 1, say)``, on up to ``workers`` processes at once.

    Args:
        job: runs in a worker; what it says must be picklable.

    Yields:
        ``(number of the job, what it said)``, as it is said.

    Raises:
        SimulatorError: what a job raised.
        LabError: a worker ended, or a job raised anything else.
    """
    todo = iter(range(count))
    with _workers(job, min(workers, count)) as idle:
        busy: dict[Connection, int] = {}
        for worker in idle:
            busy[worker] = next(todo)
            worker.send(busy[worker])
        while busy:
            for ready in wait(list(busy)):
                worker = next(one for one in busy if one is ready)
                turn, value = _received(worker)
                if turn is Turn.SAYS:
                    yield busy[worker], value
                elif turn is Turn.FAILED:
                    raise value
                else:
                    busy.pop(worker)
                    following = next(todo, None)
                    if following is not None:
                        busy[worker] = following
                        worker.send(following)


@contextlib.contextmanager
def _workers(job: Job[Any], count: int) -> Iterator[list[Connection]]:
    connections: list[Connection] = []
    pids: list[int] = []
    parent = os.getpid()
    try:
        for _ in range(count):
            ours, theirs = Pipe()
            pid = os.fork()
            if pid == 0:
                for connection in (*connections, ours):
                    connection.close()
                _work(job, theirs, parent)
            theirs.close()
            connections.append(ours)
            pids.append(pid)
        yield connections
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        for connection in connections:
            connection.close()


def _work(job: Job[Any], connection: Connection, parent: int) -> NoReturn:
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        syscalls.die_with_parent(signal.SIGKILL)
        while os.getppid() == parent:
            connection.send(_outcome(job, connection.recv(), lambda said: connection.send((Turn.SAYS, said))))
    except (EOFError, OSError):
        pass  # nobody asks any more
    finally:
        os._exit(0)


def _outcome(job: Job[Any], index: int, say: Callable[[Any], None]) -> tuple[Turn, Exception | None]:
    try:
        job(index, say)
    except SimulatorError as error:
        return Turn.FAILED, error
    except Exception:  # noqa: BLE001 - the caller raises it
        return Turn.FAILED, LabError(f"a run ended with a bug: {traceback.format_exc()}")
    return Turn.DONE, None


def _received(worker: Connection) -> tuple[Turn, Any]:
    try:
        turn, value = worker.recv()
    except (EOFError, OSError) as error:
        raise LabError("a process that ran scenarios was killed") from error
    return turn, value
