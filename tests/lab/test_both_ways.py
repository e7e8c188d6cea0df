"""exclusive-device with enim in its own process, and as a process of its own: every scenario goes the same way."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from simulator import labs
from simulator.report import events
from simulator.scenario import load, run

SCENARIOS = Path(__file__).parents[2] / "scenarios"
CHAIN = "exclusive-device"
FILES = [file for file in load.find((SCENARIOS,)) if CHAIN in load.load(file).scenario.all_chains]
PLUGINS = (CHAIN, "enim")


@pytest.fixture(scope="module")
def userns() -> labs.Userns:
    return labs.Userns(PLUGINS)


def steps(lab: labs.Lab, loaded: load.LoadedScenario, delegate: str | None) -> list[Any]:
    """What each step gave, and what each plugin run ended with, but for the places of the lab."""
    seen: list[Any] = []

    def take(event: events.Event) -> None:
        if isinstance(event, events.StepFinished):
            seen.append(event.step)
        elif isinstance(event, events.PluginRan):
            seen.append((event.outcome.call.environment["CNI_COMMAND"], event.outcome.exit_code))

    network = loaded.scenario.network.model_copy(update={"delegate": delegate})
    loaded = replace(loaded, scenario=loaded.scenario.model_copy(update={"network": network}))
    with lab.world(loaded.scenario) as world:
        return [*seen, run.ScenarioRun(loaded, CHAIN, world, take).run(), seen]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_scenario_goes_the_same_way_with_enim_in_process_and_as_a_process(userns: labs.Userns, file: Path) -> None:
    loaded = load.load(file)
    assert steps(userns, loaded, None) == steps(userns, loaded, "exec")
