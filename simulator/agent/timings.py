"""PURE: how many requests were answered, with what, and how long they took: what whoever serves the agent measures.

A client chooses its method and its path, so only those that the agent serves are told apart: the number of figures
is bounded, whatever comes in.
"""

from __future__ import annotations

import bisect

from simulator.agent import api
from simulator.model import Durations

# Upper bounds of the buckets, seconds: an ADD takes a few milliseconds, its patience is 8 s, and the client's 30.
BOUNDS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
OTHER = "other"

NONE = Durations((0,) * (len(BOUNDS_S) + 1), 0.0)

_METHODS = frozenset(method for methods in api.METHODS.values() for method in methods)


class Timings:
    """The requests of one agent, from its start on. Its caller serialises the calls."""

    def __init__(self) -> None:
        self._counts: dict[tuple[str, str, int], list[int]] = {}
        self._sums_s: dict[tuple[str, str, int], float] = {}

    def note(self, method: str, path: str, status: int, duration_s: float) -> None:
        """Count one request; takes any method and any path."""
        key = method if method in _METHODS else OTHER, path if path in api.METHODS else OTHER, status
        counts = self._counts.setdefault(key, list(NONE.counts))
        counts[bisect.bisect_left(BOUNDS_S, duration_s)] += 1
        self._sums_s[key] = self._sums_s.get(key, 0.0) + duration_s

    def durations(self) -> dict[tuple[str, str, int], Durations]:
        """(method, path, status) → how long the requests with that answer took, up to now."""
        return {key: Durations(tuple(counts), self._sums_s[key]) for key, counts in self._counts.items()}
