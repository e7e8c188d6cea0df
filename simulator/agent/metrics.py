"""PURE: what the agent tells whoever watches it: ``GET /v1/x-enim/metrics``, for Prometheus.

- Counters begin at the agent's start; gauges say what is now. All are of one moment between two yields.
- Every state, kind, reason and served path is there from the start, with 0, so that an alert finds it.
- What cannot be measured is left out; asking never fails, and changes nothing.

Source: design D10, D11 (a pool without a free ENI is a metric).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from enim import wire
from simulator import errors
from simulator.agent import api, exposition, pool, reclaim, timings
from simulator.agent.exposition import Family, Sample
from simulator.agent.ledger import Ledger
from simulator.agent.refusal import REASONS
from simulator.effects import Flow, Measure, Measures

PREFIX = "enim_agent_"


def metrics(ledger: Ledger) -> Flow[wire.Reply]:
    """Answer with all of them."""
    try:
        measures: Measures = yield Measure()
    except errors.WorldFault:
        measures = Measures()
    body = exposition.text((*_of_pool(ledger), *_of_requests(ledger, measures), *_of_journal(ledger, measures)))
    return wire.Reply(200, body, exposition.CONTENT_TYPE)


def _of_pool(ledger: Ledger) -> Iterable[Family]:
    entries, events = ledger.pool.entries(), ledger.counts.events
    states = Counter(entry.state for entry in entries)
    unlisted = sum(not entry.listed for entry in entries)
    yield Family(f"{PREFIX}enis", "gauge", "ENIs in each state.", _each("state", pool.STATES, states))
    yield _one("unlisted_enis", "gauge", "ENIs on record, in any state, that the cloud does not list.", unlisted)
    yield _one("adds_in_flight", "gauge", "ADDs that the agent is at work on.", len(ledger.adds))
    yield _one("allocations_total", "counter", "ENIs given to an attachment.", events["acknowledged"])
    yield _one("releases_total", "counter", "ENIs given back by a DEL or a failed ADD.", events["released"])
    yield _one("superseded_total", "counter", "Attachments superseded by a newer container.", events["superseded"])
    yield Family(
        f"{PREFIX}evidence_actions_total",
        "counter",
        "What evidence has led the agent to do with an ENI, without a request.",
        _each("action", reclaim.ACTIONS, ledger.counts.evidence),
    )
    yield Family(
        f"{PREFIX}gc_enis_total",
        "counter",
        "ENIs that a runtime's list of valid attachments omitted, and what came of them.",
        _each("outcome", ("reclaimed", "kept"), ledger.counts.collected),
    )
    yield Family(
        f"{PREFIX}events_total",
        "counter",
        "Events that became durable in the journal, by their kind.",
        _each("kind", pool.KINDS, events),
    )


def _of_requests(ledger: Ledger, measures: Measures) -> Iterable[Family]:
    served = [(method, path) for path, methods in api.METHODS.items() for method in methods]
    answered = {(method, path, 200): timings.NONE for method, path in served} | dict(measures.requests)
    routes = dict.fromkeys((method, path) for method, path, _ in answered)
    yield Family(
        f"{PREFIX}refusals_total",
        "counter",
        "Requests that the agent refused, by its reason.",
        _each("reason", tuple(REASONS), ledger.counts.refusals),
    )
    yield Family(
        f"{PREFIX}requests_total",
        "counter",
        "Requests that were answered; method and path are other where the agent serves none such.",
        tuple(
            Sample(sum(one.counts), (("method", method), ("path", path), ("status", str(status))))
            for (method, path, status), one in answered.items()
        ),
    )
    yield Family(
        f"{PREFIX}request_duration_seconds",
        "histogram",
        "Time from a request's arrival until its answer was ready.",
        tuple(
            sample
            for method, path in routes
            for found in [[one for key, one in answered.items() if key[:2] == (method, path)]]
            for sample in exposition.buckets(
                (("method", method), ("path", path)),
                timings.BOUNDS_S,
                [sum(counts) for counts in zip(*(one.counts for one in found), strict=True)],
                sum(one.sum_s for one in found),
            )
        ),
    )


def _of_journal(ledger: Ledger, measures: Measures) -> Iterable[Family]:
    if measures.journal_entries is not None:
        yield _one("journal_entries", "gauge", "Events that are in the journal.", measures.journal_entries)
    if measures.journal_bytes is not None:
        yield _one("journal_size_bytes", "gauge", "Size of the journal's files.", measures.journal_bytes)
    failures = ledger.counts.write_failures
    yield _one("journal_write_failures_total", "counter", "Times that the journal could not be written.", failures)


def _one(name: str, kind: exposition.Kind, says: str, value: float) -> Family:
    return Family(PREFIX + name, kind, says, (Sample(value),))


def _each(label: str, values: Iterable[str], counts: Mapping[str, int]) -> tuple[Sample, ...]:
    return tuple(Sample(counts.get(value, 0), ((label, value),)) for value in values)
