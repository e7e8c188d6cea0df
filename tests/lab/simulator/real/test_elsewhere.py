"""What a home netns can list of the namespaces that its NICs went to."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyroute2

from simulator.real import elsewhere, kernel

InLab = Callable[[Callable[[Path], Any]], Any]


def test_link_that_moved_is_listed_where_it_is_until_its_namespace_ends(in_lab: InLab, machine: Any) -> None:
    def look(scratch: Path) -> tuple[list[str], list[Any]]:
        with pyroute2.IPRoute() as routes:
            other = elsewhere.Elsewhere(routes.marshal.parse)
            assert other.ids() == []
            pod = scratch / "pod"
            kernel.create_netns(pod, accept_dad=False)
            machine.ip("link", "add", "nic", "type", "bridge")
            machine.ip("link", "add", "far", "type", "veth", "peer", "name", "near")
            machine.ip("link", "set", "near", "netns", str(pod), "name", "eth0")
            (one,) = other.ids()
            nsid = one.get_attr("NETNSA_NSID")
            names = [link.get_attr("IFLA_IFNAME") for link in other.links(nsid)]
            kernel.delete_netns(pod)
            machine.until(other.ids, [])
            return names, other.links(nsid)

    assert in_lab(look) == (["lo", "eth0"], [])
