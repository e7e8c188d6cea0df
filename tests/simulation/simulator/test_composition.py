"""The sim lab, as `enim-lab run --lab sim` uses it: every scenario passes, and the same run gives the same bytes."""

import subprocess
import sys
from pathlib import Path

import pytest

from simulator import composition, labs
from simulator.errors import ScenarioError
from simulator.report import events, jsonl

SCENARIOS = Path(__file__).parents[3] / "scenarios"


def run_in_sim(expression: str, *reports: composition.Report) -> int:
    return composition.run_scenarios([SCENARIOS], labs.SIM, expression, reports)


def test_every_scenario_passes_in_sim() -> None:
    seen: list[events.Event] = []
    status = run_in_sim("", seen.append)
    assert [one for one in seen if isinstance(one, events.ScenarioFinished) and one.failed] == []
    assert status == 0


def test_ten_runs_in_a_row_give_the_same_trace_byte_for_byte(tmp_path: Path) -> None:
    traces = []
    for number in range(10):
        with jsonl.TraceReport(tmp_path / str(number)) as trace:
            run_in_sim("", trace)
        traces.append((tmp_path / str(number)).read_bytes())
    assert traces == traces[:1] * 10


def test_expression_that_matches_nothing_is_an_error_before_anything_runs() -> None:
    seen: list[events.Event] = []
    with pytest.raises(ScenarioError, match="no scenario matches"):
        run_in_sim("no-such-name", seen.append)
    assert seen == []


def test_sim_imports_nothing_of_linux() -> None:
    program = (
        "import sys; from pathlib import Path; before = set(sys.modules); from simulator import composition;"
        f"composition.run_scenarios([Path({str(SCENARIOS)!r})], 'sim', 'exclusive-device', []);"
        "print([name for name in sorted(set(sys.modules) - before)"  # Python 3.14's pathlib itself imports fcntl
        " if name.startswith(('simulator.real', 'simulator.lab.', 'pyroute2'))"
        " or name in ('simulator.syscalls', 'ctypes', 'fcntl', 'subprocess')])"
    )
    printed = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, text=True).stdout
    assert printed.strip() == "[]"


def test_reports_get_one_run_after_the_other_and_progress_everything_at_once(tmp_path: Path) -> None:
    ordered: list[events.Event] = []
    at_once: list[tuple[int, events.Event]] = []
    composition.run_scenarios(
        [SCENARIOS],
        labs.SIM,
        "del-again",
        [ordered.append],
        progress=lambda index, event: at_once.append((index, event)),
    )
    assert ordered[1:-1] == [event for _, event in at_once]
    assert [type(one) for one in ordered[:2]] == [events.RunStarted, events.ScenarioStarted]
    assert {index for index, _ in at_once} == {0}


def test_runs_that_end_out_of_order_are_told_in_order() -> None:
    def finished(name: str) -> events.Event:
        return events.ScenarioFinished(name, "host-device", "f.yaml", 1.0, None)

    step = events.StepStarted("add c1")
    said = [(1, step), (1, finished("second")), (0, step), (2, step), (0, finished("first")), (2, finished("third"))]
    assert list(composition._in_order(said)) == [
        step,
        finished("first"),
        step,
        finished("second"),
        step,
        finished("third"),
    ]
