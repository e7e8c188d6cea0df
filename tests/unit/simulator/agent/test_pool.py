from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator import errors
from simulator.agent import pool
from simulator.model import Attachment, Eni, EniId

MakeEni = Callable[[int], Eni]

RESERVED = {
    "network": "podlink",
    "container_id": "c1",
    "ifname": "eth0",
    "owner": "default/web-0",
    "netns": "/run/netns/c1",
    "ifindex": 2,
}
EXTRA: dict[str, dict[str, Any]] = {
    "reserved": RESERVED,
    "acknowledged": {"identity": "4:7"},
    "repeated": {"netns": "/run/netns/c1", "identity": "4:8", "ifindex": 5},
    "freed": {"ifindex": 2},
}
IN_USE = [pool.event(kind, EniId("eni-1"), 9, **EXTRA[kind]) for kind in ("freed", "reserved", "acknowledged")]
KINDS = sorted({kind for _, kind in pool.TRANSITIONS} - {"discovered"})


def happen(entries: pool.Pool, *kinds: str, start_ns: int = 100) -> None:
    for at_ns, kind in enumerate(kinds, start=start_ns):
        entries.apply(pool.event(kind, EniId("eni-1"), at_ns, **EXTRA.get(kind, {})))


def new_pool(enis: Sequence[Eni]) -> pool.Pool:
    return pool.Pool.replay(enis, [])


def test_replay_of_nothing_starts_every_listed_eni_as_returning(make_eni: MakeEni) -> None:
    entries = new_pool([make_eni(10), make_eni(2)])

    assert [(record.eni.id, record.state) for record in entries.records()] == [
        ("eni-2", "returning"),
        ("eni-10", "returning"),
    ]


def test_life_of_an_attachment_sets_and_forgets_what_its_states_know(make_eni: MakeEni) -> None:
    entries = new_pool([make_eni(1)])

    happen(entries, "freed", "reserved", "acknowledged")
    entry = entries.entry(EniId("eni-1"))
    assert (entry.state, entry.attachment, entry.owner) == (
        "in_use",
        Attachment("podlink", "c1", "eth0"),
        "default/web-0",
    )
    assert (entry.netns, entry.identity, entry.ifindex, entry.since_ns) == ("/run/netns/c1", "4:7", 2, 102)

    happen(entries, "released", start_ns=200)
    entry = entries.entry(EniId("eni-1"))
    assert (entry.attachment, entry.owner, entry.netns) == (None, "", "/run/netns/c1")

    happen(entries, "freed", start_ns=300)
    assert entries.entry(EniId("eni-1")).netns == ""


def test_since_ns_is_when_the_state_began_not_when_it_was_last_touched(make_eni: MakeEni) -> None:
    entries = new_pool([make_eni(1)])

    happen(entries, "freed", "reserved", "acknowledged", "repeated", "repeated")

    assert entries.entry(EniId("eni-1")).since_ns == 102


@pytest.mark.parametrize("state", [state for state in pool.STATES if state != pool.RETURNING])
def test_every_state_can_be_reached_and_no_state_is_a_dead_end(make_eni: MakeEni, state: str) -> None:
    def reachable(start: str) -> set[str]:
        found = {start}
        for _ in pool.STATES:
            found |= {became for (was, _), became in pool.TRANSITIONS.items() if was in found}
        return found

    assert state in reachable(pool.RETURNING)
    assert pool.FREE in reachable(state)


def test_apply_refuses_every_transition_that_the_table_lacks(make_eni: MakeEni) -> None:
    ways = {
        pool.RETURNING: (),
        pool.FREE: ("freed",),
        pool.ABSENT: ("freed", "missed"),
        pool.RESERVED: ("freed", "reserved"),
        pool.IN_USE: ("freed", "reserved", "acknowledged"),
        pool.SUPERSEDED: ("freed", "reserved", "acknowledged", "superseded"),
        pool.QUARANTINED: ("quarantined",),
    }
    for state, way in ways.items():
        for kind in KINDS:
            entries = new_pool([make_eni(1)])
            happen(entries, *way)
            if (state, kind) in pool.TRANSITIONS:
                happen(entries, kind, start_ns=200)
            else:
                with pytest.raises(errors.InvariantBroken, match=f"{kind} must not happen in state {state}"):
                    happen(entries, kind, start_ns=200)
                assert entries.entry(EniId("eni-1")).state == state


@pytest.mark.parametrize(
    "event",
    [
        {},
        {"kind": "freed", "eni": "eni-1"},
        {"kind": "freed", "eni": "eni-1", "at_ns": "soon"},
        {"kind": "freed", "eni": "eni-1", "at_ns": 1},
        {"kind": "forgotten", "eni": "eni-1", "at_ns": 1},
        {"kind": "freed", "eni": "eni-9", "at_ns": 1, "ifindex": 2},
        {"kind": "discovered", "eni": "eni-9", "at_ns": 1, "mac": "fa:26:00:00:00:09"},
    ],
    ids=["empty", "no time", "no number", "no ifindex", "no kind of ours", "unknown ENI", "half a description"],
)
def test_apply_refuses_what_is_no_event(make_eni: MakeEni, event: dict[str, Any]) -> None:
    entries = new_pool([make_eni(1)])
    before = entries.records()

    with pytest.raises(errors.InvariantBroken):
        entries.apply(event)

    assert entries.records() == before


@pytest.mark.parametrize(
    ("way", "state"),
    [
        (("freed",), "returning"),  # must be seen again
        (("freed", "missed"), "absent"),
        (("freed", "reserved"), "returning"),  # was never acknowledged
        (("freed", "reserved", "acknowledged"), "in_use"),
        (("freed", "reserved", "acknowledged", "superseded"), "superseded"),
        (("freed", "reserved", "acknowledged", "released"), "returning"),
        (("quarantined",), "quarantined"),
    ],
)
def test_replay_keeps_what_somebody_has_and_doubts_what_nobody_has(
    make_eni: MakeEni, way: tuple[str, ...], state: str
) -> None:
    enis = [make_eni(1)]
    first = new_pool(enis)
    journal = [*first.unwritten, *(pool.event(kind, enis[0].id, 9, **EXTRA.get(kind, {})) for kind in way)]

    again = pool.Pool.replay(enis, journal)

    assert again.entry(enis[0].id).state == state


def test_replay_knows_what_it_has_found_and_the_journal_lacks(make_eni: MakeEni) -> None:
    first = pool.Pool.replay([make_eni(1)], [])
    journal = [*first.unwritten, pool.event("freed", EniId("eni-1"), 7, ifindex=2)]

    second = pool.Pool.replay([make_eni(1), make_eni(2)], journal)

    assert [(event["kind"], event["eni"], event["at_ns"]) for event in second.unwritten] == [
        ("restarted", "eni-1", 7),
        ("discovered", "eni-2", 7),
    ]
    third = pool.Pool.replay([make_eni(1), make_eni(2)], [*journal, *second.unwritten])
    assert (third.unwritten, third.records()) == ((), second.records())


def test_replay_never_erases_an_eni_that_the_cloud_no_longer_lists(make_eni: MakeEni) -> None:
    first = pool.Pool.replay([make_eni(1), make_eni(2)], [])
    journal = [*first.unwritten, *IN_USE]

    omitted = pool.Pool.replay([make_eni(2)], journal)
    assert [(record.eni, record.state) for record in omitted.records()] == [
        (make_eni(1), "in_use"),
        (make_eni(2), "returning"),
    ]
    assert omitted.records()[0].reason == "the cloud does not list it"
    assert not omitted.entry(EniId("eni-1")).listed

    listed_again = pool.Pool.replay([make_eni(1), make_eni(2)], [*journal, *omitted.unwritten])
    assert (listed_again.records()[0].state, listed_again.entry(EniId("eni-1")).listed) == ("in_use", True)


def test_replay_does_not_believe_that_an_eni_in_use_became_another_nic(make_eni: MakeEni) -> None:
    first = pool.Pool.replay([make_eni(1)], [])
    journal = [*first.unwritten, *IN_USE]
    other = replace(make_eni(1), mac="fa:26:00:00:00:99")

    entry = pool.Pool.replay([other], journal).entry(EniId("eni-1"))

    assert (entry.eni.mac, entry.state, entry.listed) == (make_eni(1).mac, "in_use", False)


@given(st.lists(st.tuples(st.sampled_from(["eni-1", "eni-2"]), st.sampled_from(KINDS)), max_size=40))
def test_replay_of_any_journal_gives_the_pool_back(make_eni: MakeEni, plan: list[tuple[str, str]]) -> None:
    enis = [make_eni(1), make_eni(2)]
    live = pool.Pool.replay(enis, [])
    journal = list(live.unwritten)
    for at_ns, (eni, kind) in enumerate(plan):
        event = pool.event(kind, EniId(eni), at_ns, **EXTRA.get(kind, {}))
        try:
            live.apply(event)
        except errors.InvariantBroken:
            continue
        journal.append(event)

    replayed = pool.Pool()
    for event in journal:
        replayed.apply(event)

    assert replayed.entries() == live.entries()
    assert len(live.records()) == 2
    assert all(record.state in pool.STATES for record in live.records())
