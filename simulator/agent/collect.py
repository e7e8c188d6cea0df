"""PURE: what only this project's agent serves: its attachments, for CHECK, and the runtime's garbage collection.

``GET /v1/x-enim/attachments?network=&containerID=&ifname=`` →
``{"attachments": [{"network", "containerID", "ifname", "owner", "netns", "state", "mac", "ips": [CIDR, …]}, …]}``,
those that have every value given.
``POST /v1/x-enim/gc`` with ``{"network", "valid": [{"containerID", "ifname"}, …]}`` →
``{"reclaimed": [ENI id, …], "kept": [{"eni", "reason"}, …]}``.

An attachment of the network that the list omits, and whose ADD had ended before the call, is taken back. An empty list
may be the list of a runtime that has lost its memory: then only what also has no namespace any more is (design D12).

Source: design D10, D12; contract A7 (GC); incidents.md I7.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from enim import wire
from simulator import errors
from simulator.agent import api, pool
from simulator.agent.ledger import Ledger
from simulator.agent.refusal import Refused
from simulator.effects import Flow, InspectNetns, Now
from simulator.model import Attachment, Eni

_HELD = (pool.IN_USE, pool.SUPERSEDED)


@dataclass(frozen=True, slots=True)
class Valid:
    """The list of one GC call."""

    network: str
    attachments: frozenset[tuple[str, str]]  # container id, ifname


def attachments(ledger: Ledger, request: wire.Request) -> wire.Reply:
    """What is on record; nothing waits for anything."""
    wanted = {key: request.parameter(key) for key in ("network", "containerID", "ifname")}
    shown = [_shown(entry) for entry in _held(ledger)]
    found = [one for one in shown if all(one[key] == value for key, value in wanted.items() if value)]
    return api.answer({"attachments": found})


def collect(ledger: Ledger, request: wire.Request) -> Flow[wire.Reply]:
    """Take back what a runtime's list omits. What is busy, or came meanwhile, is kept. Raises ``Refused``."""
    try:
        valid = parse(request.body)
    except ValueError as error:
        raise Refused("malformed", str(error), 400) from error
    reclaimed: list[str] = []
    kept: list[dict[str, str]] = []
    omitted = [entry for entry in _held(ledger) if _is_omitted(entry, valid)]
    for entry in omitted:
        reason = "" if valid.attachments else (yield from _why_kept(entry))
        if ledger.pool.entry(entry.eni.id) is not entry or ledger.is_held(entry.eni.id):
            reason = "another request is at work on it"
        if reason:
            kept.append({"eni": entry.eni.id, "reason": reason})
            ledger.counts.collected["kept"] += 1
            continue
        with ledger.hold(entry.eni.id):
            now_ns = yield Now()
            told = f"the runtime's list for {valid.network} omits {entry.attachment}"
            yield from ledger.commit(pool.event("reclaimed", entry.eni.id, now_ns, told))
        reclaimed.append(entry.eni.id)
        ledger.counts.collected["reclaimed"] += 1
    return api.answer({"reclaimed": reclaimed, "kept": kept})


def parse(body: bytes) -> Valid:
    """Read a list. Raises ValueError: it is none, so it is no evidence."""
    try:
        value = json.loads(body)
        network, entries = value["network"], value["valid"]
        pairs = [(one["containerID"], one["ifname"]) for one in entries]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"the list cannot be read: {error!r}"[:256]) from error
    if not isinstance(network, str) or not network or not isinstance(entries, list):
        raise ValueError("network is no name, or valid no list")
    if not all(isinstance(text, str) and text for pair in pairs for text in pair):
        raise ValueError("an entry has no containerID or no ifname")
    return Valid(network, frozenset(pairs))


def _why_kept(entry: pool.Entry) -> Flow[str]:
    """Why an empty list does not end an attachment; "" if its namespace is gone."""
    if not entry.identity:
        return "the list is empty, and its namespace was never seen"
    try:
        view = yield InspectNetns(entry.netns, entry.eni.mac)
    except errors.KernelFault as fault:
        return f"the list is empty, and its namespace cannot be looked into: {fault}"
    return "the list is empty, and its namespace lives" if view.identity == entry.identity else ""


def _held(ledger: Ledger) -> Iterator[pool.Entry]:
    for entry in ledger.pool.entries():
        if entry.state in _HELD and entry.attachment is not None:
            yield entry


def _is_omitted(entry: pool.Entry, valid: Valid) -> bool:
    attachment = entry.attachment
    assert attachment is not None
    return attachment.network == valid.network and (
        (attachment.container_id, attachment.ifname) not in valid.attachments
    )


def _shown(entry: pool.Entry) -> dict[str, Any]:
    attachment = entry.attachment or Attachment("", "", "")
    return {
        "network": attachment.network,
        "containerID": attachment.container_id,
        "ifname": attachment.ifname,
        "owner": entry.owner,
        "netns": entry.netns,
        "state": entry.state,
        "mac": entry.eni.mac,
        "ips": _ips(entry.eni),
    }


def _ips(eni: Eni) -> list[str]:
    pairs = ((eni.ipv4, eni.subnet.cidr4), (eni.ipv6, eni.subnet.cidr6))
    return [f"{address}/{cidr.partition('/')[2]}" for address, cidr in pairs if address]
