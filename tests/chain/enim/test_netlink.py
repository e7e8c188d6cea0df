"""Entering a network namespace and coming back, on the real kernel."""

import os
from pathlib import Path

import pytest

from enim import errors, namespaces, netlink


def own():
    return Path(namespaces.OWN_NETNS).stat().st_ino


def open_descriptors():
    return len(list(Path("/proc/self/fd").iterdir()))


def test_inside_is_in_the_other_netns_and_comes_back(node):
    here, there = own(), os.open(node.create_netns(), os.O_RDONLY)
    assert netlink.inside(there, own) == os.fstat(there).st_ino
    assert own() == here


def test_inside_comes_back_after_a_failure(node):
    here, there = own(), os.open(node.create_netns(), os.O_RDONLY)

    def fail():
        raise RuntimeError("on purpose")

    with pytest.raises(RuntimeError):
        netlink.inside(there, fail)
    assert own() == here


def test_channel_stays_in_its_netns(node):
    netns = node.create_netns()
    node.create_nic("eni1")
    with netlink.Channel() as home, netlink.Channel(netns) as pod:
        assert [len(home.links(name="eni1")), len(pod.links(name="eni1"))] == [1, 0]


def test_channel_leaves_no_descriptor_open(node):
    netns = node.create_netns()
    (node.directory / "left-over").touch()
    before = open_descriptors()
    for path in (netns, "", str(node.directory / "left-over"), str(node.directory / "missing"), "nul\0byte"):
        try:
            with netlink.Channel(path) as channel:
                channel.links()
        except errors.KernelError:
            assert path not in (netns, "")
    assert open_descriptors() == before


def test_links_of_a_busy_node_come_by_rising_index(node):
    for number in range(40):
        node.create_nic(f"eni{number}", f"02:00:00:00:01:{number:02x}")
    with netlink.Channel() as home:
        indexes = [link.ifindex for link in home.links()]
    assert (len(indexes), indexes) == (81, sorted(indexes))
