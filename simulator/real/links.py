"""EDGE: links as the agent and the hardware need them: heard of, elsewhere, restored; on the plugins' netlink channel.

A netns gets an id for another when a link moves from it to there, or when a link is listed whose peer is there. With an
id the links of the other one can be listed and heard. pyroute2, which makes links (``hardware``, ``kernel``), takes
0.4 ms to read one, and every change on a node is read by the hardware; here a tenth of it is enough.

Source: netlink(7) NETLINK_LISTEN_ALL_NSID, rtnetlink(7); linux/net_namespace.h, if_link.h, if_addr.h.
"""

from __future__ import annotations

import errno
import socket
import sys
from collections.abc import Iterator
from typing import NamedTuple

from enim import addresses, netlink
from enim import errors as plugin_errors
from simulator.model import Link

NSID_NOT_ASSIGNED = -1  # linux/net_namespace.h: of a namespace that is dying, too

_RTM_NEWLINK, _RTM_DELLINK, _RTM_GETLINK, _RTM_SETLINK, _RTM_DELADDR, _RTM_GETNSID = 16, 17, 18, 19, 21, 90
_IFLA_MTU, _IFLA_LINK, _IFLA_LINKINFO, _IFLA_IFALIAS = 4, 5, 18, 20
_IFLA_LINK_NETNSID, _IFLA_NEW_NETNSID, _IFLA_TARGET_NETNSID = 37, 45, 46
_IFLA_INFO_KIND, _NETNSA_NSID, _IFA_LOCAL = 1, 1, 2
_IFF_UP = 1
_SOL_NETLINK, _NETLINK_ADD_MEMBERSHIP, _NETLINK_LISTEN_ALL_NSID = 270, 1, 8
_RTMGRP_LINK, _RTNLGRP_NSID = 0x1, 28
_RECEIVE_BYTES = 1 << 20
_FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}


class Position(NamedTuple):
    """Where the peer of a link is: its index, and the id that the link's netns has for that of the peer.

    Either is None if the kernel does not tell, and ``nsid`` also if both are in one namespace.
    """

    nsid: int | None
    ifindex: int | None


class Heard(NamedTuple):
    """A link message: the link, whether it is gone from there, and whether that is because it moved on."""

    link: netlink.Link
    is_gone: bool
    moves_on: bool


class Channel(netlink.Channel):
    """A channel of the plugins that asks for more. Every method raises ``enim.errors.KernelError``."""

    __slots__ = ()

    def ids(self) -> list[int]:
        """The ids that this namespace has for others."""
        found = self.dump("list the namespaces", _RTM_GETNSID, bytes(4))
        return [_signed(dict(netlink.attributes_of(message[4:]))[_NETNSA_NSID]) for message in found]

    def links_in(self, nsid: int) -> list[netlink.Link]:
        """The links of the namespace with this id; none if it has ended."""
        body = netlink.link_body(0, netlink.attribute(_IFLA_TARGET_NETNSID, _packed(nsid)))
        try:
            return [netlink.Link(message) for message in self.dump("list the links elsewhere", _RTM_GETLINK, body)]
        except plugin_errors.KernelError as error:
            if error.errno == errno.EINVAL:
                return []
            raise

    def link_in(self, nsid: int, ifindex: int) -> netlink.Link:
        """One link of the namespace with this id."""
        body = netlink.link_body(ifindex, netlink.attribute(_IFLA_TARGET_NETNSID, _packed(nsid)))
        (message,) = self.call(f"look at link {ifindex} of namespace {nsid}", _RTM_GETLINK, 0, body)
        return netlink.Link(message)

    def set_down(self, operation: str, ifindex: int) -> None:
        """Set a link down."""
        self.call(operation, _RTM_SETLINK, 0, bytes(4) + netlink.u32(ifindex) + netlink.u32(0) + netlink.u32(_IFF_UP))

    def restore(self, ifindex: int, name: str, mtu: int) -> None:
        """Set a link down, without addresses, altnames and alias, with this MTU and at last this name.

        What is so already is not done again: each change is told to all who listen.
        """
        operation = f"restore {name}"
        link = self.link(ifindex)
        if link is None:
            raise plugin_errors.KernelError(operation, errno.ENODEV, f"no link has the index {ifindex}")
        if link.up:
            self.set_down(operation, ifindex)
        for altname in link.altnames:
            self.drop_altname(ifindex, altname)
        for address in self.addresses(ifindex):
            self._drop_address(operation, ifindex, address)
        if (link.mtu, link.alias) != (mtu, ""):
            kept = netlink.attribute(_IFLA_MTU, netlink.u32(mtu)), netlink.attribute(_IFLA_IFALIAS, b"")
            self.call(operation, _RTM_SETLINK, 0, netlink.link_body(ifindex, *kept))
        if link.name != name:
            self.rename(operation, ifindex, name, "")

    def _drop_address(self, operation: str, ifindex: int, address: tuple[int, int, int]) -> None:
        family, number, length = address
        body = bytes((_FAMILIES[family], length, 0, 0)) + netlink.u32(ifindex)
        try:
            self.call(
                operation,
                _RTM_DELADDR,
                0,
                body + netlink.attribute(_IFA_LOCAL, netlink.packed_number(family, number)),
            )
        except plugin_errors.KernelError as error:
            if error.errno != errno.EADDRNOTAVAIL:  # it went with the first one of its subnet
                raise


def listen() -> socket.socket:
    """Hears link messages of this netns and of all that it has an id for, and which of those come and end."""
    changes = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
    changes.setsockopt(_SOL_NETLINK, _NETLINK_LISTEN_ALL_NSID, 1)
    changes.bind((0, _RTMGRP_LINK))
    changes.setsockopt(_SOL_NETLINK, _NETLINK_ADD_MEMBERSHIP, _RTNLGRP_NSID)
    return changes


def hear(changes: socket.socket) -> Iterator[Heard]:
    """The link messages that have come to what ``listen`` made. Raises OSError: ENOBUFS, some were lost."""
    while True:
        try:
            data = changes.recv(_RECEIVE_BYTES, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        for kind, _flags, message in netlink.messages(data):
            if kind in (_RTM_NEWLINK, _RTM_DELLINK):
                link = netlink.Link(message)
                yield Heard(link, kind == _RTM_DELLINK, _IFLA_NEW_NETNSID in link.attributes)


def kind_of(link: netlink.Link) -> str:
    """What made it: ``veth``, ``macvlan``, ``bridge``; "" for a link that nothing made, such as a real NIC."""
    information = dict(netlink.attributes_of(link.attributes.get(_IFLA_LINKINFO, b"")))
    return information.get(_IFLA_INFO_KIND, b"").rstrip(b"\0").decode()


def peer_of(link: netlink.Link) -> Position:
    """Where the peer is of a link that has one."""
    nsid, ifindex = link.attributes.get(_IFLA_LINK_NETNSID), link.attributes.get(_IFLA_LINK)
    return Position(
        None if nsid is None or _signed(nsid) == NSID_NOT_ASSIGNED else _signed(nsid),
        None if ifindex is None else _signed(ifindex),
    )


def value_of(link: netlink.Link, netns: str = "", texts: tuple[str, ...] = ()) -> Link:
    """A link of netlink as the value that the agent and the hardware keep."""
    return Link(
        ifindex=link.ifindex,
        name=link.name,
        mac=link.mac,
        mtu=link.mtu,
        alias=link.alias,
        altnames=tuple(sorted(link.altnames)),
        addresses=texts,
        up=link.up,
        netns=netns,
    )


def all_of(channel: netlink.Channel, netns: str) -> tuple[Link, ...]:
    """All links of the channel's namespace but ``lo``, with their addresses, by rising ifindex. Raises KernelError."""
    texts: dict[int, list[str]] = {}
    for ifindex, (family, number, length) in channel.all_addresses():
        if not addresses.is_link_local(family, number):
            texts.setdefault(ifindex, []).append(f"{addresses.text_of(family, number)}/{length}")
    return tuple(
        value_of(link, netns, tuple(texts.get(link.ifindex, ()))) for link in channel.links() if link.name != "lo"
    )


def _signed(value: bytes) -> int:
    return int.from_bytes(value, sys.byteorder, signed=True)


def _packed(number: int) -> bytes:
    return number.to_bytes(4, sys.byteorder, signed=True)
