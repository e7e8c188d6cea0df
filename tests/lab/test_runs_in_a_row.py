"""The library again and again on the real kernel: every run comes to the same verdicts, by the same steps.

ENIM_RUNS says how often (10 in `tox -e deep`); without it, twice, and only the leaks.
"""

import os
from collections import defaultdict
from pathlib import Path

import pytest

from simulator import composition, labs
from simulator.report import events

SCENARIOS = Path(__file__).parents[2] / "scenarios"
IS_THOROUGH = "ENIM_RUNS" in os.environ
RUNS = int(os.environ.get("ENIM_RUNS", "2"))


def verdicts() -> dict[tuple[str, str], list[str]]:
    """What each scenario came to: its steps, and the verdict in the end."""
    seen: dict[tuple[str, str], list[str]] = defaultdict(list)
    steps: list[str] = []

    def take(event: events.Event) -> None:
        match event:
            case events.ScenarioStarted():
                steps.clear()
            case events.StepFinished():
                steps.append(event.step)
            case events.ScenarioFinished():
                verdict = "passed" if event.failed is None else f"failed: {event.failed.message}"
                seen[event.name, event.chain] = [*steps, verdict]

    composition.run_scenarios(
        [SCENARIOS if IS_THOROUGH else SCENARIOS / "leak"], labs.USERNS, "", [take], jobs=os.cpu_count() or 1
    )
    return seen


@pytest.mark.timeout(60 * RUNS)
def test_runs_in_a_row_come_to_the_same_verdicts() -> None:
    first = verdicts()
    assert {steps[-1] for steps in first.values()} == {"passed"}
    for _ in range(RUNS - 1):
        assert verdicts() == first
