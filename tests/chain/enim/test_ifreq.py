"""A link by its index, on the real kernel; what the two ioctls cannot tell, netlink does."""

import resource

import pytest

from enim import effects, ifreq, process

MAC = "02:00:00:00:00:01"


def test_link_at_an_index_has_its_name_and_its_mac(node):
    ifindex = node.create_nic("eni1", MAC)
    node.ip("link", "set", "eni1", "name", "a-name-of-15-by")
    link = ifreq.link_at(ifindex)
    assert (link.ifindex, link.name, link.mac, link.alias) == (ifindex, "a-name-of-15-by", MAC, "")
    assert ifreq.link_at(ifindex + 100) is None


def test_link_that_cannot_be_asked_for_is_not_taken_for_one_that_is_not_there(node):
    ifindex = node.create_nic("eni1", MAC)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, 4096))
    with pytest.raises(OSError, match=r"No such file|open files"):  # glibc says the former where there is no socket
        ifreq.link_at(ifindex)


def test_link_without_an_ethernet_address_is_refused(node):
    with pytest.raises(ValueError, match="lo"):
        ifreq.link_at(1)


def test_link_that_is_found_by_its_index_must_have_the_mac(node):
    ifindex = node.create_nic("eni1", MAC)
    find = process.HANDLERS["FindLink"]
    assert find(effects.FindLink(ifindex=ifindex, mac=MAC.upper())).name == "eni1"
    assert find(effects.FindLink(ifindex=ifindex, mac="02:00:00:00:00:02")) is None
    assert find(effects.FindLink(ifindex=ifindex + 100)) is None


def test_what_is_asked_for_besides_or_is_no_ethernet_link_is_asked_of_netlink(node):
    ifindex = node.create_nic("eni1", MAC)
    node.ip("link", "set", "eni1", "alias", "an alias")
    find = process.HANDLERS["FindLink"]
    assert find(effects.FindLink(ifindex=ifindex, name="eni1")).alias == "an alias"
    assert find(effects.FindLink(ifindex=1)).name == "lo"
    netns = node.create_netns()
    assert find(effects.FindLink(ifindex=1, netns=netns)).name == "lo"
