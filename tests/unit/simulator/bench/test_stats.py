"""Quantiles against the exact ones, and phases that add up."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.bench import stats

LATENCIES = st.floats(0.001, 60_000, allow_nan=False)


@settings(deadline=None)  # a histogram of an hour has tens of thousands of counters
@given(st.lists(LATENCIES, min_size=1, max_size=300))
def test_quantiles_are_the_exact_ones_to_a_thousandth(values: list[float]) -> None:
    found = stats.summarize(values)
    ordered = sorted(values)
    for name, percentile in stats.PERCENTILES.items():
        exact = ordered[max(1, int(percentile / 100 * len(ordered) + 0.5)) - 1]
        assert found.percentiles[name] == pytest.approx(exact, rel=2e-3, abs=1e-5), name
    assert (found.count, found.max) == (len(values), ordered[-1])
    assert found.mean == pytest.approx(sum(values) / len(values))


@settings(deadline=None)  # a histogram of an hour has tens of thousands of counters
@given(st.lists(LATENCIES, min_size=1, max_size=300))
def test_quantiles_rise_to_the_maximum_and_the_interval_holds_the_median(values: list[float]) -> None:
    found = stats.summarize(values)
    rising = [*found.percentiles.values(), found.max]
    assert rising == sorted(rising)
    low, high = found.p50_interval
    assert low <= found.percentiles["p50"] <= high


def test_interval_of_many_is_narrow() -> None:
    low, high = stats.summarize([float(one) for one in range(1, 10_001)]).p50_interval
    assert (low, high) == (pytest.approx(4_902, rel=2e-3), pytest.approx(5_098, rel=2e-3))


def test_a_time_of_nothing_is_nothing() -> None:
    found = stats.summarize([0.0, 0.0])
    assert (found.percentiles["p99.9"], found.max, found.mean) == (0.0, 0.0, 0.0)


@given(*[st.floats(0, 1e6, allow_nan=False)] * 4)
def test_phases_are_never_negative_and_add_up_to_the_whole(
    total: float, start: float, queue: float, work: float
) -> None:
    phases = stats.split(total, start, queue, work)
    parts = [phases.of(name) for name in stats.PHASES]
    assert sum(parts) == pytest.approx(total)
    assert min(parts) >= -1e-6


def test_what_the_agent_says_counts_before_what_another_process_took_to_start() -> None:
    phases = stats.split(10.0, 9.0, 1.0, 2.0)
    assert [phases.of(name) for name in stats.PHASES] == [7.0, 1.0, 2.0, 0.0]
