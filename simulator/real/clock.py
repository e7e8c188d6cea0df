"""EDGE: the agent's clock: real time plus an offset that only grows (design D9).

Its zero is the Unix epoch, so that the times in the journal keep their meaning over a restart. Within a process it runs
with the monotonic clock. At a start it goes on from the wall clock, but never from before a time that is on record: a
wall clock that was set back makes the agent's timers late, and no record younger than it is.
"""

from __future__ import annotations

import time


def monotonic_ms() -> float:
    """Milliseconds of the machine's monotonic clock: for measuring, and for limits that are not the agent's timers."""
    return time.monotonic() * 1000


def wall_text() -> str:
    """The wall clock for a log line, UTC, to the second."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


class Clock:
    """The agent's clock. Any thread may call it.

    Args:
        offset_ns: what was added over the life of the state so far.
        floor_ns: the latest time on record; the clock starts at no earlier one.
    """

    def __init__(self, offset_ns: int = 0, floor_ns: int = 0) -> None:
        assert offset_ns >= 0, "a clock goes forward only"
        self._offset_ns = offset_ns
        self._base_ns = max(time.time_ns() + offset_ns, floor_ns) - offset_ns - time.monotonic_ns()

    def now_ns(self) -> int:
        """Nanoseconds since the epoch, offset included."""
        return self._base_ns + time.monotonic_ns() + self._offset_ns

    @property
    def offset_ns(self) -> int:
        """Everything that was ever added, for the next start."""
        return self._offset_ns

    def advance(self, ms: int) -> None:
        """Add ``ms`` milliseconds, 0 or more. Callers take turns, and wake whoever waits for a deadline."""
        assert ms >= 0, "a clock goes forward only"
        self._offset_ns += ms * 1_000_000
