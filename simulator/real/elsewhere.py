"""EDGE: the links in those other namespaces for which a network namespace has an id, as rtnetlink lists them.

A netns gets an id for another when a link moves from it to there, so a home netns has one for wherever its NICs went.
pyroute2 can ask for neither list. Source: netlink(7), rtnetlink(7); linux/net_namespace.h, if_link.h.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable
from typing import Any

_RTM_GETLINK, _RTM_GETNSID = 18, 90
_NLM_F_REQUEST_DUMP = 0x301
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_IFLA_TARGET_NETNSID = 46
_SOL_NETLINK, _NETLINK_ADD_MEMBERSHIP, _NETLINK_LISTEN_ALL_NSID = 270, 1, 8
_RTMGRP_LINK, _RTNLGRP_NSID = 0x1, 28


class Elsewhere:
    """Asks the netns of whoever constructs it, wherever that process goes then.

    Args:
        parse: netlink bytes → messages, as pyroute2's ``marshal.parse``.
    """

    def __init__(self, parse: Callable[[bytes], Any]) -> None:
        self._parse = parse
        self._asking = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)

    def ids(self) -> list[Any]:
        """A message per namespace: its id is NETNSA_NSID. Raises OSError."""
        return self._dump(_RTM_GETNSID, bytes(4))

    def links(self, nsid: int) -> list[Any]:
        """A message per link of the namespace with this id; none if it has ended. Raises OSError."""
        return self._dump(_RTM_GETLINK, bytes(16) + struct.pack("=HHi", 8, _IFLA_TARGET_NETNSID, nsid))

    def _dump(self, kind: int, body: bytes) -> list[Any]:
        self._asking.send(struct.pack("=IHHII", 16 + len(body), kind, _NLM_F_REQUEST_DUMP, 1, 0) + body)
        found: list[Any] = []
        while True:
            for message in self._parse(self._asking.recv(1 << 16)):
                if message["header"]["type"] in (_NLMSG_ERROR, _NLMSG_DONE):
                    return found
                found.append(message)


def listen() -> socket.socket:
    """Hears link messages of this netns and of all that it has an id for, and which of those come and end."""
    changes = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
    changes.setsockopt(_SOL_NETLINK, _NETLINK_LISTEN_ALL_NSID, 1)
    changes.bind((0, _RTMGRP_LINK))
    changes.setsockopt(_SOL_NETLINK, _NETLINK_ADD_MEMBERSHIP, _RTNLGRP_NSID)
    return changes
