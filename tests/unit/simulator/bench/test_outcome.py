"""Rows: what belongs together; and the shape of the JSON."""

import json

import pytest

from simulator.bench import load, outcome, stats


def measured(verb: str, total_ms: float, result: str = "ok", tries: int = 1) -> load.Measured:
    return load.Measured(verb, result, stats.split(total_ms, 1.0, 0.5, 0.5), tries)


def test_a_row_for_each_verb_and_each_way_to_end() -> None:
    many = [measured("ADD", 10), measured("DEL", 5), measured("ADD", 4, "code 11"), measured("ADD", 20, tries=3)]
    rows = outcome.rows("warm", "enim", many, busy_ms=100)
    assert [(row.verb, row.result, row.total.count, row.tries) for row in rows] == [
        ("ADD", "ok", 2, 4),
        ("DEL", "ok", 1, 1),
        ("ADD", "code 11", 1, 1),
    ]
    assert {row.pairs_per_second for row in rows} == {30.0}


def test_means_of_the_phases_add_up_to_the_mean_of_the_whole() -> None:
    (row,) = outcome.rows("warm", "enim", [measured("ADD", 10), measured("ADD", 31)], 41)
    assert sum(summary.mean for summary in row.phases.values()) == pytest.approx(row.total.mean)


def test_a_program_without_pairs_has_no_rate() -> None:
    (row,) = outcome.rows("warm", "bare", [measured("RUN", 8)], 8)
    assert row.pairs_per_second is None


def test_the_shape_of_the_document() -> None:
    rows = outcome.rows("warm", "enim", [measured("ADD", 10)], 10)
    bench = outcome.Bench("sim", "why", True, {"count": 1}, {}, rows, {"ptp": "no model"})
    document = json.loads(json.dumps(outcome.as_json(bench)))
    assert list(document) == ["format", "lab", "time", "options", "machine", "rows", "left_out"]
    assert (document["format"], document["time"]) == ("enim-bench/1", "virtual")
    (row,) = document["rows"]
    assert list(row) == [
        *("state", "subject", "verb", "result", "tries", "pairs_per_second", "total_ms", "phases_ms"),
    ]
    assert list(row["total_ms"]) == ["count", "mean", "p50", "p90", "p99", "p99.9", "max", "p50_interval_95"]
    assert list(row["phases_ms"]) == list(stats.PHASES)
    assert document["left_out"] == [{"subject": "ptp", "why": "no model"}]
