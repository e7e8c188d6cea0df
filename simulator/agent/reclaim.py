"""PURE: the evidence table: what must have been seen, and for how long, before an ENI is taken back; and its flow.

Without evidence nothing is taken (I7): a row that is not the one of what is seen now does not count, and what cannot be
told is not seen. ``ROWS`` has exactly one row for each state and each sight that it can have. Tested row by row.

Everything here runs in one flow, ``Reclaimer.run``, which waits for the earliest row that will be due. What fails is
tried again after 1 s, 2 s, 4 s … 60 s; it never changes an ENI's state but from the way home into quarantine.

Source: design D6 (superseded: 2 s), D7 (return before reuse), D8 (the hardware brings a lost NIC home); incidents.md
I5, I7, I9, and the pairs "must not free" / "must eventually free" of its section 5.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from simulator import errors
from simulator.agent import pool
from simulator.agent.ledger import NS_PER_MS, Ledger, only
from simulator.effects import Flow, InspectNetns, ListLinks, MoveHome, Now, RestoreIdentity, WaitForChange
from simulator.model import Eni, EniId, Link

# What can be seen of an ENI. "At home" is by MAC, in the initial netns.
AWAY = "not at home"
HOME = "at home"
CHANGED = "at home, free, and not as it was restored"
NETNS_LIVES = "at home, in use, and its netns lives or cannot be looked into"
NETNS_GONE = "at home, in use, and the netns that it was acknowledged for is gone or another one"
TWICE = "two links at home have its MAC"
UNLISTED = "the cloud does not list it"
SIGHTS = (AWAY, HOME, CHANGED, NETNS_LIVES, NETNS_GONE, TWICE, UNLISTED)

# What is done.
KEEP = "nothing, ever"
LOOK_AGAIN = "look again"
RESTORE = "restore its identity, look, and only if that is seen: freed"
FETCH = "move it home out of a netns that lives; quarantined if that fails"
RECORD = "record"  # the row's event, and nothing else

LOOK_AGAIN_MS = 2_000
HELD_MS = 1_000  # an ENI that a request is at work on is looked at again after this
BACK_OFF_MS = 1_000
BACK_OFF_MS_MAX = 60_000


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the evidence table.

    Args:
        after_ms: agent clock; counted from when the ENI came into ``state``, or, with ``seen_all_along``, from when
            ``sight`` was first seen and then seen at every look since.
        event: kind of the event that follows, "" if that depends on how it goes.
    """

    state: str
    sight: str
    action: str
    after_ms: int = 0
    event: str = ""
    seen_all_along: bool = False


ROWS: tuple[Row, ...] = (
    Row(pool.FREE, AWAY, RECORD, event="missed"),
    Row(pool.FREE, HOME, KEEP),
    Row(pool.FREE, CHANGED, RECORD, 1_000, "spoiled", seen_all_along=True),
    Row(pool.FREE, TWICE, KEEP),
    Row(pool.FREE, UNLISTED, KEEP),
    Row(pool.ABSENT, AWAY, KEEP),  # host-device moves it before it asks
    Row(pool.ABSENT, HOME, RESTORE, event="freed"),
    Row(pool.ABSENT, TWICE, KEEP),
    Row(pool.ABSENT, UNLISTED, KEEP),
    *(Row(pool.RESERVED, sight, RECORD, event="withdrawn") for sight in (AWAY, HOME, TWICE, UNLISTED)),  # not in flight
    Row(pool.IN_USE, AWAY, KEEP),
    Row(pool.IN_USE, HOME, KEEP),  # the agent could never see its netns
    Row(pool.IN_USE, NETNS_LIVES, LOOK_AGAIN),
    Row(pool.IN_USE, NETNS_GONE, RECORD, 30_000, "reclaimed", seen_all_along=True),
    Row(pool.IN_USE, TWICE, KEEP),
    Row(pool.IN_USE, UNLISTED, KEEP),
    Row(pool.SUPERSEDED, AWAY, FETCH, 2_000, "reclaimed"),
    Row(pool.SUPERSEDED, HOME, RECORD, 2_000, "reclaimed"),
    Row(pool.SUPERSEDED, TWICE, RECORD, 2_000, "reclaimed"),
    Row(pool.SUPERSEDED, UNLISTED, KEEP),
    Row(pool.RETURNING, AWAY, FETCH, 2_000),
    Row(pool.RETURNING, HOME, RESTORE, event="freed"),
    Row(pool.RETURNING, TWICE, KEEP),
    Row(pool.RETURNING, UNLISTED, KEEP),
    Row(pool.QUARANTINED, AWAY, FETCH, 30_000),
    Row(pool.QUARANTINED, HOME, RECORD, event="returned"),
    Row(pool.QUARANTINED, TWICE, KEEP),
    Row(pool.QUARANTINED, UNLISTED, KEEP),
)

# The kinds of event that a row can lead to, whatever way it goes.
ACTIONS = tuple(dict.fromkeys([*(row.event for row in ROWS if row.event), "quarantined", "delayed"]))

TABLE: Mapping[tuple[str, str], Row] = {(row.state, row.sight): row for row in ROWS}


@dataclass(frozen=True, slots=True)
class _Sight:
    """What was seen of an entry, and since when without a break."""

    entry: pool.Entry
    what: str
    since_ns: int
    link: Link | None


@dataclass(frozen=True, slots=True)
class _Pace:
    """When a row of an ENI may be tried again, and how often it was."""

    row: Row
    since_ns: int
    attempts: int
    not_before_ns: int


def is_restored(link: Link, eni: Eni) -> bool:
    """Whether a link at home shows the identity of the ENI, and nothing of where it was (I9)."""
    shown = (link.name, link.mtu, link.alias, link.altnames, link.addresses)
    return shown == (eni.name, eni.mtu, "", (), ())


class Reclaimer:
    """Drives the table. One for each agent."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._sights: dict[EniId, _Sight] = {}
        self._paces: dict[EniId, _Pace] = {}

    def run(self) -> Flow[None]:
        """For ever: look, do what is due, wait for the next change or the next row."""
        while True:
            try:
                yield from self._ledger.commit_recovery()
                deadline_ns = yield from self.look()
            except errors.WorldFault:  # no journal or no links: nothing was seen, so nothing is done
                yield from self._pause(BACK_OFF_MS)
            else:
                yield WaitForChange(deadline_ns)

    def look(self) -> Flow[int | None]:
        """Look until nothing is due any more.

        Returns:
            When the next row will be due (agent clock), None if only a change can bring one.

        Raises:
            KernelFault: the links at home cannot be listed.
        """
        while True:
            links: tuple[Link, ...] = yield ListLinks()
            due: list[tuple[Row, _Sight]] = []
            deadlines_ns: list[int] = []
            for entry in self._ledger.pool.entries():
                sight = yield from self._see(entry, links)
                now_ns = yield Now()
                if self._ledger.is_held(entry.eni.id):
                    deadlines_ns.append(now_ns + HELD_MS * NS_PER_MS)
                    continue
                row = TABLE[entry.state, sight.what]
                due_ns = self._due_ns(row, sight)
                if due_ns is not None and due_ns <= now_ns:
                    due.append((row, sight))
                elif due_ns is not None:
                    deadlines_ns.append(due_ns)
            if not due:
                return min(deadlines_ns, default=None)
            yield from self._act(due)

    def _pause(self, ms: int) -> Flow[None]:
        """Let time pass, whatever changes."""
        deadline_ns = (yield Now()) + ms * NS_PER_MS
        while (yield Now()) < deadline_ns:
            yield WaitForChange(deadline_ns)

    def _see(self, entry: pool.Entry, links: tuple[Link, ...]) -> Flow[_Sight]:
        found = [link for link in links if link.mac == entry.eni.mac]
        link = found[0] if len(found) == 1 else None
        if not entry.listed:
            what = UNLISTED
        elif link is None:
            what = TWICE if found else AWAY
        elif entry.state == pool.FREE and not is_restored(link, entry.eni):
            what = CHANGED
        elif entry.state == pool.IN_USE and entry.identity:
            what = yield from self._see_netns(entry)
        else:
            what = HOME
        before = self._sights.get(entry.eni.id)
        if before is not None and before.entry is entry and before.what == what:
            since_ns = before.since_ns
        else:
            since_ns = yield Now()
        sight = self._sights[entry.eni.id] = _Sight(entry, what, since_ns, link)
        return sight

    def _see_netns(self, entry: pool.Entry) -> Flow[str]:
        try:
            view = yield InspectNetns(entry.netns, entry.eni.mac)
        except errors.KernelFault:
            return NETNS_LIVES
        return NETNS_LIVES if view.identity == entry.identity else NETNS_GONE

    def _due_ns(self, row: Row, sight: _Sight) -> int | None:
        if row.action == KEEP:
            return None
        entry = sight.entry
        since_ns = sight.since_ns if row.seen_all_along else entry.since_ns
        pace = self._paces.get(entry.eni.id)
        is_paced = pace is not None and pace.row is row and pace.since_ns == entry.since_ns
        return max(since_ns + row.after_ms * NS_PER_MS, pace.not_before_ns if pace is not None and is_paced else 0)

    def _act(self, due: list[tuple[Row, _Sight]]) -> Flow[None]:
        """Do what is due, so that none of it is due again at once. Restoring goes first: it needs fresh links."""
        yield from self._restore([(row, sight) for row, sight in due if row.action == RESTORE])
        for row, sight in due:
            if row.action == RESTORE or not self._is_current(sight):
                continue
            with self._ledger.hold(sight.entry.eni.id):
                if row.action == FETCH:
                    yield from self._fetch(row, sight.entry)
                elif row.action == RECORD:
                    yield from self._record(row, sight.entry, row.event, row.sight)
                else:
                    yield from self._wait_ms(row, sight.entry, LOOK_AGAIN_MS)

    def _is_current(self, sight: _Sight) -> bool:
        """Whether nobody has touched the ENI since it was seen."""
        eni = sight.entry.eni.id
        return self._ledger.pool.entry(eni) is sight.entry and not self._ledger.is_held(eni)

    def _restore(self, rows: list[tuple[Row, _Sight]]) -> Flow[None]:
        """Restore all at once, look once, and journal once what became free."""
        batch = [(row, sight.entry, sight.link) for row, sight in rows if self._is_current(sight)]
        if not batch:
            return
        with self._ledger.hold(*(entry.eni.id for _, entry, _ in batch)):
            yield from self._untangle([(entry.eni, link) for _, entry, link in batch if link is not None])
            refused: dict[EniId, str] = {}
            for _, entry, link in batch:
                try:
                    if link is not None:
                        yield RestoreIdentity(link.ifindex, entry.eni.name, entry.eni.mtu)
                except errors.KernelFault as fault:
                    refused[entry.eni.id] = str(fault)
            links: tuple[Link, ...] = yield ListLinks()
            now_ns = yield Now()
            events = []
            for row, entry, _ in batch:
                link = only(links, entry.eni.mac)
                if link is not None and is_restored(link, entry.eni):
                    reason = "seen at home, as it must be"
                    events.append(pool.event("freed", entry.eni.id, now_ns, reason, ifindex=link.ifindex))
                    continue
                reason = refused.get(entry.eni.id, "its identity was restored, and is not seen at home")
                yield from self._back_off(row, entry)
                if reason != entry.reason:
                    events.append(pool.event("delayed", entry.eni.id, now_ns, reason))
            yield from self._commit_all([(row, entry) for row, entry, _ in batch], events)

    def _untangle(self, batch: list[tuple[Eni, Link]]) -> Flow[None]:
        """Where one ENI has the name that another must get, neither could be restored: a name of its own first."""
        wanted = [eni.name for eni, _ in batch]
        for eni, link in batch:
            if link.name != eni.name and link.name in wanted:
                try:
                    yield RestoreIdentity(link.ifindex, f"eni-{link.ifindex}", eni.mtu)
                except errors.KernelFault:  # then restoring says why
                    continue

    def _fetch(self, row: Row, entry: pool.Entry) -> Flow[None]:
        """Bring a NIC home from where it was left. One that is seen nowhere is left to the hardware."""
        refused = ""
        try:
            if entry.netns:
                view = yield InspectNetns(entry.netns, entry.eni.mac)
                if view.link is not None:
                    yield MoveHome(entry.netns, entry.eni.mac, entry.eni.name)
        except errors.KernelFault as fault:
            refused = str(fault)
        yield from self._back_off(row, entry)
        if refused and entry.state != pool.QUARANTINED:
            yield from self._record(row, entry, "quarantined", refused)
        elif refused and refused != entry.reason:
            yield from self._record(row, entry, "delayed", refused)
        elif row.event:
            yield from self._record(row, entry, row.event, row.sight)

    def _record(self, row: Row, entry: pool.Entry, kind: str, reason: str) -> Flow[None]:
        now_ns = yield Now()
        yield from self._commit_all([(row, entry)], [pool.event(kind, entry.eni.id, now_ns, reason)])

    def _commit_all(self, rows: list[tuple[Row, pool.Entry]], events: list[pool.Event]) -> Flow[None]:
        if not events:
            return
        try:
            yield from self._ledger.commit(*events)
        except errors.StoreFault:
            for row, entry in rows:
                yield from self._back_off(row, entry)
        else:
            self._ledger.counts.evidence.update(event["kind"] for event in events)

    def _back_off(self, row: Row, entry: pool.Entry) -> Flow[None]:
        pace = self._paces.get(entry.eni.id)
        again = pace is not None and pace.row is row and pace.since_ns == entry.since_ns
        attempts = pace.attempts if pace is not None and again else 0
        yield from self._wait_ms(row, entry, min(BACK_OFF_MS << min(attempts, 6), BACK_OFF_MS_MAX), attempts + 1)

    def _wait_ms(self, row: Row, entry: pool.Entry, ms: int, attempts: int = 0) -> Flow[None]:
        """This row of this ENI is not due for ``ms``."""
        now_ns = yield Now()
        self._paces[entry.eni.id] = _Pace(row, entry.since_ns, attempts, now_ns + ms * NS_PER_MS)
