"""Moving and configuring NICs on the real kernel."""

import errno
import os
from pathlib import Path

import pytest

from enim import effects, errors, rtnetlink

MAC = "02:00:00:00:00:01"


def find(**conditions):
    return rtnetlink.find_link(effects.FindLink(**conditions))


def seen(link):
    return {key: link[key] for key in ("ifname", "address", "ifalias", "mtu") if key in link}


def is_up(link):
    return "UP" in link["flags"]


def addresses(link):
    """CIDR texts without link-local ones."""
    return [f"{a['local']}/{a['prefixlen']}" for a in link["addr_info"] if a["scope"] == "global"]


def routes(node, netns, family="-4"):
    shown = node.ip(family, "route", netns=netns)
    return {(route["dst"], route.get("gateway", "")) for route in shown if route.get("protocol") == "boot"}


# FindLink


def test_find_link_demands_every_condition(node):
    ifindex = node.create_nic("eni1", MAC)
    node.create_nic("eni2", "02:00:00:00:00:02")
    node.ip("link", "set", "eni1", "alias", "spare")
    found = effects.Link(ifindex, "eni1", MAC, "spare")
    for conditions in (
        {"ifindex": ifindex},
        {"mac": MAC},
        {"mac": MAC.upper()},
        {"name": "eni1"},
        {"ifindex": ifindex, "mac": MAC, "name": "eni1"},
    ):
        link = find(**conditions)
        assert (link.ifindex, link.name, link.mac, link.alias) == (ifindex, found.name, found.mac, found.alias)
    assert find(ifindex=ifindex, mac="02:00:00:00:00:02") is None
    assert find(ifindex=ifindex, name="eni2") is None
    assert find(ifindex=999) is None
    assert find(mac="02:00:00:00:00:99") is None
    assert find(name="a-name-that-no-link-can-have") is None


def test_find_link_does_not_take_an_altname_for_the_name(node):
    node.create_nic("eni1")
    node.ip("link", "property", "add", "dev", "eni1", "altname", "other")
    assert find(name="other") is None


def test_find_link_looks_into_a_netns_and_comes_back(node):
    netns = node.create_netns()
    node.create_nic("eni1")
    assert find(name="eni1", netns=netns) is None
    assert find(name="lo", netns=netns).ifindex == 1
    assert find(name="eni1").mac == MAC


def test_find_link_in_a_file_that_is_no_netns_is_a_kernel_error(node):
    (node.directory / "left-over").touch()
    for path, number in ((node.directory / "left-over", errno.EINVAL), (node.directory / "missing", errno.ENOENT)):
        with pytest.raises(errors.KernelError) as caught:
            find(name="lo", netns=str(path))
        assert caught.value.errno == number
    assert find(name="lo") is not None


def test_find_link_sees_one_of_many(node):
    for number in range(1, 60):
        node.create_nic(f"eni{number}", f"02:00:00:00:01:{number:02x}")
    assert find(mac="02:00:00:00:01:3b").name == "eni59"


# MoveIn


def test_addresses_of_a_link_are_of_both_families_with_their_prefixes(node):
    netns = node.create_netns()
    node.create_nic("eth0", MAC)
    node.ip("link", "set", "eth0", "netns", netns)
    node.ip("address", "add", "192.0.2.10/24", "dev", "eth0", netns=netns)
    node.ip("address", "add", "2001:db8::10/64", "dev", "eth0", netns=netns)
    found = rtnetlink.addresses_of(effects.Addresses(netns, "eth0"))
    assert found == {(4, 0xC000020A, 24), (6, 0x20010DB8 << 96 | 0x10, 64)}
    with pytest.raises(errors.KernelError) as caught:
        rtnetlink.addresses_of(effects.Addresses(netns, "eth1"))
    assert caught.value.errno == errno.ENODEV


def test_move_in_renames_and_keeps_the_home_name_as_alias(node):
    netns = node.create_netns()
    ifindex = node.create_nic("eni1", up=True)
    node.ip("link", "set", "eni1", "mtu", "1400", "alias", "stale")
    moved = rtnetlink.move_in(effects.MoveIn(ifindex, netns, "eth0", "eni1"))
    link = node.show("eth0", netns)
    assert seen(link) == {"ifname": "eth0", "address": MAC, "ifalias": "eni1", "mtu": 1400}
    assert (moved, is_up(link)) == (link["ifindex"], False)
    assert node.names() == []


def test_move_in_returns_the_index_that_the_nic_has_there(node):
    netns = node.create_netns()
    ifindex = node.create_nic("eni1")
    with node.within(netns):
        node.ip("link", "add", "other", "index", str(ifindex), "type", "veth", "peer", "name", "far-other")
    moved = rtnetlink.move_in(effects.MoveIn(ifindex, netns, "eth0", "eni1"))
    assert moved == node.show("eth0", netns)["ifindex"] != ifindex


@pytest.mark.parametrize("kind", ["name", "altname"])
def test_move_in_onto_a_taken_name_changes_nothing(node, kind):
    netns = node.create_netns()
    ifindex = node.create_nic("eni1", up=True)
    node.ip("link", "set", "eni1", "alias", "before")
    with node.within(netns):
        node.create_nic("eth0" if kind == "name" else "other", "02:00:00:00:00:02")
    if kind == "altname":
        node.ip("link", "property", "add", "dev", "other", "altname", "eth0", netns=netns)
    before = node.show("eni1"), node.ip("link", netns=netns)
    with pytest.raises(errors.KernelError) as caught:
        rtnetlink.move_in(effects.MoveIn(ifindex, netns, "eth0", "eni1"))
    assert (caught.value.errno, "move eni1 into" in caught.value.operation) == (errno.EEXIST, True)
    assert (node.show("eni1"), node.ip("link", netns=netns)) == before


def test_move_in_that_an_altname_blocks_changes_nothing_and_says_why(node):
    netns = node.create_netns()
    ifindex = node.create_nic("eni1", up=True)
    node.ip("link", "property", "add", "dev", "eni1", "altname", "enp1s0")
    with node.within(netns):
        node.create_nic("enp1s0", "02:00:00:00:00:02")
    before = node.show("eni1")
    with pytest.raises(errors.KernelError) as caught:
        rtnetlink.move_in(effects.MoveIn(ifindex, netns, "eth0", "eni1"))
    assert (caught.value.errno, "enp1s0" in caught.value.text) == (errno.EEXIST, True)
    assert node.show("eni1") == before


def test_move_in_of_which_the_kernel_does_one_half_is_undone(node):
    netns = node.create_netns()
    ifindex = node.create_nic("eni1", up=True)
    node.ip("link", "set", "eni1", "alias", "before")
    with pytest.raises(errors.KernelError) as caught:  # the kernel finds out that it is no name after the move
        rtnetlink.move_in(effects.MoveIn(ifindex, netns, "no/name", "eni1"))
    assert caught.value.errno == errno.EINVAL
    link = node.show("eni1")
    assert seen(link) == {"ifname": "eni1", "address": MAC, "ifalias": "before", "mtu": 1500}
    assert (is_up(link), node.names(netns)) == (True, [])


def test_move_in_of_no_link_is_a_kernel_error(node):
    with pytest.raises(errors.KernelError) as caught:
        rtnetlink.move_in(effects.MoveIn(999, node.create_netns(), "eth0", "eni1"))
    assert caught.value.errno == errno.ENODEV


# MoveOut


def move_in(node, netns, ifname="eth0"):
    rtnetlink.move_in(effects.MoveIn(node.create_nic("eni1"), netns, ifname, "eni1"))


def test_move_out_restores_the_name_and_leaves_nothing_of_the_pod(node):
    netns = node.create_netns()
    move_in(node, netns)
    addressed = ("192.0.2.10/24", "2001:db8::10/64")
    rtnetlink.configure(effects.Configure(netns, "eth0", addressed, (("0.0.0.0/0", "192.0.2.1", {}),)))
    assert rtnetlink.move_out(effects.MoveOut(netns, "eth0", "eni1")) is True
    link = node.show("eni1")
    assert seen(link) == {"ifname": "eni1", "address": MAC, "mtu": 1500}
    assert (is_up(link), link["addr_info"], node.names(netns)) == (False, [], [])
    assert rtnetlink.move_out(effects.MoveOut(netns, "eth0", "eni1")) is False


@pytest.mark.parametrize("ifname", ["eth0", "free-at-home"])
@pytest.mark.parametrize("kind", ["name", "altname"])
def test_move_out_under_a_taken_name_arrives_as_a_free_one(node, ifname, kind):
    netns = node.create_netns()
    move_in(node, netns, ifname)
    node.create_nic("eth0", "02:00:00:00:00:02")
    node.create_nic("dev0", "02:00:00:00:00:03")
    if kind == "name":
        node.ip("link", "set", "far-eth0", "name", "eni1")
    else:
        node.ip("link", "property", "add", "dev", "eth0", "altname", "eni1")
    assert rtnetlink.move_out(effects.MoveOut(netns, ifname, "eni1")) is True
    assert seen(node.show("dev1")) == {"ifname": "dev1", "address": MAC, "mtu": 1500}
    assert node.names(netns) == []


def test_move_out_drops_only_the_altnames_that_block_it(node):
    netns = node.create_netns()
    move_in(node, netns)
    for altname in ("enp1s0", "eni1", "mine"):
        node.ip("link", "property", "add", "dev", "eth0", "altname", altname, netns=netns)
    node.create_nic("enp1s0", "02:00:00:00:00:02")
    assert rtnetlink.move_out(effects.MoveOut(netns, "eth0", "eni1")) is True
    link = node.show("eni1")
    assert (link["address"], link["altnames"]) == (MAC, ["mine"])


def test_move_out_of_which_the_kernel_does_one_half_ends_at_home(node):
    netns = node.create_netns()
    move_in(node, netns, "net1")
    assert rtnetlink.move_out(effects.MoveOut(netns, "net1", "no/name")) is True
    assert seen(node.show("dev0")) == {"ifname": "dev0", "address": MAC, "mtu": 1500}
    assert (node.names(), node.names(netns)) == (["dev0"], [])


@pytest.mark.parametrize("name", ["dev%d", ""])
def test_move_out_without_a_home_name_takes_the_first_free_one(node, name):
    netns = node.create_netns()
    move_in(node, netns)
    node.create_nic("eth0", "02:00:00:00:00:02")
    assert rtnetlink.move_out(effects.MoveOut(netns, "eth0", name)) is True
    assert node.names() == ["dev0", "eth0"]


def test_move_out_does_not_take_an_altname_for_the_name(node):
    netns = node.create_netns()
    move_in(node, netns)
    node.ip("link", "property", "add", "dev", "eth0", "altname", "net1", netns=netns)
    assert rtnetlink.move_out(effects.MoveOut(netns, "net1", "eni1")) is False
    assert (node.names(), node.names(netns)) == ([], ["eth0"])


def test_move_out_that_is_refused_leaves_the_link_as_it_was(node):
    netns = node.create_netns()
    node.ip("link", "set", "lo", "up", netns=netns)
    before = node.show("lo", netns)
    with pytest.raises(errors.KernelError) as caught:
        rtnetlink.move_out(effects.MoveOut(netns, "lo", "eni1"))
    assert (caught.value.errno, node.show("lo", netns)) == (errno.EINVAL, before)


# Configure


def configure(netns, addressed, routed=()):
    rtnetlink.configure(effects.Configure(netns, "eth0", addressed, tuple((*route, {}) for route in routed)))


def test_configure_both_families(node):
    netns = node.create_netns()
    move_in(node, netns)
    routed = (
        ("0.0.0.0/0", "192.0.2.1"),
        ("198.51.100.0/24", ""),
        ("203.0.113.7/24", "192.0.2.9"),
        ("::/0", "2001:db8::1"),
        ("2001:db8:1::/48", ""),
    )
    configure(netns, ("192.0.2.10/24", "2001:db8::10/64"), routed)
    link = node.show("eth0", netns)
    assert is_up(link)
    assert addresses(link) == ["192.0.2.10/24", "2001:db8::10/64"]
    assert link["addr_info"][0]["broadcast"] == "192.0.2.255"
    assert routes(node, netns) == {("default", "192.0.2.1"), ("198.51.100.0/24", ""), ("203.0.113.0/24", "192.0.2.9")}
    assert routes(node, netns, "-6") == {("default", "2001:db8::1"), ("2001:db8:1::/48", "")}
    assert not is_up(node.show("lo", netns))


@pytest.mark.parametrize(("addressed", "left"), [(("192.0.2.10/32",), "1"), (("2001:db8::10/64",), "0")])
def test_configure_enables_ipv6_where_it_is_needed(node, addressed, left):
    netns = node.create_netns()
    settings = [Path(f"/proc/sys/net/ipv6/conf/{name}/disable_ipv6") for name in ("lo", "eth0")]
    with node.within(netns):
        for name in ("all", "default"):
            Path(f"/proc/sys/net/ipv6/conf/{name}/disable_ipv6").write_text("1")
    move_in(node, netns)
    configure(netns, addressed)
    with node.within(netns):
        assert [setting.read_text().strip() for setting in settings] == [left, left]
    assert addresses(node.show("eth0", netns)) == list(addressed)


def test_configure_lets_the_link_keep_its_addresses_when_it_is_down(node):
    netns = node.create_netns()
    move_in(node, netns)
    configure(netns, ("192.0.2.10/24", "2001:db8::10/64"))
    node.ip("link", "set", "eth0", "down", netns=netns)
    assert addresses(node.show("eth0", netns)) == ["192.0.2.10/24", "2001:db8::10/64"]


def test_configure_does_without_what_came_with_linux_4_6(node, monkeypatch):
    def open_as_before(path, *arguments, opened=os.open):
        if str(path).endswith("keep_addr_on_down"):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        return opened(path, *arguments)

    netns = node.create_netns()
    move_in(node, netns)
    monkeypatch.setattr(rtnetlink.posix, "open", open_as_before)
    configure(netns, ("2001:db8::10/64",))
    assert addresses(node.show("eth0", netns)) == ["2001:db8::10/64"]


def test_configure_takes_a_gateway_outside_the_subnet_after_its_on_link_route(node):
    netns = node.create_netns()
    move_in(node, netns)
    configure(netns, ("192.0.2.10/32",), (("169.254.1.1/32", ""), ("0.0.0.0/0", "169.254.1.1")))
    assert routes(node, netns) == {("169.254.1.1", ""), ("default", "169.254.1.1")}


@pytest.mark.parametrize(
    ("route", "reason"),
    [
        (("0.0.0.0/0", "198.51.100.1"), "Nexthop has invalid gateway"),
        (("::/0", "2001:db8:ffff::1"), "No route to host"),
        (("0.0.0.0/0", "2001:db8::1"), "other address family"),
        (("0.0.0.0/0", "nowhere"), "invalid IP address"),
    ],
)
def test_configure_explains_a_gateway_that_cannot_be_reached(node, route, reason):
    netns = node.create_netns()
    move_in(node, netns)
    with pytest.raises(errors.KernelError) as caught:
        configure(netns, ("192.0.2.10/24", "2001:db8::10/64"), (route,))
    assert caught.value.operation == f"add a route to {route[0]} via {route[1]}"
    assert reason in caught.value.text


def test_configure_takes_a_route_that_is_there_already(node):
    netns = node.create_netns()
    move_in(node, netns)
    configure(netns, ("192.0.2.10/24", "2001:db8::10/64"), (("0.0.0.0/0", "192.0.2.1"), ("::/0", "2001:db8::1")) * 2)
    assert routes(node, netns) | routes(node, netns, "-6") == {("default", "192.0.2.1"), ("default", "2001:db8::1")}


def test_configure_refuses_an_address_that_is_there_already(node):
    netns = node.create_netns()
    move_in(node, netns)
    configure(netns, ("192.0.2.10/24",))
    with pytest.raises(errors.KernelError) as caught:
        configure(netns, ("192.0.2.10/24",))
    assert (caught.value.errno, caught.value.operation) == (errno.EEXIST, "add 192.0.2.10/24 to eth0")


def test_configure_of_no_link_is_a_kernel_error(node):
    with pytest.raises(errors.KernelError) as caught:
        configure(node.create_netns(), ("192.0.2.10/24",))
    assert caught.value.errno == errno.ENODEV
