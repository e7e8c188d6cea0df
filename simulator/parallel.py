"""EDGE: runs independent jobs on several processes, and gives their answers in the order of the jobs.

Workers are forked, so they start at once and hold all that the caller has loaded. They end when the caller ends,
however that ends, and each job's labs end with its worker. SIGINT is the caller's business.
"""

from __future__ import annotations

import contextlib
import os
import signal
import traceback
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection, Pipe, wait
from typing import Any, NoReturn, TypeVar

from simulator import syscalls
from simulator.errors import LabError, SimulatorError

Answer = TypeVar("Answer")


def run(job: Callable[[int], Answer], count: int, workers: int) -> Iterator[Answer]:
    """``job(0)``, ``job(1)`` … ``job(count - 1)``, on up to ``workers`` processes at once.

    Args:
        job: runs in a worker; what it returns must be picklable.

    Yields:
        the answers, in order, each as soon as it and all before it are there.

    Raises:
        SimulatorError: what a job raised.
        LabError: a worker ended, or a job raised anything else.
    """
    todo = iter(range(count))
    answers: dict[int, Answer] = {}
    with _workers(job, min(workers, count)) as idle:
        busy: dict[Connection, int] = {}
        for worker in idle:
            busy[worker] = next(todo)
            worker.send(busy[worker])
        for wanted in range(count):
            while wanted not in answers:
                for ready in wait(list(busy)):
                    worker = next(one for one in busy if one is ready)
                    answers[busy.pop(worker)] = _received(worker)
                    following = next(todo, None)
                    if following is not None:
                        busy[worker] = following
                        worker.send(following)
            yield answers.pop(wanted)


@contextlib.contextmanager
def _workers(job: Callable[[int], Any], count: int) -> Iterator[list[Connection]]:
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


def _work(job: Callable[[int], Any], connection: Connection, parent: int) -> NoReturn:
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        syscalls.die_with_parent(signal.SIGKILL)
        while os.getppid() == parent:
            connection.send(_outcome(job, connection.recv()))
    except (EOFError, OSError):
        pass  # nobody asks any more
    finally:
        os._exit(0)


def _outcome(job: Callable[[int], Any], index: int) -> tuple[bool, Any]:
    try:
        return True, job(index)
    except SimulatorError as error:
        return False, error
    except Exception:  # noqa: BLE001 - the caller raises it
        return False, LabError(f"a run ended with a bug: {traceback.format_exc()}")


def _received(worker: Connection) -> Any:
    try:
        is_answer, value = worker.recv()
    except (EOFError, OSError) as error:
        raise LabError("a process that ran scenarios was killed") from error
    if not is_answer:
        raise value
    return value
