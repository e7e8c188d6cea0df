"""IPv6 duplicate address detection of exclusive-device's NICs on the real kernel: off unless it is asked for."""

import errno

import pytest

from enim import effects, errors, rtnetlink


def move_in(node, netns):
    rtnetlink.move_in(effects.MoveIn(node.create_nic("eni1"), netns, "eth0", "eni1"))


def configure(netns, addressed, routed=(), *, dad=False):
    rtnetlink.configure(effects.Configure(netns, "eth0", addressed, routed, dad=dad))


def global_flags(node, netns):
    """Of each global address, those of its flags that have to do with duplicate address detection."""
    shown = [address for address in node.show("eth0", netns)["addr_info"] if address["scope"] == "global"]
    flags = ("tentative", "dadfailed", "nodad", "optimistic")
    return {address["local"]: [flag for flag in flags if address.get(flag)] for address in shown}


def test_configure_without_detection_answers_at_once_and_the_address_can_be_used(node):
    netns = node.create_netns(dad=True)
    move_in(node, netns)
    node.ip("address", "add", "2001:db8::10/64", "dev", "far-eni1", "nodad")  # nobody is asked
    configure(netns, ("192.0.2.10/24", "2001:db8::10/64"))
    assert global_flags(node, netns) == {"192.0.2.10": [], "2001:db8::10": ["nodad"]}


def test_configure_without_detection_needs_no_carrier(node):
    netns = node.create_netns(dad=True)
    move_in(node, netns)
    node.ip("link", "set", "far-eni1", "down")
    configure(netns, ("2001:db8::10/64",), (("::/0", "2001:db8::1", {}),))
    assert global_flags(node, netns) == {"2001:db8::10": ["nodad"]}


def test_configure_with_detection_waits_for_its_end(node):
    netns = node.create_netns(dad=True)
    move_in(node, netns)
    configure(netns, ("192.0.2.10/24", "2001:db8::10/64"), dad=True)
    assert global_flags(node, netns) == {"192.0.2.10": [], "2001:db8::10": []}


def test_configure_with_detection_refuses_an_ipv6_address_that_another_host_has(node):
    netns = node.create_netns(dad=True)
    move_in(node, netns)
    node.ip("address", "add", "2001:db8::10/64", "dev", "far-eni1", "nodad")
    with pytest.raises(errors.KernelError) as caught:
        configure(netns, ("2001:db8::10/64",), dad=True)
    assert (caught.value.errno, "another host has 2001:db8::10" in caught.value.text) == (errno.EADDRINUSE, True)


def test_configure_with_detection_gives_up_without_a_carrier(node, monkeypatch):
    monkeypatch.setattr(rtnetlink, "DAD_TIMEOUT_MS", 60)
    netns = node.create_netns(dad=True)
    move_in(node, netns)
    node.ip("link", "set", "far-eni1", "down")
    with pytest.raises(errors.KernelError) as caught:
        configure(netns, ("2001:db8::10/64",), dad=True)
    assert (caught.value.errno, "carrier" in caught.value.text) == (errno.ETIMEDOUT, True)
