"""EDGE: which kinds of link this kernel can make: tried in the network namespace that one is in.

One RTM_NEWLINK each, so that no ``ip`` program and no library is needed. As a program it tries the kinds that its
arguments name, and prints what ``refusals`` returns as JSON. Source: rtnetlink(7); linux/if_link.h.
"""

from __future__ import annotations

import json
import os
import socket
import struct
import sys
from collections.abc import Iterable, Mapping, Sequence

from simulator.model import Backend

_RTM_NEWLINK, _NLM_F_REQUEST_ACK_CREATE_EXCL, _NLMSG_ERROR = 16, 0x605, 2
_IFLA_IFNAME, _IFLA_LINK, _IFLA_LINKINFO, _IFLA_INFO_KIND = 3, 5, 18, 1
_BELOW = "try-below"
MODULES: Mapping[Backend, Sequence[str]] = {"veth": ("veth",), "macvlan": ("veth", "macvlan"), "dummy": ("dummy",)}


def make(name: str, kind: str, below: str = "") -> None:
    """Make a link; ``below``: the name of the one that it stands on. Raises OSError."""
    info = _attribute(_IFLA_LINKINFO, _attribute(_IFLA_INFO_KIND, kind.encode()))
    stands_on = _attribute(_IFLA_LINK, struct.pack("=I", socket.if_nametoindex(below))) if below else b""
    body = bytes(16) + _attribute(_IFLA_IFNAME, name.encode() + b"\0") + stands_on + info
    header = struct.pack("=IHHII", 16 + len(body), _RTM_NEWLINK, _NLM_F_REQUEST_ACK_CREATE_EXCL, 1, 0)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as routes:
        routes.send(header + body)
        answer = routes.recv(4096)
    (kind_of_answer,) = struct.unpack_from("=H", answer, 4)
    (code,) = struct.unpack_from("=i", answer, 16)
    if kind_of_answer != _NLMSG_ERROR or code != 0:
        raise OSError(-code, os.strerror(-code))


def refusals(kinds: Iterable[str]) -> dict[str, str]:
    """Try backends in this order, up to the first that works.

    Returns:
        For each that was tried, what the kernel says against it; "" for the one that works.
    """
    found = {}
    for kind in kinds:
        found[kind] = _refusal(kind)
        if not found[kind]:
            break
    return found


def _refusal(kind: str) -> str:
    below, whose = "", ""
    try:
        if kind == "macvlan":  # as the hardware does: upon a veth
            whose = "the veth below it: "
            make(_BELOW, "veth")
            below, whose = _BELOW, ""
        make(f"try-{kind}", kind, below)
    except OSError as error:
        return f"{whose}{error.strerror or error}"
    return ""


def _attribute(kind: int, value: bytes) -> bytes:
    padding = bytes(-len(value) % 4)
    return struct.pack("=HH", 4 + len(value), kind) + value + padding


if __name__ == "__main__":
    json.dump(refusals(sys.argv[1:]), sys.stdout)
