"""EDGE: what the agent remembers of the requests that it has answered: how long each waited, and how long it took.

The latest of them one by one, for the lab that measures; all of them summed up, for the agent's metrics.
"""

from __future__ import annotations

import collections
import threading

from enim import wire
from simulator.agent.timings import Timings
from simulator.model import Durations, Served

KEPT_MAX = 10_000  # some 2 MB; who wants all of them asks more often


class Log:
    """All requests, and the latest ``KEPT_MAX`` that nobody has asked for yet. Any thread may call it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._served: collections.deque[Served] = collections.deque(maxlen=KEPT_MAX)
        self._timings = Timings()

    def note(self, request: wire.Request, status: int, arrived_ms: float, taken_ms: float, ended_ms: float) -> None:
        """Remember one. Times are of one clock, ms; ``taken_ms``: when it arrived, or began, plus all its waiting."""
        one = Served(request.method, request.parameter("containerID"), taken_ms - arrived_ms, ended_ms - taken_ms)
        with self._lock:
            self._served.append(one)
            self._timings.note(request.method, request.path, status, (ended_ms - arrived_ms) / 1000)

    def take(self) -> tuple[Served, ...]:
        """Those that were not taken yet, oldest first."""
        with self._lock:
            taken = tuple(self._served)
            self._served.clear()
            return taken

    def durations(self) -> dict[tuple[str, str, int], Durations]:
        """How long requests took, as of ``Timings``."""
        with self._lock:
            return self._timings.durations()
