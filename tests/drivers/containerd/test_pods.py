"""Pods of a real containerd whose ENIs are ours: what it calls, what it reports, and how an ENI comes home."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

EXCLUSIVE = {"type": "exclusive-device"}
FREE, IN_USE = {"eni1": "free"}, {"eni1": "in_use"}
BOTH = ["10.64.0.10", "fd64::a"]


@pytest.fixture
def start(node: Any, containerd: Any) -> Any:
    """A function that starts the node with agent and containerd."""

    def start(*others: Path, enis: int = 1) -> Any:
        containerd.start()
        node.install(*others)
        agent = node.start_agent(enis)
        node.requests()
        return agent

    return start


def test_pod_has_an_eni_with_both_families_and_gives_it_back(
    node: Any, containerd: Any, start: Any, delegate: str
) -> None:
    start()
    containerd.write_conflist({**EXCLUSIVE, "delegate": delegate}, containerd.witness())

    pod = containerd.run_pod()
    assert (containerd.addresses(pod), node.records()["eni1"]["owner"]) == (BOTH, "default/web-0")
    assert node.links() == {}

    containerd.crictl("stopp", pod)
    node.until(node.enis, FREE)
    containerd.crictl("rmp", pod)
    assert containerd.pods() == []
    # RemovePodSandbox stops it once more, when the netns is gone.
    assert containerd.witnessed() == [("ADD", True), ("DEL", True), ("DEL", False)]
    assert node.requests() == ["POST", "DELETE", "DELETE"]
    assert list(node.links()) == ["eni1"]


def test_cleanup_after_a_later_plugin_that_refuses_brings_the_eni_home(node: Any, containerd: Any, start: Any) -> None:
    start()
    containerd.write_conflist(EXCLUSIVE, containerd.witness(refuse=1))

    assert "refused" in containerd.run_pod()

    assert containerd.witnessed() == [("ADD", True), ("DEL", True)]
    assert node.requests() == ["POST", "DELETE"]
    node.until(node.enis, FREE)


@pytest.mark.usefixtures("containerd_1")
def test_later_plugin_that_is_missing_keeps_every_del_from_us_until_it_is_there(
    node: Any, containerd: Any, start: Any
) -> None:
    """libcni goes backwards through the chain on DEL, and stops at the first plugin that fails."""
    start()
    witness = containerd.witness()
    witnesses = node.bin / "witness"
    hidden = shutil.move(witnesses, node.scratch)
    containerd.write_conflist(EXCLUSIVE, witness)

    assert 'failed to find plugin \\"witness\\"' in containerd.run_pod()
    assert (node.requests(), node.enis()) == (["POST"], IN_USE)
    (kept,) = containerd.pods()  # with its netns, and the ENI in it
    assert containerd.crictl("stopp", kept, check=False).returncode == 1

    shutil.move(hidden, witnesses)
    containerd.crictl("stopp", kept)
    node.until(node.enis, FREE)
    assert (node.requests(), list(node.links())) == (["DELETE"], ["eni1"])


def test_pod_made_anew_gets_another_eni_before_the_old_one_is_gone(node: Any, containerd: Any, start: Any) -> None:
    start(enis=2)
    containerd.write_conflist(EXCLUSIVE)
    old = containerd.run_pod()

    new = containerd.run_pod(attempt=1)
    containerd.crictl("rmp", "--force", old)

    assert containerd.addresses(new) == ["10.64.0.11", "fd64::b"]
    node.until(node.enis, {"eni1": "free", "eni2": "in_use"})


def test_pods_at_once_get_an_eni_each(node: Any, containerd: Any, start: Any) -> None:
    start(enis=4)
    containerd.write_conflist(EXCLUSIVE)

    running = [containerd.begin_pod(f"web-{number}") for number in range(4)]
    pods = [process.communicate()[0].strip() for process in running]

    assert sorted(containerd.addresses(pod)[0] for pod in pods) == [f"10.64.0.{10 + number}" for number in range(4)]
    containerd.crictl("rmp", "--force", *pods)
    node.until(lambda: set(node.enis().values()), {"free"})


def test_containerd_that_dies_in_an_add_ends_it_when_the_pod_has_another_eni(
    node: Any, containerd: Any, start: Any
) -> None:
    start(enis=2)
    containerd.write_conflist(EXCLUSIVE, containerd.witness(sleep=3600))
    containerd.begin_pod()
    node.until(lambda: containerd.log.exists() and containerd.witnessed(), [("ADD", True)])
    containerd.daemon.kill()
    containerd.daemon.wait()
    containerd.start_daemon()
    (kept,) = containerd.pods()

    containerd.write_conflist(EXCLUSIVE)
    pod = containerd.run_pod(attempt=1)
    assert node.enis()["eni2"] == "in_use"
    containerd.crictl("rmp", "--force", kept)

    assert containerd.addresses(pod) == ["10.64.0.11", "fd64::b"]
    node.until(node.enis, {"eni1": "free", "eni2": "in_use"})


def test_stop_waits_for_an_agent_that_is_started_again(node: Any, containerd: Any, start: Any) -> None:
    agent = start()
    containerd.write_conflist(EXCLUSIVE, containerd.witness())
    pod = containerd.run_pod()
    agent.kill()
    agent.wait()

    stop = containerd.begin("stopp", pod)
    node.until(lambda: containerd.witnessed()[-1], ("DEL", True))
    node.start_agent(enis=1)

    assert stop.wait() == 0
    node.until(node.enis, FREE)


def test_pod_on_host_device(node: Any, containerd: Any, start: Any, host_device: Path) -> None:
    """The second DEL, without a netns, ends in host-device; a DEL for a NIC that has left is swallowed."""
    start(host_device)
    containerd.write_conflist({"type": "host-device", "device": "eni1"}, containerd.witness())

    pod = containerd.run_pod()
    assert containerd.addresses(pod) == BOTH
    containerd.crictl("stopp", pod)
    node.until(node.enis, FREE)
    containerd.crictl("rmp", pod)

    assert containerd.witnessed() == [("ADD", True), ("DEL", True), ("DEL", False)]
    assert node.requests() == ["POST", "DELETE"]
