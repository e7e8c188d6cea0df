"""The invariants of a request, no-stale-harm and return-before-reuse, and the one of an ENI that became free."""

from dataclasses import replace
from typing import Any

import pytest

from simulator import topology
from simulator.agent import audit
from simulator.agent.grants import Grant
from simulator.model import Attachment, EniRecord, Link, Snapshot

ENI = topology.enis(1)[0]
C1, C2 = Attachment("podnet", "c1", "eth0"), Attachment("podnet", "c2", "eth0")
GRANT = Grant(C1, "default/web-0", "/n/c1", ENI.mac, ("10.64.0.10/24",))
HELD = EniRecord(ENI, "in_use", C1, "default/web-0", "/n/c1")
INSIDE = Link(2, "eth0", ENI.mac, 1500, addresses=("10.64.0.10/24",), up=True, netns="/n/c1")
AT_HOME = Link(3, "eni1", ENI.mac, 1500)
FREE = EniRecord(ENI, "free")


def world(link: Link | None, record: EniRecord | None, **changes: Any) -> Snapshot:
    links = {path: (link,) if link is not None and link.netns == path else () for path in ("", "/n/c1", "/n/c2")}
    records = () if record is None else (record,)
    return replace(Snapshot(records, agent_running=True, clock_ms=0, links=links), **changes)


def auditor(grant: Grant | None = GRANT) -> audit.Auditor:
    knowing = audit.Auditor((ENI,))
    if grant is not None:
        knowing.granted(grant)
    return knowing


BEFORE = world(INSIDE, HELD)
DOWN: dict[str, Any] = {"records": (), "agent_running": False}


# --- no-stale-harm


def harm(after: Snapshot, *touched: Attachment, before: Snapshot = BEFORE) -> list[str]:
    return [str(violation) for violation in auditor().check_step(before, after, frozenset(touched))]


SAID = "eni-1 in_use of podnet/c1/eth0 for default/web-0 in /n/c1"
SHOWN = f"eth0 ({ENI.mac}, MTU 1500, up) with 10.64.0.10/24"
HARM = "no-stale-harm: podnet/c1/eth0: {} said {} before a request that does not name it; but says {} after"


@pytest.mark.parametrize(
    ("record", "became"),
    [
        (replace(HELD, state="returning", attachment=None), "eni-1 returning of nobody"),
        (replace(HELD, attachment=C2), "eni-1 in_use of podnet/c2/eth0 for default/web-0 in /n/c1"),
        (replace(HELD, owner="default/web-1"), "eni-1 in_use of podnet/c1/eth0 for default/web-1 in /n/c1"),
        (replace(HELD, netns="/n/c2"), "eni-1 in_use of podnet/c1/eth0 for default/web-0 in /n/c2"),
        (None, "nothing of it"),
    ],
)
def test_no_stale_harm_in_what_the_agent_says(record: EniRecord | None, became: str) -> None:
    assert harm(world(INSIDE, record), C2) == [HARM.format("the agent", SAID, became)]


@pytest.mark.parametrize(
    ("link", "became"),
    [
        (AT_HOME, "nothing of it"),
        (replace(INSIDE, netns="/n/c2"), "nothing of it"),
        (None, "nothing of it"),
        (replace(INSIDE, name="eth1"), f"eth1 ({ENI.mac}, MTU 1500, up) with 10.64.0.10/24"),
        (replace(INSIDE, addresses=()), f"eth0 ({ENI.mac}, MTU 1500, up) with "),
        (replace(INSIDE, mtu=1400), f"eth0 ({ENI.mac}, MTU 1400, up) with 10.64.0.10/24"),
        (replace(INSIDE, up=False), f"eth0 ({ENI.mac}, MTU 1500, down) with 10.64.0.10/24"),
    ],
)
def test_no_stale_harm_in_what_the_kernel_shows(link: Link | None, became: str) -> None:
    expected = [HARM.format("the kernel", SHOWN, became)]
    assert (harm(world(link, HELD), C2), harm(world(link, HELD, **DOWN), C2)) == (expected, expected)


def test_request_that_changes_nothing_harms_nobody() -> None:
    assert harm(replace(BEFORE, clock_ms=9_000), C2) == []


def test_container_that_the_request_names_may_change() -> None:
    assert harm(world(AT_HOME, FREE), C1) == []


def test_agent_that_died_meanwhile_or_was_down_before_took_nothing_away() -> None:
    assert harm(world(INSIDE, None, **DOWN), C2) == []
    assert harm(BEFORE, C2, before=world(INSIDE, None, **DOWN)) == []


@pytest.mark.parametrize("end", ["superseded", "netns_deleted", "ending"])
def test_container_that_needs_its_nic_no_more_cannot_be_harmed(end: str) -> None:
    knowing = auditor(replace(GRANT, **{end: True}))
    assert knowing.check_step(BEFORE, world(AT_HOME, FREE), frozenset()) == ()


# --- return-before-reuse, and a second ENI for one attachment


def test_return_before_reuse_nic_was_still_in_a_pod_when_the_add_was_sent() -> None:
    grant = replace(GRANT, attachment=C2, netns="/n/c2")
    found = auditor(None).check_grant(grant, world(INSIDE, replace(HELD, state="returning")))
    assert [(one.invariant, one.other_view) for one in found] == [
        ("return-before-reuse", "before that ADD was sent, the kernel shows it in /n/c1 as eth0")
    ]


@pytest.mark.parametrize("before", [world(AT_HOME, FREE), world(AT_HOME, None, **DOWN), world(None, FREE)])
def test_nic_that_was_in_no_pod_may_be_given(before: Snapshot) -> None:
    assert auditor(None).check_grant(GRANT, before) == ()


def test_repeated_add_may_give_the_nic_that_is_in_its_own_pod_already() -> None:
    assert auditor().check_grant(GRANT, BEFORE) == ()


def test_exclusive_repeated_add_gave_a_second_eni() -> None:
    second = topology.enis(2)[1]
    knowing = audit.Auditor((ENI, second))
    knowing.granted(GRANT)
    found = knowing.check_grant(replace(GRANT, mac=second.mac), BEFORE)
    assert [str(violation) for violation in found] == [
        "exclusive: podnet/c1/eth0: ADD gave it eni-1 and then eni-2; but it may have one ENI"
    ]


def test_attachment_whose_del_was_sent_may_get_another_eni() -> None:
    knowing = auditor()
    knowing.ending(C1)
    assert knowing.check_grant(replace(GRANT, mac=topology.enis(2)[1].mac), BEFORE) == ()


# --- identity-restored


@pytest.mark.parametrize(
    ("change", "said", "shown"),
    [
        ({"name": "eth0"}, "name must be 'eni1'", "'eth0'"),
        ({"mtu": 1400}, "mtu must be 1500", "1400"),
        ({"alias": "eni1"}, "alias must be ''", "'eni1'"),
        ({"altnames": ("enp1",)}, "altnames must be ()", "('enp1',)"),
        ({"addresses": ("192.0.2.1/24",)}, "addresses must be ()", "('192.0.2.1/24',)"),
    ],
)
def test_identity_restored_what_is_free_is_as_it_was(change: dict[str, Any], said: str, shown: str) -> None:
    link = replace(AT_HOME, **change)
    assert [str(violation) for violation in auditor(None).check(world(link, FREE))] == [
        f"identity-restored: eni-1: the agent says free, so its {said}; but the kernel shows {shown}"
    ]
    assert auditor(None).check(world(link, replace(FREE, state="returning"))) == ()


def test_identity_is_the_clouds_and_not_what_the_agent_takes_for_it() -> None:
    spoiled = replace(FREE, eni=replace(ENI, mtu=1400))
    found = auditor(None).check(world(replace(AT_HOME, mtu=1400), spoiled))
    assert [violation.invariant for violation in found] == [audit.CONSERVED, audit.IDENTITY_RESTORED]


def test_violation_names_an_invariant_of_the_list() -> None:
    assert audit.INVARIANTS == (
        "exclusive",
        "conserved",
        "no-stale-harm",
        "del-converges",
        "return-before-reuse",
        "restart-neutral",
        "fail-closed",
        "bounded",
        "identity-restored",
    )
