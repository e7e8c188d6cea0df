"""Who counts what, with the agent's own flows."""

from typing import Any

from simulator.agent.counts import Counts
from simulator.effects import Persist


def counts(hands: Any) -> Counts:
    found: Counts = hands.agent._ledger.counts
    return found


def test_nothing_has_been_counted_at_first() -> None:
    assert Counts() == Counts(write_failures=0)
    assert sum(Counts().events.values()) == 0


def test_event_counts_when_it_is_durable(hands: Any) -> None:
    flight = hands.begin("POST").until(Persist)
    assert counts(hands).events["reserved"] == 0
    flight.step()
    assert counts(hands).events["reserved"] == 1


def test_event_that_the_journal_refuses_is_a_failure_and_no_event(hands: Any, store_fault: Exception) -> None:
    before = counts(hands).events.copy()
    assert hands.begin("POST").until(Persist).fail(store_fault).end().status == 500
    assert (counts(hands).events, counts(hands).write_failures) == (before, 1)


def test_counts_begin_anew_with_the_agent(hands: Any) -> None:
    assert hands.add().status == 200
    hands.restart()
    hands.settle()
    assert counts(hands).events == {"restarted": 1, "freed": 1}


def test_evidence_counts_apart_from_what_requests_do(hands: Any) -> None:
    hands.occupy()
    hands.end_netns("/run/netns/c1")
    hands.settle()
    hands.settle(after_ms=30_001)
    assert counts(hands).evidence == {"freed": 3, "reclaimed": 1}
    assert counts(hands).events["reclaimed"] == 1


def test_evidence_that_the_journal_refuses_does_not_count(hands: Any, store_fault: Exception) -> None:
    hands.occupy()
    before = counts(hands).evidence.copy()
    hands.faults[Persist] = store_fault
    hands.end_netns("/run/netns/c1")
    hands.settle()
    hands.settle(after_ms=30_001)
    assert (counts(hands).evidence, counts(hands).write_failures > 0) == (before, True)
