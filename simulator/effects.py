"""What the agent's flows may yield, and the two ports of the testbed: a flow's driver and a scenario's World."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias, TypeVar

from enim import wire
from simulator.model import Durations, Eni, Link, PluginCall, PluginOutcome, Served, Snapshot

Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class Effect:
    """Please do this and tell me how it went: the outcome is sent into the flow, a failure is thrown into it."""


Flow: TypeAlias = Generator[Effect, Any, Answer]


@dataclass(frozen=True, slots=True)
class Now(Effect):
    """Outcome: the agent's clock, int nanoseconds."""


@dataclass(frozen=True, slots=True)
class WaitForChange(Effect):
    """Outcome: None, when links of the initial netns changed, or the agent's state did, or ``deadline_ns`` has come.

    Changes since the flow's previous WaitForChange count: none is missed. ``deadline_ns`` None waits for ever.
    """

    deadline_ns: int | None


@dataclass(frozen=True, slots=True)
class Persist(Effect):
    """Make events durable in the journal, all or none, before the outcome. Outcome: None. Failure: ``StoreFault``.

    ``events``: JSON objects (str → str | int | None), in order.
    """

    events: tuple[dict[str, Any], ...]


@dataclass(frozen=True, slots=True)
class ListLinks(Effect):
    """Outcome: the links of the initial netns, ``tuple[Link, ...]``. Failure: ``KernelFault``."""


@dataclass(frozen=True, slots=True)
class InspectNetns(Effect):
    """Outcome: ``NetnsView`` of the namespace that ``path`` names. Failure: ``KernelFault`` if that cannot be told."""

    path: str
    mac: str


@dataclass(frozen=True, slots=True)
class NetnsView:
    """``identity``: ``"<st_dev>:<st_ino>"`` of a live network namespace, "" if the path names none.

    ``link``: the link with the MAC that was asked for, or None.
    """

    identity: str
    link: Link | None


@dataclass(frozen=True, slots=True)
class MoveHome(Effect):
    """Move the link with ``mac`` from the netns at ``path`` to the initial one, down, under ``name`` or a free
    ``dev%d``.

    Outcome: None. Failure: ``KernelFault``; then it is where it was.
    """

    path: str
    mac: str
    name: str


@dataclass(frozen=True, slots=True)
class RestoreIdentity(Effect):
    """Give the link ``ifindex`` of the initial netns its identity back: down, name, MTU, no alias, altnames, addresses.

    Outcome: None. Failure: ``KernelFault`` (for example EEXIST: the name is taken).
    """

    ifindex: int
    name: str
    mtu: int


@dataclass(frozen=True, slots=True)
class Measure(Effect):
    """Outcome: ``Measures``, what only whoever drives the agent can tell of it."""


@dataclass(frozen=True, slots=True)
class Measures:
    """What was measured of one agent from its start on, and of its journal now; None: that cannot be told.

    ``requests``: (method, path, status) → how long the requests took that were answered so (``agent.timings``).
    """

    requests: Mapping[tuple[str, str, int], Durations] = field(default_factory=dict)
    journal_entries: int | None = None
    journal_bytes: int | None = None


class Agent(Protocol):
    """What a driver serves: one flow per request, and one that runs for ever in the background."""

    def handle(self, request: wire.Request) -> Flow[wire.Reply]:
        """The flow of one request; its answer is the reply."""
        ...

    def reconcile(self) -> Flow[None]:
        """The flow in the background; it never ends."""
        ...


class World(Protocol):
    """One node of a lab, as the scenario runner sees it. Every method returns when the thing is done.

    Raises (every method): ``WorldFault`` if the outside refused; ``LabError`` if the lab itself is gone.
    """

    enis: Sequence[Eni]
    socket: str
    state_directory: str  # where plugins of others may keep what they must remember; host-local its leases

    def machine(self) -> Mapping[str, Any]:
        """The facts of the machine that plugins run on (``bench.machine``); none in virtual time."""
        ...

    def create_netns(self, name: str, *, dad: bool) -> str:
        """Create a pod's network namespace; return its path. ``dad``: leave IPv6 duplicate address detection on."""
        ...

    def delete_netns(self, path: str) -> None:
        """Unmount and remove the namespace file; the kernel ends the namespace when nothing else holds it."""
        ...

    def execute(self, call: PluginCall) -> PluginOutcome:
        """Run a plugin binary of the lab's CNI bin directory to its end."""
        ...

    def execute_all(self, calls: Sequence[PluginCall]) -> Sequence[PluginOutcome]:
        """Start all of these at once, and run each to its end; outcomes in the order of the calls.

        A duration is measured where the process runs: it holds nothing of the way from here to there.
        """
        ...

    def served(self) -> Sequence[Served]:
        """What the agent has measured of the requests that it answered since this was last asked, oldest first.

        The agent keeps the latest ``real.served.KEPT_MAX`` in memory; there are none if it does not run.
        """
        ...

    def echo(self, netns: str, destination: str, timeout_ms: int) -> bool:
        """Send one ICMP echo request (v4 or v6, by the destination) from inside ``netns``; was it answered?"""
        ...

    def snapshot(self) -> Snapshot:
        """What the agent says and what the kernel shows, now."""
        ...

    def advance_clock(self, ms: int) -> None:
        """Add to the agent's clock."""
        ...

    def pause(self, ms: int) -> None:
        """Let the world's own time pass: what the kernel and the agent do by themselves goes on."""
        ...

    def elapsed_ms(self) -> float:
        """The world's own time since it began, milliseconds."""
        ...

    def start_agent(self, after_ms: int = 0) -> None:
        """Start the agent on the state it left; return when it serves, at once if it starts ``after_ms`` from now."""
        ...

    def kill_agent(self) -> None:
        """SIGKILL the agent; return when it is gone."""
        ...

    def crash_agent_at(self, failpoint: str, back_after_ms: int) -> None:
        """The agent dies when it next comes to a failpoint (``agent.failpoints``), and is back some time later."""
        ...
