"""The library in containers: every scenario has the verdict, step by step, that it has in `userns`."""

from pathlib import Path
from typing import Any

import pytest

from simulator import labs
from simulator.errors import LabError
from simulator.lab import containers
from simulator.model import BACKENDS
from simulator.scenario import schema

SCENARIOS = Path(__file__).parents[2] / "scenarios"


def test_every_scenario_goes_the_same_way_in_docker_and_in_userns(engine: containers.Engine, verdicts: Any) -> None:
    assert verdicts(labs.DOCKER, SCENARIOS) == verdicts(labs.USERNS, SCENARIOS)
    assert engine.containers() == {}


def test_backend_that_the_engines_kernel_lacks_is_a_skip_by_name(engine: containers.Engine) -> None:
    for backend in BACKENDS:
        there, here = (labs.choose(name, ("enim",), backend) for name in (labs.DOCKER, labs.USERNS))
        assert there.lacks(("enim",)) == here.lacks(("enim",))  # the engine is on this machine
    assert engine.containers() == {}


def test_container_that_ended_is_quoted_and_an_error_of_the_callers_is_left_alone(engine: containers.Engine) -> None:
    lab = labs.choose(labs.DOCKER, ("enim",))
    with pytest.raises(LabError, match="the lab is gone: its first process ended; the container said: "):
        lose_container(lab, engine)
    with pytest.raises(LabError, match=r"^of the caller$"), lab.world(scenario()):
        raise LabError("of the caller")
    assert engine.containers() == {}


def lose_container(lab: labs.Lab, engine: containers.Engine) -> None:
    with lab.world(scenario()) as world:
        for one in engine.containers():
            engine.remove(one)
        world.snapshot()


def scenario() -> schema.Scenario:
    steps = ({"expect": {"enis": {"free": 1}}},)
    document = {"name": "a", "summary": "b", "chain": "exclusive-device", "node": {"enis": 1}, "steps": steps}
    return schema.Scenario.model_validate(document)
