from collections.abc import Callable
from typing import Any

import pytest

from simulator import effects, errors
from simulator.agent import ledger, pool
from simulator.model import Attachment, Eni, EniId, Link

MakeEni = Callable[[int], Eni]
E1, E2 = EniId("eni-1"), EniId("eni-2")
C1 = Attachment("podlink", "c1", "eth0")


def new_ledger(make_eni: MakeEni) -> ledger.Ledger:
    return ledger.Ledger(pool.Pool.replay([make_eni(1), make_eni(2)], []))


@pytest.mark.parametrize(
    ("other", "owner", "same"),
    [
        (Attachment("podlink", "c1", "eth0"), "default/web-0", True),
        (Attachment("podlink", "c1", "eth0"), "default/other", True),  # the owner is a cross-check only
        (Attachment("podlink", "c2", "eth0"), "default/web-0", False),
        (Attachment("podlink", "c1", "net1"), "default/web-0", False),
        (Attachment("other", "c1", "eth0"), "default/web-0", False),
        (Attachment("", "c1", ""), "default/web-0", True),  # a client of the real agent
        (Attachment("", "c1", "eth0"), "default/web-0", True),
        (Attachment("", "c1", ""), "default/other", False),
        (Attachment("podlink", "c1", ""), "default/other", False),
        (Attachment("", "c2", ""), "default/web-0", False),
    ],
)
def test_is_same_takes_whole_identities_or_those_that_fit_with_the_owner(
    other: Attachment, owner: str, same: bool
) -> None:
    assert ledger.is_same(C1, "default/web-0", other, owner) is same
    assert ledger.is_same(other, owner, C1, "default/web-0") is same


def test_only_does_not_choose_between_two_links() -> None:
    first, second = Link(2, "a", "m1", 1500), Link(3, "b", "m2", 1500)

    assert ledger.only((first, second), "m1") == first
    assert ledger.only((first, second), "m3") is None
    assert ledger.only((first, Link(3, "b", "m1", 1500)), "m1") is None


def test_hold_is_for_one_at_a_time_and_ends_with_its_block(make_eni: MakeEni) -> None:
    shared = new_ledger(make_eni)

    with shared.hold(E1):
        assert (shared.is_held(E1), shared.is_held(E2)) == (True, False)
        with pytest.raises(errors.InvariantBroken), shared.hold(E2, E1):
            pass
        assert (shared.is_held(E1), shared.is_held(E2)) == (True, False)
    assert not shared.is_held(E1)


def test_hold_knows_what_an_add_in_flight_holds(make_eni: MakeEni) -> None:
    shared = new_ledger(make_eni)

    shared.adds.append(ledger.Add(C1, "default/web-0", E1))

    assert (shared.is_held(E1), shared.is_held(E2)) == (True, False)


def test_commit_changes_the_pool_only_after_its_events_are_durable(make_eni: MakeEni) -> None:
    shared = new_ledger(make_eni)
    event = pool.event("freed", E1, 5, ifindex=2)

    flow = shared.commit(event)
    assert (next(flow), shared.pool.entry(E1).state) == (effects.Persist((event,)), "returning")
    with pytest.raises(StopIteration):
        flow.send(None)

    assert shared.pool.entry(E1).state == "free"


def test_commit_that_cannot_be_durable_changes_nothing_but_the_health(
    make_eni: MakeEni, store_fault: errors.StoreFault
) -> None:
    shared = new_ledger(make_eni)
    flow = shared.commit(pool.event("freed", E1, 5, ifindex=2))
    next(flow)

    with pytest.raises(errors.StoreFault):
        flow.throw(store_fault)
    assert (shared.pool.entry(E1).state, shared.fault) == ("returning", str(store_fault))

    flow = shared.commit(pool.event("freed", E1, 5, ifindex=2))
    next(flow)
    with pytest.raises(StopIteration):
        flow.send(None)
    assert shared.fault == ""


def test_commit_recovery_writes_once_what_the_replay_has_applied(make_eni: MakeEni) -> None:
    shared = new_ledger(make_eni)

    first = list(answered(shared.commit_recovery(), []))
    second = list(answered(shared.commit_recovery(), []))

    assert [[event["kind"] for event in effect.events] for effect in first] == [["discovered", "discovered"]]
    assert second == []


def answered(flow: effects.Flow[Any], clock_ms: list[int]) -> list[Any]:
    """The effects of a flow whose clock goes on by 1 ms at each look; its answer is the last."""
    seen: list[Any] = []
    outcome: Any = None
    now_ms = 0
    while True:
        try:
            effect = flow.send(outcome)
        except StopIteration as end:
            return seen if end.value is None else [*seen, end.value]
        seen.append(effect)
        now_ms += 1
        outcome = now_ms * 1_000_000 if isinstance(effect, effects.Now) else None


def test_wait_until_does_not_wait_for_what_is_so(make_eni: MakeEni) -> None:
    assert answered(new_ledger(make_eni).wait_until(lambda: True), []) == [True]


def test_wait_until_gives_up_after_a_bounded_time(make_eni: MakeEni) -> None:
    seen = answered(new_ledger(make_eni).wait_until(lambda: False), [])

    waits = [effect for effect in seen if isinstance(effect, effects.WaitForChange)]
    assert seen[-1] is False
    assert 0 < len(waits) <= ledger.TURNS_MAX * ledger.TURN_MS


def test_may_commit_only_while_nobody_changes_what_the_owner_has(make_eni: MakeEni) -> None:
    shared = new_ledger(make_eni)
    fields = {"network": "podlink", "container_id": "c1", "ifname": "eth0", "netns": "", "ifindex": 2}
    shared.pool.apply(pool.event("freed", E1, 5, ifindex=2))
    shared.pool.apply(pool.event("reserved", E1, 5, owner="default/web-0", **fields))
    shared.pool.apply(pool.event("acknowledged", E1, 5, identity=""))

    with shared.hold(E1):
        assert (shared.may_commit("default/web-0"), shared.may_commit("default/web-1")) == (False, True)
    with shared.committing("default/web-0") as older:
        assert [entry.eni.id for entry in older] == [E1]
        assert (shared.may_commit("default/web-0"), shared.may_commit("default/web-1")) == (False, True)
    with shared.committing("default/web-1") as older:
        assert older == ()
        assert (shared.may_commit("default/web-0"), shared.may_commit("default/web-1")) == (True, False)
    assert shared.may_commit("default/web-0")
