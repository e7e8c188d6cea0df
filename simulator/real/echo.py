"""EDGE: ICMP echo from inside a network namespace, over a raw socket: what a pod's own ping would see.

Source: RFC 792 (echo), RFC 4443 section 4 (ICMPv6 echo; the kernel fills in its checksum), raw(7).
"""

from __future__ import annotations

import os
import select
import socket
import struct
import time

from enim import errors as plugin_errors
from enim import netlink
from simulator.errors import KernelFault

_RETRY_MS = 200  # the first request may be lost to neighbour discovery
_IPPROTO_ICMPV6 = 58
_V4_REQUEST, _V4_REPLY, _V6_REQUEST, _V6_REPLY = 8, 0, 128, 129
_HEADER = struct.Struct("!BBHHH")  # type, code, checksum, identifier, sequence
_PAYLOAD = b"enim echo"


def echo(netns: str, destination: str, timeout_ms: int) -> bool:
    """Send echo requests from inside ``netns`` until one is answered or the time is up.

    Args:
        netns: path of the namespace.
        destination: an IPv4 or IPv6 address, without a prefix.
        timeout_ms: for all tries together.

    Returns:
        Whether an answer to one of these very requests came; False also if there is no route.

    Raises:
        KernelFault: the namespace cannot be entered, or raw sockets are not allowed.
    """
    is_ipv6 = ":" in destination
    try:
        namespace = os.open(netns, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a FIFO must not hold us up
        try:
            raw: socket.socket = netlink.inside(namespace, lambda: _raw_socket(is_ipv6=is_ipv6))
        finally:
            os.close(namespace)
    except plugin_errors.KernelError as error:
        raise KernelFault(f"open a raw socket in {netns}", error.errno, error.text) from error
    except OSError as error:
        raise KernelFault(f"open a raw socket in {netns}", error.errno or 0, error.strerror or str(error)) from error
    identifier = int.from_bytes(os.urandom(2), "big")
    deadline = time.monotonic() + timeout_ms / 1000
    sequence = 0
    with raw:
        while time.monotonic() < deadline:
            sequence += 1
            try:
                raw.sendto(_request(identifier, sequence, is_ipv6=is_ipv6), (destination, 0))
            except OSError:
                time.sleep(0.02)  # no route yet, or the link is not up yet
                continue
            until = min(deadline, time.monotonic() + _RETRY_MS / 1000)
            if _answered(raw, (destination, identifier), until, is_ipv6=is_ipv6):
                return True
    return False


def _raw_socket(*, is_ipv6: bool) -> socket.socket:
    if is_ipv6:
        return socket.socket(socket.AF_INET6, socket.SOCK_RAW, _IPPROTO_ICMPV6)
    return socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)


def _request(identifier: int, sequence: int, *, is_ipv6: bool) -> bytes:
    kind = _V6_REQUEST if is_ipv6 else _V4_REQUEST
    sequence %= 1 << 16
    blank = _HEADER.pack(kind, 0, 0, identifier, sequence) + _PAYLOAD
    checksum = 0 if is_ipv6 else _checksum(blank)
    return _HEADER.pack(kind, 0, checksum, identifier, sequence) + _PAYLOAD


def _checksum(data: bytes) -> int:
    """Source: RFC 1071."""
    padded = data + b"\0" * (len(data) % 2)
    total: int = sum(struct.unpack(f"!{len(padded) // 2}H", padded))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def _answered(raw: socket.socket, awaited: tuple[str, int], until: float, *, is_ipv6: bool) -> bool:
    """``awaited``: who must answer, with which identifier. Others ask from here too, by chance with the same one."""
    poll = select.poll()
    poll.register(raw, select.POLLIN)
    while (remaining := until - time.monotonic()) > 0:
        if not poll.poll(remaining * 1000):
            return False
        try:
            packet, (sender, *_) = raw.recvfrom(2048, socket.MSG_DONTWAIT)
        except OSError:  # an error that came as an ICMP message, or a packet whose checksum was wrong
            continue
        message = packet if is_ipv6 else packet[(packet[0] & 0x0F) * 4 :]
        if len(message) != _HEADER.size + len(_PAYLOAD):
            continue
        kind, code, _, got, _ = _HEADER.unpack_from(message)
        is_reply = (kind, code) == (_V6_REPLY if is_ipv6 else _V4_REPLY, 0) and message.endswith(_PAYLOAD)
        if is_reply and (sender, got) == (_normal(awaited[0]), awaited[1]):
            return True
    return False


def _normal(address: str) -> str:
    """An address as the kernel's answers name it."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return socket.inet_ntop(family, socket.inet_pton(family, address))
