"""What becomes of a virtio NIC whose network namespace ends; the hardware process and the models do the same.

P: facts of the kernel that the testbed copies; each has a test here under its number.
"""

from __future__ import annotations

import os
import re
from typing import Any

import pytest

MAC, OTHER_MAC = "52:54:00:00:00:01", "52:54:00:00:00:02"
LIVE_RENAME_SINCE = (6, 2)


def kernel_version() -> tuple[int, int]:
    major, minor = re.findall(r"\d+", os.uname().release)[:2]
    return int(major), int(minor)


def in_use(machine: Any, altnames: tuple[str, ...] = ("uplink", "fifteen-bytes-x")) -> tuple[str, int]:
    """A pod that uses the first NIC as eth0: its namespace, and the ifindex that the NIC has in it."""
    pod = machine.add_netns("pod")
    machine.ip("link", "set", "nic0", "netns", pod, "name", "eth0")
    machine.ip("link", "set", "eth0", "mtu", "1400", "alias", "eni-1", netns=pod)
    for altname in altnames:
        machine.ip("link", "property", "add", "dev", "eth0", "altname", altname, netns=pod)
    machine.ip("addr", "add", "10.64.0.10/24", "dev", "eth0", netns=pod)
    machine.ip("link", "set", "eth0", "up", netns=pod)
    return pod, machine.links(pod)["eth0"]["ifindex"]


def come_home(machine: Any, pod: str) -> tuple[str, dict[str, Any]]:
    machine.ip("netns", "delete", pod)
    machine.until(lambda: machine.nic(MAC)[0])
    found: tuple[str, dict[str, Any]] = machine.nic(MAC)
    return found


def as_in_the_pod(ifindex: int, altnames: list[str]) -> dict[str, Any]:
    identity = {"ifindex": ifindex, "mac": MAC, "mtu": 1400, "alias": "eni-1", "altnames": altnames}
    return {**identity, "up": False, "addresses": []}


def test_p1_nic_comes_home_under_its_name_in_the_pod_with_all_that_identifies_it(machine: Any) -> None:
    at_home = machine.links()["nic0"]["ifindex"]
    pod, ifindex = in_use(machine)
    assert ifindex == at_home  # K10
    assert come_home(machine, pod) == ("eth0", as_in_the_pod(ifindex, ["fifteen-bytes-x", "uplink"]))


def test_p1_ifindex_that_is_taken_at_home_becomes_another_one(machine: Any) -> None:
    pod, ifindex = in_use(machine)
    machine.ip("link", "add", "taker", "index", str(ifindex), "type", "dummy")
    name, nic = come_home(machine, pod)
    assert nic["ifindex"] != ifindex
    assert (name, nic) == ("eth0", as_in_the_pod(nic["ifindex"], ["fifteen-bytes-x", "uplink"]))


@pytest.mark.parametrize("taken_by", ["name", "altname"])
def test_p2_nic_whose_name_is_taken_becomes_dev_and_its_ifindex(machine: Any, taken_by: str) -> None:
    pod, ifindex = in_use(machine)
    if taken_by == "name":
        machine.ip("link", "set", "nic1", "name", "eth0")
    else:
        machine.ip("link", "property", "add", "dev", "nic1", "altname", "eth0")
    assert come_home(machine, pod) == (f"dev{ifindex}", as_in_the_pod(ifindex, ["fifteen-bytes-x", "uplink"]))
    taker, other = machine.nic(OTHER_MAC)
    assert "eth0" in (taker, *other["altnames"])


@pytest.mark.parametrize("taken_by", ["name", "altname"])
def test_p3_altname_that_is_taken_is_dropped_without_a_word(machine: Any, taken_by: str) -> None:
    pod, ifindex = in_use(machine)
    if taken_by == "name":
        machine.ip("link", "set", "nic1", "name", "uplink")
    else:
        machine.ip("link", "property", "add", "dev", "nic1", "altname", "uplink")
    assert come_home(machine, pod) == ("eth0", as_in_the_pod(ifindex, ["fifteen-bytes-x"]))


@pytest.mark.parametrize("kind", ["dummy", "veth"])
def test_p4_dummy_and_veth_are_destroyed_with_their_namespace(machine: Any, kind: str) -> None:
    pod = machine.add_netns("pod")
    machine.ip("link", "add", "fake", "address", "02:e1:00:00:00:01", "type", kind)
    machine.ip("link", "set", "fake", "netns", pod, "name", "eth0")
    machine.ip("link", "property", "add", "dev", "eth0", "altname", "uplink", netns=pod)
    before = machine.links(pod)["eth0"]
    assert (before["mac"], before["altnames"]) == ("02:e1:00:00:00:01", ["uplink"])
    machine.end_netns(pod)
    machine.until(lambda: kind == "dummy" or "veth0" not in machine.links())  # both ends of a veth
    assert set(machine.links()) == {"lo", "nic0", "nic1"}


def test_p5_renaming_a_link_that_is_up_depends_on_the_kernel(machine: Any) -> None:
    before = machine.links()["nic0"]
    machine.ip("link", "set", "nic0", "up")
    if kernel_version() < LIVE_RENAME_SINCE:
        with pytest.raises(OSError, match="Device or resource busy"):
            machine.ip("link", "set", "nic0", "name", "eth0")
        name = "nic0"
    else:
        machine.ip("link", "set", "nic0", "name", "eth0")
        name = "eth0"
    machine.ip("link", "set", name, "down")
    assert machine.links()[name] | {"up": False, "addresses": []} == before
    machine.ip("link", "set", name, "name", "renamed")  # a link that is down can always be renamed
    assert machine.links()["renamed"] == before


def test_p5_moving_a_link_that_is_up_under_another_name_works(machine: Any) -> None:
    pod, _ = in_use(machine, altnames=())
    machine.ip("link", "set", "eth0", "netns", "1", "name", "back", netns=pod)
    name, nic = machine.nic(MAC)
    assert (name, nic["up"], nic["addresses"]) == ("back", False, [])  # K7, K8
