"""The library in containers: every scenario has the verdict, step by step, that it has in `userns`."""

import os
from collections import defaultdict
from pathlib import Path

from simulator import composition, labs
from simulator.lab import containers
from simulator.report import events

SCENARIOS = Path(__file__).parents[2] / "scenarios"


def verdicts(lab: str) -> dict[tuple[str, str], list[str]]:
    """What each scenario came to: its steps, what its plugins ended with, and the verdict."""
    seen: dict[tuple[str, str], list[str]] = defaultdict(list)
    steps: list[str] = []

    def take(event: events.Event) -> None:
        match event:
            case events.ScenarioStarted():
                steps.clear()
            case events.StepFinished():
                steps.append(event.step)
            case events.PluginRan():
                call = event.outcome.call
                steps.append(f"{call.plugin} {call.environment['CNI_COMMAND']} exit {event.outcome.exit_code}")
            case events.ScenarioFinished():
                verdict = "passed" if event.failed is None else f"failed: {event.failed.message}"
                seen[event.name, event.chain] = [*steps, verdict]

    composition.run_scenarios([SCENARIOS], lab, "", [take], jobs=os.cpu_count() or 1)
    return seen


def test_every_scenario_goes_the_same_way_in_docker_and_in_userns(engine: containers.Engine) -> None:
    assert verdicts(labs.DOCKER) == verdicts(labs.USERNS)
    assert engine.containers() == {}
