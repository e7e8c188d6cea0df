"""The library in containers: every scenario has the verdict, step by step, that it has in `userns`."""

from pathlib import Path
from typing import Any

from simulator import labs
from simulator.lab import containers
from simulator.model import BACKENDS

SCENARIOS = Path(__file__).parents[2] / "scenarios"


def test_every_scenario_goes_the_same_way_in_docker_and_in_userns(engine: containers.Engine, verdicts: Any) -> None:
    assert verdicts(labs.DOCKER, SCENARIOS) == verdicts(labs.USERNS, SCENARIOS)
    assert engine.containers() == {}


def test_backend_that_the_engines_kernel_lacks_is_a_skip_by_name(engine: containers.Engine) -> None:
    for backend in BACKENDS:
        there, here = (labs.choose(name, ("enim",), backend) for name in (labs.DOCKER, labs.USERNS))
        assert there.lacks(("enim",)) == here.lacks(("enim",))  # the engine is on this machine
    assert engine.containers() == {}
