"""The evidence table, its rows of ENIs that nobody has; and the flow that drives it."""

from dataclasses import replace
from typing import Any

import pytest

from simulator import effects, errors
from simulator.agent import reclaim

NETNS = "/run/netns/c1"

# --- returning


def test_returning_at_home_is_restored_and_free_only_when_that_was_seen(hands: Any) -> None:
    hands.occupy()
    hands.delete("c1")
    hands.come_home(1, altnames=("eth0",), addresses=("10.0.0.9/24",))

    hands.background.step().until(effects.RestoreIdentity)
    assert hands.states() == ["returning", "free"]
    hands.background.step()
    assert (hands.background.effect, hands.states()) == (effects.ListLinks(), ["returning", "free"])
    hands.background.step().until(effects.Persist)
    assert hands.background.effect.events[0]["ifindex"] == 41
    hands.background.until(effects.WaitForChange)

    assert hands.states() == ["free", "free"]


def test_returning_in_a_living_netns_is_left_to_the_upper_plugin_for_2_s(hands: Any) -> None:
    hands.occupy()
    hands.delete("c1")
    hands.settle(1_999)
    assert (hands.states(), len(hands.inside)) == (["returning", "free"], 1)

    hands.settle(1)
    assert (hands.states(), len(hands.inside)) == (["free", "free"], 0)


def test_returning_whose_nic_is_seen_nowhere_waits_for_ever_at_a_bounded_rate(hands: Any) -> None:
    hands.occupy()
    hands.delete("c1")
    hands.inside.clear()
    written = len(hands.journal)
    hands.done.clear()

    for _ in range(1_000):
        hands.settle(10_000)

    looks = [effect for effect in hands.done if isinstance(effect, effects.InspectNetns)]
    assert (hands.states(), len(hands.journal)) == (["returning", "free"], written)
    assert 100 <= len(looks) <= 10_000 / 60 + 10


@pytest.mark.parametrize("fault", [effects.MoveHome, effects.InspectNetns])
def test_returning_that_cannot_be_moved_home_is_quarantined_and_free_after_all(
    hands: Any, kernel_fault: errors.KernelFault, fault: type[effects.Effect]
) -> None:
    hands.occupy()
    hands.delete("c1")
    hands.faults[fault] = kernel_fault
    hands.settle(2_000)
    assert hands.states() == ["quarantined", "free"]

    hands.faults.clear()
    hands.settle(0)
    assert hands.states() == ["quarantined", "free"]
    hands.end_netns(NETNS)
    hands.settle(0)
    assert (hands.states(), hands.links["eni-1"].name) == (["free", "free"], "ens1")


def test_returning_whose_restore_fails_is_tried_again_with_back_off(
    hands: Any, kernel_fault: errors.KernelFault
) -> None:
    hands.occupy()
    hands.delete("c1")
    hands.come_home(1)
    hands.faults[effects.RestoreIdentity] = kernel_fault
    hands.done.clear()
    hands.settle(0)
    written = len(hands.journal)
    assert (hands.record(1).state, hands.record(1).reason) == ("returning", str(kernel_fault))
    assert hands.deadline_ms == hands.clock_ms + 1_000

    for _ in range(3_600):
        hands.settle(1_000)

    tries = [effect for effect in hands.done if isinstance(effect, effects.RestoreIdentity)]
    assert 60 <= len(tries) <= 70
    assert (hands.states(), len(hands.journal)) == (["returning", "free"], written)

    hands.faults.clear()
    hands.settle(60_000)
    assert hands.states() == ["free", "free"]


def test_returning_that_does_not_show_what_was_restored_is_not_free(hands: Any) -> None:
    hands.occupy()
    hands.delete("c1")
    hands.come_home(1)
    hands.background.step().until(effects.RestoreIdentity).step()
    hands.links["eni-1"] = replace(hands.links["eni-1"], addresses=("10.0.0.9/24",))  # a manager of the host was faster
    hands.background.until(effects.WaitForChange)
    assert hands.states() == ["returning", "free"]

    hands.settle(1_000)
    assert hands.states() == ["free", "free"]


def test_returning_that_two_links_claim_to_be_is_not_free(hands: Any) -> None:
    hands.occupy()
    hands.delete("c1")
    hands.come_home(1)
    hands.strangers.append(hands.links["eni-1"])

    hands.settle(3_600_000)
    assert hands.states() == ["returning", "free"]

    hands.strangers.clear()
    hands.settle()
    assert hands.states() == ["free", "free"]


def test_after_a_start_every_eni_is_looked_at_before_it_is_free(make_hands: Any) -> None:
    hands = make_hands(3)
    hands.links.pop("eni-2")
    assert hands.states() == ["returning"] * 3

    hands.settle()

    assert hands.states() == ["free", "returning", "free"]


# --- quarantined


def test_quarantined_in_a_living_netns_is_moved_home_when_that_works_again(
    hands: Any, kernel_fault: errors.KernelFault
) -> None:
    hands.occupy()
    assert hands.add("c2").status == 200
    hands.faults[effects.MoveHome] = kernel_fault
    hands.settle(2_000)
    for _ in range(100):
        hands.settle(10_000)
    written = len(hands.journal)
    assert hands.states() == ["quarantined", "in_use"]

    hands.faults.clear()
    for _ in range(7):
        hands.settle(10_000)

    assert (hands.states(), len(hands.journal)) == (["free", "in_use"], written + 2)


# --- not listed by the cloud


@pytest.mark.parametrize("state", ["free", "in_use", "returning"])
def test_an_eni_that_the_cloud_does_not_list_is_neither_taken_nor_offered(hands: Any, state: str) -> None:
    if state != "free":
        hands.occupy()
    if state == "returning":
        hands.delete("c1")
    if state == "in_use":
        hands.end_netns(NETNS)
    both, hands.enis = hands.enis, hands.enis[1:]
    hands.restart()

    for _ in range(10):
        hands.settle(10_000)

    assert hands.states() == ["in_use" if state == "in_use" else "returning", "free"]
    assert "does not list" in hands.record(1).reason

    hands.enis = both
    if state == "returning":
        hands.end_netns(NETNS)
    hands.restart()
    for _ in range(10):
        hands.settle(10_000)
    assert hands.states() == ["free", "free"]


# --- the flow


def test_run_waits_while_the_links_cannot_be_listed(make_hands: Any, kernel_fault: errors.KernelFault) -> None:
    hands = make_hands(2)
    hands.faults[effects.ListLinks] = kernel_fault
    hands.settle()
    assert (hands.states(), hands.deadline_ms) == (["returning"] * 2, hands.clock_ms + 1_000)

    hands.faults.clear()
    hands.settle(1_000)
    assert hands.states() == ["free", "free"]


def test_run_does_nothing_until_what_the_replay_found_is_durable(
    make_hands: Any, store_fault: errors.StoreFault
) -> None:
    hands = make_hands(2)
    hands.faults[effects.Persist] = store_fault
    for _ in range(10):
        hands.settle(1_000)
    assert (hands.states(), hands.journal) == (["returning"] * 2, [])

    hands.faults.clear()
    hands.settle(1_000)
    assert hands.states() == ["free", "free"]


def test_run_leaves_what_a_request_holds_to_the_request(hands: Any) -> None:
    adding = hands.begin("POST", "c1").until(effects.Persist).step()
    hands.move_in(1, NETNS)

    hands.settle(0)

    assert (hands.states(), hands.deadline_ms) == (["reserved", "free"], hands.clock_ms + reclaim.HELD_MS)
    assert adding.end().status == 200


def test_run_does_not_act_on_what_a_request_changed_while_it_looked(hands: Any) -> None:
    hands.occupy()
    hands.end_netns(NETNS)
    hands.settle(0)
    hands.clock_ms += 30_000
    hands.background.step().until(effects.InspectNetns).step()
    hands.netns["/run/netns/new"] = "4:7"
    assert hands.add("c1", netns="/run/netns/new").status == 200

    hands.background.until(effects.WaitForChange)

    assert hands.states() == ["in_use", "free"]


def test_what_cannot_be_journaled_is_tried_again_and_not_believed(hands: Any, store_fault: errors.StoreFault) -> None:
    hands.occupy()
    hands.delete("c1")
    hands.come_home(1)
    hands.faults[effects.Persist] = store_fault
    hands.settle(0)
    assert (hands.states(), hands.deadline_ms) == (["returning", "free"], hands.clock_ms + 1_000)

    hands.faults.clear()
    hands.settle(1_000)
    assert hands.states() == ["free", "free"]
