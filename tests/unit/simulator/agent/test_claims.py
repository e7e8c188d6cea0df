"""fail-closed: a record that ends is explained by something the runtime did, or is a violation."""

from dataclasses import replace

import pytest

from simulator import topology
from simulator.agent.claims import Claims
from simulator.model import Attachment, EniRecord, Snapshot

(ENI,) = topology.enis(1)
C1 = Attachment("podnet", "c1", "eth0")
HELD = EniRecord(ENI, "in_use", C1, "default/web-0", "/n/c1")
FREE = EniRecord(ENI, "free")


def now(*records: EniRecord, running: bool = True) -> Snapshot:
    return Snapshot(records, agent_running=running, clock_ms=0)


@pytest.fixture
def claims() -> Claims:
    """The agent was seen to have the ENI on record for c1."""
    seen = Claims()
    assert list(seen.check(now(HELD))) == []
    return seen


def test_record_that_ends_without_a_reason_is_told_until_it_is_back(claims: Claims) -> None:
    told = ("eni-1", "the agent had it on record for podnet/c1/eth0", "says free, and nothing ended that")
    assert list(claims.check(now(FREE))) == [told]
    assert list(claims.check(now(FREE))) == [told]
    assert list(claims.check(now(HELD))) == []


def test_record_that_vanishes_is_told(claims: Claims) -> None:
    assert [other for _, _, other in claims.check(now())] == ["has no record of it, and nothing ended that"]


def test_agent_that_does_not_run_says_nothing(claims: Claims) -> None:
    assert list(claims.check(now(running=False))) == []


def test_superseded_record_is_still_the_containers(claims: Claims) -> None:
    assert list(claims.check(now(replace(HELD, state="superseded")))) == []
    assert len(list(claims.check(now(FREE)))) == 1


def test_del_or_failed_add_explains_the_end(claims: Claims) -> None:
    claims.explained(C1)
    assert list(claims.check(now(FREE))) == []


def test_add_that_succeeds_again_takes_the_explanation_back(claims: Claims) -> None:
    claims.explained(C1)
    claims.acknowledged(C1)
    assert len(list(claims.check(now(FREE)))) == 1


@pytest.mark.parametrize(
    ("container_id", "owner", "count"), [("c2", "default/web-0", 0), ("c2", "default/web-1", 1), ("c1", HELD.owner, 1)]
)
def test_add_of_a_newer_container_of_the_same_owner_explains_it(
    claims: Claims, container_id: str, owner: str, count: int
) -> None:
    claims.superseding(Attachment("podnet", container_id, "net1"), owner)
    assert len(list(claims.check(now(FREE)))) == count


def test_end_of_its_namespace_explains_it_but_not_that_of_an_earlier_one_under_the_same_path() -> None:
    for restarted, count in ((False, 0), (True, 1)):
        claims = Claims()
        list(claims.check(now(HELD)))
        claims.netns_ended("/n/c1")
        if restarted:
            claims.netns_began("/n/c1")
        assert len(list(claims.check(now(FREE)))) == count
