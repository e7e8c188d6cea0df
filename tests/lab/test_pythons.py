"""Every Python that the plugins run on: each verb of both plugins ends well against a real agent, in a lab."""

from __future__ import annotations

import json
from typing import Any

import pytest

from simulator.chain import install
from simulator.effects import World
from simulator.lab import namespaces
from simulator.model import PluginCall
from simulator.real import node

ENIS = 2


class Runtime:
    """One attachment, c1's eth0: runs a plugin's verb and reads what it prints; a verb that fails is a failure."""

    def __init__(self, world: World, delegate: str = "") -> None:
        self.world = world
        self.netns = world.create_netns("c1", dad=False)
        ipam = {"type": "enim", "socket": world.socket}
        self.network: dict[str, Any] = {"cniVersion": "1.1.0", "name": "lab", "type": "exclusive-device", "ipam": ipam}
        if delegate:
            self.network["delegate"] = delegate

    def run(self, plugin: str, command: str, **netconf: Any) -> Any:
        environment = {
            "CNI_COMMAND": command,
            "CNI_CONTAINERID": "c1",
            "CNI_NETNS": self.netns,
            "CNI_IFNAME": "eth0",
            "CNI_ARGS": "K8S_POD_NAMESPACE=default;K8S_POD_NAME=web-0",
        }
        outcome = self.world.execute(
            PluginCall(plugin, environment, json.dumps({**self.network, **netconf}).encode(), timeout_ms=20_000)
        )
        assert (outcome.exit_code, outcome.stderr) == (0, b""), f"{plugin} {command}: {outcome}"
        return json.loads(outcome.stdout or b"null")

    def states(self) -> list[str]:
        return sorted(record.state for record in self.world.snapshot().records)


@pytest.fixture
def world(each_python: str) -> Any:
    setup = node.NodeSetup(ENIS, install.bundle(each_python), {})
    lab = namespaces.start(lambda channel, scratch: node.serve(channel, scratch, setup))
    yield node.RemoteWorld(lab.channel)
    lab.close()


def wait_for_enis(world: World) -> None:
    for _ in range(1000):
        if [record.state for record in world.snapshot().records] == ["free"] * ENIS:
            return
        world.pause(5)
    raise AssertionError(f"the ENIs did not become free: {world.snapshot()}")


@pytest.mark.parametrize("delegate", ["", "exec"])
def test_each_verb_ends_well(world: World, delegate: str) -> None:
    wait_for_enis(world)
    runtime = Runtime(world, delegate)
    for plugin in ("enim", "exclusive-device"):
        assert runtime.run(plugin, "VERSION")["supportedVersions"][-1] == "1.1.0"
        assert runtime.run(plugin, "STATUS") is None

    granted = runtime.run("exclusive-device", "ADD")
    assert [interface["sandbox"] for interface in granted["interfaces"]] == [runtime.netns]
    assert runtime.states() == ["free", "in_use"]
    valid = {"cni.dev/valid-attachments": [{"containerID": "c1", "ifname": "eth0"}]}
    for plugin in ("enim", "exclusive-device"):
        assert runtime.run(plugin, "CHECK", prevResult=granted) is None
        assert runtime.run(plugin, "GC", **valid) is None
    assert runtime.states() == ["free", "in_use"]
    assert runtime.run("exclusive-device", "DEL", prevResult=granted) is None
    wait_for_enis(world)

    assert runtime.run("enim", "ADD")["ips"][0]["interface"] > 0
    assert runtime.states() == ["free", "in_use"]
    assert runtime.run("enim", "DEL") is None
    wait_for_enis(world)
    assert runtime.run("exclusive-device", "DEL") is None
