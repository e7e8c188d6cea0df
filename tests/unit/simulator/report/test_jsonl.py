"""The trace: one JSON object per event, complete, and the same bytes for the same events."""

import json
from pathlib import Path

import pytest

from simulator.errors import ScenarioError
from simulator.model import PluginCall, PluginOutcome
from simulator.report import events, jsonl

CALL = PluginCall("enim", {"CNI_COMMAND": "ADD"}, b'{"name": "\xff"}')
EVENTS: tuple[events.Event, ...] = (
    events.RunStarted("userns", "asked for", 1, "macvlan"),
    events.PluginRan(PluginOutcome(CALL, 1, b"{}", "zwölf\n".encode(), 1.23456)),
    events.ScenarioFinished("a", "host-device", "a.yaml", 2.0, events.Failed("add", "a.yaml", 3, "no", (("x", "y"),))),
)


def trace_of(path: Path) -> bytes:
    with jsonl.TraceReport(path) as report:
        for event in EVENTS:
            report(event)
    return path.read_bytes()


def test_trace_has_every_event_with_all_its_fields(tmp_path: Path) -> None:
    started, ran, finished = map(json.loads, trace_of(tmp_path / "new" / "trace").splitlines())
    assert started == {"event": "RunStarted", "lab": "userns", "why": "asked for", "count": 1, "backend": "macvlan"}
    assert ran["outcome"]["call"] == {
        "plugin": "enim",
        "environment": {"CNI_COMMAND": "ADD"},
        "stdin": '{"name": "\N{REPLACEMENT CHARACTER}"}',
        "timeout_ms": 60_000,
    }
    assert (ran["outcome"]["stderr"], ran["outcome"]["duration_ms"]) == ("zwölf\n", 1.235)
    assert (finished["failed"]["line"], finished["failed"]["views"]) == (3, [["x", "y"]])


def test_trace_is_the_same_for_the_same_events(tmp_path: Path) -> None:
    assert trace_of(tmp_path / "one") == trace_of(tmp_path / "two")


def test_trace_that_cannot_be_written_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(ScenarioError, match="it cannot be written: Is a directory"):
        jsonl.TraceReport(tmp_path)
