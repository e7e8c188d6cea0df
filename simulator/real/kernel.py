"""EDGE: the links of a node and its network namespaces, on the real kernel.

A netlink socket belongs to the namespace in which it was opened, so a thread enters a namespace only to open one and
comes back at once; namespaces of their own threads are left by ending the thread. A socket for each call (0.5 ms)
keeps every method callable from any thread.

Source: rtnetlink(7), setns(2); incidents.md K1 to K10.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import fcntl
import os
import select
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pyroute2

from enim import effects as plugin_effects
from enim import errors as plugin_errors
from enim import netlink, rtnetlink
from simulator import effects, syscalls
from simulator.errors import KernelFault
from simulator.model import Link
from simulator.real import links

Answer = TypeVar("Answer")

_OWN_NETNS = "/proc/thread-self/ns/net"
_NS_GET_NSTYPE = 0xB703  # linux/nsfs.h
_RTMGRP_LINK, _RTMGRP_IPV4_IFADDR, _RTMGRP_IPV6_IFADDR = 0x1, 0x10, 0x100


class Kernel:
    """The links of the netns of whoever calls. Any thread may call; failures are ``KernelFault``."""

    def links(self) -> tuple[Link, ...]:
        """All links but ``lo``, by rising ifindex."""
        return _links("")

    def netns_links(self, path: str) -> tuple[Link, ...]:
        """The same for the namespace at ``path``."""
        return _links(path)

    def inspect(self, path: str, mac: str) -> effects.NetnsView:
        """Carry out ``InspectNetns``. What cannot be looked at, for whatever reason, is no evidence: a fault."""
        operation = f"look at {path}"
        with _translated(operation):
            namespace = _open_if_netns(path)
            if namespace is None:
                return effects.NetnsView("", None)
            try:
                status = os.fstat(namespace)
                inside = _links(f"/proc/thread-self/fd/{namespace}")
            finally:
                os.close(namespace)
        link = next((dataclasses.replace(link, netns=path) for link in inside if link.mac == mac), None)
        return effects.NetnsView(f"{status.st_dev}:{status.st_ino}", link)

    def move_home(self, path: str, mac: str, name: str) -> None:
        """Carry out ``MoveHome``."""
        operation = f"move {mac} home from {path}"
        try:
            link = rtnetlink.find_link(plugin_effects.FindLink(mac=mac, netns=path))
            moved = link is not None and rtnetlink.move_out(plugin_effects.MoveOut(path, link.name, name))
        except plugin_errors.KernelError as error:
            raise KernelFault(error.operation, error.errno, error.text) from error
        if not moved:
            raise KernelFault(operation, errno.ENODEV, "it is not there")

    def restore(self, ifindex: int, name: str, mtu: int) -> None:
        """Carry out ``RestoreIdentity``. The name comes last: it may be taken, and the rest is done then."""
        with _translated(f"restore {name}"), links.Channel() as channel:
            channel.restore(ifindex, name, mtu)

    def watch(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call back, from a thread of its own, when links or addresses of this netns change. Returns what ends that."""
        with _translated("watch the links"):
            changes = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
            changes.bind((0, _RTMGRP_LINK | _RTMGRP_IPV4_IFADDR | _RTMGRP_IPV6_IFADDR))
        stopped, stop = os.pipe()
        thread = threading.Thread(target=_watch, args=(changes, stopped, callback), daemon=True, name="links")
        thread.start()

        def end() -> None:
            os.close(stop)
            thread.join()

        return end


def create_netns(path: Path, *, accept_dad: bool) -> None:
    """Create a network namespace that a bind mount at ``path`` keeps alive, with ``lo`` up.

    Args:
        path: a file that does not exist yet, in an existing directory.
        accept_dad: whether NICs in it do IPv6 duplicate address detection, which takes up to 2 s per address.

    Raises:
        KernelFault: and nothing is left at ``path``.
    """

    def create() -> None:
        syscalls.unshare(syscalls.CLONE_NEWNET)
        if not accept_dad:
            Path("/proc/sys/net/ipv6/conf/default/accept_dad").write_text("0")
        with pyroute2.IPRoute() as route:
            route.link("set", index=1, state="up")
        syscalls.mount(_OWN_NETNS, str(path), flags=syscalls.MS_BIND)

    with _translated(f"create the network namespace {path}"):
        path.touch(exist_ok=False)
        try:
            _in_thread(create)
        except BaseException:
            path.unlink()
            raise


def delete_netns(path: Path) -> None:
    """Remove a namespace's file. The kernel ends the namespace when nothing else holds it. Raises KernelFault."""
    with _translated(f"delete the network namespace {path}"):
        syscalls.unmount(str(path))
        path.unlink()


def _in_thread(action: Callable[[], Answer]) -> Answer:
    """Run ``action`` in a thread of its own, which may change its namespaces and take them to its grave."""
    answers: list[Answer] = []
    raised: list[BaseException] = []

    def run() -> None:
        try:
            answers.append(action())
        except BaseException as error:  # noqa: BLE001 - raised again in the caller's thread
            raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if raised:
        raise raised[0]
    return answers[0]


def _watch(changes: socket.socket, stopped: int, callback: Callable[[], None]) -> None:
    poll = select.poll()
    poll.register(stopped, select.POLLIN)
    poll.register(changes, select.POLLIN)
    with changes:
        while not any(fd == stopped for fd, _ in poll.poll()):
            with contextlib.suppress(OSError):  # ENOBUFS: changes were lost, so there were some
                changes.recv(1 << 16)
            callback()
    os.close(stopped)


def _links(path: str) -> tuple[Link, ...]:
    with _translated(f"list the links of {path or 'the initial netns'}"), netlink.Channel(path) as channel:
        return links.all_of(channel, path)


def _open_if_netns(path: str) -> int | None:
    """The network namespace that ``path`` names, opened; None if it names none. Raises OSError if that is not sure.

    All namespace files lie on the kernel's one nsfs. (``enim.namespaces.netns_alive`` knows that too, but takes "I
    cannot look" for "no": out of file descriptors, every pod would seem dead.)
    """
    try:
        if Path(path).stat().st_dev != Path(_OWN_NETNS).stat().st_dev:
            return None
        namespace = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError, ValueError):  # ValueError: a path that no file can have
        return None
    try:
        kind = fcntl.ioctl(namespace, _NS_GET_NSTYPE)
    except OSError:
        os.close(namespace)
        raise
    if kind == syscalls.CLONE_NEWNET:
        return namespace
    os.close(namespace)
    return None


@contextlib.contextmanager
def _translated(operation: str) -> Iterator[None]:
    """Foreign exceptions become ours, once."""
    try:
        yield
    except plugin_errors.KernelError as error:
        raise KernelFault(operation, error.errno, error.text) from error
    except pyroute2.NetlinkError as error:
        raise KernelFault(operation, error.code, os.strerror(error.code)) from error
    except OSError as error:
        raise KernelFault(operation, error.errno or 0, error.strerror or str(error)) from error
