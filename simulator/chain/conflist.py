"""The network configuration list that an installation writes: its text, and what is another one's.

Rules: an installation recognises what it has written byte by byte, since all else is somebody's work. What differs is
named by its place, so that whoever reads it finds it in the file.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from simulator.chain import plan

CHAINS = ("exclusive-device", "host-device")
NAME = "podnet"

_CNI_VERSION = "1.0.0"
_CAPABILITIES = ("deviceID", "ipRanges", "ips", "mac")
_SHOWN_MAX = 80
_NOTHING = object()


def text(chain: str, name: str, socket: str) -> bytes:
    """A file with one upper plugin, and enim.

    Args:
        chain: the upper plugin, one of ``CHAINS``.
        name: the network's.
        socket: the agent's; "" leaves the choice to the plugin (CCE_SOCK, or the real agent's path).
    """
    # What a runtime asks for reaches the plugins only if the network says that they take it.
    network = plan.conflist(chain, name=name, cni_version=_CNI_VERSION, socket=socket, capabilities=_CAPABILITIES)
    plugin = dict(network.plugins[0])
    if not socket:
        plugin["ipam"] = {key: value for key, value in plugin["ipam"].items() if key != "socket"}
    document = {"cniVersion": network.cni_version, "name": name, "plugins": [plugin]}
    return (json.dumps(document, indent=2) + "\n").encode()


def nearest(found: bytes, *, chain: str | None = None, name: str | None = None, socket: str | None = None) -> bytes:
    """What an installation would have written in this file's place; the file itself, if one has written it.

    Args:
        found: the file's content.
        chain: as for ``text``, as are the others; None takes what the file has.
    """
    theirs = _choices(found)
    ours = (chain, name, socket)
    return text(*(own if own is not None else other for own, other in zip(ours, theirs, strict=True)))


def _choices(found: bytes) -> tuple[str, str, str]:
    """Chain, name and socket of a file; in place of what cannot be one, what is usual."""
    try:
        network = json.loads(found)
        plugin = network["plugins"][0]
        chain, name, socket = plugin["type"], network["name"], plugin["ipam"].get("socket")
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return CHAINS[0], NAME, ""
    return (
        chain if chain in CHAINS else CHAINS[0],
        name if isinstance(name, str) else NAME,
        socket if isinstance(socket, str) else "",
    )


def differences(found: bytes, wanted: bytes) -> list[str]:
    """What a file has otherwise than ``text`` would; sentences, of which each begins with a place or "it"."""
    if found == wanted:
        return []
    try:
        said = list(_differences(json.loads(found), json.loads(wanted), ""))
    except (ValueError, RecursionError):
        return ["it cannot be read as JSON"]
    return said or ["it says the same, but is formatted otherwise"]


def _differences(found: Any, wanted: Any, place: str) -> Iterator[str]:
    theirs, ours = _members(found), _members(wanted)
    if theirs is None or ours is None or type(found) is not type(wanted):
        if _NOTHING in (found, wanted) or json.dumps(found) != json.dumps(wanted):
            has, writes = _shown(found, "not there"), _shown(wanted, "no such member")
            yield f"{place.removeprefix('.') or 'it'} is {has}, an installation writes {writes}"
        return
    for key in (*ours, *(key for key in theirs if key not in ours)):
        yield from _differences(theirs.get(key, _NOTHING), ours.get(key, _NOTHING), f"{place}{key}")


def _members(value: Any) -> dict[str, Any] | None:
    """The parts of an object or an array, by what each adds to its place; None for what has none."""
    if isinstance(value, dict):
        return {f".{json.dumps(key)[1:-1]}": member for key, member in value.items()}
    if isinstance(value, list):
        return {f"[{index}]": member for index, member in enumerate(value)}
    return None


def _shown(value: Any, nothing: str) -> str:
    return nothing if value is _NOTHING else json.dumps(value)[:_SHOWN_MAX]
