"""Requests that meet each other, the background, or a failure of the outside, at every effect where that matters."""

import json
from typing import Any

import pytest

from enim import wire
from simulator import effects, errors

OK = wire.Reply(200)


def granted(reply: wire.Reply) -> tuple[str, str]:
    """The MAC and interface number of an answer."""
    assert reply.status == 200, reply
    body = json.loads(reply.body)
    return body["ipv4"]["master-mac"], body["ipv4"]["interface-number"]


def text(reply: wire.Reply) -> tuple[int, str]:
    return reply.status, json.loads(reply.body)


# --- ADD meets another ADD, or the background


def test_add_again_while_the_first_is_in_flight_is_refused(hands: Any) -> None:
    first = hands.begin("POST", "c1").until(effects.Persist)

    assert hands.add("c1").status == 409
    assert granted(first.end())[0] == "fa:26:00:00:00:01"


def test_add_again_of_what_a_del_is_ending_gets_another_eni(hands: Any) -> None:
    hands.add("c1")
    ending = hands.begin("DELETE", "c1").until(effects.Persist)
    again = hands.begin("POST", "c1").until(effects.WaitForChange)
    ending.end()

    assert granted(again.end())[0] == "fa:26:00:00:00:02"


def test_add_again_that_is_overtaken_by_its_own_del_fails(hands: Any) -> None:
    hands.add("c1")
    again = hands.begin("POST", "c1").until(effects.InspectNetns)
    ending = hands.begin("DELETE", "c1").until(effects.WaitForChange)

    assert again.end().status == 409
    assert ending.end() == OK
    assert hands.states() == ["returning", "free"]


def test_add_again_of_what_the_background_takes_meanwhile_fails(hands: Any) -> None:
    hands.netns["/run/netns/c1"] = "4:100"
    hands.add("c1")
    hands.netns.clear()
    hands.settle()
    again = hands.begin("POST", "c1").until(effects.InspectNetns)
    hands.settle(30_000)
    assert hands.states() == ["free", "free"]

    assert text(again.end()) == (409, "podlink/c1/eth0 changed while its ADD was in flight, please retry")
    assert hands.states() == ["free", "free"]


def test_add_of_a_second_attachment_is_refused_while_the_first_is_in_flight(hands: Any) -> None:
    first = hands.begin("POST", "c1").until(effects.Persist)

    assert hands.add("c1", ifname="net1").status == 409
    assert first.end().status == 200


@pytest.mark.parametrize("stop", [effects.ListLinks, effects.InspectNetns, effects.Persist])
def test_add_in_flight_that_finds_itself_superseded_fails_and_gives_its_eni_back(
    make_hands: Any, stop: type[effects.Effect]
) -> None:
    hands = make_hands(3)
    hands.settle()
    older = hands.begin("POST", "c1").until(stop)

    assert hands.add("c2").status == 200
    status, problem = text(older.end())

    assert (status, problem.endswith("please retry"), "superseded" in problem) == (500, True, True)
    assert sorted(hands.states()) in (["free", "free", "in_use"], ["free", "in_use", "returning"])
    assert [record.attachment for record in hands.agent.records() if record.attachment] == [hands.attachment("c2")]


def test_add_waits_for_the_commit_of_another_add_of_its_pod(make_hands: Any) -> None:
    hands = make_hands(3)
    hands.settle()
    older = hands.begin("POST", "c1").until(effects.Persist).step().until(effects.Persist)
    newer = hands.begin("POST", "c2").until(effects.Persist).step().until(effects.WaitForChange, effects.Persist)
    assert isinstance(newer.effect, effects.WaitForChange)

    assert older.end().status == 200
    assert newer.end().status == 200

    assert [record.state for record in hands.agent.records()] == ["superseded", "in_use", "free"]


def test_adds_of_different_pods_do_not_wait_for_each_other(hands: Any) -> None:
    first = hands.begin("POST", "c1").until(effects.Persist).step().until(effects.Persist)

    assert hands.add("c3", owner="default/web-3").status == 200
    assert first.end().status == 200


# --- DEL


def test_del_releases_and_is_idempotent(hands: Any) -> None:
    hands.add("c1")

    assert [hands.delete("c1") for _ in range(3)] == [OK, OK, OK]
    assert hands.states() == ["returning", "free"]
    assert [event["kind"] for event in hands.journal].count("released") == 1


@pytest.mark.parametrize(
    "other",
    [{"container_id": "c9"}, {"ifname": "net1"}, {"network": "other"}, {"container_id": ""}],
    ids=["container", "ifname", "network", "no container"],
)
def test_del_of_what_is_unknown_succeeds_and_does_nothing(hands: Any, other: dict[str, str]) -> None:
    hands.add("c1")

    assert hands.delete(**{"container_id": "c1", **other}) == OK
    assert hands.states() == ["in_use", "free"]


def test_del_of_the_older_container_leaves_the_newer_alone(hands: Any) -> None:
    hands.add("c1")
    hands.add("c2")

    assert hands.delete("c1") == OK
    assert hands.states() == ["returning", "in_use"]


@pytest.mark.parametrize("owner", ["", "podlink/c1"], ids=["none", "what a plugin without CNI_ARGS says"])
def test_del_without_the_pods_name_releases(hands: Any, owner: str) -> None:
    hands.add("c1")

    assert hands.delete("c1", owner=owner, netns="") == OK
    assert hands.states() == ["returning", "free"]


def test_del_with_the_name_of_another_pod_is_refused(hands: Any) -> None:
    hands.add("c1")

    assert hands.delete("c1", owner="default/web-1").status == 409
    assert hands.states() == ["in_use", "free"]


def test_del_with_the_name_of_another_pod_does_not_stop_an_add_in_flight(hands: Any) -> None:
    adding = hands.begin("POST", "c1").until(effects.Persist)

    assert hands.delete("c1", owner="default/web-1").status == 409
    assert adding.end().status == 200


def stops(hands: Any) -> int:
    """How many effects an ADD has."""
    flight, count = hands.begin("POST", "c0", owner="default/probe"), 0
    while not flight.is_over:
        flight.step()
        count += 1
    hands.delete("c0", owner="default/probe")
    hands.settle()
    return count


def test_del_that_meets_its_add_in_flight_ends_it_at_whatever_effect(hands: Any) -> None:
    for stop in range(stops(hands)):
        adding = hands.begin("POST", "c1")
        for _ in range(stop):
            adding.step()
        ending = hands.begin("DELETE", "c1").until(effects.WaitForChange)
        assert not ending.is_over, "a DEL must not be acknowledged while its ADD may still be"

        assert adding.end().status == 500
        assert ending.end() == OK

        assert "in_use" not in hands.states()
        hands.settle()
        assert hands.states() == ["free", "free"]


def test_del_gives_up_on_an_add_that_hangs_and_the_add_is_not_acknowledged(hands: Any) -> None:
    adding = hands.begin("POST", "c1").until(effects.Persist)

    status, problem = text(hands.delete("c1"))

    assert (status, problem.endswith("please retry")) == (500, True)
    assert adding.end().status == 500


# --- failures of the outside


def test_add_fails_at_whatever_effect_the_outside_fails_and_holds_nothing(
    hands: Any, store_fault: errors.StoreFault, kernel_fault: errors.KernelFault
) -> None:
    faults = {
        effects.Persist: store_fault,
        effects.ListLinks: kernel_fault,
        effects.InspectNetns: kernel_fault,
    }
    for stop in range(stops(hands)):
        flight = hands.begin("POST", "c1")
        for _ in range(stop):
            flight.step()
        fault = faults.get(type(flight.effect))
        may_fail = fault is not None and not isinstance(flight.effect, effects.InspectNetns)

        reply = (flight if fault is None else flight.fail(fault)).end()

        assert reply.status == (500 if may_fail else 200)
        hands.delete("c1")
        hands.settle()
        assert hands.states() == ["free", "free"]


def test_add_whose_withdrawal_cannot_be_journaled_either_is_withdrawn_by_the_background(
    hands: Any, store_fault: errors.StoreFault
) -> None:
    flight = hands.begin("POST", "c1").until(effects.Persist).step().until(effects.Persist)
    hands.faults[effects.Persist] = store_fault

    assert flight.end().status == 500
    assert hands.states() == ["reserved", "free"]

    hands.faults.clear()
    hands.settle(2_000)
    assert hands.states() == ["free", "free"]


def test_del_that_cannot_be_journaled_changes_nothing(hands: Any, store_fault: errors.StoreFault) -> None:
    hands.add("c1")

    assert hands.begin("DELETE", "c1").until(effects.Persist).fail(store_fault).end().status == 500
    assert hands.states() == ["in_use", "free"]
    assert hands.delete("c1") == OK


def test_add_again_that_cannot_be_journaled_changes_nothing(hands: Any, store_fault: errors.StoreFault) -> None:
    hands.add("c1")

    assert hands.begin("POST", "c1").until(effects.Persist).fail(store_fault).end().status == 409
    assert hands.states() == ["in_use", "free"]


def test_a_netns_that_cannot_be_looked_into_has_no_identity(hands: Any, kernel_fault: errors.KernelFault) -> None:
    flight = hands.begin("POST", "c1").until(effects.InspectNetns)

    assert flight.fail(kernel_fault).end().status == 200
    assert [event["identity"] for event in hands.journal if event["kind"] == "acknowledged"] == [""]


# --- restart


def test_restart_keeps_what_was_acknowledged_and_withdraws_what_was_not(hands: Any) -> None:
    hands.add("c1")
    hands.begin("POST", "c3", owner="default/web-3").until(effects.Persist).step()
    assert hands.states() == ["in_use", "reserved"]

    hands.restart()

    assert hands.states() == ["in_use", "returning"]
    assert hands.record(1).attachment == hands.attachment("c1")
    hands.settle()
    assert hands.states() == ["in_use", "free"]
