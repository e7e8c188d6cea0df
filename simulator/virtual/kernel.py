"""A model of the kernel's links and network namespaces, as far as ENIs are moved between them.

- A name is taken in a namespace by a link's name or by an altname (K3 to K5). A move onto one that is taken fails with
  EEXIST; so does a move that would bring a taken altname, whatever the name.
- A move keeps the ifindex if that is free there, else the namespace's own counter goes on (K10; measured on 6.18: the
  counter is not touched by an index that was kept). It keeps MAC, MTU, alias and altnames; the link is down after it
  and has no addresses (K7, K8).
- A namespace ends when nothing holds it: no file and no process (K2). Then a NIC comes home under the name it had
  inside; if that is taken, as ``dev<ifindex>``, then ``dev%d``; an altname that is taken at home is dropped (P1 to P3).
  A virtual link dies with it (K1, P4).
- A path whose mount is gone is a plain file: it names no namespace (K9).
- A link that is up can be renamed since Linux 6.2, whose commit bd039b5ea2a9 took a check out of ``dev_change_name``;
  before, that is EBUSY, also when the name is the one that it has (P5). A move closes the link, and so renames any.

Failures are ``KernelFault``. Home is the namespace "", the initial one.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from simulator.effects import NetnsView
from simulator.errors import KernelFault
from simulator.model import Eni, Link

HOME = ""
NAME_BYTES_MAX = 15  # IFNAMSIZ without the final NUL
HANDLE = "#"  # how the handle of an open namespace begins


@dataclass(slots=True, eq=False)
class _Netns:
    """A network namespace: ``links`` by ifindex; ``holders`` counts its file and the processes inside."""

    identity: str
    links: dict[int, Link] = field(default_factory=dict)
    last_ifindex: int = 1  # lo
    holders: int = 1

    def is_taken(self, name: str, besides: int = 0) -> bool:
        """Whether another link than ``besides`` has this name or altname."""
        return any(name == link.name or name in link.altnames for index, link in self.links.items() if index != besides)

    def index_for(self, ifindex: int) -> int:
        """The ifindex that a link gets which had this one before; 0 for a new link."""
        if ifindex and ifindex not in self.links:
            return ifindex
        while True:
            self.last_ifindex += 1
            if self.last_ifindex not in self.links:
                return self.last_ifindex

    def free_name(self, *wanted: str) -> str:
        """The first of these names that is free, else the first free ``dev%d``."""
        candidates = (*wanted, *(f"dev{number}" for number in range(len(self.links) + len(wanted) + 1)))
        return next((name for name in candidates if not self.is_taken(name)), candidates[-1])


class Kernel:
    """The links of one node.

    Args:
        changed: called after every change of the links at home.
        live_rename: whether a link that is up can be renamed.
    """

    def __init__(self, changed: Callable[[], None] = lambda: None, *, live_rename: bool = True) -> None:
        self._changed = changed
        self._live_rename = live_rename
        self._home = _Netns("1:1")
        self._paths: dict[str, _Netns | None] = {HOME: self._home}  # None: a plain file
        self._nics: list[str] = []  # MACs of what outlives its namespace
        self._netns_count = 1
        self._handle_count = 0

    def attach(self, eni: Eni) -> None:
        """The hardware brings up an ENI at home."""
        self._nics.append(eni.mac)
        self.add_link(eni.name, eni.mac, mtu=eni.mtu)

    def add_link(self, name: str, mac: str, netns: str = HOME, mtu: int = 1500) -> int:
        """Create a virtual link; returns its ifindex."""
        space = self._space(netns, f"add {name}")
        if space.is_taken(name):
            raise _fault(errno.EEXIST, f"add {name}")
        ifindex = space.index_for(0)
        self._put(space, Link(ifindex, name, mac, mtu, netns=netns))
        return ifindex

    def remove_link(self, name: str, netns: str = HOME) -> None:
        """Delete a link."""
        space, link = self._named(name, netns, "remove")
        del space.links[link.ifindex]
        self._tell(space)

    def change(self, name: str, /, netns: str = HOME, **changes: object) -> None:
        """Set attributes of the link ``name``, as ``ip link`` would: name, mtu, alias, altnames, addresses, up."""
        space, link = self._named(name, netns, "change")
        changed: Link = replace(link, **changes)  # type: ignore[arg-type]
        if "name" in changes:
            _check_length(changed.name, f"change {name}")
            if link.up and not self._live_rename:
                raise _fault(errno.EBUSY, f"change {name}")
            _check_characters(changed.name, f"change {name}")
        names = (changed.name, *changed.altnames)
        if len(set(names)) < len(names) or any(space.is_taken(taken, link.ifindex) for taken in names):
            raise _fault(errno.EEXIST, f"change {name}")
        if link.up and not changed.up:
            changed = replace(changed, addresses=tuple(one for one in changed.addresses if ":" not in one))
        self._put(space, changed)

    def create_netns(self, path: str) -> None:
        """Create a namespace with a file at ``path``."""
        if path in self._paths:
            raise _fault(errno.EEXIST, f"create {path}")
        self._netns_count += 1
        self._paths[path] = _Netns(f"4:{4026530000 + self._netns_count}")

    def delete_netns(self, path: str) -> None:
        """Unmount and remove the file; the namespace ends unless a process holds it."""
        space = self._paths.pop(path, None)
        if space is not None:
            self._drop(space)

    def unmount_netns(self, path: str) -> None:
        """Unmount only: a plain file stays behind (K9)."""
        space = self._space(path, f"unmount {path}")
        self._paths[path] = None
        self._drop(space)

    def pin(self, path: str) -> Callable[[], None]:
        """A process holds the namespace from now on; the result lets go."""
        space = self._space(path, f"pin {path}")
        space.holders += 1
        return lambda: self._drop(space)

    def open_netns(self, path: str | None) -> str:
        """A process opens the namespace at ``path``, or with None makes one without a path.

        Returns:
            A handle, which stands for a path, holds the namespace, and is let go with ``delete_netns``.
        """
        self._handle_count += 1
        handle = f"{HANDLE}{self._handle_count}"
        if path is None:
            self.create_netns(handle)
        else:
            space = self._space(path, f"open {path}")
            space.holders += 1
            self._paths[handle] = space
        return handle

    def paths(self) -> tuple[str, ...]:
        """The paths that name a namespace, home first; handles are no paths."""
        return tuple(path for path, space in self._paths.items() if space is not None and not path.startswith(HANDLE))

    def is_netns(self, path: str) -> bool:
        """Whether ``path`` names a namespace."""
        return self._paths.get(path) is not None

    def links(self, netns: str = HOME) -> tuple[Link, ...]:
        """The links of a namespace, by ifindex, without lo."""
        links = sorted(self._space(netns, f"list {netns}").links.items())
        return tuple(replace(link, netns=netns) for _, link in links)

    def inspect(self, path: str, mac: str) -> NetnsView:
        """What ``path`` names, and the link with ``mac`` in it."""
        space = self._paths.get(path) if path != HOME else None
        if space is None:
            return NetnsView("", None)
        return NetnsView(space.identity, next((link for link in self.links(path) if link.mac == mac), None))

    def move(self, ifindex: int, source: str, target: str, name: str, alias: str | None = None) -> int:
        """Move a link, under ``name``, in one request; ``alias`` None leaves it. Returns its ifindex in ``target``."""
        operation = f"move {ifindex} from {source or 'home'} to {target or 'home'} as {name}"
        here, there = self._space(source, operation), self._space(target, operation)
        link = here.links.get(ifindex)
        if link is None:
            raise _fault(errno.ENODEV, operation)
        if name in link.altnames or any(there.is_taken(taken) for taken in (name, *link.altnames)):
            raise _fault(errno.EEXIST, operation)
        del here.links[ifindex]
        self._tell(here)
        moved = replace(link, ifindex=there.index_for(ifindex), name=name, addresses=(), up=False, netns=target)
        self._put(there, moved if alias is None else replace(moved, alias=alias))
        return moved.ifindex

    def move_home(self, path: str, mac: str, name: str) -> None:
        """Move the link with ``mac`` home, as ``move_out`` does."""
        operation = f"move {mac} home from {path}"
        links = self._space(path, operation).links.values()
        link = next((link for link in links if link.mac == mac), None)
        if link is None:
            raise _fault(errno.ENODEV, operation)
        self.move_out(link.name, path, name)

    def move_out(self, name: str, netns: str, home_name: str) -> None:
        """Move a link home, without alias, under ``home_name`` or, if that is taken, a free ``dev%d``.

        Those of its altnames that are in the way are dropped, as ``enim.rtnetlink`` drops them.
        """
        space, link = self._named(name, netns, "move out")
        altnames = tuple(one for one in link.altnames if one != home_name and not self._home.is_taken(one))
        space.links[link.ifindex] = replace(link, altnames=altnames)
        wanted = () if "%" in home_name else (home_name,)
        self.move(link.ifindex, netns, HOME, self._home.free_name(*wanted), "")

    def free_name(self, *wanted: str) -> str:
        """The first of these names that is free at home, else the first free ``dev%d``."""
        return self._home.free_name(*wanted)

    def restore(self, ifindex: int, name: str, mtu: int) -> None:
        """Give a link at home its identity back; fails with EEXIST if another link has the name."""
        link = self._home.links.get(ifindex)
        if link is None:
            raise _fault(errno.ENODEV, f"restore {name}")
        bare = replace(link, alias="", altnames=(), addresses=(), mtu=mtu, up=False)
        if self._home.is_taken(name, ifindex):
            self._put(self._home, bare)  # what could be done stays done
            raise _fault(errno.EEXIST, f"restore {name}")
        self._put(self._home, replace(bare, name=name))

    def _drop(self, space: _Netns) -> None:
        """One holder less; the last one ends the namespace."""
        space.holders -= 1
        if space.holders == 0:
            nics = [link for _, link in sorted(space.links.items()) if link.mac in self._nics]
            space.links.clear()
            for link in nics:
                self._bring_home(link)

    def _bring_home(self, link: Link) -> None:
        ifindex = self._home.index_for(link.ifindex)
        name = self._home.free_name(link.name, f"dev{ifindex}")
        altnames = tuple(one for one in link.altnames if not self._home.is_taken(one) and one != name)
        link = replace(link, ifindex=ifindex, name=name, altnames=altnames, addresses=(), up=False, netns=HOME)
        self._put(self._home, link)

    def _space(self, path: str, operation: str) -> _Netns:
        space = self._paths.get(path)
        if space is None:
            raise _fault(errno.EINVAL if path in self._paths else errno.ENOENT, operation)
        return space

    def _named(self, name: str, netns: str, verb: str) -> tuple[_Netns, Link]:
        space = self._space(netns, f"{verb} {name}")
        link = next((link for link in space.links.values() if name == link.name or name in link.altnames), None)
        if link is None:
            raise _fault(errno.ENODEV, f"{verb} {name}")
        return space, link

    def _put(self, space: _Netns, link: Link) -> None:
        space.links[link.ifindex] = link
        self._tell(space)

    def _tell(self, space: _Netns) -> None:
        if space is self._home:
            self._changed()


def _check_length(name: str, operation: str) -> None:
    """What the kernel says to any request with a name that is too long. Source: the policy of IFLA_IFNAME."""
    if not 1 <= len(name.encode()) <= NAME_BYTES_MAX:
        raise _fault(errno.ERANGE, operation)


def _check_characters(name: str, operation: str) -> None:
    """What the kernel says to a name that no link can have. Source: dev_valid_name."""
    if name in (".", "..") or any(one in "/:" or one.isspace() for one in name):
        raise _fault(errno.EINVAL, operation)


def _fault(number: int, operation: str) -> KernelFault:
    return KernelFault(operation, number, os.strerror(number))
