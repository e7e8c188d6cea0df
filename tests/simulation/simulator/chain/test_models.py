"""host-device in memory, killed anywhere: the NIC is in one place, and no namespace is held by a dead process."""

from __future__ import annotations

import json

import pytest

from simulator import topology
from simulator.model import PluginCall
from simulator.virtual.node import Node

MS = 1_000_000
STEPS_MAX = 200


def call(node: Node, plugin: str, command: str, netns: str) -> PluginCall:
    ipam = {"type": "enim", "socket": node.socket}
    netconf = {"cniVersion": "1.0.0", "name": "net", "type": "host-device", "device": "eni1", "ipam": ipam}
    environment = {"CNI_COMMAND": command, "CNI_CONTAINERID": "c1", "CNI_NETNS": netns, "CNI_IFNAME": "eth0"}
    return PluginCall(plugin, environment, json.dumps(netconf).encode())


def place_after_kill(plugin: str, command: str, step_count: int) -> tuple[bool, list[str]]:
    """Whether the plugin ended by itself, and where the NIC is as soon as nobody does anything."""
    node = Node(topology.enis(1))
    node.pause(1_000)
    netns = node.create_netns("p1", dad=False)
    if command == "DEL":
        assert node.execute(call(node, plugin, "ADD", netns)).exit_code == 0
    run = node.start(call(node, plugin, command, netns))
    steps = iter(range(step_count))
    node.driver.run_while(lambda: run.is_alive and next(steps, None) is not None, node.driver.now_ns + MS)
    has_ended = not run.is_alive
    run.kill()
    places = [f"{path}:{link.name}" for path in node.kernel.paths() for link in node.kernel.links(path)]
    node.delete_netns(netns)
    assert [link.mac for link in node.kernel.links()] == [node.enis[0].mac]  # nobody held the namespace
    return has_ended, places


@pytest.mark.parametrize("plugin", ["host-device", "host-device-1.9"])
@pytest.mark.parametrize("command", ["ADD", "DEL"])
def test_a_kill_at_any_step_leaves_the_nic_in_one_place(plugin: str, command: str) -> None:
    seen: dict[str, None] = {}
    for step_count in range(STEPS_MAX):
        has_ended, places = place_after_kill(plugin, command, step_count)
        assert len(places) == 1, f"killed after {step_count} steps"
        seen[places[0]] = None
        if has_ended:
            break

    inside = (
        ["/run/netns/p1:eni1", "/run/netns/p1:eth0"] if plugin == "host-device" else [":eth0", "/run/netns/p1:eth0"]
    )
    expected = [":eni1", *inside] if command == "ADD" else ["/run/netns/p1:eth0", inside[0], ":eni1"]
    assert (has_ended, list(seen)) == (True, expected)
