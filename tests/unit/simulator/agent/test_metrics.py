"""What whoever watches an agent is told of it."""

import json
import re
from collections.abc import Callable
from typing import Any

import pytest

from enim import wire
from simulator.agent import pool
from simulator.agent.refusal import REASONS
from simulator.effects import Measure, Measures, MoveHome, Persist
from simulator.errors import KernelFault
from simulator.model import Durations

Figures = Callable[[bytes], dict[str, float]]
ASK = wire.Request("GET", "/v1/x-enim/metrics")


def changed(figures: Figures, before: wire.Reply, after: wire.Reply) -> dict[str, float]:
    """The figures that differ, without the prefix, and by how much."""
    old, new = figures(before.body), figures(after.body)
    assert list(old) == list(new)
    return {key.removeprefix("enim_agent_"): new[key] - old[key] for key in new if new[key] != old[key]}


def test_answer_is_in_prometheus_text_format(hands: Any, figures: Figures) -> None:
    reply = hands.ask(ASK)
    assert (reply.status, reply.content_type) == (200, "text/plain; version=0.0.4")
    assert figures(reply.body)['enim_agent_enis{state="free"}'] == 2


def test_names_and_units_are_as_prometheus_wants_them(hands: Any) -> None:
    lines = hands.ask(ASK).body.decode().splitlines()
    kinds = dict(line.split()[2:] for line in lines if line.startswith("# TYPE"))
    helped = [line.split()[2] for line in lines if line.startswith("# HELP")]
    assert list(kinds) == helped
    for name, kind in kinds.items():
        assert re.fullmatch(r"enim_agent(_[a-z]+)+", name), name
        assert name.endswith("_total") is (kind == "counter"), name
        assert kind != "histogram" or name.endswith("_seconds"), name


def test_every_state_reason_and_kind_is_there_from_the_start(make_hands: Any, figures: Figures) -> None:
    found = figures(make_hands(0).ask(ASK).body)
    for label, name, values in (
        ("state", "enis", pool.STATES),
        ("reason", "refusals_total", REASONS),
        ("kind", "events_total", pool.KINDS),
        ("outcome", "gc_enis_total", ("reclaimed", "kept")),
    ):
        assert [found[f'enim_agent_{name}{{{label}="{value}"}}'] for value in values] == [0] * len(values)
    assert found['enim_agent_requests_total{method="POST",path="/v1/eni",status="200"}'] == 0
    assert found['enim_agent_request_duration_seconds_count{method="POST",path="/v1/eni"}'] == 0


def test_asking_changes_nothing(hands: Any) -> None:
    first = hands.ask(ASK)
    assert hands.ask(ASK) == first


def test_add_and_del_are_an_allocation_and_a_release(hands: Any, figures: Figures) -> None:
    before = hands.ask(ASK)
    assert hands.add().status == 200
    during = hands.ask(ASK)
    assert hands.delete().status == 200
    after = hands.ask(ASK)
    assert changed(figures, before, during) == {
        'enis{state="free"}': -1,
        'enis{state="in_use"}': 1,
        "allocations_total": 1,
        'events_total{kind="reserved"}': 1,
        'events_total{kind="acknowledged"}': 1,
        "journal_entries": 2,
    }
    assert changed(figures, during, after) == {
        'enis{state="in_use"}': -1,
        'enis{state="returning"}': 1,
        "releases_total": 1,
        'events_total{kind="released"}': 1,
        "journal_entries": 1,
    }


def test_add_in_flight_shows_while_it_is(hands: Any, figures: Figures) -> None:
    before = hands.ask(ASK)
    flight = hands.begin("POST")
    assert changed(figures, before, hands.ask(ASK)) == {"adds_in_flight": 1}
    assert flight.end().status == 200
    assert figures(hands.ask(ASK).body)["enim_agent_adds_in_flight"] == 0


def test_pool_without_a_free_eni_is_a_refusal_with_that_reason(hands: Any, figures: Figures) -> None:
    for number in (1, 2):
        assert hands.add(f"c{number}", owner=f"default/web-{number}").status == 200
    before = hands.ask(ASK)
    assert hands.add("c3", owner="default/web-3").status == 500
    assert changed(figures, before, hands.ask(ASK)) == {'refusals_total{reason="no_free_eni"}': 1}


def wishing(**wanted: Any) -> bytes:
    return json.dumps({"x-enim": wanted}).encode()


@pytest.mark.parametrize(
    ("fields", "status", "reason"),
    [
        ({"container_id": "c2", "body": wishing(ips=["10.64.0.11"])}, 500, "wanted_eni_taken"),
        ({"container_id": "c2", "body": wishing(ips=["192.0.2.1"])}, 500, "nothing_suits"),
        ({"body": wishing(ips=["192.0.2.1"])}, 409, "nothing_suits"),
        ({"netns": "/run/netns/other"}, 409, "nic_elsewhere"),
        ({"ifname": "net1"}, 409, "holds_another"),
        ({"owner": "default/web-1"}, 409, "other_owner"),
        ({"owner": "web-0"}, 500, "no_owner"),
        ({"container_id": ""}, 400, "malformed"),
        ({"body": b"{"}, 400, "malformed"),
    ],
)
def test_refused_add_counts_under_its_reason(
    hands: Any, figures: Figures, fields: dict[str, Any], status: int, reason: str
) -> None:
    hands.occupy()
    before = hands.ask(ASK)
    assert hands.add(**fields).status == status
    assert changed(figures, before, hands.ask(ASK)) == {f'refusals_total{{reason="{reason}"}}': 1}


def test_refused_del_counts_under_its_reason(hands: Any, figures: Figures) -> None:
    hands.occupy()
    before = hands.ask(ASK)
    assert hands.delete(owner="default/web-9").status == 409
    assert changed(figures, before, hands.ask(ASK)) == {'refusals_total{reason="other_owner"}': 1}


def test_superseded_container_and_what_becomes_of_its_eni(hands: Any, figures: Figures) -> None:
    hands.occupy()
    before = hands.ask(ASK)
    assert hands.add("c2").status == 200
    superseded = hands.ask(ASK)
    assert hands.add("c1").status == 500
    hands.settle(after_ms=2_001)
    found = changed(figures, before, superseded)
    assert (found["superseded_total"], found['enis{state="superseded"}']) == (1, 1)
    found = changed(figures, superseded, hands.ask(ASK))
    assert found['evidence_actions_total{action="reclaimed"}'] == 1
    assert found['refusals_total{reason="superseded"}'] == 1


def test_eni_that_cannot_be_brought_home_is_quarantined(
    hands: Any, figures: Figures, kernel_fault: KernelFault
) -> None:
    hands.occupy()
    assert hands.delete().status == 200
    hands.settle()
    before = hands.ask(ASK)
    hands.faults[MoveHome] = kernel_fault
    hands.settle(after_ms=2_001)
    assert changed(figures, before, hands.ask(ASK)) == {
        'enis{state="returning"}': -1,
        'enis{state="quarantined"}': 1,
        'evidence_actions_total{action="quarantined"}': 1,
        'events_total{kind="quarantined"}': 1,
        "journal_entries": 1,
    }


def test_garbage_collection_says_what_it_took_and_what_it_kept(hands: Any, figures: Figures) -> None:
    hands.occupy()
    assert hands.add("c2", owner="default/web-1").status == 200
    before = hands.ask(ASK)
    headers = (("content-type", "application/json"),)
    lists = [
        b'{"network":"podlink","valid":[]}',
        b'{"network":"podlink","valid":[{"containerID":"c2","ifname":"eth0"}]}',
    ]
    for body in lists:
        assert hands.ask(wire.Request("POST", "/v1/x-enim/gc", headers=headers, body=body)).status == 200
    found = changed(figures, before, hands.ask(ASK))
    assert (found['gc_enis_total{outcome="kept"}'], found['gc_enis_total{outcome="reclaimed"}']) == (2, 1)


def test_journal_that_cannot_be_written_shows(hands: Any, figures: Figures, store_fault: Exception) -> None:
    before = hands.ask(ASK)
    hands.faults[Persist] = store_fault
    assert hands.add().status == 500
    found = changed(figures, before, hands.ask(ASK))
    assert (found["journal_write_failures_total"], found['refusals_total{reason="fault"}']) == (1, 1)


def test_what_was_measured_is_told_for_each_request_and_the_time_for_each_verb(hands: Any, figures: Figures) -> None:
    took = {
        ("POST", "/v1/eni", 200): Durations((2, *[0] * 13, 0), 0.001),
        ("POST", "/v1/eni", 500): Durations((0, *[0] * 13, 1), 40.0),
        ("other", "other", 404): Durations((1, *[0] * 13, 0), 0.0),
    }
    flight = hands.begin_asking(ASK).until(Measure)
    found = figures(flight.resume(Measures(took, journal_entries=7, journal_bytes=4096)).end().body)
    requests = 'enim_agent_requests_total{method="POST",path="/v1/eni",status='
    assert (found[f'{requests}"200"}}'], found[f'{requests}"500"}}']) == (2, 1)
    assert found['enim_agent_requests_total{method="other",path="other",status="404"}'] == 1
    verb = 'method="POST",path="/v1/eni"'
    buckets = [
        found[f'enim_agent_request_duration_seconds_bucket{{{verb},le="{le}"}}'] for le in ("0.001", "30", "+Inf")
    ]
    assert buckets == [2, 2, 3]
    assert found[f"enim_agent_request_duration_seconds_sum{{{verb}}}"] == 40.001
    assert (found["enim_agent_journal_entries"], found["enim_agent_journal_size_bytes"]) == (7, 4096)


def test_what_cannot_be_measured_is_left_out(hands: Any, figures: Figures, store_fault: Exception) -> None:
    hands.faults[Measure] = store_fault
    reply = hands.ask(ASK)
    found = figures(reply.body)
    assert (reply.status, found['enim_agent_enis{state="free"}']) == (200, 2)
    assert [name for name in found if "journal" in name] == ["enim_agent_journal_write_failures_total"]
