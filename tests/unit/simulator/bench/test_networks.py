"""Every subject gives a pod both families and both default routes."""

import pytest

from simulator import topology
from simulator.bench import networks

ENI = topology.enis(1)[0]


@pytest.mark.parametrize("subject", networks.CHAINS, ids=lambda one: one.name)
def test_our_chains_ask_the_agent(subject: networks.Subject) -> None:
    (plugin,) = networks.network(subject, "/run/a.sock", ENI).plugins
    assert (plugin["type"], plugin["ipam"]) == (subject.upper, {"type": "enim", "socket": "/run/a.sock"})
    assert ("device" in plugin) is (subject.upper == "host-device")


def test_static_gives_an_eni_its_own_addresses() -> None:
    (plugin,) = networks.network(networks.BASELINES[0], "/run/a.sock", ENI).plugins
    assert plugin["device"] == "eni1"
    assert plugin["ipam"]["addresses"] == [
        {"address": f"{ENI.ipv4}/24", "gateway": ENI.subnet.gateway4},
        {"address": f"{ENI.ipv6}/64", "gateway": ENI.subnet.gateway6},
    ]


def test_host_local_keeps_its_files_in_the_lab() -> None:
    (plugin,) = networks.network(networks.BASELINES[1], "/lab/agent/a.sock", None).plugins
    assert plugin["ipam"]["dataDir"] == "/lab/agent/host-local"
    assert len(plugin["ipam"]["ranges"]) == len(plugin["ipam"]["routes"]) == 2
