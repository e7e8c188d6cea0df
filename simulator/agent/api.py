"""PURE: the agent's API as its HTTP framework sees it: which verbs there are, what is refused, how bodies look.

Source: contract C1 to C4, C6. What the framework itself refuses is ``{"code","message"}``; what the agent refuses is a
JSON string and a newline; a DELETE that went well has no body and no content type.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from enim import wire
from simulator.model import Eni

JSON, TEXT = "application/json", "text/plain"

ENI, HEALTH = "/v1/eni", "/v1/healthz"
# Of this project's agent alone (design D10).
ATTACHMENTS, COLLECT = "/v1/x-enim/attachments", "/v1/x-enim/gc"
METRICS, OPENAPI = "/v1/x-enim/metrics", "/v1/x-enim/openapi.json"
METHODS: Mapping[str, tuple[str, ...]] = {
    ENI: ("DELETE", "POST"),
    HEALTH: ("GET",),
    ATTACHMENTS: ("GET",),
    COLLECT: ("POST",),
    METRICS: ("GET",),
    OPENAPI: ("GET",),
}
_OFFERED: Mapping[str, str] = {METRICS: TEXT}  # the media type of its answers; of all others it is JSON

TRY_AGAIN = "please retry"
NO_POD = f"failed to get pod, {TRY_AGAIN}"
NONE_AVAILABLE = "no available ENI to be allocated"


def refuse(request: wire.Request) -> wire.Reply | None:
    """What the framework answers before the agent hears of a request; None if it lets it through."""
    methods = METHODS.get(request.path)
    if methods is None:
        return fault(404, f"path {request.path} was not found")
    if request.method not in methods:
        return fault(405, f"method {request.method} is not allowed, but [{','.join(methods)}] are")
    content_type = request.header("content-type").partition(";")[0].strip().lower()
    if request.method == "POST" and request.body and content_type != JSON:
        return fault(415, f'unsupported media type "{content_type}", only [{JSON}] are allowed')
    offered = _OFFERED.get(request.path, JSON)
    if not _accepts(request.header("accept"), offered):
        return fault(406, f"unsupported media type requested, only [{offered}] are available")
    return None


def fault(status: int, message: str) -> wire.Reply:
    """An answer of the framework."""
    return wire.Reply(status, _json({"code": status, "message": message}), JSON)


def error(status: int, text: str) -> wire.Reply:
    """An error of the agent."""
    return wire.Reply(status, _json(text) + b"\n", JSON)


def done() -> wire.Reply:
    """Success that says nothing."""
    return wire.Reply(200)


def allocation(eni: Eni, ifindex: int) -> wire.Reply:
    """The IPAMResponse for an ENI.

    Args:
        ifindex: where the agent last saw its NIC at home.
    """
    parts = {
        "ipv4": _address(eni, eni.ipv4, eni.subnet.cidr4, eni.subnet.gateway4, ifindex),
        "ipv6": _address(eni, eni.ipv6, eni.subnet.cidr6, eni.subnet.gateway6, ifindex),
    }
    found = {family: part for family, part in parts.items() if part["ip"]}
    address = {family: part["ip"] for family, part in found.items()}
    return wire.Reply(200, _json({"address": address, "host-addressing": {}, **found}) + b"\n", JSON)


def answer(value: Mapping[str, Any]) -> wire.Reply:
    """A JSON object."""
    return wire.Reply(200, _json(value) + b"\n", JSON)


def is_owner(text: str) -> bool:
    """Whether this is ``namespace/name``, both not empty."""
    parts = text.split("/")
    return len(parts) == 2 and all(parts)


def _address(eni: Eni, ip: str, cidr: str, gateway: str, ifindex: int) -> dict[str, Any]:
    return {
        "ip": ip,
        "gateway": gateway,
        "cidrs": [cidr],
        "master-mac": eni.mac,
        "interface-number": str(ifindex),
    }


def _accepts(accept: str, offered: str) -> bool:
    ranges = [part.partition(";")[0].strip().lower() for part in accept.split(",") if part.strip()]
    return not ranges or any(one in ("*/*", f"{offered.partition('/')[0]}/*", offered) for one in ranges)


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
