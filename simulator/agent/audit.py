"""PURE: the invariants, checked from outside: what was acknowledged to whom, against the agent and the kernel.

The auditor believes nobody. It keeps a ledger of the ADDs that a runtime was told had succeeded, and compares it with
two views of one moment (a ``Snapshot``): the agent's records, and the links that the kernel shows. A pool that is
consistent in itself can still have given the same NIC away twice; only the ledger knows.

Source: incidents.md section 2 (I1 exclusive, I2 conserved, I3 no-stale-harm, I5 return-before-reuse, I9 identity-
restored); design 3.5 says when each is checked.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from simulator.model import Attachment, Eni, EniId, EniRecord, Link, Snapshot

HOME = ""

EXCLUSIVE = "exclusive"
CONSERVED = "conserved"
NO_STALE_HARM = "no-stale-harm"
RETURN_BEFORE_REUSE = "return-before-reuse"
IDENTITY_RESTORED = "identity-restored"
INVARIANTS = (EXCLUSIVE, CONSERVED, NO_STALE_HARM, RETURN_BEFORE_REUSE, IDENTITY_RESTORED)


@dataclass(frozen=True, slots=True)
class Grant:
    """An ADD that the runtime was told had succeeded, until a DEL that it was told had succeeded.

    Args:
        mac: the NIC of the result that is in the sandbox.
        addresses: the result's addresses, CIDR texts.
        superseded: a newer container of the same owner was acknowledged since (design D6 c).
        netns_deleted: the runtime removed the namespace.
        ending: the runtime has sent a DEL; however that ended, the container no longer counts on its NIC.
    """

    attachment: Attachment
    owner: str
    netns: str
    mac: str
    addresses: tuple[str, ...]
    superseded: bool = False
    netns_deleted: bool = False
    ending: bool = False

    @property
    def live(self) -> bool:
        """Whether the container must have its NIC, and nobody else may."""
        return not (self.superseded or self.netns_deleted or self.ending)


@dataclass(frozen=True, slots=True)
class Violation:
    """One broken invariant: the ENI or container, and the two views that disagree, as sentences."""

    invariant: str
    subject: str
    one_view: str
    other_view: str

    def __str__(self) -> str:
        return f"{self.invariant}: {self.subject}: {self.one_view}; but {self.other_view}"


class Auditor:
    """The ledger and the checks of one node.

    Args:
        enis: what the cloud says exists: their MACs, and the identity each must have at home.
    """

    def __init__(self, enis: Sequence[Eni]) -> None:
        self._enis = {eni.mac: eni for eni in enis}
        self._grants: dict[Attachment, Grant] = {}

    @property
    def grants(self) -> tuple[Grant, ...]:
        """The acknowledged attachments, oldest first."""
        return tuple(self._grants.values())

    def eni_id(self, mac: str) -> EniId:
        """The ENI of a MAC; "?" if the cloud knows none."""
        eni = self._enis.get(mac)
        return EniId("?") if eni is None else eni.id

    def granted(self, grant: Grant) -> None:
        """An ADD was acknowledged: from now on older containers of the same owner are superseded."""
        for other in self.grants:
            if other.owner == grant.owner and other.attachment.container_id != grant.attachment.container_id:
                self._grants[other.attachment] = replace(other, superseded=True)
        self._grants.pop(grant.attachment, None)
        self._grants[grant.attachment] = grant

    def ending(self, attachment: Attachment) -> None:
        """A DEL is sent."""
        grant = self._grants.get(attachment)
        if grant is not None:
            self._grants[attachment] = replace(grant, ending=True)

    def ended(self, attachment: Attachment) -> None:
        """A DEL was acknowledged."""
        self._grants.pop(attachment, None)

    def netns_deleted(self, netns: str) -> None:
        """The runtime removed a namespace: whoever was inside no longer needs a NIC."""
        for grant in self.grants:
            if grant.netns == netns:
                self._grants[grant.attachment] = replace(grant, netns_deleted=True)

    def check(self, now: Snapshot) -> tuple[Violation, ...]:
        """``exclusive``, ``conserved`` and ``identity-restored`` at one moment."""
        places = _places(now)
        return (*self._exclusive(now, places), *self._conserved(now, places), *self._identity_restored(now, places))

    def check_step(self, before: Snapshot, after: Snapshot, touched: frozenset[Attachment]) -> tuple[Violation, ...]:
        """``no-stale-harm``: what a request did to the containers that it did not name.

        Args:
            before: the world before the request.
            after: the world after it.
            touched: the attachments that the request named, or that it may supersede.
        """
        return tuple(
            violation
            for grant in self.grants
            if grant.live and grant.attachment not in touched
            for violation in self._unharmed(grant, before, after)
        )

    def check_grant(self, grant: Grant, before: Snapshot) -> tuple[Violation, ...]:
        """``return-before-reuse``: where the NIC of a new grant was before the request was sent."""
        held_before = grant.attachment in self._grants and self._grants[grant.attachment].mac == grant.mac
        if held_before:
            return ()
        found = [link for link in _places(before).get(grant.mac, ()) if link.netns != HOME]
        return tuple(
            Violation(
                RETURN_BEFORE_REUSE,
                self.eni_id(grant.mac),
                f"ADD gave it to {grant.attachment}",
                f"the kernel showed it in {link.netns} as {link.name} before that ADD was sent",
            )
            for link in found
        )

    def _exclusive(self, now: Snapshot, places: Mapping[str, Sequence[Link]]) -> Iterator[Violation]:
        live = [grant for grant in self.grants if grant.live]
        for index, grant in enumerate(live):
            for other in live[index + 1 :]:
                shared = set(grant.addresses) & set(other.addresses)
                if grant.mac == other.mac or shared:
                    what = self.eni_id(grant.mac) if grant.mac == other.mac else ", ".join(sorted(shared))
                    yield Violation(
                        EXCLUSIVE, what, f"ADD gave it to {grant.attachment}", f"ADD gave it to {other.attachment} too"
                    )
        holders: dict[Attachment, EniRecord] = {}
        for record in now.records:
            if record.attachment is None:
                continue
            first = holders.setdefault(record.attachment, record)
            if first is not record:
                yield Violation(
                    EXCLUSIVE,
                    str(record.attachment),
                    f"the agent's record of {first.eni.id} names it",
                    f"its record of {record.eni.id} names it too",
                )
        for mac, links in places.items():
            if len(links) > 1 and mac in self._enis:
                yield Violation(EXCLUSIVE, self.eni_id(mac), _place(links[0]), f"{_place(links[1])} at the same time")

    def _conserved(self, now: Snapshot, places: Mapping[str, Sequence[Link]]) -> Iterator[Violation]:
        for eni in self._enis.values():
            links = places.get(eni.mac, ())
            if not links:
                yield Violation(CONSERVED, eni.id, "the cloud says it is attached", "the kernel shows it nowhere")
            if not now.agent_running:
                continue
            records = [record for record in now.records if record.eni.id == eni.id]
            if len(records) != 1:
                yield Violation(
                    CONSERVED, eni.id, "the cloud says it is attached", f"the agent has {len(records)} records"
                )
            elif links:
                yield from self._contradictions(records[0], links[0])
        yield from self._unheld_grants(now, places)

    def _contradictions(self, record: EniRecord, link: Link) -> Iterator[Violation]:
        """What the kernel must not show for each state of the pool's table, while no request is in flight."""
        at_home = link.netns == HOME
        allowed = {
            "free": at_home,
            "absent": not at_home,
            "reserved": False,
            "in_use": at_home or link.netns == record.netns,
            "superseded": at_home or link.netns == record.netns,
            "returning": True,
            "quarantined": not at_home,
        }.get(record.state, False)
        if not allowed:
            yield Violation(CONSERVED, record.eni.id, f"the agent says {record.state}", _place(link))

    def _unheld_grants(self, now: Snapshot, places: Mapping[str, Sequence[Link]]) -> Iterator[Violation]:
        """A live container has the NIC that it was told it has, and the agent knows."""
        for grant in self.grants:
            if not grant.live or grant.netns not in now.links:
                continue
            if not any(link.netns == grant.netns for link in places.get(grant.mac, ())):
                where = "; ".join(_place(link) for link in places.get(grant.mac, ())) or "the kernel shows it nowhere"
                yield Violation(CONSERVED, self.eni_id(grant.mac), f"ADD gave it to {grant.attachment}", where)
            if not now.agent_running:
                continue
            record = next((record for record in now.records if record.eni.mac == grant.mac), None)
            if record is None or record.state != "in_use" or record.attachment != grant.attachment:
                said = "nothing of it" if record is None else f"{record.state}, of {record.attachment}"
                yield Violation(
                    CONSERVED, self.eni_id(grant.mac), f"ADD gave it to {grant.attachment}", f"the agent says {said}"
                )

    def _identity_restored(self, now: Snapshot, places: Mapping[str, Sequence[Link]]) -> Iterator[Violation]:
        for record in now.records:
            links = places.get(record.eni.mac, ())
            if record.state != "free" or not links or links[0].netns != HOME:
                continue
            link = links[0]
            expected = {"name": record.eni.name, "mtu": record.eni.mtu, "alias": "", "altnames": (), "addresses": ()}
            for key, value in expected.items():
                shown = getattr(link, key)
                if shown != value:
                    yield Violation(
                        IDENTITY_RESTORED,
                        record.eni.id,
                        f"the agent says free, so its {key} must be {value!r}",
                        f"the kernel shows {shown!r}",
                    )

    def _unharmed(self, grant: Grant, before: Snapshot, after: Snapshot) -> Iterator[Violation]:
        views = (
            ("the agent", _record_of(grant, before), _record_of(grant, after)),
            ("the kernel", _link_of(grant, before), _link_of(grant, after)),
        )
        for who, was, became in views:
            if was is not None and was != became and (who == "the kernel" or after.agent_running):
                yield Violation(
                    NO_STALE_HARM,
                    str(grant.attachment),
                    f"{who} said {was} before a request that does not name it",
                    f"says {became or 'nothing of it'} after",
                )


def _places(snapshot: Snapshot) -> dict[str, list[Link]]:
    """MAC → the links that have it, in every namespace of the node."""
    places: dict[str, list[Link]] = {}
    for links in snapshot.links.values():
        for link in links:
            places.setdefault(link.mac, []).append(link)
    return places


def _place(link: Link) -> str:
    where = "in the initial netns" if link.netns == HOME else f"in {link.netns}"
    return f"the kernel shows it {where} as {link.name}"


def _record_of(grant: Grant, snapshot: Snapshot) -> str | None:
    record = next((record for record in snapshot.records if record.eni.mac == grant.mac), None)
    return None if record is None else f"{record.eni.id} {record.state} of {record.attachment} in {record.netns}"


def _link_of(grant: Grant, snapshot: Snapshot) -> str | None:
    for link in snapshot.links.get(grant.netns, ()):
        if link.mac == grant.mac:
            return f"{link.name} ({link.mac}) with {', '.join(link.addresses)} in {link.netns}"
    return None
