"""EDGE: a link by its index, by two ioctls: netlink is dear for the IPAM plugin, which asks nothing else of the kernel.

Source: netdevice(7) SIOCGIFNAME and SIOCGIFHWADDR, struct ifreq; linux/if_arp.h.
"""

import _socket
import fcntl
import sys

from enim import effects

_ENXIO = 6  # a module for its name would take 0.05 ms
_SIOCGIFHWADDR = 0x8927
_ARPHRD_ETHER = 1
_NAME_BYTES, _IFREQ_BYTES = 16, 40
_MAC_BYTES = 6


def link_at(ifindex: int) -> "effects.Link | None":
    """The link of this netns with that index, without its alias; None if there is none.

    Raises:
        OSError: it went away or was renamed meanwhile, or there is no descriptor left to ask with.
        OverflowError: no index is so large.
        ValueError: it has no Ethernet address.
    """
    try:
        name = _socket.if_indextoname(ifindex)
    except OSError as error:
        if error.errno == _ENXIO:
            return None
        raise
    request = name.encode("utf-8", "surrogateescape").ljust(_IFREQ_BYTES, b"\0")
    asking = _socket.socket(_socket.AF_UNIX, _socket.SOCK_DGRAM | _socket.SOCK_CLOEXEC)
    try:
        answer = fcntl.ioctl(asking.fileno(), _SIOCGIFHWADDR, request)[_NAME_BYTES:]
    finally:
        asking.close()
    if int.from_bytes(answer[:2], sys.byteorder) != _ARPHRD_ETHER:
        raise ValueError(name)
    return effects.Link(ifindex, name, answer[2 : 2 + _MAC_BYTES].hex(":"))
