"""EDGE: the hardware: a process of its own to which the fake ENIs belong, as a NIC belongs to the machine and not to
its software.

Its own network namespace is the *fabric*, the pretended VPC: one bridge with a gateway address per subnet and family,
and the far end of each ENI's veth pair. The near ends live in the *initial* netns, from which it was started, and
travel into pods. When a pod's netns dies, the kernel destroys a veth (K1), where it would bring a real NIC home. So
this process brings the ENI back in the initial netns as the kernel would have (P1 to P3): under its pod-side name if
that is free, else ``dev<ifindex>``; with its MAC, ifindex if free, MTU, alias, and the altnames that are free; down,
without addresses.

What a NIC was like at its death it knows from link messages of *all* namespaces: a socket with
NETLINK_LISTEN_ALL_NSID hears every namespace that has an id here, and a veth's far end gives one to wherever its near
end is as soon as it is listed.

Source: rtnetlink(7), netlink(7) NETLINK_LISTEN_ALL_NSID; ``drivers/net/veth.c``, ``net/core/rtnetlink.c``
rtnl_fill_link_netnsid.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import select
import socket
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyroute2

from simulator import syscalls
from simulator.errors import CloudFault, WorldFault
from simulator.model import Eni, EniId, Link, Subnet
from simulator.real import kernel

ADDRESS = "\0enim-hardware"  # abstract: its scope is the network namespace in which it was bound
REQUEST_BYTES_MAX = 1 << 16

_BRIDGE = "br0"
_RESYNC_MS = 1_000
_SETTLING_MS = 20
_IDLE_ROUNDS_MAX = 10
_SOL_NETLINK, _NETLINK_LISTEN_ALL_NSID, _RTMGRP_LINK = 270, 8, 0x1
_RTM_NEWLINK, _RTM_DELLINK = 16, 17
_EEXIST, _EBUSY = 17, 16


class Hardware:
    """The ENIs of one node and their fabric. Construct it in the initial netns; the process moves into the fabric.

    Raises:
        CloudFault: links of this kind cannot be made here.
    """

    def __init__(self) -> None:
        self._initial = pyroute2.IPRoute()
        self._initial_fd = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            syscalls.unshare(syscalls.CLONE_NEWNET)
            for family, switch in (
                ("ipv6", "default/accept_dad"),
                ("ipv6", "all/forwarding"),
                ("ipv4", "all/forwarding"),
            ):
                value = "0" if switch.endswith("accept_dad") else "1"
                Path(f"/proc/sys/net/{family}/conf/{switch}").write_text(value)
        except OSError as error:
            raise CloudFault("make the fabric", error.errno or 0, str(error.strerror)) from error
        self._fabric_fd = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        self._fabric = pyroute2.IPRoute()
        self.changes = _listen_to_all_namespaces()
        self._enis: dict[str, Eni] = {}
        self._last: dict[str, Link] = {}
        self._gateways: set[str] = set()
        with _translated("make the fabric"):
            self._fabric.link("set", index=1, state="up")
            self._fabric.link("add", ifname=_BRIDGE, kind="bridge")
            self._bridge = self._fabric.link_lookup(ifname=_BRIDGE)[0]
            self._fabric.link("set", index=self._bridge, state="up")

    def ensure(self, enis: Iterable[Eni]) -> None:
        """Make those of ``enis`` that do not exist yet. Raises CloudFault."""
        for eni in enis:
            if eni.mac not in self._enis:
                with _translated(f"make {eni.id}"):
                    self._add_gateways(eni)
                    self._plug(eni, Link(0, eni.name, eni.mac, eni.mtu))
                self._enis[eni.mac] = eni

    def hear(self) -> None:
        """Take in the link messages that have come; a NIC's latest one says what it is like, wherever it is."""
        while True:
            try:
                data = self.changes.recv(1 << 20, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return
            except OSError:  # ENOBUFS: some were lost; the next look at the fabric makes up for it
                continue
            for message in self._fabric.marshal.parse(data):
                if message["header"]["type"] in (_RTM_NEWLINK, _RTM_DELLINK):
                    self._remember(message)

    def bring_back_the_lost(self) -> None:
        """Compare with the fabric: where a far end is gone, the near end died and comes home. Raises CloudFault."""
        with _translated("look at the fabric"):
            shown = {link.get_attr("IFLA_IFNAME"): link for link in self._fabric.get_links()}
        for eni in self._enis.values():
            far = shown.get(eni.id)
            if far is not None:
                self._look_at_near_end(far)
                continue
            with _translated(f"bring {eni.id} back"):
                self._plug(eni, self._as_the_kernel_returns(self._last.get(eni.mac) or _home(eni)))

    def _remember(self, message: Any) -> None:
        mac = message.get_attr("IFLA_ADDRESS")
        if mac in self._enis and message.get_attr("IFLA_IFNAME"):
            self._last[mac] = kernel.link_of(message, "", ())

    def _look_at_near_end(self, far: Any) -> None:
        """Ask for the near end where it is; listing the far end has given that namespace an id by now."""
        nsid, index = far.get_attr("IFLA_LINK_NETNSID"), far.get_attr("IFLA_LINK")
        if nsid is None or not index:
            return
        with contextlib.suppress(pyroute2.NetlinkError):  # it moved on since; its messages will tell
            for message in self._fabric.link("get", index=index, if_netnsid=nsid):
                self._remember(message)

    def _as_the_kernel_returns(self, was: Link) -> Link:
        """Which name, ifindex and altnames a NIC keeps on its way to the initial netns.

        Source: incidents P1, P2, P3 (measured with virtio NICs); ``net/core/dev.c`` default_device_exit_net.
        """
        at_home = [kernel.link_of(link, "", ()) for link in self._initial.get_links()]
        taken = {name for link in at_home for name in (link.name, *link.altnames)}
        ifindex = 0 if was.ifindex in {link.ifindex for link in at_home} else was.ifindex
        name = "" if was.name in taken else was.name
        return dataclasses.replace(
            was, ifindex=ifindex, name=name, altnames=tuple(one for one in was.altnames if one not in taken)
        )

    def _plug(self, eni: Eni, near: Link) -> None:
        """Make an ENI's veth pair: ``near`` in the initial netns ("": ``dev<ifindex>``), its far end on the bridge.

        Raises NetlinkError.
        """
        arrival = near.name or (f"dev{near.ifindex}" if near.ifindex else f"{eni.id}-arrives")
        wanted = {"index": near.ifindex} if near.ifindex else {}
        self._initial.link(
            "add",
            ifname=arrival,
            kind="veth",
            address=eni.mac,
            mtu=near.mtu,
            peer={"ifname": eni.id, "net_ns_fd": self._fabric_fd, "mtu": near.mtu},
            **wanted,
        )
        index = near.ifindex or self._initial.link_lookup(ifname=arrival)[0]
        if not near.name and not near.ifindex:
            self._initial.link("set", index=index, ifname=f"dev{index}")
        if near.alias:
            self._initial.link("set", index=index, ifalias=near.alias)
        for altname in near.altnames:
            self._initial.link("property_add", index=index, altname=altname)
        far = self._fabric.link_lookup(ifname=eni.id)[0]
        self._fabric.link("set", index=far, master=self._bridge, state="up")
        self._last.pop(eni.mac, None)

    def _add_gateways(self, eni: Eni) -> None:
        pairs = ((eni.subnet.cidr4, eni.subnet.gateway4), (eni.subnet.cidr6, eni.subnet.gateway6))
        for cidr, gateway in pairs:
            if gateway not in self._gateways:
                prefix_length = int(cidr.partition("/")[2])
                self._fabric.addr("add", index=self._bridge, address=gateway, prefixlen=prefix_length)
                self._gateways.add(gateway)

    def is_needed(self) -> bool:
        """Whether anything else still holds the initial netns: another process, or a mounted namespace file."""
        netns = os.fstat(self._initial_fd)
        if f"net:[{netns.st_ino}]" in Path("/proc/self/mountinfo").read_text(errors="replace"):
            return True
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if (process / "ns/net").stat().st_ino == netns.st_ino and process.name != str(os.getpid()):
                    return True
        return False


def serve(listener: socket.socket, hardware: Hardware) -> None:
    """Answer requests and bring lost ENIs back, until nobody needs the node's network any more.

    One request per connection: a line of JSON, ``{"enis": [...]}`` with ENIs as ``dataclasses.asdict`` gives them;
    the answer is ``{}`` when they all exist, else ``{"operation", "errno", "text"}``.
    """
    poll = select.poll()
    poll.register(listener, select.POLLIN)
    poll.register(hardware.changes, select.POLLIN)
    idle_rounds = 0
    while idle_rounds < _IDLE_ROUNDS_MAX:
        ready = {fd for fd, _ in poll.poll(_RESYNC_MS)}
        if listener.fileno() in ready:
            _answer(listener, hardware)
        hardware.hear()
        with contextlib.suppress(WorldFault):  # a race with a change that is still under way: the next round sees it
            hardware.bring_back_the_lost()
        idle_rounds = 0 if ready or hardware.is_needed() else idle_rounds + 1


def _answer(listener: socket.socket, hardware: Hardware) -> None:
    connection, _ = listener.accept()
    with connection, contextlib.suppress(OSError):
        connection.settimeout(1.0)
        credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        if struct.unpack("3i", credentials)[1] != os.geteuid():
            return
        answer: dict[str, Any] = {}
        try:
            asked = json.loads(connection.makefile("rb").readline(REQUEST_BYTES_MAX))
            hardware.ensure(eni_of(one) for one in asked["enis"])
        except WorldFault as fault:
            answer = {"operation": fault.operation, "errno": fault.errno, "text": fault.text}
        except (ValueError, KeyError, TypeError) as error:
            answer = {"operation": "read the request", "errno": 0, "text": str(error)}
        connection.sendall(json.dumps(answer).encode() + b"\n")


def eni_of(value: Any) -> Eni:
    """An ENI from what ``dataclasses.asdict`` made of it. Raises KeyError or TypeError."""
    return Eni(**{**value, "id": EniId(value["id"]), "subnet": Subnet(**value["subnet"])})


def _home(eni: Eni) -> Link:
    return Link(0, eni.name, eni.mac, eni.mtu)


def _listen_to_all_namespaces() -> socket.socket:
    changes = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
    changes.setsockopt(_SOL_NETLINK, _NETLINK_LISTEN_ALL_NSID, 1)
    changes.bind((0, _RTMGRP_LINK))
    return changes


@contextlib.contextmanager
def _translated(operation: str) -> Iterator[None]:
    try:
        yield
    except pyroute2.NetlinkError as error:
        raise CloudFault(operation, error.code, os.strerror(error.code)) from error
    except OSError as error:
        raise CloudFault(operation, error.errno or 0, error.strerror or str(error)) from error
