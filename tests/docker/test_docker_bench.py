"""A small benchmark in containers: everything that is measured in `userns` is, baselines too, with the node's facts."""

import platform
from pathlib import Path
from typing import Any

import pytest

from simulator import benchmark, labs
from simulator.bench import outcome
from simulator.lab import containers

SCENARIO = Path(__file__).parents[2] / "scenarios/leak/timer.yaml"


def bench(lab: str, **options: Any) -> outcome.Bench:
    found, failures = benchmark.run(benchmark.Options(lab=lab, count=1, concurrency=2, **options), lambda *_: None)
    assert failures == []
    return found


def rows(found: outcome.Bench) -> list[tuple[str, str, str, str, int]]:
    return [(row.state, row.subject, row.verb, row.result, row.total.count) for row in found.rows]


def test_docker_measures_what_userns_measures(engine: containers.Engine) -> None:
    there, here = bench(labs.DOCKER), bench(labs.USERNS)
    assert rows(there) == rows(here)
    assert ("python3 -ISE", "RUN") in {(row.subject, row.verb) for row in there.rows}
    assert there.left_out == {}
    for row in there.rows:
        assert sum(summary.mean for summary in row.phases.values()) == pytest.approx(row.total.mean)
        assert row.phases["start"].mean > 0
    assert engine.containers() == {}


def test_facts_are_of_the_node_and_not_of_the_runner(engine: containers.Engine) -> None:
    found = bench(labs.DOCKER, file=SCENARIO)
    assert rows(found) == rows(bench(labs.USERNS, file=SCENARIO))
    assert found.machine["kernel"] == f"Linux {platform.release()}"  # the engine is on this machine
    assert found.machine["python"].startswith("CPython 3.11.")  # Debian's, whatever runs this test
    assert engine.containers() == {}
