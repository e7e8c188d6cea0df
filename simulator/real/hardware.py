"""EDGE: the hardware: the fake ENIs belong to it, as a NIC belongs to the machine and not to its software.

Its own network namespace is the *fabric*, the pretended VPC: one bridge with a gateway address per subnet and family,
and the far end of each ENI's veth pair. The near ends live in the *initial* netns, from which it was started, and
travel into pods. When a pod's netns dies, the kernel destroys a veth (K1), where it would bring a real NIC home. So
this process brings the ENI back in the initial netns as the kernel would have (P1 to P3): under its pod-side name if
that is free, else ``dev<ifindex>``; with its MAC, ifindex if free, MTU, alias, and the altnames that are free; down,
without addresses.

It comes back whole, as it would from the kernel: one with an alias or altnames gets them in a third namespace, the
*workshop*, and arrives in one move. Whoever watches the initial netns never sees half of it.

What a NIC was like at its death it knows from link messages of *all* namespaces: a socket with
NETLINK_LISTEN_ALL_NSID hears every namespace that has an id here, and a veth's far end gives one to wherever its near
end is as soon as it is listed.

An ENI of the kind macvlan stands on the bridge's one uplink, which is in the workshop, and a dummy on nothing. Neither
has a far end: such a NIC is looked for by MAC at home and wherever the initial netns has an id for, which is where its
NICs have gone; the end of a namespace is heard. (One that a pod passes on to a namespace of its own is out of sight,
and taken for lost.)

Source: rtnetlink(7), netlink(7) NETLINK_LISTEN_ALL_NSID; ``drivers/net/veth.c``, ``net/core/rtnetlink.c``
rtnl_fill_link_netnsid.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import pyroute2

from enim import errors as plugin_errors
from enim import netlink
from simulator import syscalls
from simulator.errors import CloudFault
from simulator.model import BACKENDS, Backend, Eni, Link
from simulator.real import links

_BRIDGE = "br0"
_UPLINK = "enim-uplink"
_UPLINK_INDEX = 1 << 30  # neither is any NIC's
VETH, MACVLAN, DUMMY = BACKENDS


class Hardware:
    """The ENIs of one node and their fabric. Construct it in the initial netns; the process moves into the fabric.

    Args:
        backend: which kind of link an ENI is: veth, macvlan or dummy.

    Raises:
        CloudFault: links of this kind cannot be made here.
    """

    def __init__(self, backend: Backend = VETH) -> None:
        self._backend = backend
        self._initial = pyroute2.IPRoute()
        self._at_home = links.Channel()
        if backend != VETH:  # there is no far end to tell of a death; the initial netns has an id for where a NIC went
            self.changes = links.listen()
        self._initial_fd = self._at_home.descriptor
        try:
            syscalls.unshare(syscalls.CLONE_NEWNET)
            self._workshop = pyroute2.IPRoute()
            self._workshop_fd = _own_netns()
            syscalls.unshare(syscalls.CLONE_NEWNET)
            for switch, value in (
                ("ipv6/conf/default/accept_dad", "0"),
                ("ipv6/conf/all/forwarding", "1"),
                ("ipv4/conf/all/forwarding", "1"),
            ):
                Path(f"/proc/sys/net/{switch}").write_text(value)
        except OSError as error:
            raise CloudFault("make the fabric", error.errno or 0, str(error.strerror)) from error
        self._fabric = pyroute2.IPRoute()
        self._far_ends = links.Channel()
        self._fabric_fd = self._far_ends.descriptor
        if backend == VETH:
            self.changes = links.listen()
        self._enis: dict[str, Eni] = {}
        self._last: dict[str, Link] = {}  # by MAC: what its near end is like, as far as is known
        self._positions: dict[str, links.Position] = {}  # by MAC: where it was looked at
        self._home_nsid: int | None = None
        self._gateways: set[str] = set()
        with _translated("make the fabric"):
            self._fabric.link("set", index=1, state="up")
            self._fabric.link("add", ifname=_BRIDGE, kind="bridge")
            self._bridge = self._fabric.link_lookup(ifname=_BRIDGE)[0]
            self._fabric.link("set", index=self._bridge, state="up")
            if backend == MACVLAN:
                peer = {"ifname": _UPLINK, "net_ns_fd": self._fabric_fd}
                self._workshop.link("add", ifname=_UPLINK, kind="veth", index=_UPLINK_INDEX, peer=peer)
                self._workshop.link("set", index=_UPLINK_INDEX, state="up")
                (far,) = self._fabric.link_lookup(ifname=_UPLINK)
                self._fabric.link("set", index=far, master=self._bridge, state="up")

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
                for heard in links.hear(self.changes):
                    if heard.is_gone and heard.moves_on:  # it says what it was before, in a place that has gone by
                        self._forget_position(heard.link)
                    else:
                        self._remember(heard.link)
            except OSError:  # ENOBUFS: some were lost, so every NIC is looked at again
                self._positions.clear()
            else:
                return

    def bring_back_the_lost(self, *, thorough: bool = False) -> None:
        """Compare with the fabric: where a far end is gone, the near end died and comes home.

        Args:
            thorough: look also for what no message tells.

        Raises:
            CloudFault: the kernel refused.
        """
        if self._backend != VETH:
            self._bring_back_what_is_nowhere()
            return
        with _translated("look at the fabric"):
            shown = {link.name: link for link in self._far_ends.links()}
        lost = [eni for eni in self._enis.values() if eni.id not in shown]
        if lost:
            self.hear()  # what was said of them between the last hearing and their death
        faults = list(filter(None, map(self._bring_back, lost)))
        for eni in self._enis.values():
            if eni.id in shown:
                self._look_at_near_end(eni, shown[eni.id], thorough=thorough)
        if faults:
            raise faults[0]

    def _bring_back_what_is_nowhere(self) -> None:
        """Look for every NIC by MAC: at home, where the initial netns has an id for, and at home again, since one may
        have come home meanwhile.
        """
        with _translated("look for the ENIs"):
            home = self._at_home.links()
            ids = self._at_home.ids()
            seen = {self._remember(link) for link in home}
            for nsid in ids:
                seen |= set(map(self._remember, self._at_home.links_in(nsid)))
            seen |= {self._remember(link) for link in self._at_home.links()}
        lost = [eni for eni in self._enis.values() if eni.mac not in seen]
        faults = list(filter(None, map(self._bring_back, lost)))
        if faults:
            raise faults[0]

    def _bring_back(self, eni: Eni) -> CloudFault | None:
        """The fault, if it cannot come yet: the others need not wait for it."""
        try:
            with _translated(f"bring {eni.id} back"):
                self._plug(eni, self._as_the_kernel_returns(self._last.get(eni.mac) or _home(eni)))
        except CloudFault as fault:
            return fault
        return None

    def _remember(self, link: netlink.Link) -> str:
        """Note what a NIC is like; its MAC, "" for another link: a bridge or VLAN upon it has its MAC, not its kind."""
        if not self._is_nic(link):
            return ""
        self._last[link.mac] = links.value_of(link)
        return link.mac

    def _forget_position(self, link: netlink.Link) -> None:
        """Where a NIC that has moved on is now, it may have an id that another namespace had."""
        if self._is_nic(link):
            self._positions.pop(link.mac, None)

    def _is_nic(self, link: netlink.Link) -> bool:
        return link.mac in self._enis and links.kind_of(link) == self._backend

    def _look_at_near_end(self, eni: Eni, far: netlink.Link, *, thorough: bool) -> None:
        """Ask for a near end that has moved, where it is now: listing the far end has given that namespace an id.

        From then on messages tell its changes; but none tells those of the alias and the altnames while it is down.
        """
        position = links.peer_of(far)
        last = self._last.get(eni.mac)
        is_quiet = position.nsid != self._home_nsid and last is not None and not last.up
        if position.nsid is None or position.ifindex is None:
            return
        if position != self._positions.get(eni.mac) or (thorough and is_quiet):
            with contextlib.suppress(plugin_errors.KernelError):  # it moved on since; its messages will tell
                self._remember(self._far_ends.link_in(position.nsid, position.ifindex))
                self._positions[eni.mac] = position

    def _as_the_kernel_returns(self, was: Link) -> Link:
        """Which name, ifindex and altnames a NIC keeps on its way to the initial netns.

        Source: incidents P1, P2, P3 (measured with virtio NICs); ``net/core/dev.c`` default_device_exit_net: the
        ``dev<ifindex>`` that takes the place of a taken name has the ifindex that the NIC had inside.
        """
        at_home = self._at_home.links()
        taken = {name for link in at_home for name in (link.name, *link.altnames)}
        spare = (f"dev{number}" for number in range(len(taken) + 1))
        wanted = (was.name, *((f"dev{was.ifindex}",) if was.ifindex else ()), *spare)
        name = next(name for name in wanted if name not in taken)
        altnames = tuple(one for one in was.altnames if one not in taken and one != name)
        ifindex = 0 if was.ifindex in {link.ifindex for link in at_home} else was.ifindex
        return dataclasses.replace(was, ifindex=ifindex, name=name, altnames=altnames)

    def _plug(self, eni: Eni, near: Link) -> None:
        """Make an ENI's NIC, whole or not at all. Raises NetlinkError.

        It is made from the workshop, where no other link is in the way: up to Linux 6.12 the ifindex that it is to have
        in another namespace must be free where the request comes from, too (``net/core/rtnetlink.c`` __rtnl_newlink).
        """
        if self._backend == VETH:
            self._plug_pair(eni, near)
            return
        is_plain = not near.alias and not near.altnames
        self._workshop.link(
            "add",
            ifname=near.name,
            kind=self._backend,
            address=eni.mac,
            mtu=near.mtu,
            net_ns_fd=self._initial_fd if is_plain else self._workshop_fd,
            **({"macvlan_mode": "bridge", "link": _UPLINK_INDEX} if self._backend == MACVLAN else {}),
            **({"index": near.ifindex} if near.ifindex else {}),
        )
        if is_plain:
            return
        made = self._workshop.link_lookup(ifname=near.name)[0]
        try:
            self._dress(made, near)
        except BaseException:
            self._workshop.link("del", index=made)
            raise

    def _plug_pair(self, eni: Eni, near: Link) -> None:
        """Make an ENI's veth pair: ``near`` in the initial netns, its far end on the bridge. All of it, or nothing.

        Raises NetlinkError.
        """
        is_plain = not near.alias and not near.altnames  # then one request makes all of it; a move would take 15 ms
        maker = self._initial if is_plain else self._workshop
        maker.link(
            "add",
            ifname=near.name,
            kind="veth",
            address=eni.mac,
            mtu=near.mtu,
            peer={"ifname": eni.id, "net_ns_fd": self._fabric_fd, "mtu": near.mtu},
            **({"index": near.ifindex} if near.ifindex else {}),
        )
        try:
            (far,) = self._far_ends.links(name=eni.id)
            self._fabric.link("set", index=far.ifindex, master=self._bridge, state="up")
            peer = links.peer_of(far)
            if is_plain:
                self._home_nsid = peer.nsid
            else:
                assert peer.ifindex is not None  # the far end of a pair has one
                self._dress(peer.ifindex, near)
        except BaseException:
            self._fabric.link("del", ifname=eni.id)
            raise
        self._last.pop(eni.mac, None)
        self._positions.pop(eni.mac, None)

    def _dress(self, index: int, near: Link) -> None:
        """Give a link in the workshop its alias and altnames, and send it to the initial netns. Raises NetlinkError."""
        if near.alias:
            self._workshop.link("set", index=index, ifalias=near.alias)
        for altname in near.altnames:
            self._workshop.link("property_add", index=index, altname=altname)
        self._workshop.link("set", index=index, net_ns_fd=self._initial_fd)

    def _add_gateways(self, eni: Eni) -> None:
        pairs = ((eni.subnet.cidr4, eni.subnet.gateway4), (eni.subnet.cidr6, eni.subnet.gateway6))
        for cidr, gateway in pairs:
            if gateway not in self._gateways:
                prefix_length = int(cidr.partition("/")[2])
                self._fabric.addr("add", index=self._bridge, address=gateway, prefixlen=prefix_length)
                self._gateways.add(gateway)

    def is_needed(self) -> bool:
        """Whether there are ENIs, and somebody else still holds the initial netns: a process, or a mounted file."""
        if not self._enis:
            return False
        netns = os.fstat(self._initial_fd)
        if f"net:[{netns.st_ino}]" in Path("/proc/self/mountinfo").read_text(errors="replace"):
            return True
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if (process / "ns/net").stat().st_ino == netns.st_ino and process.name != str(os.getpid()):
                    return True
        return False


def _home(eni: Eni) -> Link:
    return Link(0, eni.name, eni.mac, eni.mtu)


def _own_netns() -> int:
    return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)


@contextlib.contextmanager
def _translated(operation: str) -> Iterator[None]:
    try:
        yield
    except plugin_errors.KernelError as error:
        raise CloudFault(operation, error.errno, error.text) from error
    except pyroute2.NetlinkError as error:
        raise CloudFault(operation, error.code, os.strerror(error.code)) from error
    except OSError as error:
        raise CloudFault(operation, error.errno or 0, error.strerror or str(error)) from error
