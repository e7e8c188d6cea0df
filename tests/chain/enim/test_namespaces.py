"""What a path says of a network namespace, on the real kernel."""

import os
import resource
from pathlib import Path

import pytest

from enim import namespaces


def test_is_own_netns_knows_its_own_by_any_path(node):
    own = node.directory / "own"
    own.symlink_to("/proc/self/ns/net")
    assert namespaces.is_own_netns(str(own)) is True
    assert namespaces.is_own_netns(node.create_netns()) is False
    assert namespaces.is_own_netns(str(node.directory / "missing")) is False
    assert namespaces.is_own_netns("") is False


def test_netns_alive_takes_nothing_but_a_network_namespace(node):
    left_over = node.directory / "left-over"
    left_over.touch()
    fifo = node.directory / "fifo"
    os.mkfifo(fifo)
    dead = [left_over, fifo, node.directory, node.directory / "missing", Path("/proc/self/ns/mnt"), Path("/dev/null")]
    assert namespaces.netns_alive(node.create_netns()) is True
    assert namespaces.netns_alive("/proc/self/ns/net") is True
    assert [str(path) for path in dead if namespaces.netns_alive(str(path))] == []
    assert namespaces.netns_alive("") is False
    assert namespaces.netns_alive("nul\0byte") is False


def test_netns_alive_does_not_take_for_dead_what_it_has_no_descriptor_to_look_at(node):
    netns, limits = node.create_netns(), resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, limits[1]))
    try:
        with pytest.raises(OSError, match="Too many open files"):
            namespaces.netns_alive(netns)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
