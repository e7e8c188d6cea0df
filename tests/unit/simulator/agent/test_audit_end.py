"""What must be true of a plugin call, of pods without an ENI, and when every container has ended."""

from dataclasses import replace

import pytest

from simulator import topology
from simulator.agent import audit
from simulator.agent.grants import Grant
from simulator.model import Attachment, EniRecord, Lease, Link, PluginCall, PluginOutcome, Snapshot

(ENI,) = topology.enis(1)
HOME = Link(2, "eni1", ENI.mac, 1500)
EMPTY = Snapshot((EniRecord(ENI, "free"),), agent_running=True, clock_ms=0, links={"": (HOME,)})
LEASE = Lease("bridgenet", "10.88.0.2", "c1", "eth0")
C1, C2 = (Attachment("bridgenet", name, "eth0") for name in ("c1", "c2"))
GRANT = Grant(C1, "default/web-0", "/n/c1", "02:00:00:00:00:07", ("10.88.0.2/24",), leased=True)


def ended(now: Snapshot) -> list[str]:
    return [str(violation) for violation in audit.Auditor((ENI,)).check_end(now, {"eni1", "pods0"})]


def test_nothing_is_left_on_a_node_whose_containers_have_ended() -> None:
    bridge = Link(9, "pods0", "02:00:00:00:00:09", 1500)
    assert ended(EMPTY) == []
    assert ended(replace(EMPTY, links={"": (HOME, bridge)})) == []


@pytest.mark.parametrize(
    ("left", "told"),
    [
        (
            replace(EMPTY, records=(EniRecord(ENI, "quarantined"),)),
            "conserved: eni-1: every container has ended; but the agent says quarantined",
        ),
        (
            replace(EMPTY, leases=(LEASE,)),
            "conserved: 10.88.0.2: host-local has it on record for bridgenet/c1/eth0; but that container has ended",
        ),
        (
            replace(EMPTY, links={"": (HOME, Link(7, "veth7", "02:00:00:00:00:01", 1500))}),
            (
                "bounded: veth7: no container is left that it could be for; "
                "but the kernel shows it in the initial netns as veth7"
            ),
        ),
        (
            replace(EMPTY, plugins_running=1),
            "bounded: the node: every call has ended; but 1 plugin processes run",
        ),
        (
            replace(EMPTY, adds_in_flight=2),
            "bounded: the node: every call has ended; but 2 ADDs are in flight",
        ),
    ],
)
def test_whatever_is_left_is_a_violation(left: Snapshot, told: str) -> None:
    assert ended(left) == [told]


@pytest.mark.parametrize(
    ("command", "duration_ms", "timed_out", "said"),
    [
        ("ADD", 109_999.0, False, []),
        ("ADD", 110_001.0, False, ["bounded: enim ADD: it may take 110000 ms; but it took 110001 ms"]),
        ("DEL", 55_001.0, False, ["bounded: enim DEL: it may take 55000 ms; but it took 55001 ms"]),
        ("DEL", 100.0, True, ["bounded: enim DEL: it may take 55000 ms; but it took 100 ms and was killed then"]),
    ],
)
def test_call_has_its_time(command: str, duration_ms: float, timed_out: bool, said: list[str]) -> None:
    call = PluginCall("enim", {"CNI_COMMAND": command}, b"{}")
    outcome = PluginOutcome(call, 0, b"", b"", duration_ms, timed_out)
    assert [str(violation) for violation in audit.Auditor.check_call(outcome)] == said


def test_two_live_pods_with_one_address_are_a_violation_without_an_eni_too() -> None:
    auditor = audit.Auditor((ENI,))
    other = replace(GRANT, attachment=C2, owner="default/web-1", netns="/n/c2", mac="02:00:00:00:00:08")
    nics = {
        one.netns: (Link(3, "eth0", one.mac, 1500, addresses=one.addresses, netns=one.netns),) for one in (GRANT, other)
    }
    now = replace(EMPTY, links={"": (HOME,), **nics}, leases=(LEASE,))
    auditor.granted(GRANT)
    assert auditor.check(now) == ()
    auditor.granted(other)
    assert [str(violation) for violation in auditor.check(now)] == [
        "exclusive: 10.88.0.2/24: ADD gave it to bridgenet/c1/eth0; but ADD gave it to bridgenet/c2/eth0 too",
        "conserved: bridgenet/c2/eth0: ADD gave it 10.88.0.2/24; but host-local has no record of 10.88.0.2/24 for it",
    ]
