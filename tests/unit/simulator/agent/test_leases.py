"""Pods of host-local under the invariants: what they were given they have, and what has ended leaves nothing."""

from dataclasses import replace

from simulator.agent import leases
from simulator.agent.grants import Grant
from simulator.model import Attachment, Lease, Link, Snapshot

C1 = Attachment("bridgenet", "c1", "eth0")
GRANT = Grant(C1, "default/web-0", "/n/c1", "02:00:00:00:00:07", ("10.88.0.2/24",), leased=True)
NIC = Link(3, "eth0", GRANT.mac, 1500, addresses=GRANT.addresses, up=True, netns="/n/c1")
LEASE = Lease("bridgenet", "10.88.0.2", "c1", "eth0")
RIGHT = Snapshot((), agent_running=True, clock_ms=0, links={"": (), "/n/c1": (NIC,)}, leases=(LEASE,))


def unheld(now: Snapshot) -> list[str]:
    return [other for _, _, other in leases.unheld([GRANT], now)]


def test_container_that_has_its_nic_its_address_and_its_record_is_right() -> None:
    assert unheld(RIGHT) == []


def test_nic_or_address_that_the_kernel_does_not_show_is_told() -> None:
    told = ["the kernel shows no 02:00:00:00:00:07 with 10.88.0.2/24 in /n/c1"]
    assert unheld(replace(RIGHT, links={"": (NIC,), "/n/c1": ()})) == told
    assert unheld(replace(RIGHT, links={"/n/c1": (replace(NIC, addresses=()),)})) == told


def test_record_that_is_gone_or_anothers_is_told() -> None:
    for recorded in ((), (replace(LEASE, container_id="c2"),), (replace(LEASE, network="other"),)):
        assert unheld(replace(RIGHT, leases=recorded)) == ["host-local has no record of 10.88.0.2/24 for it"]


def test_record_that_is_left_when_all_has_ended_is_told() -> None:
    assert list(leases.left(RIGHT)) == [
        ("10.88.0.2", "host-local has it on record for bridgenet/c1/eth0", "that container has ended")
    ]
