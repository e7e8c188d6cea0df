"""A round of the hardware, step by step: what it makes of what it hears and sees."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from simulator import topology
from simulator.errors import CloudFault
from simulator.model import Link
from simulator.real import hardware, kernel

IFLA_LINK_NETNSID = 37

InLab = Callable[[Callable[[Path], Any]], Any]


def names_at_home(made: hardware.Hardware) -> list[str]:
    return sorted(link.get_attr("IFLA_IFNAME") for link in made._initial.get_links())


def index_at_home(made: hardware.Hardware, name: str) -> int:
    return int(made._initial.link_lookup(ifname=name)[0])


def test_bridge_with_the_mac_of_a_nic_is_not_taken_for_the_nic(in_lab: InLab, machine: Any) -> None:
    """A dying namespace is not heard: the last word of this one is that the bridge was made."""

    def die(scratch: Path) -> list[str]:
        pod = scratch / "pod"
        kernel.create_netns(pod, accept_dad=False)
        made = hardware.Hardware()
        (eni,) = topology.enis(1)
        made.ensure([eni])
        with pod.open() as netns:
            made._initial.link("set", ifname="eth0", net_ns_fd=netns.fileno(), index=index_at_home(made, "eni1"))
        made.bring_back_the_lost()  # and so the pod's namespace is heard
        machine.ip("link", "add", "br-pod", "address", eni.mac, "type", "bridge", netns=str(pod))
        kernel.delete_netns(pod)
        machine.until(lambda: len(made._fabric.link_lookup(ifname=eni.id)), 0)
        made.hear()
        made.bring_back_the_lost()
        return names_at_home(made)

    assert in_lab(die) == ["eth0", "lo"]


def test_near_end_whose_namespace_is_dying_cannot_be_asked_for(in_lab: InLab) -> None:
    def look(_scratch: Path) -> None:
        made = hardware.Hardware()
        (eni,) = topology.enis(1)
        made.ensure([eni])
        (far,) = made._far_ends.links(name=eni.id)
        far.attributes[IFLA_LINK_NETNSID] = (-1).to_bytes(4, sys.byteorder, signed=True)
        made._look_at_near_end(eni, far, thorough=True)

    in_lab(look)


def test_what_was_said_of_a_nic_until_its_death_counts(in_lab: InLab) -> None:
    def die(_scratch: Path) -> list[str]:
        made = hardware.Hardware()
        made.ensure(topology.enis(1))
        made.bring_back_the_lost()  # and so its changes are heard
        made._initial.link("set", ifname="renamed", index=index_at_home(made, "eni1"))
        made._initial.link("del", ifname="renamed")
        made.bring_back_the_lost()  # without a hearing before
        return names_at_home(made)

    assert in_lab(die) == ["lo", "renamed"]


def test_nic_that_cannot_come_back_yet_holds_up_no_other(in_lab: InLab) -> None:
    def die(_scratch: Path) -> tuple[str, list[str]]:
        made = hardware.Hardware()
        first, second = topology.enis(2)
        made.ensure([first, second])
        for eni in (first, second):
            made._initial.link("del", ifname=eni.name)
        made.hear()
        made._last[first.mac] = Link(0, "no/name", first.mac, first.mtu)
        with pytest.raises(CloudFault) as caught:
            made.bring_back_the_lost()
        return caught.value.operation, names_at_home(made)

    assert in_lab(die) == ("bring eni-1 back", ["eni2", "lo"])
