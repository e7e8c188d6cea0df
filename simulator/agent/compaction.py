"""PURE: when a journal has become long, what takes the place of its oldest part: a snapshot of each ENI.

The law: a journal replays to the same pool with or without it. The latest events stay as they are, since people look at
them to see how it came to this; what a run of less than ``KEPT`` events has written is never touched.
"""

from __future__ import annotations

from collections.abc import Sequence

from simulator.agent import pool

LENGTH_MAX = 20_000  # events; they are 3 MB and 0.15 s of a start, and what 4,000 to 5,000 pods leave
KEPT = 10_000


def compact(
    events: Sequence[pool.Event], length_max: int = LENGTH_MAX, kept: int = KEPT
) -> tuple[int, tuple[pool.Event, ...]]:
    """Decide.

    Args:
        events: the journal, oldest first.
        length_max: a journal of at most so many events stays as it is.
        kept: so many of the latest events stay as they are.

    Returns:
        How many of the oldest events are replaced, 0 for none, and by which.

    Raises:
        InvariantBroken: this is no journal of ours.
    """
    count = max(len(events) - kept, 0)
    if len(events) <= length_max or not count:
        return 0, ()
    entries = pool.Pool()
    for event in events[:count]:
        entries.apply(event)
    at_ns = events[count - 1]["at_ns"]
    return count, tuple(pool.snapshot(entry, at_ns) for entry in entries.entries())
