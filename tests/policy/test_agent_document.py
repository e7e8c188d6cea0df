"""docs/agent.md says what the agent does."""

import re
from pathlib import Path

from enim import wire
from simulator.agent import api, flows, openapi, pool
from simulator.agent.refusal import REASONS
from simulator.effects import Measures

TEXT = Path(__file__).parents[2].joinpath("docs/agent.md").read_text()


def exposition() -> str:
    """The metrics of an agent of which all can be measured."""
    flow = flows.Agent((), []).handle(wire.Request("GET", api.METRICS))
    next(flow)
    try:
        flow.send(Measures(journal_entries=0, journal_bytes=0))
    except StopIteration as end:
        return str(end.value.body.decode())
    raise AssertionError("one effect is all it takes")


def rows(first_cell: str) -> list[str]:
    """The table rows whose first cell, in backquotes, is such a text."""
    return [line for line in TEXT.splitlines() if re.match(rf"\| `{first_cell}` \|", line)]


def test_every_request_is_there() -> None:
    paths = openapi.document()["paths"]
    expected = [
        f"| `{method.upper()} {path}` | {one['summary']} |" for path in paths for method, one in paths[path].items()
    ]
    assert expected == rows(r"[A-Z]+ /\S+")


def test_every_metric_is_there_with_its_type_its_labels_and_what_it_says() -> None:
    text = exposition()
    says = dict(re.findall(r"^# HELP (\S+) (.*)$", text, re.MULTILINE))
    expected = []
    for name, kind in re.findall(r"^# TYPE (\S+) (.*)$", text, re.MULTILINE):
        lines = "\n".join(line for line in text.splitlines() if line.startswith(name))
        labels = [label for label in dict.fromkeys(re.findall(r'(\w+)="', lines)) if label != "le"]
        expected.append(f"| `{name}` | {kind} | {', '.join(labels)} | {says[name]} |")
    assert expected == rows(r"enim_agent_\w+")


def test_every_reason_is_there() -> None:
    assert [f"| `{reason}` | {what} |" for reason, what in REASONS.items()] == rows(rf"(?:{'|'.join(REASONS)})")


def test_every_expression_to_watch_names_figures_that_there_are() -> None:
    text = exposition()
    watched = re.findall(r"^(?:increase\()?(enim_agent_[^ \[]+)", TEXT, re.MULTILINE)
    assert len(watched) == 4
    assert [one for one in watched if f"\n{one} " not in text] == []
    assert pool.QUARANTINED in watched[2]
