"""PURE: what an ADD may wish for in its body (``x-enim``), and whether an ENI grants it.

Only this module interprets addresses; they are compared as numbers, never as text.

Source: design D4, D5, D10 (the keys); CNI CONVENTIONS "ips" and "ipRanges" (contract A10, A11: the shapes).
"""

from __future__ import annotations

import ipaddress
import json
from dataclasses import dataclass
from itertools import permutations
from typing import Any, TypeAlias

from simulator.model import Eni

IpAddress: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
Range: TypeAlias = tuple[IpAddress, IpAddress]


@dataclass(frozen=True, slots=True)
class Wishes:
    """What must hold for the ENI that is given.

    Args:
        ips: the ENI must have each of them.
        ip_ranges: for each of these sets of (first, last), the ENI must have an address of its own in one of its
            ranges.
        mac: the ENI's, lower case; "" for any.
        device: the ENI's name at home, or its MAC; "" for any.
    """

    ips: tuple[IpAddress, ...] = ()
    ip_ranges: tuple[tuple[Range, ...], ...] = ()
    mac: str = ""
    device: str = ""

    @property
    def names_device(self) -> bool:
        """Whether the upper plugin has chosen the NIC, and may have moved it already (host-device)."""
        return bool(self.mac or self.device)

    @property
    def text(self) -> str:
        """All of it, for people; "" if nothing is wished for."""
        words = [f"device {self.device}"] if self.device else []
        words += [f"MAC {self.mac}"] if self.mac else []
        words += [f"address {ip}" for ip in self.ips]
        words += ["an address of " + " or ".join(f"{a} to {b}" for a, b in ranges) for ranges in self.ip_ranges]
        return ", ".join(words)

    def is_device(self, eni: Eni) -> bool:
        """Whether this is the NIC that was chosen; any is, if none was."""
        return (not self.mac or self.mac == eni.mac) and (
            not self.device or self.device == eni.name or self.device.lower() == eni.mac
        )

    def are_granted_by(self, eni: Eni) -> bool:
        """Whether the ENI has all that is wished for."""
        has = [ipaddress.ip_address(text) for text in (eni.ipv4, eni.ipv6) if text]
        return (
            self.is_device(eni)
            and all(ip in has for ip in self.ips)
            and any(all(map(_is_in, ips, self.ip_ranges)) for ips in permutations(has, len(self.ip_ranges)))
        )


def parse(body: bytes) -> Wishes:
    """Read the body of ``POST /v1/eni``; all but ``x-enim`` is ignored, as the real agent ignores it.

    Raises:
        ValueError: no JSON object, or an ``x-enim`` that cannot be understood; says what is wrong.
    """
    if not body:
        return Wishes()
    try:
        value = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"the body is not JSON: {error}") from error
    wishes = _object({} if value is None else value, "the body").get("x-enim")
    if wishes is None:
        return Wishes()
    _object(wishes, "x-enim")
    return Wishes(
        tuple(_ip(text, "x-enim.ips") for text in _list(wishes.get("ips"), "x-enim.ips")),
        tuple(_range_set(one) for one in _list(wishes.get("ipRanges"), "x-enim.ipRanges")),
        _text(wishes.get("mac"), "x-enim.mac").lower(),
        _text(wishes.get("device"), "x-enim.device"),
    )


def _is_in(ip: IpAddress, ranges: tuple[Range, ...]) -> bool:
    return any(ip.version == first.version and int(first) <= int(ip) <= int(last) for first, last in ranges)


def _range_set(value: Any) -> tuple[Range, ...]:
    """One set of ``ipRanges``; a set of one range may also come without its list (go-cni's type)."""
    ranges = [value] if isinstance(value, dict) else _list(value, "a set of x-enim.ipRanges")
    if not ranges:
        raise ValueError("a set of x-enim.ipRanges is empty")
    return tuple(_range(_object(one, "a range of x-enim.ipRanges")) for one in ranges)


def _range(value: dict[str, Any]) -> Range:
    keys = {key.lower(): text for key, text in value.items()}
    first, last = _text(keys.get("rangestart"), "rangeStart"), _text(keys.get("rangeend"), "rangeEnd")
    if not (first and last):
        try:
            subnet = ipaddress.ip_network(_text(keys.get("subnet"), "subnet"), strict=False)
        except ValueError as error:
            raise ValueError(f"subnet: {error}") from error
        first, last = first or str(subnet.network_address), last or str(subnet.broadcast_address)
    low, high = _ip(first, "rangeStart"), _ip(last, "rangeEnd")
    if low.version != high.version or int(low) > int(high):
        raise ValueError(f"{first} to {last} is no range")
    return low, high


def _ip(value: Any, name: str) -> IpAddress:
    """An address; a prefix length may follow, and says nothing (host-local drops it too)."""
    try:
        return ipaddress.ip_interface(_text(value, name)).ip
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error


def _text(value: Any, name: str) -> str:
    if value is not None and not isinstance(value, str):
        raise ValueError(f"{name} is no string")
    return value or ""


def _list(value: Any, name: str) -> list[Any]:
    if value is not None and not isinstance(value, list):
        raise ValueError(f"{name} is no list")
    return value or []


def _object(value: Any, name: str) -> dict[str, Any]:
    if isinstance(value, dict):
        return value
    raise ValueError(f"{name} is no object")
