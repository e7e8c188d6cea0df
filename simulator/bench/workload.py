"""PURE: a scenario file as the workload: it is run as always, and its ADDs and DELs are measured."""

from __future__ import annotations

from dataclasses import dataclass

from simulator.bench import load
from simulator.chain import plan
from simulator.effects import World
from simulator.model import PluginOutcome
from simulator.report import events
from simulator.scenario import run
from simulator.scenario.load import LoadedScenario

VERBS = ("ADD", "DEL")  # what is measured of the file's own steps


@dataclass(frozen=True, slots=True)
class Played:
    """One run of the file. ``failed``: why the scenario failed, "" if it passed."""

    chain: str
    measured: tuple[load.Measured, ...]
    failed: str


def play(loaded: LoadedScenario, chain: str, world: World) -> Played:
    """Run the scenario once on a fresh world."""
    probe = load.Probe(world, loaded.scenario.plugins(chain), 1)
    probe.run()
    world.served()
    measured: list[load.Measured] = []
    step = ""

    def watch(event: events.Event) -> None:
        nonlocal step
        match event:
            case events.StepStarted():
                step = event.step
            case events.PluginRan() if step != run.END and event.outcome.call.environment["CNI_COMMAND"] in VERBS:
                measured.append(_measured(probe, event.outcome))

    failed = run.ScenarioRun(loaded, chain, world, watch).run()
    text = "" if failed is None else f"{failed.file}:{failed.line}: {failed.step}: {failed.message}"
    return Played(chain, tuple(measured), text)


def _measured(probe: load.Probe, outcome: PluginOutcome) -> load.Measured:
    environment = outcome.call.environment
    container_id = environment["CNI_CONTAINERID"]
    phases = probe.phases({container_id: [outcome]})[container_id]
    return load.Measured(environment["CNI_COMMAND"], load.result(plan.failure_of(outcome)), phases)
