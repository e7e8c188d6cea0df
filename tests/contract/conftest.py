"""What the contracts of the models share: the real kernel, driven step by step from inside a lab."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyroute2
import pytest

from enim import effects, errors, namespaces, netlink, rtnetlink
from simulator import syscalls, topology
from simulator.errors import KernelFault
from simulator.model import Link
from simulator.real import cloud, kernel

ENIS = topology.enis(3)
PODS = ("p1", "p2")
PATIENCE_S = 5.0
HEARING_S = 0.03  # until the hardware process has looked where a NIC went


class Real:
    """The real kernel, from inside a lab."""

    def __init__(self, scratch: Path) -> None:
        cloud.attach(len(ENIS))
        self.scratch = scratch
        self.kernel = kernel.Kernel()
        self.pins: dict[str, Callable[[], None]] = {}
        self.held: dict[int, str] = {}  # file descriptor → what it holds, as a path
        self.restore = self.kernel.restore

    def path(self, netns: str) -> str:
        return str(self.scratch / netns) if netns else ""

    def create(self, netns: str) -> None:
        kernel.create_netns(Path(self.path(netns)), accept_dad=False)

    def delete(self, netns: str) -> None:
        self.tell_the_hardware(netns)
        kernel.delete_netns(Path(self.path(netns)))

    def unmount(self, netns: str) -> None:
        self.tell_the_hardware(netns)
        try:
            syscalls.unmount(self.path(netns))
        except OSError as error:
            raise KernelFault(f"unmount {netns}", error.errno or 0, str(error)) from error

    def pin(self, netns: str) -> Callable[[], None]:
        descriptor = os.open(self.path(netns), os.O_RDONLY)
        identity = os.fstat(descriptor).st_ino
        self.held[descriptor] = f"/proc/self/fd/{descriptor}"

        def let_go() -> None:
            del self.held[descriptor]
            if not self.is_named(identity):
                self.rouse(f"/proc/self/fd/{descriptor}")
            os.close(descriptor)

        return let_go

    def is_named(self, identity: int) -> bool:
        """Whether a path or another descriptor still leads to this namespace."""
        return any(Path(self.path(pod)).exists() and Path(self.path(pod)).stat().st_ino == identity for pod in PODS)

    def is_netns(self, netns: str) -> bool:
        return namespaces.netns_alive(self.path(netns))

    def tell_the_hardware(self, netns: str) -> None:
        """It has to know what a NIC is like before the NIC dies; no message tells the alias of one that is down."""
        path = self.path(netns)
        if not any(Path(path).samefile(held) for held in self.held.values()):
            self.rouse(path)

    def rouse(self, path: str) -> None:
        macs = [eni.mac for eni in ENIS]
        links = [link for link in kernel.Kernel().netns_links(path) if link.mac in macs]
        if links:
            time.sleep(HEARING_S)
        for link in links:
            self.ask(path, "link", "set", index=link.ifindex, state="down")
            self.ask(path, "link", "set", index=link.ifindex, state="up")

    def ask(self, path: str, noun: str, verb: str, **attributes: Any) -> None:
        """One request of pyroute2's in a namespace."""
        namespace = os.open(path or "/proc/thread-self/ns/net", os.O_RDONLY)
        try:
            with netlink.inside(namespace, pyroute2.IPRoute) as route:
                getattr(route, noun)(verb, **attributes)
        except pyroute2.NetlinkError as error:
            raise KernelFault(f"{noun} {verb}", error.code, os.strerror(error.code)) from error
        finally:
            os.close(namespace)

    def add_link(self, name: str, mac: str, netns: str) -> None:
        self.ask(self.path(netns), "link", "add", ifname=name, address=mac, kind="bridge")

    def move_in(self, link: Link, target: str, name: str, alias: str) -> None:
        try:
            rtnetlink.move_in(effects.MoveIn(link.ifindex, self.path(target), name, alias))
        except errors.KernelError as error:
            raise KernelFault(error.operation, error.errno, error.text) from error

    def move(self, link: Link, target: str) -> None:
        namespace = os.open(self.path(target) or "/proc/thread-self/ns/net", os.O_RDONLY)
        try:
            self.ask(self.path(link.netns), "link", "set", index=link.ifindex, net_ns_fd=namespace)
        finally:
            os.close(namespace)

    def move_home(self, netns: str, mac: str, name: str) -> None:
        self.kernel.move_home(self.path(netns), mac, name)

    def change(self, link: Link, attribute: str, value: Any) -> None:
        if attribute == "up":
            wanted: dict[str, Any] = {"state": "up" if value else "down"}
        else:
            wanted = {{"name": "ifname", "alias": "ifalias"}.get(attribute, attribute): value}
        self.ask(self.path(link.netns), "link", "set", index=link.ifindex, **wanted)

    def add_altname(self, link: Link, name: str) -> None:
        self.ask(self.path(link.netns), "link", "property_add", index=link.ifindex, altname=name)

    def add_address(self, link: Link, address: str) -> None:
        ip, _, length = address.partition("/")
        self.ask(self.path(link.netns), "addr", "add", index=link.ifindex, address=ip, prefixlen=int(length))

    def links(self, netns: str = "") -> tuple[Link, ...]:
        found = self.kernel.netns_links(self.path(netns)) if netns else self.kernel.links()
        return tuple(replace(link, netns=netns) for link in found)

    def settle(self) -> None:
        """Until the hardware has brought home what died."""
        deadline = time.monotonic() + PATIENCE_S
        wanted = {eni.mac for eni in ENIS}
        while time.monotonic() < deadline:
            missing = wanted - {link.mac for link in self.links()}
            for path in [self.path(pod) for pod in PODS if self.is_netns(pod)] + list(self.held.values()):
                missing -= {link.mac for link in self.kernel.netns_links(path)} if missing else set()
            if not missing:
                return
            time.sleep(0.005)


def renames_live(_scratch: Path) -> bool:
    """Whether the kernel that one is on renames a link that is up, found by trying (P5)."""
    with pyroute2.IPRoute() as route:
        route.link("add", ifname="try", kind="bridge")
        index = route.link_lookup(ifname="try")[0]
        route.link("set", index=index, state="up")
        try:
            route.link("set", index=index, ifname="renamed")
        except pyroute2.NetlinkError as error:
            if error.code != errno.EBUSY:
                raise
            return False
    return True


@pytest.fixture
def live_rename(in_lab: Callable[[Callable[[Path], Any]], Any]) -> bool:
    """What the models must be told of this kernel."""
    return bool(in_lab(renames_live))


@pytest.fixture
def real() -> type[Real]:
    """The class: it is made in the lab, of the lab's scratch directory."""
    return Real
