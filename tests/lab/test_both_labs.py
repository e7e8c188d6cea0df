"""The models against the real thing: every scenario has the same verdict, step by step, in `sim` and in `userns`,
whether its ENIs are veth or macvlan links there.
"""

import re
from collections.abc import Iterable
from pathlib import Path

import pytest

from simulator import composition, labs
from simulator.lab import links, throwaway
from simulator.model import Backend
from simulator.report import events
from simulator.scenario import load

SCENARIOS = Path(__file__).parents[2] / "scenarios"
# Each lab has its own place for namespaces, and a kernel its own explanation beside the errno.
THEIR_OWN = re.compile(r"/\w+(?=/netns/)|(?:(?<=reached at )|(?<=answer at ))[^ ]+|(?<=Network is unreachable): [^)]*")
ALL = [(load.load(file).scenario, file) for file in load.find((SCENARIOS,))]
SCENARIO = {(file, chain): one for one, file in ALL for chain in one.all_chains}
SIM = labs.Sim("compared")
RUNS = [(file, chain) for (file, chain), one in SCENARIO.items() if not SIM.lacks(one.plugins(chain))]
OTHERS = [run for run in SCENARIO if run not in RUNS]
JOBS = 8  # they wait more than they compute


def ways(lab: str, files: Iterable[Path], expression: str = "", backend: Backend | None = None) -> dict[str, list[str]]:
    """By file and chain, what each step gave, in the words of the report, but for places that only one lab has."""
    went: dict[str, list[str]] = {}
    seen: list[str] = []

    def take(event: events.Event) -> None:
        match event:
            case events.ScenarioStarted():
                seen.clear()
            case events.ScenarioSkipped():
                went[f"{event.file} {event.chain}"] = [f"skipped: {event.reason}"]
            case events.StepFinished():
                seen.append(f"{event.step} → {THEIR_OWN.sub('', event.outcome)}")
            case events.PluginRan():
                seen.append(f"{event.outcome.call.plugin} exit {event.outcome.exit_code}")
            case events.ScenarioFinished():
                verdict = "passed" if event.failed is None else f"failed: {event.failed}"
                went[f"{event.file} {event.chain}"] = [*seen, verdict]

    composition.run_scenarios(list(files), lab, expression, [take], jobs=JOBS, backend=backend)
    return went


def test_only_networks_without_enim_cannot_be_compared() -> None:
    assert [(file, chain) for (file, chain), one in SCENARIO.items() if "enim" not in one.plugins(chain)] == OTHERS


@pytest.mark.parametrize(("file", "chain"), RUNS, ids=lambda one: one.stem if isinstance(one, Path) else one)
def test_scenario_goes_the_same_way_in_sim_and_in_userns(file: Path, chain: str) -> None:
    assert ways(labs.SIM, [file], chain) == ways(labs.USERNS, [file], chain, "veth")


@pytest.mark.timeout(180)
def test_every_scenario_goes_the_same_way_on_macvlan_enis() -> None:
    """On veth they go as in `sim`, see above; those without a model are run on veth here."""
    refusal = throwaway.ask(lambda _scratch: links.refusals(["macvlan"]))["macvlan"]
    if refusal:
        pytest.skip(f"this kernel has no macvlan links: {refusal}")
    wanted = ways(labs.SIM, [SCENARIOS]) | ways(labs.USERNS, [file for file, _ in OTHERS], backend="veth")
    assert ways(labs.USERNS, [SCENARIOS], backend="macvlan") == wanted
