"""PURE: what a lab looks like before anything of it exists: the ENIs of a node, their addresses, and the subnets they
lie in.

The same count gives the same ENIs, and a larger count begins with the ENIs of a smaller one: whoever comes later
finds by MAC what is there already, and makes only what is missing.
"""

from __future__ import annotations

import ipaddress

from simulator.model import Eni, EniId, Subnet

ENIS_PER_SUBNET = 200
ENIS_MAX = 1_000
MTU = 1_500

_SUPERNET4 = ipaddress.IPv4Network("10.64.0.0/16")
_SUPERNET6 = ipaddress.IPv6Network("fd64::/48")
_FIRST_HOST = 10


def enis(count: int) -> tuple[Eni, ...]:
    """The first ``count`` ENIs of a node, 0 to ``ENIS_MAX``: ``eni-1``, ``eni-2`` …"""
    assert 0 <= count <= ENIS_MAX, f"0 to {ENIS_MAX} ENIs, not {count}"
    return tuple(_eni(index) for index in range(count))


def subnets(of: tuple[Eni, ...]) -> tuple[Subnet, ...]:
    """The subnets of some ENIs, each once, in the order of their first ENI."""
    return tuple(dict.fromkeys(eni.subnet for eni in of))


def _eni(index: int) -> Eni:
    subnet = _subnet(index // ENIS_PER_SUBNET)
    host = _FIRST_HOST + index % ENIS_PER_SUBNET
    number = index + 1
    return Eni(
        id=EniId(f"eni-{number}"),
        mac=f"02:e1:00:00:{number >> 8:02x}:{number & 0xFF:02x}",
        name=f"eni{number}",
        mtu=MTU,
        ipv4=str(ipaddress.IPv4Network(subnet.cidr4)[host]),
        ipv6=str(ipaddress.IPv6Network(subnet.cidr6)[host]),
        subnet=subnet,
    )


def _subnet(index: int) -> Subnet:
    """Subnet number ``index``: a /24 and a /64, whose first address is the gateway's (contract C4)."""
    cidr4 = ipaddress.IPv4Network((int(_SUPERNET4.network_address) + (index << 8), 24))
    cidr6 = ipaddress.IPv6Network((int(_SUPERNET6.network_address) + (index << 64), 64))
    return Subnet(str(cidr4), str(cidr4[1]), str(cidr6), str(cidr6[1]))
