"""PURE: the invariants, checked from outside: what was acknowledged to whom, against the cloud, the agent, the kernel.

The auditor believes nobody. It keeps a ledger of the ADDs that a runtime was told had succeeded, and compares it with
the cloud's list and with two views of one moment (a ``Snapshot``): the agent's records, and the links that the kernel
shows. A pool that is consistent in itself can still have given the same NIC away twice; only the ledger knows.

Source: incidents.md section 2 (I1 to I9); design D6 (one ENI per owner); design 3.5 says when each is checked. What
needs more than a look (del-converges, restart-neutral, bounded's ends) is for the runner to provoke and to name.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import TypeAlias

from simulator.agent import claims, leases, views
from simulator.agent.grants import Grant
from simulator.agent.views import HOME
from simulator.model import Attachment, Eni, EniId, Link, PluginOutcome, Snapshot

EXCLUSIVE = "exclusive"
CONSERVED = "conserved"
NO_STALE_HARM = "no-stale-harm"
RETURN_BEFORE_REUSE = "return-before-reuse"
DEL_CONVERGES = "del-converges"
RESTART_NEUTRAL = "restart-neutral"
FAIL_CLOSED = "fail-closed"
BOUNDED = "bounded"
IDENTITY_RESTORED = "identity-restored"
INVARIANTS = (
    EXCLUSIVE,
    CONSERVED,
    NO_STALE_HARM,
    DEL_CONVERGES,
    RETURN_BEFORE_REUSE,
    RESTART_NEUTRAL,
    FAIL_CLOSED,
    BOUNDED,
    IDENTITY_RESTORED,
)

# How long a plugin may take. Kubelet gives ADD 4 minutes, containerd and CRI-O give DEL one (contract C5).
CALL_MS_MAX: Mapping[str, float] = {"ADD": 110_000, "DEL": 55_000}

Contradiction: TypeAlias = tuple[str, str, str]  # the ENI or container, one view, the other view
Places: TypeAlias = Mapping[str, Sequence[Link]]


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
        enis: what the cloud says exists: their MACs and addresses, and the identity each must have at home.
    """

    def __init__(self, enis: Sequence[Eni]) -> None:
        self._enis = {eni.mac: eni for eni in enis}
        self._owners = {address: eni for eni in enis for address in map(ipaddress.ip_address, (eni.ipv4, eni.ipv6))}
        self._grants: dict[Attachment, Grant] = {}
        self._claims = claims.Claims()

    @property
    def grants(self) -> tuple[Grant, ...]:
        """The acknowledged attachments, oldest first."""
        return tuple(self._grants.values())

    def eni_id(self, mac: str) -> EniId:
        """The ENI of a MAC; "?" if the cloud knows none."""
        eni = self._enis.get(mac)
        return EniId("?") if eni is None else eni.id

    def adding(self, attachment: Attachment, owner: str) -> None:
        """An ADD is sent: from now on the agent may supersede older containers of the same owner."""
        self._claims.superseding(attachment, owner)
        for other in self._older(attachment, owner):
            self._grants[other.attachment] = replace(other, challenged=True)

    def refused(self, attachment: Attachment) -> None:
        """An ADD has failed."""
        if attachment not in self._grants:
            self._claims.explained(attachment)

    def granted(self, grant: Grant) -> None:
        """An ADD was acknowledged: from now on older containers of the same owner are superseded."""
        for other in self._older(grant.attachment, grant.owner):
            self._grants[other.attachment] = replace(other, superseded=True)
        self._grants.pop(grant.attachment, None)
        self._grants[grant.attachment] = grant
        self._claims.acknowledged(grant.attachment)

    def ending(self, attachment: Attachment) -> None:
        """A DEL is sent."""
        self._claims.explained(attachment)
        grant = self._grants.get(attachment)
        if grant is not None:
            self._grants[attachment] = replace(grant, ending=True)

    def ended(self, attachment: Attachment) -> None:
        """A DEL was acknowledged."""
        self._grants.pop(attachment, None)

    def netns_created(self, netns: str) -> None:
        """The runtime made a namespace."""
        self._claims.netns_began(netns)

    def netns_deleted(self, netns: str) -> None:
        """The runtime removed a namespace: whoever was inside no longer needs a NIC."""
        self._claims.netns_ended(netns)
        for grant in self.grants:
            if grant.netns == netns:
                self._grants[grant.attachment] = replace(grant, netns_deleted=True)

    def check(self, now: Snapshot) -> tuple[Violation, ...]:
        """``exclusive``, ``conserved``, ``fail-closed`` and ``identity-restored`` at one moment."""
        self._settle_challenges(now)
        places = views.places_of(now)
        checks = (
            (EXCLUSIVE, (self._given_twice, self._wrong_addresses, self._recorded_twice, self._shown_twice)),
            (CONSERVED, (self._lost, self._misrecorded, self._unheld, self._unheld_leases)),
            (FAIL_CLOSED, (self._unexplained,)),
            (IDENTITY_RESTORED, (self._not_restored,)),
        )
        return tuple(
            Violation(invariant, *one) for invariant, finds in checks for find in finds for one in find(now, places)
        )

    def check_step(self, before: Snapshot, after: Snapshot, touched: frozenset[Attachment]) -> tuple[Violation, ...]:
        """``no-stale-harm``: what a request did to the containers that it did not name.

        Args:
            before: the world before the request.
            after: the world after it.
            touched: the attachments that the request named, or that it may supersede.
        """
        self._settle_challenges(after)
        bystanders = [grant for grant in self.grants if grant.live and grant.attachment not in touched]
        return tuple(Violation(NO_STALE_HARM, *one) for grant in bystanders for one in _harm(grant, before, after))

    def check_grant(self, grant: Grant, before: Snapshot) -> tuple[Violation, ...]:
        """A new grant, before it is in the ledger: ``return-before-reuse`` and, for a repeated ADD, ``exclusive``.

        Args:
            before: the world before the request was sent.
        """
        eni, told = self.eni_id(grant.mac), f"ADD gave it to {grant.attachment}"
        held = self._grants.get(grant.attachment)
        if held is not None and held.mac == grant.mac:
            return ()
        violations = [
            Violation(RETURN_BEFORE_REUSE, eni, told, f"before that ADD was sent, {views.place_of(link)}")
            for link in views.places_of(before).get(grant.mac, ())
            if link.netns != HOME
        ]
        if held is not None and held.live:
            again = f"ADD gave it {self.eni_id(held.mac)} and then {eni}"
            violations.append(Violation(EXCLUSIVE, str(grant.attachment), again, "it may have one ENI"))
        return tuple(violations)

    def check_end(self, now: Snapshot, may_stay: Collection[str]) -> tuple[Violation, ...]:
        """What must be true when every container has ended and all timers have run out: nothing is left of any.

        Args:
            may_stay: names of links of the initial netns: what was there before the first container, and bridges.
        """
        found = [
            Violation(CONSERVED, record.eni.id, "every container has ended", f"the agent says {record.state}")
            for record in now.records
            if record.state != "free"
        ]
        found += [Violation(CONSERVED, *one) for one in leases.left(now)]
        found += [
            Violation(BOUNDED, link.name, "no container is left that it could be for", views.place_of(link))
            for link in now.links.get(HOME, ())
            if link.name not in may_stay
        ]
        for count, what in ((now.plugins_running, "plugin processes run"), (now.adds_in_flight, "ADDs are in flight")):
            if count:
                found.append(Violation(BOUNDED, "the node", "every call has ended", f"{count} {what}"))
        return tuple(found)

    @staticmethod
    def check_call(outcome: PluginOutcome) -> tuple[Violation, ...]:
        """``bounded``: a plugin has ended by itself, in the time that its runtime gives it."""
        command = outcome.call.environment.get("CNI_COMMAND", "")
        longest_ms = CALL_MS_MAX.get(command, CALL_MS_MAX["DEL"])
        took = f"it took {outcome.duration_ms:.0f} ms" + (" and was killed then" if outcome.timed_out else "")
        if outcome.duration_ms <= longest_ms and not outcome.timed_out:
            return ()
        subject = f"{outcome.call.plugin} {command}"
        return (Violation(BOUNDED, subject, f"it may take {longest_ms:.0f} ms", took),)

    def _older(self, attachment: Attachment, owner: str) -> list[Grant]:
        container_id = attachment.container_id
        return [one for one in self.grants if one.owner == owner and one.attachment.container_id != container_id]

    def _settle_challenges(self, now: Snapshot) -> None:
        for grant in self.grants:
            if grant.challenged and not grant.leased and now.agent_running and not _is_held(grant, now):
                self._grants[grant.attachment] = replace(grant, superseded=True)

    def _given_twice(self, _now: Snapshot, _places: Places) -> Iterator[Contradiction]:
        for one, other in combinations([grant for grant in self.grants if grant.live], 2):
            if one.mac == other.mac and not one.leased:
                yield self.eni_id(one.mac), f"ADD gave it to {one.attachment}", f"ADD gave it to {other.attachment} too"
            for address in one.addresses:
                if one.leased and address in other.addresses:
                    yield address, f"ADD gave it to {one.attachment}", f"ADD gave it to {other.attachment} too"

    def _wrong_addresses(self, _now: Snapshot, _places: Places) -> Iterator[Contradiction]:
        """A result may only have addresses of the ENI whose MAC it has, with their subnet's prefix."""
        for grant in (grant for grant in self.grants if not grant.leased):
            eni = self._enis.get(grant.mac)
            told = f"ADD gave {', '.join(grant.addresses) or 'no address'} to {grant.attachment}"
            if eni is None:
                yield grant.mac or "?", told, "the cloud lists no ENI with this MAC"
                continue
            own = views.interfaces_of(eni)
            if not grant.addresses or not {views.interface(text) for text in grant.addresses} <= own:
                listed = ", ".join(sorted(map(str, own)))
                yield eni.id, told, f"the cloud's list says that it has {listed}"

    def _recorded_twice(self, now: Snapshot, _places: Places) -> Iterator[Contradiction]:
        """An attachment has one ENI, and so has an owner, save for what older containers still hold (design D6)."""
        for one, other in combinations([record for record in now.records if record.attachment is not None], 2):
            said = f"the agent's record of {one.eni.id} names it", f"its record of {other.eni.id} names it too"
            if one.attachment == other.attachment:
                yield str(one.attachment), *said
            elif one.owner and one.owner == other.owner and (one.state, other.state) == ("in_use", "in_use"):
                yield one.owner, *said

    def _shown_twice(self, _now: Snapshot, places: Places) -> Iterator[Contradiction]:
        """A NIC is in one place, and nobody else has its addresses."""
        for mac, links in places.items():
            if len(links) > 1 and mac in self._enis:
                yield self.eni_id(mac), views.place_of(links[0]), f"{views.place_of(links[1])} at the same time"
            shown = [(link, address) for link in links for address in link.addresses]
            for link, address in shown:
                eni = self._owner_of(address)
                if eni is not None and eni.mac != mac:
                    where = f"{link.name} ({mac}) in {link.netns or 'the initial netns'}"
                    yield eni.id, "its addresses are its own", f"the kernel shows {address} on {where}"

    def _owner_of(self, cidr: str) -> Eni | None:
        interface = views.interface(cidr)
        return None if interface is None else self._owners.get(interface.ip)

    def _lost(self, _now: Snapshot, places: Places) -> Iterator[Contradiction]:
        for eni in self._enis.values():
            if eni.mac not in places:
                yield eni.id, "the cloud says it is attached", "the kernel shows it nowhere"

    def _misrecorded(self, now: Snapshot, places: Places) -> Iterator[Contradiction]:
        """Each ENI is in exactly one state of the pool's table, and the kernel shows nothing that contradicts it."""
        if not now.agent_running:
            return
        for eni in self._enis.values():
            records = [record for record in now.records if record.eni.id == eni.id]
            if len(records) != 1:
                yield eni.id, "the cloud says it is attached", f"the agent has {len(records)} records"
            elif records[0].eni != eni:
                yield eni.id, f"the cloud says {eni}", f"the agent says {records[0].eni}"
            elif eni.mac in places and not views.agree(records[0], places[eni.mac][0]):
                yield eni.id, f"the agent says {records[0].state}", views.place_of(places[eni.mac][0])
        known = {eni.id for eni in self._enis.values()}
        for record in now.records:
            if record.eni.id not in known:
                yield record.eni.id, f"the agent says {record.state}", "the cloud never had it"

    def _unheld(self, now: Snapshot, places: Places) -> Iterator[Contradiction]:
        """A live container has the NIC and the addresses that it was told it has, and the agent knows."""
        for grant in self.grants:
            if not grant.live or grant.leased or (grant.challenged and not now.agent_running):
                continue
            eni, told = self.eni_id(grant.mac), f"ADD gave it to {grant.attachment}"
            inside = [link for link in places.get(grant.mac, ()) if link.netns == grant.netns]
            if grant.netns not in now.links:
                yield eni, told, f"{grant.netns} is gone, and the runtime did not delete it"
            elif not inside:
                where = "; ".join(map(views.place_of, places.get(grant.mac, ())))
                yield eni, told, where or "the kernel shows it nowhere"
            else:
                shown = {views.interface(address) for address in inside[0].addresses}
                for address in grant.addresses:
                    if views.interface(address) not in shown:
                        yield eni, f"{told} with {address}", f"{views.place_of(inside[0])} without that address"
            if now.agent_running and not _is_held(grant, now):
                yield eni, told, f"the agent says {views.record_of(grant.mac, now) or 'nothing of it'}"

    def _unheld_leases(self, now: Snapshot, _places: Places) -> Iterator[Contradiction]:
        return leases.unheld([grant for grant in self.grants if grant.live and grant.leased], now)

    def _unexplained(self, now: Snapshot, _places: Places) -> Iterator[Contradiction]:
        return self._claims.check(now)

    def _not_restored(self, now: Snapshot, places: Places) -> Iterator[Contradiction]:
        for record in now.records:
            eni = self._enis.get(record.eni.mac)
            for link in places.get(record.eni.mac, ()):
                if record.state != "free" or link.netns != HOME or eni is None:
                    continue
                expected = {"name": eni.name, "mtu": eni.mtu, "alias": "", "altnames": (), "addresses": ()}
                for key, value in expected.items():
                    if getattr(link, key) != value:
                        said = f"the agent says free, so its {key} must be {value!r}"
                        yield eni.id, said, f"the kernel shows {getattr(link, key)!r}"


def _harm(grant: Grant, before: Snapshot, after: Snapshot) -> Iterator[Contradiction]:
    seen = [("the kernel", *(views.link_of(grant.mac, grant.netns, now) for now in (before, after)))]
    if after.agent_running:
        seen.append(("the agent", *(views.record_of(grant.mac, now) for now in (before, after))))
    for who, was, became in seen:
        if was not in ("", became):
            said = f"{who} said {was} before a request that does not name it"
            yield str(grant.attachment), said, f"says {became or 'nothing of it'} after"


def _is_held(grant: Grant, now: Snapshot) -> bool:
    """Whether the agent says that the grant's ENI is in use by it."""
    records = [record for record in now.records if record.eni.mac == grant.mac and record.state == "in_use"]
    return [(record.attachment, record.owner) for record in records] == [(grant.attachment, grant.owner)]
