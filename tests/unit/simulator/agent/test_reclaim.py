"""The evidence table, row by row: what must be done, and what must not."""

from dataclasses import replace
from typing import Any

import pytest

from simulator import effects, errors
from simulator.agent import pool, reclaim

NETNS = "/run/netns/c1"

SIGHTS_OF = {
    pool.FREE: {reclaim.AWAY, reclaim.HOME, reclaim.CHANGED, reclaim.TWICE, reclaim.UNLISTED},
    pool.IN_USE: set(reclaim.SIGHTS) - {reclaim.CHANGED},
}
ELSEWHERE = {reclaim.AWAY, reclaim.HOME, reclaim.TWICE, reclaim.UNLISTED}


# --- the table itself


@pytest.mark.parametrize("state", pool.STATES)
def test_rows_have_exactly_one_row_for_each_sight_of_a_state(state: str) -> None:
    rows = [row.sight for row in reclaim.ROWS if row.state == state]

    assert sorted(rows) == sorted(SIGHTS_OF.get(state, ELSEWHERE))


@pytest.mark.parametrize("row", reclaim.ROWS, ids=lambda row: f"{row.state}, {row.sight}")
def test_row_ends_in_an_event_that_its_state_allows(row: reclaim.Row) -> None:
    assert not row.event or (row.state, row.event) in pool.TRANSITIONS
    if row.action == reclaim.KEEP:
        assert (row.event, row.after_ms) == ("", 0)


def test_no_row_takes_what_is_in_use_but_the_one_with_the_evidence() -> None:
    taking = [
        (row.sight, row.after_ms, row.seen_all_along) for row in reclaim.ROWS if row.state == "in_use" and row.event
    ]

    assert taking == [(reclaim.NETNS_GONE, 30_000, True)]


# --- free, absent


def test_free_that_is_at_home_stays_free_and_nothing_is_waited_for(hands: Any) -> None:
    hands.settle(3_600_000)

    assert (hands.states(), hands.deadline_ms) == (["free", "free"], None)


def test_free_that_goes_away_is_absent_until_it_is_home_and_restored(hands: Any) -> None:
    hands.move_in(1, NETNS)
    hands.settle()
    assert hands.states() == ["absent", "free"]

    hands.settle(3_600_000)
    assert (hands.states(), hands.deadline_ms) == (["absent", "free"], None)

    hands.come_home(1)
    hands.settle()
    assert (hands.states(), hands.links["eni-1"].name) == (["free", "free"], "ens1")


def test_free_that_is_changed_at_home_is_restored_after_a_second(hands: Any) -> None:
    hands.links["eni-1"] = replace(hands.links["eni-1"], name="eth7")
    hands.settle()
    assert (hands.states(), hands.deadline_ms) == (["free", "free"], hands.clock_ms + 1_000)

    hands.settle(999)
    assert hands.links["eni-1"].name == "eth7"
    hands.settle(1)
    assert (hands.states(), hands.links["eni-1"].name) == (["free", "free"], "ens1")


def test_two_nics_that_have_each_others_names_are_both_restored(hands: Any) -> None:
    first, second = hands.links["eni-1"], hands.links["eni-2"]
    hands.links = {"eni-1": replace(first, name="ens2"), "eni-2": replace(second, name="ens1")}
    renames: list[str] = []

    hands.settle()
    hands.background.step()
    hands.clock_ms += 1_000
    while not isinstance(hands.background.effect, effects.WaitForChange):
        effect = hands.background.effect
        if isinstance(effect, effects.RestoreIdentity):
            taken = [link.name for link in hands.links.values() if link.ifindex != effect.ifindex]
            assert effect.name not in taken
            renames.append(effect.name)
        hands.background.step()

    assert renames == ["eni-2", "eni-3", "ens1", "ens2"]
    assert hands.states() == ["free", "free"]


# --- in_use: must not be taken


def test_in_use_in_its_netns_is_left_alone_for_ever(hands: Any) -> None:
    hands.occupy()

    hands.settle(3_600_000)

    assert (hands.states(), hands.deadline_ms) == (["in_use", "free"], None)


def test_in_use_at_home_with_a_living_netns_is_left_alone_for_ever(hands: Any) -> None:
    hands.occupy()
    hands.come_home(1)

    for _ in range(100):
        hands.settle(10_000)

    assert hands.states() == ["in_use", "free"]


def test_in_use_at_home_with_a_netns_that_the_agent_never_saw_is_left_alone_for_ever(hands: Any) -> None:
    hands.occupy(netns_lives=False)
    hands.end_netns(NETNS)

    for _ in range(100):
        hands.settle(10_000)

    assert (hands.states(), hands.deadline_ms) == (["in_use", "free"], None)


def test_in_use_whose_nic_is_seen_nowhere_is_left_alone_though_its_netns_is_gone(hands: Any) -> None:
    hands.occupy()
    hands.netns.pop(NETNS)  # pinned by a process: no path, and the NIC stays inside

    for _ in range(100):
        hands.settle(10_000)

    assert hands.states() == ["in_use", "free"]


def test_in_use_at_home_with_a_netns_that_cannot_be_looked_into_is_left_alone(
    hands: Any, kernel_fault: errors.KernelFault
) -> None:
    hands.occupy()
    hands.end_netns(NETNS)
    hands.faults[effects.InspectNetns] = kernel_fault

    for _ in range(100):
        hands.settle(10_000)

    assert hands.states() == ["in_use", "free"]


def test_in_use_that_two_links_claim_to_be_is_left_alone(hands: Any) -> None:
    hands.occupy()
    hands.end_netns(NETNS)
    hands.strangers.append(hands.links["eni-1"])

    for _ in range(10):
        hands.settle(10_000)

    assert hands.states() == ["in_use", "free"]


# --- in_use: must be taken


@pytest.mark.parametrize("reused", [False, True], ids=["gone", "another netns"])
def test_in_use_at_home_is_taken_after_its_netns_was_seen_gone_for_30_s(hands: Any, reused: bool) -> None:
    hands.occupy()
    hands.end_netns(NETNS)
    if reused:
        hands.netns[NETNS] = "4:999"
    hands.settle(500)
    assert (hands.states(), hands.deadline_ms) == (["in_use", "free"], hands.clock_ms + 30_000)

    hands.settle(29_999)
    assert hands.states() == ["in_use", "free"]
    hands.settle(1)
    assert hands.states() == ["free", "free"]
    assert [event["kind"] for event in hands.journal][-2:] == ["reclaimed", "freed"]


def test_the_30_s_begin_anew_when_the_evidence_was_contradicted(hands: Any) -> None:
    hands.occupy()
    hands.end_netns(NETNS)
    hands.settle(0)
    hands.netns[NETNS] = "4:100"
    hands.settle(29_000)
    hands.netns.pop(NETNS)
    hands.settle(2_000)

    hands.settle(29_999)
    assert hands.states() == ["in_use", "free"]
    hands.settle(1)
    assert hands.states() == ["free", "free"]


def test_the_30_s_begin_anew_when_the_agent_starts_anew(hands: Any) -> None:
    hands.occupy()
    hands.end_netns(NETNS)
    hands.settle(29_000)
    hands.restart()
    hands.settle(2_000)

    hands.settle(29_999)
    assert hands.states() == ["in_use", "free"]
    hands.settle(1)
    assert hands.states() == ["free", "free"]


def test_an_add_again_in_the_middle_of_the_30_s_keeps_the_eni(hands: Any) -> None:
    hands.occupy()
    hands.end_netns(NETNS)
    hands.settle(0)
    hands.netns["/run/netns/new"] = "4:7"
    hands.clock_ms += 29_999

    assert hands.add("c1", netns="/run/netns/new").status == 200
    hands.settle(60_000)

    assert hands.states() == ["in_use", "free"]


def test_the_30_s_begin_anew_with_the_netns_of_an_add_again(hands: Any) -> None:
    hands.occupy()
    hands.end_netns(NETNS)
    hands.settle(0)
    hands.netns["/run/netns/new"] = "4:7"
    hands.clock_ms += 20_000
    assert hands.add("c1", netns="/run/netns/new").status == 200
    hands.netns.pop("/run/netns/new")  # seen alive by the ADD, and gone at the next look

    hands.settle(29_999)
    assert hands.states() == ["in_use", "free"]
    hands.settle(30_000)
    assert hands.states() == ["free", "free"]


def test_a_netns_that_ends_while_its_nic_waits_at_home_is_noticed_by_looking_again(hands: Any) -> None:
    hands.netns[NETNS] = "4:100"
    hands.add("c1")
    hands.settle(0)
    assert hands.deadline_ms == hands.clock_ms + reclaim.LOOK_AGAIN_MS

    hands.netns.pop(NETNS)
    hands.settle(reclaim.LOOK_AGAIN_MS)
    hands.settle(30_000)

    assert hands.states() == ["free", "free"]


# --- superseded: 2 s, whatever is seen


def superseded(hands: Any) -> None:
    hands.occupy()
    assert hands.add("c2").status == 200
    hands.settle(0)
    assert hands.states() == ["superseded", "in_use"]


def test_superseded_is_left_alone_for_2_s_then_moved_home_and_restored(hands: Any) -> None:
    superseded(hands)
    hands.settle(1_999)
    assert (hands.states(), hands.inside["fa:26:00:00:00:01"]) == (["superseded", "in_use"], NETNS)

    hands.settle(1)

    assert (hands.states(), hands.links["eni-1"].name) == (["free", "in_use"], "ens1")


def test_superseded_that_is_at_home_waits_its_2_s_too(hands: Any) -> None:
    superseded(hands)
    hands.end_netns(NETNS)
    hands.settle(1_999)
    assert hands.states() == ["superseded", "in_use"]

    hands.settle(1)
    assert hands.states() == ["free", "in_use"]


def test_superseded_that_cannot_be_moved_home_is_quarantined(hands: Any, kernel_fault: errors.KernelFault) -> None:
    superseded(hands)
    hands.faults[effects.MoveHome] = kernel_fault

    hands.settle(2_000)

    assert (hands.record(1).state, hands.record(1).reason) == ("quarantined", str(kernel_fault))


def test_superseded_whose_nic_is_seen_nowhere_is_nobodys_and_waited_for(hands: Any) -> None:
    superseded(hands)
    hands.netns.pop(NETNS)
    hands.inside.clear()
    hands.settle(2_000)
    assert hands.states() == ["returning", "in_use"]

    hands.settle(3_600_000)
    assert hands.states() == ["returning", "in_use"]

    hands.come_home(1)
    hands.settle()
    assert hands.states() == ["free", "in_use"]


def test_superseded_timer_goes_on_over_a_restart(hands: Any) -> None:
    superseded(hands)
    hands.settle(1_500)
    hands.restart()
    hands.settle(499)
    assert hands.states()[0] == "superseded"

    hands.settle(1)
    assert hands.states() == ["free", "in_use"]
