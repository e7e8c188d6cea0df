"""The models against the real thing: every scenario has the same verdict, step by step, in `sim` and in `userns`."""

import re
from pathlib import Path

import pytest

from simulator import composition, labs
from simulator.report import events
from simulator.scenario import load

SCENARIOS = Path(__file__).parents[2] / "scenarios"
# Each lab has its own place for namespaces, and a kernel its own explanation beside the errno.
THEIR_OWN = re.compile(r"/\w+(?=/netns/)|(?:(?<=reached at )|(?<=answer at ))[^ ]+|(?<=Network is unreachable): [^)]*")
ALL = [(load.load(file).scenario, file) for file in load.find((SCENARIOS,))]
PLUGINS = {(file, chain): one.plugins(chain) for one, file in ALL for chain in one.all_chains}
SIM = labs.Sim("compared")
RUNS = [run for run, plugins in PLUGINS.items() if not SIM.lacks(plugins)]


def steps(lab: str, file: Path, chain: str) -> list[str]:
    """What each step gave, in the words of the report; places that only one lab has are left out."""
    seen: list[str] = []

    def take(event: events.Event) -> None:
        match event:
            case events.StepFinished():
                seen.append(f"{event.step} → {THEIR_OWN.sub('', event.outcome)}")
            case events.PluginRan():
                seen.append(f"{event.outcome.call.plugin} exit {event.outcome.exit_code}")
            case events.ScenarioFinished():
                seen.append("passed" if event.failed is None else f"failed: {event.failed}")

    composition.run_scenarios([file], lab, chain, [take])
    return seen


def test_only_networks_without_enim_cannot_be_compared() -> None:
    assert {run for run in PLUGINS if run not in RUNS} == {run for run in PLUGINS if "enim" not in PLUGINS[run]}


@pytest.mark.parametrize(("file", "chain"), RUNS, ids=lambda one: one.stem if isinstance(one, Path) else one)
def test_scenario_goes_the_same_way_in_sim_and_in_userns(file: Path, chain: str) -> None:
    assert steps(labs.SIM, file, chain) == steps(labs.USERNS, file, chain)
