"""PURE: what the agent says and what the kernel shows at one moment, for the auditor: looked up, and as sentences."""

from __future__ import annotations

import ipaddress

from simulator.model import Eni, EniRecord, Link, Snapshot

HOME = ""


def agree(record: EniRecord, link: Link) -> bool:
    """Whether the kernel may show an ENI there in this state of the pool's table, while no request is in flight."""
    at_home = link.netns == HOME
    return {
        "free": at_home,
        "absent": not at_home,
        "reserved": False,
        "in_use": at_home or link.netns == record.netns,
        "superseded": at_home or link.netns == record.netns,
        "returning": True,
        "quarantined": not at_home,
    }.get(record.state, False)


def record_of(mac: str, now: Snapshot) -> str:
    """What the agent says of a NIC; "" for nothing."""
    for record in now.records:
        if record.eni.mac == mac:
            whose = f"of {record.attachment} for {record.owner} in {record.netns}" if record.attachment else "of nobody"
            return f"{record.eni.id} {record.state} {whose}"
    return ""


def link_of(mac: str, netns: str, now: Snapshot) -> str:
    """What the kernel shows of a NIC in a namespace; "" for nothing."""
    for link in now.links.get(netns, ()):
        if link.mac == mac:
            addresses = ", ".join(link.addresses)
            return f"{link.name} ({link.mac}, MTU {link.mtu}, {'up' if link.up else 'down'}) with {addresses}"
    return ""


def places_of(now: Snapshot) -> dict[str, list[Link]]:
    """MAC → the links that have it, in every namespace of the node."""
    places: dict[str, list[Link]] = {}
    for link in (link for links in now.links.values() for link in links):
        places.setdefault(link.mac, []).append(link)
    return places


def place_of(link: Link) -> str:
    """Where a link is."""
    where = "in the initial netns" if link.netns == HOME else f"in {link.netns}"
    return f"the kernel shows it {where} as {link.name}"


def interfaces_of(eni: Eni) -> set[object]:
    """The ENI's addresses, each with its subnet's prefix."""
    pairs = ((eni.ipv4, eni.subnet.cidr4), (eni.ipv6, eni.subnet.cidr6))
    return {interface(f"{address}/{cidr.partition('/')[2]}") for address, cidr in pairs}


def interface(cidr: str) -> ipaddress.IPv4Interface | ipaddress.IPv6Interface | None:
    """An address with its prefix, None for what is none."""
    try:
        return ipaddress.ip_interface(cidr)
    except ValueError:
        return None
