"""A node in a lab, told what to do from outside it."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from simulator import topology
from simulator.chain import install
from simulator.effects import World
from simulator.errors import LabError, WorldFault
from simulator.lab import namespaces
from simulator.model import Attachment, EniRecord, PluginCall, PluginOutcome, Snapshot
from simulator.real import kernel, node

PATIENCE_S = 5.0


@pytest.fixture(scope="module")
def plugins() -> dict[str, bytes]:
    return install.bundle(sys.executable)


@pytest.fixture
def start(plugins: dict[str, bytes]) -> Iterator[Callable[..., tuple[namespaces.LabProcess, node.RemoteWorld]]]:
    """A function that starts a node in a lab, with so many ENIs."""
    labs = []

    def begin(
        enis: int = 2, foreign: Mapping[str, Path] | None = None
    ) -> tuple[namespaces.LabProcess, node.RemoteWorld]:
        setup = node.NodeSetup(enis, plugins, foreign or {})
        labs.append(namespaces.start(lambda channel, scratch: node.serve(channel, scratch, setup)))
        world = node.RemoteWorld(labs[-1].channel)
        settle(world, lambda now: {record.state for record in now.records} <= {"free"})
        return labs[-1], world

    yield begin
    for lab in labs:
        lab.close()


@pytest.fixture
def world(start: Any) -> World:
    return start()[1]


def settle(world: World, is_settled: Callable[[Snapshot], bool]) -> Snapshot:
    """The first snapshot that is as it should be, or the last one before patience ends."""
    deadline = time.monotonic() + PATIENCE_S
    while not is_settled(now := world.snapshot()) and time.monotonic() < deadline:
        world.pause(5)
    return now


def call(world: World, command: str, netns: str, container: str = "c1", pod: str = "web-0") -> PluginCall:
    """What a runtime runs for a pod: exclusive-device with enim as its IPAM plugin."""
    environment = {
        "CNI_COMMAND": command,
        "CNI_CONTAINERID": container,
        "CNI_NETNS": netns,
        "CNI_IFNAME": "eth0",
        "CNI_ARGS": f"K8S_POD_NAMESPACE=default;K8S_POD_NAME={pod}",
    }
    network = {
        "cniVersion": "1.0.0",
        "name": "lab",
        "type": "exclusive-device",
        "ipam": {"type": "enim", "socket": world.socket},
    }
    return PluginCall("exclusive-device", environment, json.dumps(network).encode())


def add(world: World, name: str = "c1") -> tuple[str, PluginOutcome]:
    netns = world.create_netns(name, dad=False)
    outcome = world.execute(call(world, "ADD", netns, name))
    assert outcome.exit_code == 0, outcome.stdout
    return netns, outcome


def states(now: Snapshot) -> list[tuple[str, str, str]]:
    return [(record.eni.id, record.state, record.owner) for record in now.records]


# The round trip


def test_node_that_is_up_shows_its_enis_free_and_at_home(world: World) -> None:
    now = world.snapshot()
    assert tuple(world.enis) == topology.enis(2)
    assert now.agent_running is True
    assert abs(now.clock_ms - time.time() * 1000) < 60_000
    assert [(record.eni, record.state, record.attachment) for record in now.records] == [
        (eni, "free", None) for eni in world.enis
    ]
    assert {netns: [link.name for link in links] for netns, links in now.links.items()} == {"": ["eni1", "eni2"]}


def test_pod_gets_an_eni_uses_it_and_gives_it_back(world: World) -> None:
    netns, outcome = add(world)
    now = world.snapshot()
    (ours,) = [record for record in now.records if record.state == "in_use"]
    assert (ours.owner, ours.attachment, ours.netns) == ("default/web-0", Attachment("lab", "c1", "eth0"), netns)
    assert [(link.name, link.mac, link.up) for link in now.links[netns]] == [("eth0", ours.eni.mac, True)]
    assert {address["address"] for address in json.loads(outcome.stdout)["ips"]} == set(now.links[netns][0].addresses)
    assert [world.echo(netns, one, 2_000) for one in (ours.eni.subnet.gateway4, ours.eni.subnet.gateway6)] == [True] * 2

    assert world.execute(call(world, "DEL", netns)).exit_code == 0
    world.delete_netns(netns)
    now = settle(world, lambda now: states(now)[0][1] == "free")
    assert states(now) == [("eni-1", "free", ""), ("eni-2", "free", "")]
    assert list(now.links) == [""]


def test_pods_on_one_node_reach_each_other(world: World) -> None:
    netns, _ = add(world, "c1")
    world.execute(call(world, "ADD", world.create_netns("c2", dad=False), "c2", "web-1"))
    theirs = next(record.eni for record in world.snapshot().records if record.owner == "default/web-1")
    assert [world.echo(netns, address, 2_000) for address in (theirs.ipv4, theirs.ipv6)] == [True, True]


def test_plugin_fails_in_its_own_words(world: World) -> None:
    outcome = world.execute(call(world, "ADD", "/no/such/netns"))
    assert (outcome.exit_code, json.loads(outcome.stdout)["code"]) == (1, 8)
    missing = world.execute(PluginCall("no-such-plugin", {}, b""))
    assert missing.exit_code == 127
    assert missing.stderr.startswith(b'failed to find plugin "no-such-plugin" in path [')


def test_plugins_of_others_lie_beside_ours(start: Any, tmp_path: Path) -> None:
    binary = tmp_path / "host-device"
    binary.write_text("#!/bin/sh\necho it is $0\n")
    binary.chmod(0o755)
    _, world = start(1, {"host-device": binary})
    outcome = world.execute(PluginCall("host-device", {}, b""))
    assert outcome.stdout.decode().startswith("it is /")
    assert outcome.stdout.endswith(b"/cni-bin/host-device\n")


def test_clock_is_advanced_and_goes_on(world: World) -> None:
    before = world.snapshot().clock_ms
    world.advance_clock(3_600_000)
    assert 3_600_000 <= world.snapshot().clock_ms - before < 3_610_000


def test_time_of_the_world_is_real(world: World) -> None:
    before = world.elapsed_ms()
    world.pause(20)
    assert 20 <= world.elapsed_ms() - before < 1_000


# The agent's life


def test_snapshot_without_an_agent_has_links_but_no_records(world: World) -> None:
    netns, _ = add(world)
    world.kill_agent()
    now = world.snapshot()
    assert (now.records, now.agent_running, now.clock_ms) == ((), False, 0)
    assert {path: [link.name for link in links] for path, links in now.links.items()} == {
        "": ["eni2"],
        netns: ["eth0"],
    }


def test_state_and_clock_survive_a_killed_agent(world: World) -> None:
    add(world)
    world.advance_clock(3_600_000)
    before = world.snapshot()
    world.kill_agent()
    world.start_agent()
    after = settle(world, lambda now: states(now) == states(before))
    assert comparable(after.records) == comparable(before.records)
    assert 0 <= after.clock_ms - before.clock_ms < 10_000


def comparable(records: tuple[EniRecord, ...]) -> list[tuple[object, ...]]:
    return [(one.eni, one.state, one.attachment, one.owner, one.netns) for one in records]


def test_agent_that_somebody_else_killed_does_not_run(start: Any) -> None:
    lab, world = start()
    kill_agent_from_outside(lab, world)
    assert settle(world, lambda now: not now.agent_running and world.agent_pid() == 0).agent_running is False
    assert world.agent_pid() == 0
    world.start_agent()
    assert world.snapshot().agent_running is True


def kill_agent_from_outside(lab: namespaces.LabProcess, world: node.RemoteWorld) -> None:
    inside = str(world.agent_pid())
    for status in Path("/proc").glob("[0-9]*/status"):
        with contextlib.suppress(OSError):
            pids = status.read_text().partition("\nNSpid:")[2].splitlines()[0].split()
            is_ours = Path(f"/proc/{lab.init_pid}/ns/pid").samefile(status.with_name("ns") / "pid")
            if is_ours and pids[-1] == inside:
                os.kill(int(pids[0]), signal.SIGKILL)


@pytest.mark.parametrize(
    ("act", "text"),
    [
        (lambda world: world.start_agent(), "agent.start: the agent runs already"),
        (lambda world: [world.kill_agent(), world.kill_agent()], "agent.kill: the agent does not run"),
        (lambda world: [world.kill_agent(), world.advance_clock(5)], "clock.advance: the agent does not run"),
    ],
    ids=["start twice", "kill twice", "no clock"],
)
def test_what_the_agent_cannot_do_is_a_fault(world: World, act: Callable[[World], object], text: str) -> None:
    with pytest.raises(WorldFault) as caught:
        act(world)
    assert str(caught.value) == text
    assert list(world.snapshot().links) == [""]  # the node goes on


# What goes wrong


def test_fault_of_the_kernel_is_the_same_here_as_there(world: World) -> None:
    netns = world.create_netns("c1", dad=True)
    with pytest.raises(WorldFault) as taken:
        world.create_netns("c1", dad=True)
    with pytest.raises(WorldFault) as missing:
        world.delete_netns(f"{netns}-gone")
    with pytest.raises(WorldFault) as unreachable:
        world.echo(f"{netns}-gone", "10.64.0.1", 100)
    assert str(taken.value) == f"create the network namespace {netns}: File exists"
    assert str(missing.value) == f"delete the network namespace {netns}-gone: No such file or directory"
    assert str(unreachable.value) == f"open a raw socket in {netns}-gone: No such file or directory"
    assert {type(one.value).__name__ for one in (taken, missing, unreachable)} == {"KernelFault"}


def test_file_that_is_left_where_a_namespace_was_is_no_namespace(in_lab: Any, plugins: dict[str, bytes]) -> None:
    def look(scratch: Path) -> tuple[list[str], list[str]]:
        inside = node.Node(node.NodeSetup(1, plugins, {}), scratch)
        path = inside.create_netns("c1", dad=False)
        before = list(inside.snapshot().links)
        kernel.syscalls.unmount(path)
        return [key.rpartition("/")[2] for key in before], list(inside.snapshot().links)

    assert in_lab(look) == (["", "c1"], [""])


def test_bug_in_the_node_comes_back_with_its_traceback(world: World) -> None:
    with pytest.raises(LabError, match=r"the node failed in echo: Traceback(?s:.*)TypeError"):
        world.echo("/proc/self/ns/net", 5, 100)  # type: ignore[arg-type]
    assert world.snapshot().agent_running is True


def test_node_that_cannot_start_says_why(plugins: dict[str, bytes]) -> None:
    setup = node.NodeSetup(1, {"enim": b"", "enim/below": b""}, {})
    lab = namespaces.start(lambda channel, scratch: node.serve(channel, scratch, setup))
    try:
        with pytest.raises(LabError, match=r"the node did not start: Traceback(?s:.*)Error"):
            node.RemoteWorld(lab.channel)
    finally:
        lab.close()


def test_node_that_may_write_no_file_says_so(plugins: dict[str, bytes]) -> None:
    def serve(channel: socket.socket, scratch: Path) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
        node.serve(channel, scratch, node.NodeSetup(1, plugins, {}))

    lab = namespaces.start(serve)
    try:
        with pytest.raises(LabError, match=r"^the node did not start: File too large\. Raise the limits"):
            node.RemoteWorld(lab.channel)
    finally:
        lab.close()


def test_node_that_is_gone_is_a_lab_error(start: Any) -> None:
    lab, world = start()
    os.kill(lab.init_pid, signal.SIGKILL)

    def use() -> None:
        while True:  # the kernel takes a moment to end them all
            world.snapshot()

    for attempt in (use, world.snapshot, world.kill_agent):
        with pytest.raises(LabError, match="the lab is gone: its first process ended"):
            attempt()


def test_node_ends_when_the_runner_hangs_up(start: Any) -> None:
    lab, world = start()
    init = Path(f"/proc/{lab.init_pid}")
    world.close()
    deadline = time.monotonic() + PATIENCE_S
    while init.exists() and time.monotonic() < deadline:
        time.sleep(0.005)
    assert not init.exists()


def test_leases_of_host_local_are_read_and_its_other_files_left_out(in_lab: Any, plugins: dict[str, bytes]) -> None:
    def look(scratch: Path) -> list[tuple[str, ...]]:
        inside = node.Node(node.NodeSetup(0, plugins, {}), scratch)
        network = Path(inside.state_directory) / "podnet"
        network.mkdir()
        files = {"10.88.0.2": "c1\neth0", "fd00::2": "c2\r\nnet1", "last_reserved_ip.0": "10.88.0.2", "lock": ""}
        for name, text in files.items():
            (network / name).write_text(text)
        return [(one.network, one.address, one.container_id, one.ifname) for one in inside.snapshot().leases]

    assert in_lab(look) == [("podnet", "10.88.0.2", "c1", "eth0"), ("podnet", "fd00::2", "c2", "net1")]


def test_plugins_that_start_at_once_are_measured_by_the_node_and_by_the_agent(world: World) -> None:
    netns = [world.create_netns(name, dad=False) for name in ("c1", "c2")]
    world.served()
    calls = [call(world, "ADD", path, f"c{number}", f"web-{number}") for number, path in enumerate(netns, start=1)]
    outcomes = world.execute_all(calls)
    assert [(one.call, one.exit_code) for one in outcomes] == [(one, 0) for one in calls]
    served = world.served()
    assert sorted((one.method, one.container_id) for one in served) == [("POST", "c1"), ("POST", "c2")]
    for one in served:
        assert one.work_ms > 0
        assert one.queue_ms >= 0
        assert one.queue_ms + one.work_ms < outcomes[int(one.container_id[1]) - 1].duration_ms
    assert world.served() == []
