"""A small benchmark on the real kernel, with the real baselines; and what it says where one of them is missing."""

import platform

import pytest

from simulator import benchmark, labs
from simulator.bench import outcome
from simulator.lab import plugins

OURS = ("exclusive-device+enim", "host-device+enim")


def bench(**options: object) -> outcome.Bench:
    found, failures = benchmark.run(benchmark.Options(lab=labs.USERNS, count=3, **options), lambda *_: None)
    assert failures == []
    return found


def test_every_subject_is_measured_and_its_phases_add_up() -> None:
    found = bench()
    counts = {(row.state, row.subject, row.verb): row.total.count for row in found.rows}
    assert counts == {
        **{
            (state, one, verb): 3
            for state in ("warm", "exhausted", "reclaiming")
            for one in OURS
            for verb in ("ADD", "DEL")
        },
        **{("warm", one, verb): 3 for one in ("host-device+static", "ptp+host-local") for verb in ("ADD", "DEL")},
        ("warm", "python3 -ISE", "RUN"): 3,
    }
    assert found.left_out == {}
    assert found.machine["python"].endswith(platform.python_version())
    for row in found.rows:
        assert sum(summary.mean for summary in row.phases.values()) == pytest.approx(row.total.mean)
        asked = row.subject in OURS and (row.state, row.subject, row.verb) != ("exhausted", "host-device+enim", "ADD")
        assert (row.phases["work"].mean > 0) is asked, row
        assert row.phases["start"].mean > 0


def test_several_at_once() -> None:
    found = bench(concurrency=3, chain="exclusive-device")
    adds = {row.state: row for row in found.rows if row.subject == OURS[0] and row.verb == "ADD"}
    assert {state: row.total.count for state, row in adds.items()} == {"warm": 9, "exhausted": 9, "reclaiming": 9}
    assert adds["reclaiming"].tries >= 9


def test_a_baseline_that_is_not_here_is_named_and_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    there = plugins.find()
    monkeypatch.setattr(
        plugins, "find", lambda *_, **__: {name: path for name, path in there.items() if name != "static"}
    )
    found = bench(chain="exclusive-device")
    said = "the static plugin cannot be started here; run `enim-lab doctor --install`"
    assert found.left_out == {"host-device+static": said}
