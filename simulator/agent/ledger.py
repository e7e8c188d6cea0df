"""PURE: what all flows of one agent share: the pool, the ADDs in flight, and who is at work on which ENI.

- The pool changes only after its events are durable. So what a flow sees in it is what a replay of the journal would
  give, and a ``StoreFault`` has nothing to undo.
- An ENI is *held* while somebody is at work on it: by an ADD, from its choice to the end of the ADD; by anybody else,
  for as long as a ``with hold(...)`` lasts. Whoever wants an ENI that is held waits.
- Nobody waits while holding, but an ADD; and nobody who is waited for by an ADD waits for an ADD. So no dead-lock.

Nothing here is trusted to happen at one moment but what stands between two yields.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from simulator import errors
from simulator.agent import pool
from simulator.agent.counts import Counts
from simulator.effects import Flow, Now, Persist, WaitForChange
from simulator.model import Attachment, EniId, Link

NS_PER_MS = 1_000_000

TURN_MS = 20  # a waiting flow looks again at least this often, in case nothing told it that its turn has come
TURNS_MAX = 400  # 8 s in all: within the plugin's shortest budget, 10 s for a roll-back


@dataclass(slots=True, eq=False)
class Add:
    """An ADD in flight.

    Args:
        eni: what it holds, None before its choice.
        dropped: why it must not be acknowledged any more, "" while it may.
    """

    attachment: Attachment
    owner: str
    eni: EniId | None = None
    dropped: str = ""


def is_same(attachment: Attachment, owner: str, other: Attachment, other_owner: str) -> bool:
    """Whether two requests, or a request and a record, mean the same attachment.

    A client of the real agent sends neither network nor ifname, so an empty one fits any; then the owners must be
    equal as well (contract C2, C3). For whole identities the owner says nothing (design D13).
    """
    if attachment == other and attachment.network and attachment.ifname:
        return True
    fits = all(
        mine == "" or its in ("", mine)
        for mine, its in ((attachment.network, other.network), (attachment.ifname, other.ifname))
    )
    return fits and attachment.container_id == other.container_id and owner == other_owner


def only(links: tuple[Link, ...], mac: str) -> Link | None:
    """The link with this MAC; None if there is none, or more than one."""
    found = [link for link in links if link.mac == mac]
    return found[0] if len(found) == 1 else None


class Ledger:
    """The shared state of an agent's flows. ``fault`` is why the journal could not be written last time, or ""."""

    def __init__(self, entries: pool.Pool) -> None:
        self.pool = entries
        self.adds: list[Add] = []  # in the order of their arrival
        self.fault = ""
        self.counts = Counts()
        self._held: set[EniId] = set()
        self._committing: set[str] = set()  # owners for whom an ADD is being acknowledged

    def is_held(self, eni: EniId) -> bool:
        """Whether somebody is at work on it."""
        return eni in self._held or any(add.eni == eni for add in self.adds)

    @contextmanager
    def hold(self, *enis: EniId) -> Iterator[None]:
        """Hold ENIs that nobody holds; see to that first."""
        if any(self.is_held(eni) for eni in enis):
            raise errors.InvariantBroken(f"one of {enis} is held by somebody else")
        self._held.update(enis)
        try:
            yield
        finally:
            self._held.difference_update(enis)

    def held_by(self, owner: str) -> tuple[pool.Entry, ...]:
        """What the owner's acknowledged ADDs have, superseded ones apart."""
        return tuple(entry for entry in self.pool.entries() if entry.owner == owner and entry.state == pool.IN_USE)

    def find(self, attachment: Attachment, owner: str) -> pool.Entry | None:
        """What an attachment has been acknowledged, superseded or not."""
        for entry in self.pool.entries():
            other = None if entry.state == pool.RESERVED else entry.attachment
            if other is not None and is_same(attachment, owner, other, entry.owner):
                return entry
        return None

    def left_over(self, attachment: Attachment, owner: str) -> list[EniId]:
        """What an earlier ADD of an attachment has reserved and, on a full disk, could not withdraw."""
        return [
            entry.eni.id
            for entry in self.pool.entries()
            if entry.state == pool.RESERVED and entry.attachment is not None and not self.is_held(entry.eni.id)
            if is_same(attachment, owner, entry.attachment, entry.owner)
        ]

    def in_flight(self, attachment: Attachment, owner: str) -> list[Add]:
        """The ADDs of an attachment that have not ended."""
        return [add for add in self.adds if is_same(attachment, owner, add.attachment, add.owner)]

    def may_commit(self, owner: str) -> bool:
        """Whether an ADD of this owner may be acknowledged now: nobody is about to change what the owner has."""
        return owner not in self._committing and not any(self.is_held(entry.eni.id) for entry in self.held_by(owner))

    @contextmanager
    def committing(self, owner: str) -> Iterator[tuple[pool.Entry, ...]]:
        """Be the only one to acknowledge an ADD of this owner; gives what the owner has, held. See ``may_commit``."""
        older = self.held_by(owner)
        with self.hold(*(entry.eni.id for entry in older)):
            self._committing.add(owner)
            try:
                yield older
            finally:
                self._committing.discard(owner)

    def commit(self, *events: pool.Event) -> Flow[None]:
        """Make events durable, then let them happen; the caller holds their ENIs. Raises ``StoreFault``: none did."""
        yield from self._write(events)
        for event in events:
            self.pool.apply(event)

    def commit_recovery(self) -> Flow[None]:
        """Make durable what the replay has found and applied. Raises ``StoreFault``."""
        if self.pool.unwritten:
            yield from self._write(self.pool.unwritten)
            self.pool.unwritten = ()

    def wait_until(self, is_ready: Callable[[], object]) -> Flow[bool]:
        """Wait for others. Returns False if that took too long; then the caller must give up."""
        if is_ready():
            return True
        for _ in range(TURNS_MAX):
            deadline_ns = (yield Now()) + TURN_MS * NS_PER_MS
            while (yield Now()) < deadline_ns:
                yield WaitForChange(deadline_ns)
                if is_ready():
                    return True
        return False

    def _write(self, events: tuple[pool.Event, ...]) -> Flow[None]:
        try:
            yield Persist(events)
        except errors.StoreFault as fault:
            self.fault = str(fault)
            self.counts.write_failures += 1
            raise
        self.fault = ""
        self.counts.events.update(event["kind"] for event in events)
