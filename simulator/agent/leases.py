"""PURE: pods whose addresses come from host-local, under the same invariants as those that have an ENI.

host-local keeps a file for each address that it has given, with the container and its interface in it. ``conserved``: a
live container has its NIC, its addresses and their files; and no file is left of a container that has ended.

Source: host-local backend/disk/backend.go (the files); incidents.md section 2, I1 and I2.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Sequence

from simulator.agent import views
from simulator.agent.grants import Grant
from simulator.model import Snapshot


def unheld(grants: Sequence[Grant], now: Snapshot) -> Iterator[tuple[str, str, str]]:
    """What live containers were given and do not have: the container, and the two views that disagree."""
    recorded = {(lease.address, lease.attachment) for lease in now.leases}
    for grant in grants:
        told = f"ADD gave it {', '.join(grant.addresses)}"
        inside = [link for link in now.links.get(grant.netns, ()) if link.mac == grant.mac]
        shown = {views.interface(address) for link in inside for address in link.addresses}
        for address in grant.addresses:
            if views.interface(address) not in shown:
                yield str(grant.attachment), told, f"the kernel shows no {grant.mac} with {address} in {grant.netns}"
            if (str(ipaddress.ip_interface(address).ip), grant.attachment) not in recorded:
                yield str(grant.attachment), told, f"host-local has no record of {address} for it"


def left(now: Snapshot) -> Iterator[tuple[str, str, str]]:
    """What is on record when every container has ended."""
    for lease in now.leases:
        yield lease.address, f"host-local has it on record for {lease.attachment}", "that container has ended"
