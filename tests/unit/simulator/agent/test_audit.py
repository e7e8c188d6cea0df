"""The invariants, one broken world after another, and the worlds beside them that are right."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from simulator import topology
from simulator.agent import audit
from simulator.agent.grants import Grant
from simulator.model import Attachment, Eni, EniRecord, Link, Snapshot

FIRST, SECOND = topology.enis(2)
POD = "default/web-0"
C1, C2 = Attachment("podnet", "c1", "eth0"), Attachment("podnet", "c2", "eth0")
GRANT = Grant(C1, POD, "/n/c1", FIRST.mac, ("10.64.0.10/24", "fd64::a/64"))
OTHER = Grant(C2, "default/web-1", "/n/c2", SECOND.mac, ("10.64.0.11/24", "fd64::b/64"))
HOME = {eni.mac: Link(10 + number, eni.name, eni.mac, eni.mtu) for number, eni in enumerate((FIRST, SECOND))}
FREE = {eni.mac: EniRecord(eni, "free") for eni in (FIRST, SECOND)}


def pod_link(grant: Grant, **changes: Any) -> Link:
    """The grant's NIC as its plugin has left it in the pod."""
    link = Link(2, "eth0", grant.mac, 1500, addresses=grant.addresses, up=True, netns=grant.netns)
    return replace(link, **changes)


def record(eni: Eni, grant: Grant | None, state: str = "in_use", **changes: Any) -> EniRecord:
    known = {} if grant is None else {"attachment": grant.attachment, "owner": grant.owner, "netns": grant.netns}
    return EniRecord(eni, state, **{**known, **changes})


def world(
    records: tuple[EniRecord, ...], *links: Link, netns: tuple[str, ...] = ("/n/c1", "/n/c2"), running: bool = True
) -> Snapshot:
    shown: Mapping[str, tuple[Link, ...]] = {
        path: tuple(link for link in links if link.netns == path) for path in ("", *netns)
    }
    return Snapshot(records if running else (), agent_running=running, clock_ms=0, links=shown)


def auditor(*grants: Grant) -> audit.Auditor:
    knowing = audit.Auditor((FIRST, SECOND))
    for grant in grants:
        knowing.granted(grant)
    return knowing


def check(now: Snapshot, *grants: Grant) -> list[str]:
    return [str(violation) for violation in auditor(*grants).check(now)]


IDLE = world((FREE[FIRST.mac], FREE[SECOND.mac]), HOME[FIRST.mac], HOME[SECOND.mac])
HELD = world((record(FIRST, GRANT), FREE[SECOND.mac]), pod_link(GRANT), HOME[SECOND.mac])
BOTH = world((record(FIRST, GRANT), record(SECOND, OTHER)), pod_link(GRANT), pod_link(OTHER))


# --- what is right


def test_nothing_is_wrong_with_an_idle_node_and_with_containers_that_have_what_they_were_given() -> None:
    assert (check(IDLE), check(HELD, GRANT), check(BOTH, GRANT, OTHER)) == ([], [], [])


@pytest.mark.parametrize(
    ("state", "grant", "link"),
    [
        ("absent", None, pod_link(GRANT)),
        ("superseded", GRANT, pod_link(GRANT)),
        ("superseded", GRANT, HOME[FIRST.mac]),
        ("in_use", GRANT, HOME[FIRST.mac]),  # its netns was deleted, and the agent does not believe it yet
        ("returning", None, pod_link(GRANT)),
        ("returning", None, replace(HOME[FIRST.mac], name="eth0", alias="eni1")),
        ("quarantined", None, pod_link(GRANT)),
    ],
)
def test_state_that_agrees_with_where_the_nic_is(state: str, grant: Grant | None, link: Link) -> None:
    now = world((record(FIRST, grant, state), FREE[SECOND.mac]), link, HOME[SECOND.mac])
    assert check(now) == []


def test_superseded_container_may_keep_its_nic_or_lose_it() -> None:
    newer = replace(OTHER, owner=POD)
    kept = world((record(FIRST, GRANT, "superseded"), record(SECOND, newer)), pod_link(GRANT), pod_link(newer))
    lost = world((FREE[FIRST.mac], record(SECOND, newer)), HOME[FIRST.mac], pod_link(newer))
    assert (check(kept, GRANT, newer), check(lost, GRANT, newer)) == ([], [])


def test_container_whose_netns_the_runtime_deleted_may_lose_its_nic_and_another_may_get_it() -> None:
    knowing = auditor(GRANT)
    knowing.netns_deleted("/n/c1")
    assert knowing.check(replace(IDLE, links={"": IDLE.links[""]})) == ()
    heir = replace(GRANT, attachment=C2, owner="default/web-1", netns="/n/c2")
    knowing.granted(heir)
    now = world((record(FIRST, heir), FREE[SECOND.mac]), pod_link(heir), HOME[SECOND.mac], netns=("/n/c2",))
    assert knowing.check(now) == ()


def test_container_whose_del_was_sent_may_lose_its_nic_however_the_del_ended() -> None:
    knowing = auditor(GRANT)
    knowing.ending(C1)
    assert knowing.check(IDLE) == ()
    knowing.ended(C1)
    assert (knowing.check(IDLE), knowing.grants) == ((), ())


def test_del_of_what_the_ledger_does_not_know_changes_nothing() -> None:
    knowing = auditor(GRANT)
    knowing.ending(C2)
    knowing.ended(C2)
    assert knowing.grants == (GRANT,)


def test_agent_that_is_down_says_nothing_and_so_contradicts_nothing() -> None:
    assert check(replace(HELD, records=(), agent_running=False), GRANT) == []


def test_repeated_add_takes_the_place_of_the_first() -> None:
    knowing = auditor(GRANT)
    assert knowing.check_grant(GRANT, HELD) == ()
    knowing.granted(GRANT)
    assert knowing.grants == (GRANT,)
    assert knowing.check(HELD) == ()


def test_second_interface_of_a_container_supersedes_nothing() -> None:
    knowing = auditor(GRANT)
    knowing.granted(replace(OTHER, attachment=replace(C1, ifname="net1"), owner=POD))
    assert [grant.superseded for grant in knowing.grants] == [False, False]


# --- an ADD for a newer container of the same owner, which the agent may commit however it ends


def challenged() -> audit.Auditor:
    knowing = auditor(GRANT)
    knowing.adding(C2, POD)
    return knowing


def test_container_that_a_newer_add_may_have_superseded_is_the_agents_to_decide() -> None:
    superseded = world((record(FIRST, GRANT, "superseded"), FREE[SECOND.mac]), pod_link(GRANT), HOME[SECOND.mac])
    for now in (HELD, superseded, IDLE, replace(IDLE, records=(), agent_running=False)):
        assert challenged().check(now) == ()
    assert challenged().check_step(HELD, IDLE, frozenset()) == ()


def test_container_that_the_agent_still_calls_the_holder_still_needs_its_nic() -> None:
    now = world((record(FIRST, GRANT), FREE[SECOND.mac]), HOME[FIRST.mac], HOME[SECOND.mac])
    assert [violation.invariant for violation in challenged().check(now)] == [audit.CONSERVED]


def test_decision_of_the_agent_is_final() -> None:
    knowing = challenged()
    assert knowing.check(IDLE) == ()
    assert [grant.live for grant in knowing.grants] == [False]


@pytest.mark.parametrize(("attachment", "owner"), [(C1, POD), (replace(C1, ifname="net1"), POD), (C2, "default/web-1")])
def test_add_of_the_same_container_or_for_another_owner_challenges_nobody(attachment: Attachment, owner: str) -> None:
    knowing = auditor(GRANT)
    knowing.adding(attachment, owner)
    assert knowing.grants == (GRANT,)


# --- exclusive


def test_exclusive_one_nic_given_to_two_containers() -> None:
    twice = replace(GRANT, attachment=C2, owner="default/web-1")
    assert "exclusive: eni-1: ADD gave it to podnet/c1/eth0; but ADD gave it to podnet/c2/eth0 too" in check(
        HELD, GRANT, twice
    )


@pytest.mark.parametrize(
    ("addresses", "told"),
    [
        (("10.64.0.11/24",), "10.64.0.11/24"),  # eni-2's
        (("10.64.0.10/24", "fd64::b/64"), "10.64.0.10/24, fd64::b/64"),
        (("192.0.2.1/24",), "192.0.2.1/24"),  # nobody's
        (("10.64.0.10/32",), "10.64.0.10/32"),  # not its subnet's prefix
        (("10.64.0.10",), "10.64.0.10"),
        (("none",), "none"),
        ((), "no address"),
    ],
)
def test_exclusive_add_gave_addresses_that_are_not_the_enis_own(addresses: tuple[str, ...], told: str) -> None:
    grant = replace(GRANT, addresses=addresses)
    now = world((record(FIRST, GRANT), FREE[SECOND.mac]), pod_link(grant, addresses=()), HOME[SECOND.mac])
    assert check(now, grant)[0] == (
        f"exclusive: eni-1: ADD gave {told} to podnet/c1/eth0; "
        "but the cloud's list says that it has 10.64.0.10/24, fd64::a/64"
    )


@pytest.mark.parametrize("addresses", [("fd64::a/64",), ("10.64.0.10/24",), ("FD64:0::A/64", "10.64.0.10/24")])
def test_some_of_its_own_addresses_in_any_spelling_are_right(addresses: tuple[str, ...]) -> None:
    assert check(HELD, replace(GRANT, addresses=addresses)) == []


@pytest.mark.parametrize(("mac", "named"), [("02:00:00:00:00:99", "02:00:00:00:00:99"), ("", "?")])
def test_exclusive_add_gave_a_nic_that_the_cloud_does_not_list(mac: str, named: str) -> None:
    grant = replace(GRANT, mac=mac)
    assert check(world(IDLE.records, *IDLE.links[""], pod_link(grant)), grant)[0] == (
        f"exclusive: {named}: ADD gave 10.64.0.10/24, fd64::a/64 to podnet/c1/eth0; "
        "but the cloud lists no ENI with this MAC"
    )


def test_exclusive_agent_has_two_enis_for_one_attachment() -> None:
    now = world((record(FIRST, GRANT), record(SECOND, GRANT, "superseded")), pod_link(GRANT), HOME[SECOND.mac])
    assert check(now, GRANT) == [
        "exclusive: podnet/c1/eth0: the agent's record of eni-1 names it; but its record of eni-2 names it too"
    ]


def test_exclusive_agent_has_two_enis_in_use_for_one_owner() -> None:
    newer = replace(OTHER, owner=POD)
    now = world((record(FIRST, GRANT), record(SECOND, newer)), pod_link(GRANT), pod_link(newer))
    assert check(now, GRANT, newer) == [
        "exclusive: default/web-0: the agent's record of eni-1 names it; but its record of eni-2 names it too"
    ]


def test_exclusive_kernel_shows_a_nic_twice() -> None:
    now = world((record(FIRST, GRANT), FREE[SECOND.mac]), pod_link(GRANT), HOME[FIRST.mac], HOME[SECOND.mac])
    assert check(now, GRANT)[0] == (
        "exclusive: eni-1: the kernel shows it in the initial netns as eni1; "
        "but the kernel shows it in /n/c1 as eth0 at the same time"
    )


@pytest.mark.parametrize("mac", [SECOND.mac, "02:00:00:00:00:99"])
def test_exclusive_kernel_shows_an_enis_address_on_another_nic(mac: str) -> None:
    thief = Link(3, "eth0", mac, 1500, addresses=("10.64.0.10/32",), netns="/n/c2")
    now = world((record(FIRST, GRANT), record(SECOND, None, "returning")), pod_link(GRANT), HOME[SECOND.mac], thief)
    assert (
        "exclusive: eni-1: its addresses are its own; "
        f"but the kernel shows 10.64.0.10/32 on eth0 ({mac}) in /n/c2" in check(now, GRANT)
    )


def test_links_that_are_no_enis_may_have_one_mac_and_what_addresses_they_like() -> None:
    zero = "00:00:00:00:00:00"
    loopbacks = [Link(1, "lo", zero, 65_536, addresses=("127.0.0.1/8", "odd"), netns=path) for path in ("", "/n/c1")]
    assert check(world(IDLE.records, *IDLE.links[""], *loopbacks)) == []


# --- conserved


def test_conserved_kernel_shows_an_eni_nowhere() -> None:
    now = world((record(FIRST, None, "returning"), FREE[SECOND.mac]), HOME[SECOND.mac])
    expected = ["conserved: eni-1: the cloud says it is attached; but the kernel shows it nowhere"]
    assert (check(now), check(replace(now, records=(), agent_running=False))) == (expected, expected)


@pytest.mark.parametrize("count", [0, 2])
def test_conserved_agent_has_no_record_or_two(count: int) -> None:
    now = replace(IDLE, records=(FREE[SECOND.mac], *[FREE[FIRST.mac]] * count))
    assert check(now) == [f"conserved: eni-1: the cloud says it is attached; but the agent has {count} records"]


@pytest.mark.parametrize(
    "change", [{"mac": SECOND.mac}, {"name": "eth9"}, {"mtu": 9000}, {"ipv4": SECOND.ipv4}, {"ipv6": SECOND.ipv6}]
)
def test_conserved_agent_describes_an_eni_otherwise_than_the_cloud(change: dict[str, Any]) -> None:
    now = replace(IDLE, records=(EniRecord(replace(FIRST, **change), "returning"), FREE[SECOND.mac]))
    found = check(now)
    assert len(found) == 1
    assert found[0].startswith("conserved: eni-1: the cloud says Eni(id='eni-1', ")


def test_conserved_agent_has_an_eni_that_the_cloud_never_had() -> None:
    invented = replace(FIRST, id="eni-9", mac="02:00:00:00:00:99")
    now = replace(IDLE, records=(*IDLE.records, EniRecord(invented, "free")))
    assert check(now) == ["conserved: eni-9: the agent says free; but the cloud never had it"]


@pytest.mark.parametrize(
    ("state", "grant", "link"),
    [
        ("free", None, pod_link(GRANT)),
        ("absent", None, HOME[FIRST.mac]),
        ("reserved", GRANT, HOME[FIRST.mac]),
        ("reserved", GRANT, pod_link(GRANT)),
        ("in_use", GRANT, pod_link(GRANT, netns="/n/c2")),
        ("superseded", GRANT, pod_link(GRANT, netns="/n/c2")),
        ("quarantined", None, HOME[FIRST.mac]),
        ("lost", None, HOME[FIRST.mac]),
    ],
)
def test_conserved_kernel_contradicts_the_state(state: str, grant: Grant | None, link: Link) -> None:
    now = world((record(FIRST, grant, state), FREE[SECOND.mac]), link, HOME[SECOND.mac])
    where = f"in {link.netns}" if link.netns else "in the initial netns"
    assert check(now) == [f"conserved: eni-1: the agent says {state}; but the kernel shows it {where} as {link.name}"]


@pytest.mark.parametrize(
    ("now", "other_view"),
    [
        (
            world((record(FIRST, GRANT), FREE[SECOND.mac]), HOME[FIRST.mac], HOME[SECOND.mac]),
            "the kernel shows it in the initial netns as eni1",
        ),
        (
            world((record(FIRST, GRANT), FREE[SECOND.mac]), HOME[FIRST.mac], HOME[SECOND.mac], netns=()),
            "/n/c1 is gone, and the runtime did not delete it",
        ),
        (
            world((FREE[FIRST.mac], FREE[SECOND.mac]), pod_link(GRANT), HOME[SECOND.mac]),
            "the agent says eni-1 free of nobody",
        ),
        (
            world((record(FIRST, GRANT, "returning", attachment=None), FREE[SECOND.mac]), pod_link(GRANT)),
            "the agent says eni-1 returning of nobody",
        ),
        (
            world((record(FIRST, replace(GRANT, attachment=C2)), FREE[SECOND.mac]), pod_link(GRANT)),
            "the agent says eni-1 in_use of podnet/c2/eth0 for default/web-0 in /n/c1",
        ),
        (
            world((record(FIRST, replace(GRANT, owner="default/web-9")), FREE[SECOND.mac]), pod_link(GRANT)),
            "the agent says eni-1 in_use of podnet/c1/eth0 for default/web-9 in /n/c1",
        ),
        (
            world((record(FIRST, GRANT, "superseded"), FREE[SECOND.mac]), pod_link(GRANT)),
            "the agent says eni-1 superseded of podnet/c1/eth0 for default/web-0 in /n/c1",
        ),
        (world((FREE[SECOND.mac],), pod_link(GRANT)), "the agent says nothing of it"),
    ],
)
def test_conserved_live_container_lacks_what_it_was_given(now: Snapshot, other_view: str) -> None:
    assert f"conserved: eni-1: ADD gave it to podnet/c1/eth0; but {other_view}" in check(now, GRANT)


@pytest.mark.parametrize(
    ("shown", "missing"),
    [
        ((), ["10.64.0.10/24", "fd64::a/64"]),
        (("10.64.0.10/24",), ["fd64::a/64"]),
        (("10.64.0.10/32", "fd64::a/64"), ["10.64.0.10/24"]),
        (("192.0.2.1/24", "fd64:0:0::a/64", "10.64.0.10/24"), []),
    ],
)
def test_conserved_kernel_does_not_show_a_live_grants_addresses(shown: tuple[str, ...], missing: list[str]) -> None:
    now = world((record(FIRST, GRANT), FREE[SECOND.mac]), pod_link(GRANT, addresses=shown), HOME[SECOND.mac])
    assert check(now, GRANT) == [
        f"conserved: eni-1: ADD gave it to podnet/c1/eth0 with {address}; "
        "but the kernel shows it in /n/c1 as eth0 without that address"
        for address in missing
    ]


def test_conserved_holds_for_the_kernel_while_the_agent_is_down() -> None:
    assert check(replace(IDLE, records=(), agent_running=False), GRANT) == [
        "conserved: eni-1: ADD gave it to podnet/c1/eth0; but the kernel shows it in the initial netns as eni1"
    ]
