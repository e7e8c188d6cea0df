"""PURE: what a measurement says: the phases of a run, which add up to the whole, and quantiles of many runs.

A run of a plugin has four phases (milliseconds each):

- ``start``: the plugin processes come up. Measured beside it: the same programs, asked for VERSION.
- ``queue``: the agent has the request, and it waits for others. Measured by the agent.
- ``work``: the agent works on the request. Measured by the agent.
- ``rest``: what remains: the kernel, the upper plugin, the way to the agent and back.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hdrh.histogram import HdrHistogram

PHASES = ("start", "queue", "work", "rest")
PERCENTILES: Mapping[str, float] = {"p50": 50.0, "p90": 90.0, "p99": 99.0, "p99.9": 99.9}

NS_MAX = 3_600 * 10**9  # an hour: longer than any plugin may run
SIGNIFICANT_DIGITS = 3  # a quantile is off by a thousandth at the most

_NS_PER_MS = 1_000_000
_HALF_WIDTH_95 = 0.98  # half of 1.96, the normal distribution's 95 %


@dataclass(frozen=True, slots=True)
class Phases:
    """One run, in milliseconds. ``rest_ms`` is what the others leave of the whole."""

    total_ms: float
    start_ms: float
    queue_ms: float
    work_ms: float

    @property
    def rest_ms(self) -> float:
        """Kernel, upper plugin, and the way to the agent."""
        return self.total_ms - self.start_ms - self.queue_ms - self.work_ms

    def of(self, phase: str) -> float:
        """A phase by its name."""
        return float(getattr(self, f"{phase}_ms"))


def split(total_ms: float, start_ms: float, queue_ms: float, work_ms: float) -> Phases:
    """Divide a run into its phases, such that none is negative and they add up to the whole.

    Start is measured on another process than this one, so on a noisy machine it may say more than is left.
    """
    queue_ms = min(queue_ms, total_ms)
    work_ms = min(work_ms, total_ms - queue_ms)
    return Phases(total_ms, min(start_ms, total_ms - queue_ms - work_ms), queue_ms, work_ms)


@dataclass(frozen=True, slots=True)
class Summary:
    """Many values, milliseconds.

    Args:
        percentiles: a key of ``PERCENTILES`` → its value.
        p50_interval: where the median of many more such runs lies, with 95 % confidence.
    """

    count: int
    mean: float
    percentiles: Mapping[str, float]
    max: float
    p50_interval: tuple[float, float]


def summarize(values_ms: Sequence[float]) -> Summary:
    """Quantiles of a high dynamic range histogram; mean and maximum are exact.

    Args:
        values_ms: at least one; negative ones count as 0, more than an hour as an hour.

    Source: the interval by order statistics, n/2 ± 0.98 √n, e.g. Conover, Practical Nonparametric Statistics, 3.2.
    """
    count = len(values_ms)
    assert count > 0, "nothing was measured"
    values_ns = [min(NS_MAX, max(0, round(value * _NS_PER_MS))) for value in values_ms]
    histogram = HdrHistogram(1, max(2, *values_ns, 0), SIGNIFICANT_DIGITS)
    for value in values_ns:
        histogram.record_value(value)
    off = 100 * _HALF_WIDTH_95 / math.sqrt(count)
    low, high = max(0.0, 50 - off), min(100.0, 50 + off)
    largest = max(values_ms)
    at = {
        percentile: min(largest, float(value) / _NS_PER_MS)
        for percentile, value in histogram.get_percentile_to_value_dict([*PERCENTILES.values(), low, high]).items()
    }
    found = {name: at[percentile] for name, percentile in PERCENTILES.items()}
    return Summary(count, sum(values_ms) / count, found, largest, (at[low], at[high]))
