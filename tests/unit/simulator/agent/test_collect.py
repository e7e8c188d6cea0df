"""The agent's list of attachments, and what a runtime's garbage collection may end."""

import json
from typing import Any

import pytest

from enim import wire
from simulator.effects import InspectNetns, Persist
from simulator.errors import KernelFault, StoreFault

C1 = {"containerID": "c1", "ifname": "eth0"}


def ask(hands: Any, valid: Any, network: str = "podlink") -> wire.Reply:
    body = valid if isinstance(valid, bytes) else json.dumps({"network": network, "valid": valid}).encode()
    reply: wire.Reply = hands.ask(
        wire.Request("POST", "/v1/x-enim/gc", headers=(("content-type", "application/json"),), body=body)
    )
    return reply


def answered(reply: wire.Reply) -> tuple[list[str], list[str]]:
    """What was taken back, and why the rest was kept."""
    value = json.loads(reply.body)
    return value["reclaimed"], [one["reason"] for one in value["kept"]]


def listed(hands: Any, **query: str) -> list[dict[str, Any]]:
    reply = hands.ask(wire.Request("GET", "/v1/x-enim/attachments", tuple(query.items())))
    attachments: list[dict[str, Any]] = json.loads(reply.body)["attachments"]
    return attachments


def test_attachment_is_listed_with_all_that_check_compares(hands: Any) -> None:
    hands.occupy()
    assert listed(hands) == [
        {
            "network": "podlink",
            "containerID": "c1",
            "ifname": "eth0",
            "owner": "default/web-0",
            "netns": "/run/netns/c1",
            "state": "in_use",
            "mac": "fa:26:00:00:00:01",
            "ips": ["10.64.0.11/24", "fd00:64::1/64"],
        }
    ]


def test_list_can_be_asked_for_one_attachment(hands: Any) -> None:
    hands.occupy()
    assert len(listed(hands, network="podlink", containerID="c1", ifname="eth0")) == 1
    for other in ({"network": "x"}, {"containerID": "c2"}, {"ifname": "net1"}):
        assert listed(hands, **other) == []


def test_what_is_superseded_is_listed_as_such(hands: Any) -> None:
    hands.occupy()
    assert hands.add("c2").status == 200
    assert [(one["containerID"], one["state"]) for one in listed(hands)] == [("c1", "superseded"), ("c2", "in_use")]


def test_what_a_list_omits_is_taken_back_and_the_rest_stays(hands: Any) -> None:
    hands.occupy()
    assert hands.add("c2", owner="default/web-1").status == 200
    assert answered(ask(hands, [{"containerID": "c2", "ifname": "eth0"}])) == (["eni-1"], [])
    assert hands.states() == ["returning", "in_use"]
    assert hands.record(1).reason == "the runtime's list for podlink omits podlink/c1/eth0"


@pytest.mark.parametrize(
    ("valid", "network"),
    [([C1], "podlink"), ([C1, {**C1, "ifname": "net1"}], "podlink"), ([{**C1, "containerID": "c9"}], "other")],
)
def test_what_is_listed_and_what_is_of_another_network_stays(hands: Any, valid: Any, network: str) -> None:
    hands.occupy()
    assert answered(ask(hands, valid, network)) == ([], [])
    assert hands.states() == ["in_use", "free"]


def test_empty_list_ends_only_what_has_no_namespace_any_more(hands: Any) -> None:
    hands.occupy()
    assert answered(ask(hands, [])) == ([], ["the list is empty, and its namespace lives"])
    hands.end_netns("/run/netns/c1")
    assert answered(ask(hands, [])) == (["eni-1"], [])


def test_empty_list_ends_nothing_that_cannot_be_looked_into(hands: Any) -> None:
    hands.occupy()
    hands.faults[InspectNetns] = KernelFault("look", 13, "Permission denied")
    assert answered(ask(hands, []))[0] == []
    assert hands.states() == ["in_use", "free"]


def test_empty_list_ends_nothing_whose_namespace_was_never_seen(hands: Any) -> None:
    hands.occupy(netns_lives=False)
    assert answered(ask(hands, [])) == ([], ["the list is empty, and its namespace was never seen"])


def test_add_that_is_in_flight_is_not_ended_by_a_list_that_does_not_know_it_yet(hands: Any) -> None:
    flight = hands.begin("POST")
    flight.until(Persist)
    assert answered(ask(hands, [{**C1, "containerID": "c9"}])) == ([], [])
    assert flight.end().status == 200
    assert hands.record().state == "in_use"


def test_attachment_that_changes_meanwhile_is_kept(hands: Any) -> None:
    hands.occupy()
    deletion = hands.begin("DELETE").until(Persist)
    assert answered(ask(hands, [{**C1, "containerID": "c9"}])) == ([], ["another request is at work on it"])
    assert deletion.end().status == 200


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"null",
        b'{"network":"podlink"}',
        b'{"network":"podlink","valid":null}',
        b'{"network":"podlink","valid":["c1"]}',
        b'{"network":"podlink","valid":[{"containerID":"c9"}]}',
        b'{"network":"podlink","valid":[{"containerID":"","ifname":"eth0"}]}',
        b'{"network":"","valid":[]}',
        b'{"network":7,"valid":[]}',
        b'{"network":"podlink","valid":{}}',
        b"[" * 100_000,
    ],
)
def test_list_that_cannot_be_read_ends_nothing(hands: Any, body: bytes) -> None:
    hands.occupy()
    assert ask(hands, body).status == 400
    assert hands.states() == ["in_use", "free"]


def test_full_disk_ends_nothing(hands: Any) -> None:
    hands.occupy()
    hands.faults[Persist] = StoreFault("journal", 28, "No space left on device")
    assert ask(hands, [{**C1, "containerID": "c9"}]).status == 500
    assert hands.states() == ["in_use", "free"]
