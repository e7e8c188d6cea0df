"""Moves a NIC, and does nothing else of a plugin's work: run by ``side_by_side`` to tell what is left to save.

    CNI_COMMAND, CNI_NETNS, CNI_IFNAME      as for a plugin
    NIC, IFINDEX                            the NIC's name at home, and its index

It reads no configuration, looks at nothing, asks nobody for addresses and adds none. It ends with the kernel's errno.
"""

import _socket
import posix
import sys

CLONE_NEWNET = 0x40000000
RTM_SETLINK, NLM_F_REQUEST_ACK = 19, 5
IFLA_IFNAME, IFLA_IFALIAS, IFLA_NET_NS_FD = 3, 20, 28


def number(value: int, size: int = 4) -> bytes:
    """As the kernel reads it."""
    return value.to_bytes(size, sys.byteorder)


def attribute(kind: int, value: bytes) -> bytes:
    """One attribute of the request."""
    return number(4 + len(value), 2) + number(kind, 2) + value + bytes(-len(value) % 4)


def enter(netns: int) -> None:
    """Enter the namespace: by ``_ctypes`` before Python 3.12, as the plugins do."""
    if hasattr(posix, "setns"):
        posix.setns(netns, CLONE_NEWNET)
        return
    import _ctypes  # noqa: PLC0415 -- 0.4 ms

    class Function(_ctypes.CFuncPtr):
        _flags_ = _ctypes.FUNCFLAG_CDECL

    Function(_ctypes.dlsym(_ctypes.dlopen(None, 0), "setns"))(netns, CLONE_NEWNET)


def main(given: dict) -> int:
    """One move; 0 or an errno."""
    pod, home = (posix.open(path, posix.O_RDONLY) for path in (given[b"CNI_NETNS"], b"/proc/thread-self/ns/net"))
    is_add = given[b"CNI_COMMAND"] == b"ADD"
    if not is_add:
        enter(pod)
    name, alias, target = (given[b"CNI_IFNAME"], given[b"NIC"], pod) if is_add else (given[b"NIC"], b"", home)
    body = bytes(4) + number(int(given[b"IFINDEX"])) + bytes(8) + attribute(IFLA_IFNAME, name + b"\0")
    body += attribute(IFLA_IFALIAS, alias) + attribute(IFLA_NET_NS_FD, number(target))
    channel = _socket.socket(_socket.AF_NETLINK, _socket.SOCK_RAW, _socket.NETLINK_ROUTE)
    channel.send(number(16 + len(body)) + number(RTM_SETLINK, 2) + number(NLM_F_REQUEST_ACK, 2) + bytes(8) + body)
    return -int.from_bytes(channel.recv(4096)[16:20], sys.byteorder, signed=True)


if __name__ == "__main__":
    posix._exit(main(posix.environ))
