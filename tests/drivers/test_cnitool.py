"""Every verb by cnitool, libcni's command line, with its own look-up, cache, prevResult and versions; both chains.

exclusive-device runs both ways (``delegate``): with enim in its own process, and as a process of its own.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import pytest

Cnitool: TypeAlias = Callable[..., subprocess.CompletedProcess[str]]

FREE = {"eni1": "free", "eni2": "free"}
POD = {"eth0": ["10.64.0.10/24", "fd64::a/64"]}
CACHE = Path("/var/lib/cni/results")
EXCLUSIVE: dict[str, Any] = {"chain": "exclusive-device"}
EXEC: dict[str, Any] = {**EXCLUSIVE, "delegate": "exec"}
HOST: dict[str, Any] = {"chain": "host-device", "device": "eni1"}


@pytest.fixture
def run(node: Any, cnitool: Path) -> Cnitool:
    """A function that runs a verb for a namespace. Used only by tests in a lab."""

    def run(verb: str, netns: Path) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "CNI_PATH": str(node.bin), "NETCONFPATH": str(node.conf)}
        command = [cnitool, verb, "podnet", netns]
        return subprocess.run(command, check=False, env=environment, capture_output=True, text=True)

    return run


def serve(node: Any, version: str, delegate: str, enis: int = 2) -> None:
    """Plugins, an agent, and a network of exclusive-device with enim."""
    node.install()
    node.start_agent(enis=enis)
    node.write_conflist("exclusive-device", version, delegate=delegate)


def live(node: Any, run: Cnitool, version: str) -> dict[str, list[str]]:
    """ADD, CHECK and DEL of a pod: what the agent was asked for each."""
    pod = node.create_netns()
    asked = {}
    node.requests()
    for verb in ("status", "add", "check", "del"):
        ran = run(verb, pod)
        assert ran.returncode == 0, f"{verb}: {ran.stdout}{ran.stderr}"
        asked[verb] = node.requests()
        if verb == "add":
            result = json.loads(ran.stdout)
            assert result["cniVersion"] == version
            assert [one["address"] for one in result["ips"]] == POD["eth0"]
            assert (node.links(pod), node.enis()) == (POD, {"eni1": "in_use", "eni2": "free"})
    assert node.links(pod) == {}
    node.until(node.enis, FREE)
    return asked


@pytest.mark.parametrize(
    ("chain", "version"),
    [
        *((EXCLUSIVE, "0.4.0"), (EXCLUSIVE, "1.0.0"), (EXCLUSIVE, "1.1.0")),
        *((EXEC, "0.4.0"), (EXEC, "1.1.0")),
        *((HOST, "0.4.0"), (HOST, "1.0.0")),
    ],
)
def test_pod_lives_and_ends(node: Any, run: Cnitool, packaged: Path, chain: dict[str, Any], version: str) -> None:
    node.install(packaged)
    node.start_agent()
    node.write_conflist(version=version, **chain)

    status = ["GET"] if version == "1.1.0" else []  # libcni asks nobody before that
    assert live(node, run, version) == {"status": status, "add": ["POST"], "check": ["GET"], "del": ["DELETE"]}


def test_pod_lives_and_ends_under_the_newest_host_device(node: Any, run: Cnitool, newest: Path) -> None:
    node.install(newest)
    node.start_agent()
    node.write_conflist(version="1.1.0", **HOST)

    asked = live(node, run, "1.1.0")

    assert asked == {"status": ["GET"], "add": ["POST"], "check": ["GET"], "del": ["DELETE"]}


def test_del_again_and_of_a_netns_that_is_gone_succeed(node: Any, run: Cnitool, delegate: str) -> None:
    serve(node, "1.0.0", delegate)
    pod = node.create_netns()
    assert run("add", pod).returncode == 0

    first, again = run("del", pod), run("del", pod)
    node.delete_netns(pod)
    gone = run("del", pod)

    assert [first.returncode, again.returncode, gone.returncode] == [0, 0, 0]
    assert list(CACHE.iterdir()) == []


@pytest.mark.parametrize("chain", [EXCLUSIVE, EXEC, HOST])
def test_gc_ends_every_pod_of_the_cache(node: Any, run: Cnitool, newest: Path, chain: dict[str, Any]) -> None:
    """cnitool names no attachment as valid: libcni sends a DEL for each that it remembers, then GC without a list."""
    node.install(newest)
    node.start_agent()
    node.write_conflist(version="1.1.0", **chain)
    pod = node.create_netns()
    assert run("add", pod).returncode == 0
    node.requests()

    collected = run("gc", pod)

    assert (collected.returncode, collected.stderr) == (0, "")
    assert node.requests() == ["DELETE"]
    assert (node.links(pod), list(CACHE.iterdir())) == ({}, [])
    node.until(node.enis, FREE)


def test_gc_without_a_list_takes_nothing_that_libcni_has_forgotten(node: Any, run: Cnitool, delegate: str) -> None:
    serve(node, "1.1.0", delegate)
    pod = node.create_netns()
    assert run("add", pod).returncode == 0
    for remembered in CACHE.iterdir():
        remembered.unlink()

    assert run("gc", pod).returncode == 0

    assert (node.links(pod), node.enis()) == (POD, {"eni1": "in_use", "eni2": "free"})


def test_status_fails_while_the_agent_is_down(node: Any, run: Cnitool, delegate: str) -> None:
    node.install()
    node.write_conflist("exclusive-device", "1.1.0", delegate=delegate)

    status = run("status", node.create_netns())

    assert status.returncode == 1
    assert "agent" in status.stderr


def test_check_fails_when_the_nic_has_left_the_pod(node: Any, run: Cnitool, delegate: str) -> None:
    serve(node, "1.0.0", delegate)
    pod = node.create_netns()
    assert run("add", pod).returncode == 0
    node.ip(pod, "link", "set", "eth0", "down", "name", "net1")

    check = run("check", pod)

    assert check.returncode == 1
    assert "eth0" in check.stderr
    assert run("del", pod).returncode == 0
    node.until(node.enis, FREE)


def test_pod_without_an_eni_to_be_had_is_refused_and_leaves_nothing(node: Any, run: Cnitool, delegate: str) -> None:
    serve(node, "1.0.0", delegate, enis=1)
    first, second = node.create_netns("first"), node.create_netns("second")
    assert run("add", first).returncode == 0

    refused = run("add", second)

    assert refused.returncode == 1
    assert "no available ENI" in refused.stderr
    assert (node.links(second), node.enis()) == ({}, {"eni1": "in_use"})
