"""PURE: the network configurations that are measured: the two chains of this project, and what they are held against.

All give a pod one interface with an IPv4 and an IPv6 address and a default route for each.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from simulator.chain import plan
from simulator.model import Eni

NETWORK, CNI_VERSION = "bench", "1.0.0"
DEFAULT_ROUTES = ({"dst": "0.0.0.0/0"}, {"dst": "::/0"})

_PTP_RANGES = ("10.127.0.0/16", "fd7f::/64")


@dataclass(frozen=True, slots=True)
class Subject:
    """Who is measured.

    Args:
        upper: the upper plugin's file name.
        ipam: the IPAM plugin's.
    """

    upper: str
    ipam: str

    @property
    def name(self) -> str:
        """As the table has it."""
        return f"{self.upper}+{self.ipam}"

    @property
    def is_ours(self) -> bool:
        """Whether the agent has a part in it."""
        return self.ipam == "enim"

    @property
    def takes_eni(self) -> bool:
        """Whether it must be told which ENI to take (design D5)."""
        return self.upper == "host-device"

    @property
    def plugins(self) -> tuple[str, str]:
        """The files that it needs."""
        return self.upper, self.ipam


CHAINS = tuple(Subject(upper, "enim") for upper in ("exclusive-device", "host-device"))
BASELINES = (Subject("host-device", "static"), Subject("ptp", "host-local"))


def network(subject: Subject, socket: str, eni: Eni | None) -> plan.NetworkList:
    """The configuration of one pod.

    Args:
        socket: the agent's; files of foreign plugins go beside it.
        eni: which one, for whom ``takes_eni``.
    """
    if subject.is_ours:
        device = eni.name if eni is not None and subject.takes_eni else ""
        return plan.conflist(subject.upper, name=NETWORK, cni_version=CNI_VERSION, socket=socket, device=device)
    if subject.ipam == "static":
        assert eni is not None, "static addresses are an ENI's"
        ipam: dict[str, Any] = {"type": "static", "addresses": _addresses(eni), "routes": DEFAULT_ROUTES}
        return plan.NetworkList(NETWORK, CNI_VERSION, ({"type": subject.upper, "device": eni.name, "ipam": ipam},))
    directory = socket.rpartition("/")[0]
    ranges = [[{"subnet": one}] for one in _PTP_RANGES]
    ipam = {"type": "host-local", "dataDir": f"{directory}/host-local", "ranges": ranges, "routes": DEFAULT_ROUTES}
    return plan.NetworkList(NETWORK, CNI_VERSION, ({"type": subject.upper, "ipam": ipam},))


def _addresses(eni: Eni) -> Sequence[dict[str, str]]:
    subnet = eni.subnet
    families = ((eni.ipv4, subnet.cidr4, subnet.gateway4), (eni.ipv6, subnet.cidr6, subnet.gateway6))
    return [
        {"address": f"{address}/{ipaddress.ip_network(cidr).prefixlen}", "gateway": gateway}
        for address, cidr, gateway in families
    ]
