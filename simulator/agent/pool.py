"""PURE: the states of an ENI, and the one table of what may happen in each.

- ``Pool.apply(event)`` is the only mutation, and an event is what the journal keeps: replaying the journal gives the
  pool back. That is recovery, and the timeline of a report.
- Nothing is ever erased: an ENI that the cloud no longer lists keeps its record, and is not offered (I7).
- What was free before a restart must be seen again before it is offered; what was reserved was never acknowledged.

An event is a flat JSON object: ``kind``, ``eni``, ``at_ns`` (agent clock), perhaps ``reason`` (for people), and the
fields that ``FIELDS`` names for its kind. A ``snapshot`` stands for all earlier events of its ENI (``compaction``).

Source: design D6 and D7; incidents.md invariants I2 (conserved), I6 (restart-neutral), I7 (fail-closed).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from simulator.errors import InvariantBroken
from simulator.model import Attachment, Eni, EniId, EniRecord, Subnet

FREE = "free"
ABSENT = "absent"
RESERVED = "reserved"
IN_USE = "in_use"
SUPERSEDED = "superseded"
RETURNING = "returning"
QUARANTINED = "quarantined"
STATES = (FREE, ABSENT, RESERVED, IN_USE, SUPERSEDED, RETURNING, QUARANTINED)

UNKNOWN = ""  # an ENI of which nothing was ever journaled
SNAPSHOT = "snapshot"  # UNKNOWN → the state that it names

Event: TypeAlias = dict[str, Any]

# (state, kind of event) → state. What is not here must never happen.
TRANSITIONS: Mapping[tuple[str, str], str] = {
    (UNKNOWN, "discovered"): RETURNING,
    (FREE, "missed"): ABSENT,  # not seen at home
    (FREE, "spoiled"): RETURNING,  # seen at home, but not as it was restored
    (FREE, "reserved"): RESERVED,
    (FREE, "restarted"): RETURNING,
    (ABSENT, "reserved"): RESERVED,
    (ABSENT, "freed"): FREE,
    (ABSENT, "delayed"): ABSENT,
    (RESERVED, "acknowledged"): IN_USE,
    (RESERVED, "withdrawn"): RETURNING,
    (RESERVED, "restarted"): RETURNING,
    (IN_USE, "repeated"): IN_USE,  # the same ADD again
    (IN_USE, "released"): RETURNING,
    (IN_USE, "superseded"): SUPERSEDED,
    (IN_USE, "reclaimed"): RETURNING,  # by evidence, without its own DEL
    (SUPERSEDED, "released"): RETURNING,
    (SUPERSEDED, "reclaimed"): RETURNING,
    (SUPERSEDED, "quarantined"): QUARANTINED,
    (RETURNING, "freed"): FREE,
    (RETURNING, "delayed"): RETURNING,  # something failed and will be tried again
    (RETURNING, "quarantined"): QUARANTINED,
    (QUARANTINED, "delayed"): QUARANTINED,
    (QUARANTINED, "returned"): RETURNING,  # seen at home
}

# Every kind of event that changes an ENI; a snapshot changes none.
KINDS = tuple(dict.fromkeys(kind for _, kind in TRANSITIONS))

# Kind of event → the fields of the entry that it sets.
FIELDS: Mapping[str, tuple[str, ...]] = {
    "reserved": ("owner", "netns", "ifindex"),  # and network, container_id, ifname: the attachment
    "acknowledged": ("identity",),
    "repeated": ("netns", "identity", "ifindex"),
    "freed": ("ifindex",),
}

_OF_NOBODY: Mapping[str, Any] = {"attachment": None, "owner": ""}
_AT_HOME: Mapping[str, Any] = {**_OF_NOBODY, "netns": "", "identity": ""}

# What a snapshot says of an entry beside its ENI, attachment and reason.
_SHOWN = ("state", "since_ns", "owner", "netns", "identity", "ifindex")

# State → what an entry in it no longer has. Who is on the way home keeps the netns: that is where to look for the NIC.
_FORGOTTEN: Mapping[str, Mapping[str, Any]] = {
    FREE: _AT_HOME,
    ABSENT: _AT_HOME,
    RETURNING: _OF_NOBODY,
    QUARANTINED: _OF_NOBODY,
}


@dataclass(frozen=True, slots=True)
class Entry:
    """What the agent knows of one ENI.

    Args:
        since_ns: agent clock when it came into ``state``.
        netns: path that its ADD named, "" if none.
        identity: ``"<st_dev>:<st_ino>"`` of that namespace when the ADD was acknowledged, "" if it could not be told.
        ifindex: where it was last seen at home, 0 if never.
        reason: why it is in this state, for people.
        listed: False if the cloud does not list it, or lists another NIC under its id.
    """

    eni: Eni
    state: str
    since_ns: int
    attachment: Attachment | None = None
    owner: str = ""
    netns: str = ""
    identity: str = ""
    ifindex: int = 0
    reason: str = ""
    listed: bool = True


def event(kind: str, eni: EniId, at_ns: int, reason: str = "", **fields: str | int) -> Event:
    """One event; an empty reason is left out."""
    return {"kind": kind, "eni": eni, "at_ns": at_ns, **fields, **({"reason": reason} if reason else {})}


def snapshot(entry: Entry, at_ns: int) -> Event:
    """The event that alone gives an entry; ``listed`` apart, which the cloud says anew."""
    attachment: dict[str, str | int] = {}
    if entry.attachment is not None:
        attachment = {name: getattr(entry.attachment, name) for name in ("network", "container_id", "ifname")}
    fields = {name: getattr(entry, name) for name in _SHOWN}
    return event(SNAPSHOT, entry.eni.id, at_ns, entry.reason, **_description(entry.eni), **attachment, **fields)


def order(eni: EniId) -> tuple[int, str]:
    """Sort key of ids: ``eni-2`` comes before ``eni-10``."""
    return len(eni), eni


class Pool:
    """One entry for each ENI that was ever known."""

    def __init__(self) -> None:
        self._entries: dict[EniId, Entry] = {}
        self.unwritten: tuple[Event, ...] = ()

    @classmethod
    def replay(cls, enis: Sequence[Eni], events: Iterable[Event]) -> Pool:
        """Recover.

        Args:
            enis: what the cloud lists now.
            events: the journal, oldest first.

        Returns:
            A pool whose ``unwritten`` events are applied, and must become durable before any later event of their ENIs.

        Raises:
            InvariantBroken: this is no journal of ours.
        """
        pool = cls()
        at_ns = 0
        for one in events:
            pool.apply(one)
            at_ns = one["at_ns"]
        pool._compare(enis)
        pool.unwritten = tuple(pool._recovery(enis, at_ns))
        for one in pool.unwritten:
            pool.apply(one)
        return pool

    def apply(self, event: Event) -> Entry:
        """Let one event happen. Raises ``InvariantBroken`` if it must not happen in this state, or is no event."""
        try:
            eni_id, kind, at_ns = EniId(event["eni"]), event["kind"], int(event["at_ns"])
            entry = self._entries.get(eni_id)
            was = UNKNOWN if entry is None else entry.state
            if entry is None and kind == SNAPSHOT:
                self._entries[eni_id] = entry = _shown(event)
                return entry
            if (was, kind) not in TRANSITIONS:
                raise InvariantBroken(f"{eni_id}: {kind} must not happen in state {was or 'unknown'}")
            became = TRANSITIONS[was, kind]
            if entry is None:
                entry = Entry(_described(event), became, at_ns)
            changes: dict[str, Any] = {name: event[name] for name in FIELDS.get(kind, ())}
            if kind == "reserved":
                changes["attachment"] = Attachment(event["network"], event["container_id"], event["ifname"])
        except (KeyError, TypeError, ValueError) as error:
            raise InvariantBroken(f"not an event: {event!r} ({error!r})") from error
        changes |= _FORGOTTEN.get(became, {})
        since_ns = entry.since_ns if became == was else at_ns
        reason = str(event.get("reason", ""))
        entry = replace(entry, state=became, since_ns=since_ns, reason=reason, **changes)
        self._entries[eni_id] = entry
        return entry

    def entry(self, eni: EniId) -> Entry:
        """The entry of an ENI that is known."""
        return self._entries[eni]

    def entries(self) -> tuple[Entry, ...]:
        """All entries, in the order of their ids."""
        return tuple(sorted(self._entries.values(), key=lambda entry: order(entry.eni.id)))

    def records(self) -> tuple[EniRecord, ...]:
        """What the agent tells of its ENIs, in the order of their ids."""
        return tuple(_record(entry) for entry in self.entries())

    def _compare(self, enis: Sequence[Eni]) -> None:
        """Take the cloud's descriptions; mark what it does not list, or lists as another NIC than somebody has."""
        listed = {eni.id: eni for eni in enis}
        for entry in self.entries():
            eni = listed.get(entry.eni.id)
            if eni is None or (entry.attachment is not None and eni.mac != entry.eni.mac):
                self._entries[entry.eni.id] = replace(entry, listed=False)
            else:
                self._entries[entry.eni.id] = replace(entry, eni=eni)

    def _recovery(self, enis: Sequence[Eni], at_ns: int) -> Iterable[Event]:
        for entry in self.entries():
            if (entry.state, "restarted") in TRANSITIONS:
                yield event("restarted", entry.eni.id, at_ns, f"was {entry.state} before a restart")
        for eni in sorted(enis, key=lambda eni: order(eni.id)):
            if eni.id not in self._entries:
                yield event("discovered", eni.id, at_ns, "new in the cloud's list", **_description(eni))


def _description(eni: Eni) -> dict[str, str | int]:
    subnet = {name: getattr(eni.subnet, name) for name in ("cidr4", "gateway4", "cidr6", "gateway6")}
    return {"mac": eni.mac, "name": eni.name, "mtu": eni.mtu, "ipv4": eni.ipv4, "ipv6": eni.ipv6, **subnet}


def _described(event: Event) -> Eni:
    subnet = Subnet(event["cidr4"], event["gateway4"], event["cidr6"], event["gateway6"])
    eni_id = EniId(event["eni"])
    return Eni(eni_id, event["mac"], event["name"], event["mtu"], event["ipv4"], event["ipv6"], subnet)


def _shown(event: Event) -> Entry:
    """The entry of a snapshot."""
    if event["state"] not in STATES:
        raise ValueError(f"no state {event['state']!r}")
    fields = {name: event[name] for name in _SHOWN}
    named = "network" in event
    attachment = Attachment(event["network"], event["container_id"], event["ifname"]) if named else None
    return Entry(_described(event), attachment=attachment, reason=str(event.get("reason", "")), **fields)


def _record(entry: Entry) -> EniRecord:
    reason = entry.reason if entry.listed else f"the cloud does not list it; {entry.reason}".removesuffix("; ")
    return EniRecord(entry.eni, entry.state, entry.attachment, entry.owner, entry.netns, reason)
