"""PURE: the agent, as flows: one generator per request, and one that runs for ever in the background.

The order of an ADD: look (links) → choose and hold → look (netns) → journal ``reserved`` → wait for the owner's turn →
journal ``acknowledged``, together with ``superseded`` for what the owner had → answer. Whatever fails or comes in
between ends in the same place: the ENI is ``returning``, and the answer is an error that asks for a retry.

Source: design D6 (one ENI per owner), D7, D10, D13; contract C2 to C4 and D2, D3 (what the real agent answers).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from enim import wire
from simulator import errors
from simulator.agent import api, collect, metrics, openapi, pool, reclaim, wishes
from simulator.agent.ledger import Add, Ledger, is_same, only
from simulator.agent.refusal import Refused
from simulator.effects import Flow, InspectNetns, ListLinks, NetnsView, Now
from simulator.model import Attachment, Eni, EniRecord, Link


class Agent:
    """The node agent, profile ``hardened``. See ``simulator.effects.Agent``.

    Args:
        enis: what the cloud says is attached to this node.
        events: the journal, oldest first.

    Raises:
        InvariantBroken: the journal is none of ours.
    """

    def __init__(self, enis: Sequence[Eni], events: Iterable[pool.Event]) -> None:
        self._ledger = Ledger(pool.Pool.replay(enis, events))
        self._reclaimer = reclaim.Reclaimer(self._ledger)
        self._routes: Mapping[tuple[str, str], Callable[[wire.Request], wire.Reply | Flow[wire.Reply]]] = {
            ("POST", api.ENI): self._add,
            ("DELETE", api.ENI): self._delete,
            ("GET", api.HEALTH): lambda _: self._health(),
            ("GET", api.ATTACHMENTS): lambda request: collect.attachments(self._ledger, request),
            ("POST", api.COLLECT): lambda request: collect.collect(self._ledger, request),
            ("GET", api.METRICS): lambda _: metrics.metrics(self._ledger),
            ("GET", api.OPENAPI): lambda _: api.answer(openapi.document()),
        }

    def records(self) -> tuple[EniRecord, ...]:
        """What the agent says of each ENI it ever knew, in the order of their ids."""
        return self._ledger.pool.records()

    @property
    def adds_in_flight(self) -> int:
        """How many ADDs it is at work on."""
        return len(self._ledger.adds)

    def reconcile(self) -> Flow[None]:
        """Bring ENIs home and make them free, for ever."""
        yield from self._reclaimer.run()

    def handle(self, request: wire.Request) -> Flow[wire.Reply]:
        """Answer one request; every failure of the outside becomes an answer too."""
        refused = api.refuse(request)
        if refused is not None:
            return refused
        try:
            answer = self._routes[request.method, request.path](request)
            return answer if isinstance(answer, wire.Reply) else (yield from answer)
        except Refused as refusal:
            self._ledger.counts.refusals[refusal.reason] += 1
            return refusal.reply
        except errors.WorldFault as failure:
            self._ledger.counts.refusals["fault"] += 1
            return api.error(500, f"{failure}, {api.TRY_AGAIN}")

    def _health(self) -> wire.Reply:
        """A pool in which nothing is free is healthy (design D11)."""
        if not any(entry.listed for entry in self._ledger.pool.entries()):
            return api.error(500, "primaryENIPovider's health plugin check failed:no ENIs available")
        if self._ledger.fault:
            return api.error(500, f"the journal cannot be written: {self._ledger.fault}")
        return api.done()

    def _add(self, request: wire.Request) -> Flow[wire.Reply]:
        try:
            wanted = wishes.parse(request.body)
        except ValueError as error:
            raise Refused("malformed", str(error), 400) from error
        owner, attachment = request.parameter("owner"), _attachment(request)
        if not api.is_owner(owner):
            raise Refused("no_owner", api.NO_POD)
        if not attachment.container_id:  # no DEL could ever name what it would get (I7)
            raise Refused("malformed", "containerID is missing", 400)
        self._refuse_clash(attachment, owner)
        add = Add(attachment, owner)
        self._ledger.adds.append(add)
        try:
            return (yield from self._attach(add, request.parameter("netns"), wanted))
        finally:
            self._ledger.adds.remove(add)

    def _refuse_clash(self, attachment: Attachment, owner: str) -> None:
        """What cannot change while this ADD is in flight: its being there keeps the others out."""
        ledger = self._ledger
        if ledger.in_flight(attachment, owner):
            raise Refused("in_flight", f"an ADD of {attachment} is in flight, {api.TRY_AGAIN}", 409)
        others = [(one.attachment, one.owner) for one in ledger.pool.entries() if one.attachment is not None]
        for other, other_owner in (*others, *((add.attachment, add.owner) for add in ledger.adds)):
            if other == attachment and other_owner != owner:
                raise Refused("other_owner", f"{attachment} is attached for {other_owner}, not for {owner}", 409)
            is_container = other.container_id == attachment.container_id and other_owner == owner
            if is_container and not is_same(attachment, owner, other, owner):
                raise Refused(
                    "holds_another", f"container {other.container_id} of {owner} already holds an ENI as {other}", 409
                )

    def _attach(self, add: Add, netns: str, wanted: wishes.Wishes) -> Flow[wire.Reply]:
        """Answer an ADD that clashes with nothing; its attachment may have its ENI already."""

        def holder() -> pool.Entry | None:
            return self._ledger.find(add.attachment, add.owner)

        yield from self._wait(lambda: (entry := holder()) is None or not self._ledger.is_held(entry.eni.id))
        entry = holder()
        if entry is None:
            return (yield from self._attach_new(add, netns, wanted))
        if entry.state == pool.SUPERSEDED:
            raise Refused("superseded", f"{add.attachment} was superseded: {entry.reason}, {api.TRY_AGAIN}")
        try:
            return (yield from self._attach_again(add, entry, netns, wanted))
        except errors.WorldFault as fault:
            raise Refused("fault", f"{fault}, {api.TRY_AGAIN}", 409) from fault

    def _attach_again(self, add: Add, entry: pool.Entry, netns: str, wanted: wishes.Wishes) -> Flow[wire.Reply]:
        """The same ADD again: the ENI it has, never a second one (design D6 a).

        Whatever fails here is a 409: a roll-back would end what the container rightly has.
        """
        eni = entry.eni
        if not wanted.are_granted_by(eni):
            raise Refused(
                "nothing_suits", f"{add.attachment} already holds {eni.id}, which does not have {wanted.text}", 409
            )
        at_home = only((yield ListLinks()), eni.mac)
        view = yield from self._inspect(netns, eni.mac)
        if at_home is None and view.link is None:
            place = f"neither at home nor in {netns or 'a netns that was named'}"
            raise Refused("nic_elsewhere", f"{eni.id} is {place}, {api.TRY_AGAIN}", 409)
        now_ns = yield Now()
        if self._ledger.pool.entry(eni.id) is not entry or self._ledger.is_held(eni.id) or add.dropped:
            raise Refused("given_up", f"{add.attachment} changed while its ADD was in flight, {api.TRY_AGAIN}", 409)
        ifindex = entry.ifindex if at_home is None else at_home.ifindex
        with self._ledger.hold(eni.id):
            where: dict[str, str | int] = {"netns": netns, "identity": view.identity, "ifindex": ifindex}
            reason = f"ADD of {add.attachment} again"
            yield from self._ledger.commit(pool.event("repeated", eni.id, now_ns, reason, **where))
        self._refuse_dropped(add)
        return api.allocation(eni, ifindex)

    def _attach_new(self, add: Add, netns: str, wanted: wishes.Wishes) -> Flow[wire.Reply]:
        entry, at_home = yield from self._choose(add, wanted)
        add.eni = entry.eni.id  # held from here on, and until the ADD is over
        view = yield from self._inspect(netns, entry.eni.mac)
        if at_home is None and view.link is None:
            where = f"neither at home nor in {netns or 'a netns that was named'}"
            raise Refused(
                "nic_elsewhere", f"{api.NONE_AVAILABLE}: {entry.eni.id} ({wanted.text}) is {where}, {api.TRY_AGAIN}"
            )
        self._refuse_dropped(add)
        ifindex = entry.ifindex if at_home is None else at_home.ifindex
        fields = _fields(add, netns, ifindex)
        now_ns = yield Now()
        reason = f"ADD of {add.attachment} in flight"
        left_over = self._ledger.left_over(add.attachment, add.owner)
        with self._ledger.hold(*left_over):
            yield from self._ledger.commit(
                *(
                    pool.event("withdrawn", eni, now_ns, f"its ADD failed, and came again: {reason}")
                    for eni in left_over
                ),
                pool.event("reserved", entry.eni.id, now_ns, reason, **fields),
            )
        try:
            yield from self._acknowledge(add, entry.eni, view.identity)
        except (Refused, errors.StoreFault) as failure:
            yield from self._withdraw(add, entry.eni, str(failure))
            raise
        return api.allocation(entry.eni, ifindex)

    def _choose(self, add: Add, wanted: wishes.Wishes) -> Flow[tuple[pool.Entry, Link | None]]:
        """The ENI that has been free longest, and its link at home.

        Without a link: the upper plugin has chosen this NIC, and has moved it before it asked (design D5). What is
        absent and at home has not been restored yet.
        """
        listed = [entry.eni for entry in self._ledger.pool.entries() if entry.listed]
        suitable = [eni for eni in listed if wanted.are_granted_by(eni)]
        if wanted.text and not suitable:
            raise Refused("nothing_suits", f"no ENI of this node has {wanted.text}; nothing was allocated")
        if wanted.names_device:  # reconcile may just be noting that the NIC went away
            yield from self._wait(lambda: not any(self._ledger.is_held(eni.id) for eni in suitable))
        links = yield ListLinks()
        self._refuse_dropped(add)

        def is_available(entry: pool.Entry) -> bool:
            if self._ledger.is_held(entry.eni.id):
                return False
            if only(links, entry.eni.mac) is not None:
                return entry.state == pool.FREE
            return wanted.names_device and entry.state in (pool.FREE, pool.ABSENT)

        entries = [self._ledger.pool.entry(eni.id) for eni in suitable]
        available = [entry for entry in entries if is_available(entry)]
        if not available:
            if not wanted.text:
                raise Refused("no_free_eni", api.NONE_AVAILABLE)
            states_text = ", ".join(f"{entry.eni.id} ({wanted.text}) is {entry.state}" for entry in entries)
            raise Refused("wanted_eni_taken", f"{api.NONE_AVAILABLE}: {states_text}")
        chosen = min(available, key=lambda entry: (entry.since_ns, pool.order(entry.eni.id)))
        return chosen, only(links, chosen.eni.mac)

    def _acknowledge(self, add: Add, eni: Eni, identity: str) -> Flow[None]:
        """Commit: from here on the ENI is this attachment's, and what the owner had is superseded (design D6 c)."""
        ledger = self._ledger
        yield from self._wait(lambda: add.dropped or ledger.may_commit(add.owner))
        self._refuse_dropped(add)
        with ledger.committing(add.owner) as older:
            now_ns = yield Now()
            reason = f"by ADD of {add.attachment}"
            superseded = [pool.event("superseded", entry.eni.id, now_ns, reason) for entry in older]
            acknowledged = pool.event("acknowledged", eni.id, now_ns, f"ADD of {add.attachment}", identity=identity)
            yield from ledger.commit(acknowledged, *superseded)
        for other in ledger.adds[: ledger.adds.index(add)]:
            if other.owner == add.owner:
                other.dropped = other.dropped or f"superseded by ADD of {add.attachment}"
        self._refuse_dropped(add)

    def _withdraw(self, add: Add, eni: Eni, why: str) -> Flow[None]:
        """Give back what this ADD holds. If that cannot be journaled now, the background does it, or the next DEL."""
        kind = "withdrawn" if self._ledger.pool.entry(eni.id).state == pool.RESERVED else "released"
        now_ns = yield Now()
        try:
            reason = f"ADD of {add.attachment} failed: {why}"
            yield from self._ledger.commit(pool.event(kind, eni.id, now_ns, reason))
        except errors.StoreFault:
            return

    def _delete(self, request: wire.Request) -> Flow[wire.Reply]:
        """End an attachment. What is unknown has ended; what names no container names nothing (I7)."""
        attachment, owner = _attachment(request), request.parameter("owner")
        if not attachment.container_id:
            return api.done()
        ledger = self._ledger

        def is_over() -> bool:
            entry = ledger.find(attachment, owner)
            return not any(add in ledger.adds for add in adds) and (entry is None or not ledger.is_held(entry.eni.id))

        adds = ledger.in_flight(attachment, owner)
        for add in adds:
            _refuse_stranger(attachment, owner, add.owner)
        for add in adds:
            add.dropped = f"DEL of {attachment} came in"
        yield from self._wait(is_over)
        entry = ledger.find(attachment, owner)
        if entry is None:
            return api.done()
        _refuse_stranger(attachment, owner, entry.owner)
        with ledger.hold(entry.eni.id):
            now_ns = yield Now()
            yield from ledger.commit(pool.event("released", entry.eni.id, now_ns, f"DEL of {attachment}"))
        return api.done()

    def _inspect(self, netns: str, mac: str) -> Flow[NetnsView]:
        """What is in a netns. One that cannot be looked into has no identity, so its end is never believed (I7)."""
        nothing = NetnsView("", None)
        if not netns:
            return nothing
        try:
            view: NetnsView = yield InspectNetns(netns, mac)
        except errors.KernelFault:
            return nothing
        return view

    def _wait(self, is_ready: Callable[[], object]) -> Flow[None]:
        if not (yield from self._ledger.wait_until(is_ready)):
            raise Refused("took_too_long", f"another request of this pod takes too long, {api.TRY_AGAIN}")

    def _refuse_dropped(self, add: Add) -> None:
        if add.dropped:
            raise Refused("given_up", f"ADD of {add.attachment} was given up: {add.dropped}, {api.TRY_AGAIN}")


def _attachment(request: wire.Request) -> Attachment:
    network = request.header("x-enim-network")
    return Attachment(network, request.parameter("containerID"), request.parameter("ifname"))


def _fields(add: Add, netns: str, ifindex: int) -> dict[str, str | int]:
    network, container_id, ifname = add.attachment.network, add.attachment.container_id, add.attachment.ifname
    identity: dict[str, str | int] = {"network": network, "container_id": container_id, "ifname": ifname}
    return {**identity, "owner": add.owner, "netns": netns, "ifindex": ifindex}


def _refuse_stranger(attachment: Attachment, owner: str, recorded: str) -> None:
    """A DEL may come without the pod's name; one with the name of another pod contradicts the record (D13, I7).

    What a plugin sends that has lost its CNI_ARGS is ``<network>/<container id>`` (design D3).
    """
    if owner not in ("", recorded, f"{attachment.network}/{attachment.container_id}"):
        raise Refused(
            "other_owner", f"{attachment} is attached for {recorded}, not for {owner}; nothing was released", 409
        )
