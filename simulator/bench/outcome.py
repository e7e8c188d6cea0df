"""PURE: what a benchmark has found, and its JSON: a stable shape that `docs/bench.md` describes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from simulator.bench import load, stats

FORMAT = "enim-bench/1"


@dataclass(frozen=True, slots=True)
class Row:
    """One subject, one state of the pool, one verb, one way to end.

    Args:
        state: of the pool, or the scenario's name.
        pairs_per_second: of ADD and DEL, with as many at once as ``concurrency`` says; None where there are no pairs.
        total: the whole, from the start of the first process to the end of the last, ms.
        phases: a name of ``stats.PHASES`` → the same of that part. The means add up to the whole's.
        tries: how many runs of the verb these took.
    """

    state: str
    subject: str
    verb: str
    result: str
    pairs_per_second: float | None
    total: stats.Summary
    phases: Mapping[str, stats.Summary]
    tries: int


@dataclass(frozen=True, slots=True)
class Bench:
    """A whole run.

    Args:
        why: the lab, for people.
        is_virtual: times are the model's: the same on every machine.
        machine: fact → value; empty in virtual time.
        left_out: subject → why it was not measured.
    """

    lab: str
    why: str
    is_virtual: bool
    options: Mapping[str, Any]
    machine: Mapping[str, Any]
    rows: Sequence[Row]
    left_out: Mapping[str, str]


def rows(state: str, subject: str, measured: Iterable[load.Measured], busy_ms: float) -> list[Row]:
    """Put together what belongs together, in the order in which it came.

    Args:
        busy_ms: how long plugins ran in all.
    """
    groups: dict[tuple[str, str], list[load.Measured]] = {}
    for one in measured:
        groups.setdefault((one.verb, one.result), []).append(one)
    adds = sum(len(group) for (verb, _), group in groups.items() if verb == "ADD")
    rate = adds * 1000 / busy_ms if adds and busy_ms > 0 else None
    return [
        Row(
            state,
            subject,
            verb,
            result,
            rate,
            stats.summarize([one.phases.total_ms for one in group]),
            {phase: stats.summarize([one.phases.of(phase) for one in group]) for phase in stats.PHASES},
            sum(one.tries for one in group),
        )
        for (verb, result), group in groups.items()
    ]


def as_json(bench: Bench) -> dict[str, Any]:
    """The document: objects, lists, texts, numbers; milliseconds unless a key says otherwise."""
    return {
        "format": FORMAT,
        "lab": {"name": bench.lab, "why": bench.why},
        "time": "virtual" if bench.is_virtual else "real",
        "options": dict(bench.options),
        "machine": dict(bench.machine),
        "rows": [_row(row) for row in bench.rows],
        "left_out": [{"subject": subject, "why": why} for subject, why in bench.left_out.items()],
    }


def _row(row: Row) -> dict[str, Any]:
    return {
        "state": row.state,
        "subject": row.subject,
        "verb": row.verb,
        "result": row.result,
        "tries": row.tries,
        "pairs_per_second": None if row.pairs_per_second is None else round(row.pairs_per_second, 3),
        "total_ms": _summary(row.total),
        "phases_ms": {phase: _summary(summary) for phase, summary in row.phases.items()},
    }


def _summary(summary: stats.Summary) -> dict[str, Any]:
    return {
        "count": summary.count,
        "mean": round(summary.mean, 6),
        **{name: round(value, 6) for name, value in summary.percentiles.items()},
        "max": round(summary.max, 6),
        "p50_interval_95": [round(value, 6) for value in summary.p50_interval],
    }
