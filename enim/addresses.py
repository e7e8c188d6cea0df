"""IP addresses, prefixes and MAC addresses as text and numbers, read and printed as Go's ``net`` package does.

Rules: a parsed address is ``(family, number)``; an IPv4 address written as ``::ffff:192.0.2.1`` is IPv4.
Every parser raises ValueError with the offending text.

Source: Go ``net`` (ParseIP, ParseCIDR, ParseMAC), RFC 5952 for the text of IPv6.
"""

from _socket import AF_INET, AF_INET6, inet_ntop, inet_pton

BITS = {4: 32, 6: 128}

_MAPPED = b"\0" * 10 + b"\xff\xff"
_HEX_DIGITS = frozenset("0123456789abcdef")


def parse(text: str) -> tuple[int, int]:
    """Read a bare address: ``(4 or 6, its number)``."""
    try:
        packed = inet_pton(AF_INET6 if ":" in text else AF_INET, text)
    except (OSError, ValueError):
        raise ValueError(f"invalid IP address {text[:64]!r}") from None
    if packed[:12] == _MAPPED:
        packed = packed[12:]
    return (4 if len(packed) == 4 else 6), int.from_bytes(packed, "big")


def text_of(family: int, number: int) -> str:
    """Print an address in its one canonical form."""
    if family == 4:
        return inet_ntop(AF_INET, number.to_bytes(4, "big"))
    text = inet_ntop(AF_INET6, number.to_bytes(16, "big"))
    if "." in text:  # glibc prints ::1.2.3.4 for what Go and RFC 5952 print as ::102:304
        text = f"::{number >> 16 & 0xFFFF:x}:{number & 0xFFFF:x}"
    return text


def canonical(text: str) -> str:
    """Read a bare address and print it in its canonical form."""
    return text_of(*parse(text))


def parse_prefix(text: str) -> tuple[int, int, int]:
    """Read ``address/length``: ``(family, number with its host bits, length)``."""
    address, slash, digits = text.partition("/")
    if not slash:
        raise ValueError(f"{text[:64]!r} has no prefix length")
    family, number = parse(address)
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 3):
        raise ValueError(f"invalid prefix length in {text[:64]!r}")
    length = int(digits)
    if family == 4 and ":" in address:
        length -= 96
    if not 0 <= length <= BITS[family]:
        raise ValueError(f"invalid prefix length in {text[:64]!r}")
    return family, number, length


def network(family: int, number: int, length: int) -> int:
    """The number without its host bits."""
    host_bits = BITS[family] - length
    return number >> host_bits << host_bits


def is_link_local(family: int, number: int) -> bool:
    """Is it an IPv6 link-local address (fe80::/10), which is on-link whatever the prefix of the interface is?"""
    return family == 6 and number >> 118 == 0xFE80 >> 6


def is_unicast(family: int, number: int) -> bool:
    """Can a NIC have it? Not "no address", loopback, multicast, or IPv4's broadcast."""
    if family == 6:
        return number > 1 and number >> 120 != 0xFF
    return number >> 24 not in (0, 127) and number >> 28 != 0xE and number != 0xFFFFFFFF


def parse_mac(text: str) -> str:
    """Read a 48-bit MAC, octets separated by ``:`` or ``-``; print it in lower case with ``:``."""
    octets = text.lower().replace("-", ":").split(":")
    if len(octets) != 6 or not all(len(octet) == 2 and set(octet) <= _HEX_DIGITS for octet in octets):
        raise ValueError(f"invalid MAC address {text[:64]!r}")
    return ":".join(octets)


def is_unicast_mac(mac: str) -> bool:
    """Can a NIC have it? Not all zero (the loopback's), and not a group address."""
    return mac != "00:00:00:00:00:00" and int(mac[:2], 16) & 1 == 0
