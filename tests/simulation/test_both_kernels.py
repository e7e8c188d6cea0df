"""Kernels before Linux 6.2 refuse to rename a link that is up (P5); so nothing of ours does that."""

from pathlib import Path

import pytest

from simulator import composition, labs, topology
from simulator.report import events
from simulator.scenario import run
from simulator.virtual import node

SCENARIOS = Path(__file__).parents[2] / "scenarios"
SIM = labs.choose(labs.SIM, ())
RUNS = [one for one in composition.select_runs([SCENARIOS]) if not SIM.lacks(one.loaded.scenario.plugins(one.chain))]


def happened(one: composition.Run, *, live_rename: bool) -> list[events.Event]:
    world = node.Node(topology.enis(one.loaded.scenario.node.enis), live_rename=live_rename)
    seen: list[events.Event] = []
    assert run.ScenarioRun(one.loaded, one.chain, world, seen.append).run() is None
    return seen


@pytest.mark.parametrize("one", RUNS, ids=[one.name for one in RUNS])
def test_scenario_goes_the_same_way_where_a_link_that_is_up_keeps_its_name(one: composition.Run) -> None:
    assert happened(one, live_rename=False) == happened(one, live_rename=True)
