"""EDGE: what the plugins do with links: find one, move it into a pod and home again, configure it.

Owns the effects on links and namespaces, and the sleep between two looks at duplicate address detection.

Rules:
    - One request moves, renames and sets the alias, so that a kill finds a link either as it was or as it shall be.
      The kernel closes a link that is up before it moves it, so none is set down first: a refused move leaves it up.
    - The kernel tries the wanted name only *after* the move if the present one is free in the target: EEXIST may leave
      the link on the other side under its old name. So the name is looked up first, and after a refusal both sides are.
    - In a move the kernel waits until other processors have read what they may be reading (``rcu_barrier``): some of
      its ticks, and longer if they have other things to do. So nothing is done beside it.

Source: net/core/rtnetlink.c ``do_setlink``, net/core/dev.c ``__dev_change_net_namespace``; measured on Linux 6.18;
contract A12, incidents K2 to K10, P3.
"""

import errno
import posix
import time

from enim import addresses, effects, errors, netlink

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

DAD_TIMEOUT_MS = 5000  # as containernetworking's SettleAddresses
DAD_POLL_MS = 20
FREE_NAME = "dev%d"

_ATTEMPTS_MAX = 10  # of a move whose name was taken between the look and the request


def find_link(effect: effects.FindLink) -> "effects.Link | None":
    """Find the link that satisfies every condition; the lowest index if there are several.

    A name means the link's name, not one of its altnames. Raises KernelError.
    """
    with netlink.Channel(effect.netns) as channel:
        for link in channel.links(effect.ifindex, effect.name):
            if effect.name in ("", link.name) and effect.mac.lower() in ("", link.mac):
                return effects.Link(link.ifindex, link.name, link.mac, link.alias)
    return None


def move_in(effect: effects.MoveIn) -> int:
    """Move, rename and alias a link of this netns; return its new index. Raises KernelError; then it is as it was."""
    with netlink.Channel() as home, netlink.Channel(effect.netns) as pod:
        link = home.link(effect.ifindex)
        operation = f"move {link.name if link else effect.ifindex} into {effect.netns} as {effect.ifname}"
        if link is None:
            raise errors.KernelError(operation, errno.ENODEV, f"no link has the index {effect.ifindex}")
        if pod.is_taken(effect.ifname):
            raise errors.KernelError(operation, errno.EEXIST, "a link has that name there already")
        try:
            home.rename(operation, link.ifindex, effect.ifname, effect.alias, pod)
            arrived = pod.link(name=effect.ifname)
            if arrived is None or arrived.mac != link.mac:
                raise errors.KernelError(operation, errno.ENODEV, "it did not arrive under that name")
        except errors.KernelError as error:
            _bring_back(error, link, effect.ifname, home, pod)
            raise
        return arrived.ifindex


def move_out(effect: effects.MoveOut) -> bool:
    """Move a link of ``netns`` into this one, under ``name`` or a free ``dev%d``; False if there is no such link.

    Those of its altnames that are taken here are dropped, as the kernel does when a netns ends (incidents P3).
    Raises KernelError; then it is still there, as it was.
    """
    operation = f"move {effect.ifname} out of {effect.netns} as {effect.name}"
    with netlink.Channel() as home, netlink.Channel(effect.netns) as pod:
        for _attempt in range(_ATTEMPTS_MAX):
            link = pod.link(name=effect.ifname)
            if link is None:
                return False
            for altname in link.altnames:
                if altname == effect.name or home.is_taken(altname):
                    pod.drop_altname(link.ifindex, altname)
            try:
                pod.rename(operation, link.ifindex, _free_name(effect.name, home), "", home)
            except errors.KernelError as error:
                if pod.link(name=link.name) is None and _finish_half_move(link, home):
                    return True
                if error.errno != errno.EEXIST:
                    raise
            else:
                return True
    raise errors.KernelError(operation, errno.EEXIST, f"other links took the name before each of {_ATTEMPTS_MAX} moves")


def configure(effect: effects.Configure) -> None:
    """Add the addresses, set the link up, add the routes; with ``dad``, wait for its end. Raises KernelError."""
    with netlink.Channel(effect.netns) as pod:
        link = pod.link(name=effect.ifname)
        if link is None:
            raise errors.KernelError(f"configure {effect.ifname} in {effect.netns}", errno.ENODEV, "it is not there")
        wanted = {text: _parsed(f"add {text} to {effect.ifname}", text) for text in effect.addresses}
        if any(family == 6 for family, _number, _length in wanted.values()):
            netlink.inside(pod.descriptor, lambda: _enable_ipv6(effect.ifname))
        for text, address in wanted.items():
            pod.add_address(f"add {text} to {effect.ifname}", link.ifindex, address, dad=effect.dad)
        pod.set_up(f"set {effect.ifname} up", link.ifindex)
        for dst, gw, attributes in effect.routes:
            _add_route(pod, link.ifindex, dst, gw, attributes)
        if effect.dad:
            awaited = {number for family, number, _length in wanted.values() if family == 6}
            _await_duplicate_detection(pod, link, awaited)


def addresses_of(effect: effects.Addresses) -> frozenset[tuple[int, int, int]]:
    """The addresses of a link, ``(family, number, prefix length)``. Raises KernelError."""
    with netlink.Channel(effect.netns) as pod:
        link = pod.link(name=effect.ifname)
        if link is None:
            raise errors.KernelError(f"look at {effect.ifname} in {effect.netns}", errno.ENODEV, "it is not there")
        return pod.addresses(link.ifindex)


def _free_name(name: str, home: netlink.Channel) -> str:
    """The name, or the first free ``dev%d``. The kernel would replace %d too, but once for the move and once more."""
    number = 0
    while name in ("", FREE_NAME) or home.is_taken(name):
        name = FREE_NAME % number
        number += 1
    return name


def _bring_back(
    error: errors.KernelError, link: netlink.Link, ifname: str, home: netlink.Channel, pod: netlink.Channel
) -> None:
    """Undo a move into ``pod`` of which the kernel did one half; a failure is added to ``error``."""
    try:
        still_here = home.link(link.ifindex)
        for stray in () if still_here and still_here.mac == link.mac else pod.links():
            if stray.mac == link.mac and stray.name in (link.name, ifname):
                pod.rename(f"bring {stray.name} back as {link.name}", stray.ifindex, link.name, link.alias, home)
                back = home.link(name=link.name)
                if link.up and back is not None:
                    home.set_up(f"set {link.name} up again", back.ifindex)
    except errors.KernelError as second:
        error.text += f"; then the kernel refused to {second.operation}: {second.text}"


def _finish_half_move(link: netlink.Link, home: netlink.Channel) -> bool:
    """Give a link that came home under its name in the pod a free one; False if it did not come."""
    stray = home.link(name=link.name)
    if stray is None or stray.mac != link.mac:
        return False
    home.rename(f"rename {stray.name}", stray.ifindex, FREE_NAME, "")
    return True


def _parsed(operation: str, text: str) -> tuple[int, int, int]:
    try:
        return addresses.parse_prefix(text)
    except ValueError as error:
        raise errors.KernelError(operation, errno.EINVAL, str(error)) from None


def _add_route(pod: netlink.Channel, ifindex: int, dst: str, gw: str, attributes: "Mapping[str, int]") -> None:
    """Add a route; the same one, there already (from a router's advertisement, or twice in the result), will do."""
    operation = f"add a route to {dst} via {gw}" if gw else f"add an on-link route to {dst}"
    family, number, length = _parsed(operation, dst)
    gateway = None
    if gw:
        gateway_family, gateway, _length = _parsed(operation, f"{gw}/{addresses.BITS[family]}")
        if gateway_family != family:
            raise errors.KernelError(operation, errno.EINVAL, "the gateway is of the other address family")
    network = (family, addresses.network(family, number, length), length)
    try:
        pod.add_route(operation, ifindex, network, gateway, attributes)
    except errors.KernelError as error:
        if error.errno != errno.EEXIST:
            raise


def _enable_ipv6(ifname: str) -> None:
    """Let lo and ``ifname`` have IPv6 addresses, and ``ifname`` keep them when it is down for a while (contract A12).

    Runtimes disable IPv6 in namespaces of IPv4 pods.
    """
    for name, setting, value in (
        ("lo", "disable_ipv6", b"0"),
        (ifname, "disable_ipv6", b"0"),
        (ifname, "keep_addr_on_down", b"1"),
    ):
        try:
            file = posix.open(f"/proc/sys/net/ipv6/conf/{name}/{setting}", posix.O_RDWR | posix.O_CLOEXEC)
            try:
                if posix.pread(file, 8, 0).strip() != value:
                    posix.pwrite(file, value, 0)
            finally:
                posix.close(file)
        except OSError as error:
            if (setting, error.errno) != ("keep_addr_on_down", errno.ENOENT):  # it came with Linux 4.6
                raise netlink.translate(f"set {setting} of {name}", error) from error


def _await_duplicate_detection(pod: netlink.Channel, link: effects.Link, awaited: set[int]) -> None:
    operation = f"use the IPv6 addresses of {link.name}"
    deadline = time.monotonic() + DAD_TIMEOUT_MS / 1000
    while awaited:
        flags = pod.address_flags(link.ifindex)
        for number in awaited:
            if flags.get(number, netlink.IFA_F_DADFAILED) & netlink.IFA_F_DADFAILED:
                text = f"another host has {addresses.text_of(6, number)} (duplicate address detection)"
                raise errors.KernelError(operation, errno.EADDRINUSE, text)
        awaited = {number for number in awaited if flags[number] & netlink.IFA_F_TENTATIVE}
        if awaited and time.monotonic() > deadline:
            text = f"duplicate address detection did not end within {DAD_TIMEOUT_MS} ms; is there a carrier?"
            raise errors.KernelError(operation, errno.ETIMEDOUT, text)
        if awaited:
            time.sleep(DAD_POLL_MS / 1000)
