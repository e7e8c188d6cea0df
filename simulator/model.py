"""Frozen values that every layer of the testbed speaks of: ENIs, attachments, links, and what a plugin process did."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, NewType, TypeAlias, get_args

EniId = NewType("EniId", str)

# Which kind of link a fake ENI is; the first one that the kernel has is taken.
Backend: TypeAlias = Literal["veth", "macvlan", "dummy"]
BACKENDS: tuple[Backend, ...] = get_args(Backend)

# What an ENI can do, in the order in which it is tried. Only ECHOED may be lacking: some scenarios do without.
TRAITS = MADE, MOVED, ECHOED, RETURNED = (
    "be made",
    "move into a netns and back",
    "answer an echo",
    "come home when their netns ends",
)


@dataclass(frozen=True, slots=True)
class Subnet:
    """A subnet of the pretended VPC, both families. CIDRs such as ``10.64.0.0/24``, gateways without a prefix."""

    cidr4: str
    gateway4: str
    cidr6: str
    gateway6: str


@dataclass(frozen=True, slots=True)
class Eni:
    """A cloud network interface as the cloud describes it.

    Args:
        id: ``eni-1``, ``eni-2`` …
        mac: lower case; the only thing that identifies the NIC wherever it is.
        name: its name at home, in the initial netns.
        mtu: its MTU at home.
        ipv4: its address, without a prefix.
        ipv6: its address, without a prefix.
        subnet: where both lie.
    """

    id: EniId
    mac: str
    name: str
    mtu: int
    ipv4: str
    ipv6: str
    subnet: Subnet


@dataclass(frozen=True, slots=True, order=True)
class Attachment:
    """The identity of what ADD creates and DEL ends. ``network`` and ``ifname`` are "" if the client sent none."""

    network: str
    container_id: str
    ifname: str

    def __str__(self) -> str:
        return f"{self.network or '-'}/{self.container_id}/{self.ifname or '-'}"


@dataclass(frozen=True, slots=True)
class Link:
    """A link as the kernel shows it.

    Args:
        netns: "" for the initial netns of the node, else the path by which the namespace is known.
        addresses: CIDR texts in the kernel's order, without IPv6 link-local ones.
        altnames: sorted.
        alias: "" for none.
    """

    ifindex: int
    name: str
    mac: str
    mtu: int
    alias: str = ""
    altnames: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()
    up: bool = False
    netns: str = ""


@dataclass(frozen=True, slots=True)
class Lease:
    """An address that host-local has on record for an attachment. ``address`` is without a prefix."""

    network: str
    address: str
    container_id: str
    ifname: str

    @property
    def attachment(self) -> Attachment:
        """Whose it is."""
        return Attachment(self.network, self.container_id, self.ifname)


@dataclass(frozen=True, slots=True)
class EniRecord:
    """What the agent says of one ENI (its control socket's ``GET /state``).

    Args:
        state: a state of ``agent.pool``.
        attachment: whose it is, or None.
        owner: ``namespace/name``, or "".
        netns: the netns path of the attachment, or "".
        reason: why it is in this state, for people.
    """

    eni: Eni
    state: str
    attachment: Attachment | None = None
    owner: str = ""
    netns: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class PluginCall:
    """One run of a plugin binary.

    Args:
        plugin: its file name in the CNI bin directory.
        environment: the CNI_* variables; the world adds CNI_PATH.
        stdin: the netconf, bytes.
        timeout_ms: then the direct child is killed, and only that (contract A8).
    """

    plugin: str
    environment: Mapping[str, str]
    stdin: bytes
    timeout_ms: int = 60_000


@dataclass(frozen=True, slots=True)
class PluginOutcome:
    """What a plugin process did. ``exit_code`` is negative for a signal, as in ``subprocess``."""

    call: PluginCall
    exit_code: int
    stdout: bytes
    stderr: bytes
    duration_ms: float
    timed_out: bool = False


@dataclass(frozen=True, slots=True)
class Served:
    """What the agent has measured of one request of its public API.

    Args:
        method: ``POST`` for an ADD, ``DELETE`` for a DEL or a roll-back.
        container_id: whom it was for, "" if it named none.
        queue_ms: how long it waited for others: to be picked up, for the agent's one lock, for another request's end.
        work_ms: the rest of the time from its arrival until its answer was ready.
    """

    method: str
    container_id: str
    queue_ms: float
    work_ms: float


@dataclass(frozen=True, slots=True)
class Durations:
    """How long some requests took.

    Args:
        counts: how many fell into each bucket of ``agent.timings``.
        sum_s: of all of them, seconds.
    """

    counts: tuple[int, ...]
    sum_s: float


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What can be seen from outside at one moment: the agent's records and the kernel's links.

    Args:
        records: one for each ENI, in the order of their ids; empty if the agent does not run.
        agent_running: False if no agent answers.
        clock_ms: the agent's clock, 0 if it does not run.
        links: netns path ("" = the initial one) → its links. Only namespaces that exist are keys.
        leases: what host-local has on record, ordered by network and address.
        plugins_running: plugin processes of the node that have not ended.
        adds_in_flight: ADDs that the agent is at work on.
    """

    records: tuple[EniRecord, ...]
    agent_running: bool
    clock_ms: int
    links: Mapping[str, tuple[Link, ...]] = field(default_factory=dict)
    leases: tuple[Lease, ...] = ()
    plugins_running: int = 0
    adds_in_flight: int = 0
