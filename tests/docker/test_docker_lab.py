"""The library in containers: every scenario has the verdict, step by step, that it has in `userns`."""

from pathlib import Path
from typing import Any

from simulator import labs
from simulator.lab import containers

SCENARIOS = Path(__file__).parents[2] / "scenarios"


def test_every_scenario_goes_the_same_way_in_docker_and_in_userns(engine: containers.Engine, verdicts: Any) -> None:
    assert verdicts(labs.DOCKER, SCENARIOS) == verdicts(labs.USERNS, SCENARIOS)
    assert engine.containers() == {}
