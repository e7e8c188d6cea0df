"""What the auditor looks up in a snapshot, and how it says it."""

from dataclasses import replace

import pytest

from simulator import topology
from simulator.agent import pool, views
from simulator.model import Attachment, EniRecord, Link, Snapshot

ENI = topology.enis(1)[0]
AT_HOME = Link(3, "eni1", ENI.mac, 1500)
INSIDE = Link(2, "eth0", ENI.mac, 1400, addresses=("10.64.0.10/24", "fd64::a/64"), up=True, netns="/n/c1")
RECORD = EniRecord(ENI, "in_use", Attachment("", "c1", ""), "default/web-0", "/n/c1")
NOW = Snapshot((RECORD,), agent_running=True, clock_ms=0, links={"": (), "/n/c1": (INSIDE,)})


@pytest.mark.parametrize(
    ("state", "at_home", "in_its_netns", "elsewhere"),
    [
        ("free", True, False, False),
        ("absent", False, True, True),
        ("reserved", False, False, False),
        ("in_use", True, True, False),
        ("superseded", True, True, False),
        ("returning", True, True, True),
        ("quarantined", False, True, True),
        ("", False, False, False),
    ],
)
def test_state_and_place_agree(state: str, at_home: bool, in_its_netns: bool, elsewhere: bool) -> None:
    record = replace(RECORD, state=state)
    links = (AT_HOME, INSIDE, replace(INSIDE, netns="/n/c2"))
    assert [views.agree(record, link) for link in links] == [at_home, in_its_netns, elsewhere]


def test_every_state_of_the_pool_has_its_places() -> None:
    nowhere = [
        state
        for state in pool.STATES
        if not any(views.agree(replace(RECORD, state=state), link) for link in (AT_HOME, INSIDE))
    ]
    assert nowhere == [pool.RESERVED]


def test_nic_is_looked_up_and_told_in_one_line() -> None:
    assert views.record_of(ENI.mac, NOW) == "eni-1 in_use of -/c1/- for default/web-0 in /n/c1"
    assert views.link_of(ENI.mac, "/n/c1", NOW) == f"eth0 ({ENI.mac}, MTU 1400, up) with 10.64.0.10/24, fd64::a/64"
    assert views.places_of(NOW) == {ENI.mac: [INSIDE]}
    assert [views.place_of(link) for link in (INSIDE, AT_HOME)] == [
        "the kernel shows it in /n/c1 as eth0",
        "the kernel shows it in the initial netns as eni1",
    ]


def test_nic_of_which_nothing_is_known_is_an_empty_text() -> None:
    assert (views.record_of("x", NOW), views.link_of("x", "/n/c1", NOW), views.link_of(ENI.mac, "", NOW)) == ("",) * 3


def test_addresses_are_compared_as_numbers_with_their_prefix() -> None:
    assert {str(one) for one in views.interfaces_of(ENI)} == {"10.64.0.10/24", "fd64::a/64"}
    assert views.interface("FD64:0::A/64") in views.interfaces_of(ENI)
    assert views.interface("10.64.0.10") not in views.interfaces_of(ENI)
    assert [views.interface(text) for text in ("", "10.64.0.300/24", "10.64.0.10/33")] == [None, None, None]
