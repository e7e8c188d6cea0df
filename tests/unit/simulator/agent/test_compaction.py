"""A journal whose oldest part is a snapshot replays to the same pool, whatever it holds and wherever it is cut."""

import json
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator import errors, topology
from simulator.agent import compaction, pool
from simulator.model import Eni

ENIS = topology.enis(3)
KINDS = sorted({kind for _, kind in pool.TRANSITIONS} - {"discovered"})
TEXTS = st.sampled_from(("", "podnet", "c1", "default/wéb-0"))
NUMBERS = st.integers(0, 9)


@st.composite
def journals(draw: st.DrawFn) -> list[pool.Event]:
    """Anything that an agent of three ENIs may have written."""
    entries = pool.Pool.replay(ENIS, [])
    events = list(entries.unwritten)
    for at_ns in range(1, draw(st.integers(1, 40))):
        entry = draw(st.sampled_from(entries.entries()))
        kind = draw(st.sampled_from([kind for kind in KINDS if (entry.state, kind) in pool.TRANSITIONS]))
        event = pool.event(kind, entry.eni.id, at_ns * draw(st.integers(0, 3)), draw(TEXTS), **fields(draw, kind))
        entries.apply(event)
        events.append(event)
    return events


def fields(draw: st.DrawFn, kind: str) -> dict[str, Any]:
    names = (*pool.FIELDS.get(kind, ()), *(("network", "container_id", "ifname") if kind == "reserved" else ()))
    return {name: draw(NUMBERS if name == "ifindex" else TEXTS) for name in names}


def compacted(events: Sequence[pool.Event], kept: int) -> list[pool.Event]:
    """The journal after a compaction, as it comes from a disk."""
    count, snapshots = compaction.compact(events, 0, kept)
    return list(json.loads(json.dumps([*snapshots, *events[count:]])))


def replayed(enis: Sequence[Eni], events: Sequence[pool.Event]) -> tuple[Any, Any]:
    found = pool.Pool.replay(enis, events)
    return found.entries(), found.unwritten


@given(events=journals(), kept=st.integers(0, 45), listed=st.integers(0, 3))
def test_compacted_journal_replays_to_the_same_pool(events: list[pool.Event], kept: int, listed: int) -> None:
    assert replayed(ENIS[:listed], compacted(events, kept)) == replayed(ENIS[:listed], events)


@given(events=journals(), kept=st.integers(0, 20))
def test_compaction_may_be_repeated_and_ends_with_one_event_for_each_eni(events: list[pool.Event], kept: int) -> None:
    twice = compacted(compacted(events, kept), 0)
    assert twice == compacted(events, 0)
    assert len(twice) == len(ENIS)


@given(events=journals(), kept=st.integers(1, 45))
def test_latest_events_stay_as_they_are(events: list[pool.Event], kept: int) -> None:
    assert compacted(events, kept)[-kept:] == events[-kept:]


@pytest.fixture
def long_journal(make_eni: Callable[[int], Eni]) -> Callable[[int], list[pool.Event]]:
    def make(length: int) -> list[pool.Event]:
        discovered = pool.Pool.replay([make_eni(1)], []).unwritten
        return [*discovered, *(pool.event("delayed", one, 7) for one in [make_eni(1).id] * (length - 1))]

    return make


def test_journal_is_left_alone_until_it_is_long(long_journal: Callable[[int], list[pool.Event]]) -> None:
    most = compaction.LENGTH_MAX
    assert compaction.compact(long_journal(most)) == (0, ())
    count, snapshots = compaction.compact(long_journal(most + 1))
    assert (count, len(snapshots)) == (most + 1 - compaction.KEPT, 1)


def test_snapshot_of_an_eni_that_is_known_must_not_happen(long_journal: Callable[[int], list[pool.Event]]) -> None:
    (snapshot,) = compacted(long_journal(2), 0)
    with pytest.raises(errors.InvariantBroken, match="snapshot must not happen in state returning"):
        pool.Pool.replay([], [snapshot, snapshot])


@pytest.mark.parametrize("change", [{"state": "nowhere"}, {"state": None}, {"mac": None}])
def test_snapshot_that_is_none_is_refused(
    long_journal: Callable[[int], list[pool.Event]], change: dict[str, Any]
) -> None:
    (snapshot,) = compacted(long_journal(2), 0)
    damaged = {name: value for name, value in {**snapshot, **change}.items() if value is not None}
    with pytest.raises(errors.InvariantBroken, match="not an event"):
        pool.Pool.replay([], [damaged])
