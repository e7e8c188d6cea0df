"""Routes of the network configuration: as the kernel has them after ADD of exclusive-device, and as the result says."""

import pytest

MAC = "02:00:00:00:00:01"
ADDRESSES = (
    {"ip": "192.0.2.10", "cidrs": ["192.0.2.0/24"], "gateway": "192.0.2.1"},
    {"ip": "2001:db8::10", "cidrs": ["2001:db8::/64"], "gateway": "2001:db8::1"},
)
DEFAULTS = [{"dst": "0.0.0.0/0", "gw": "192.0.2.1"}, {"dst": "::/0", "gw": "2001:db8::1"}]


@pytest.fixture
def add(node, plant_agent, call_plugin, delegate):
    """Runs ADD with these ``ipam.routes``: what it printed, and a function that shows the pod's routes to a network."""

    def run(routes, **ipam):
        eni = {"master-mac": MAC, "interface-number": str(node.create_nic("eni1", MAC))}
        plant_agent(node.directory / "agent.sock").grant(*({**address, **eni} for address in ADDRESSES))
        netns = node.create_netns()
        netconf = {"type": "exclusive-device", "delegate": delegate}
        runtime = call_plugin("exclusive-device", node.directory / "agent.sock", netns, **netconf)
        printed = runtime.succeed(ipam={"routes": routes, **ipam})

        def show(dst):
            family = "-6" if ":" in dst else "-4"
            shown = node.ip(family, "route", "show", "table", "all", netns=netns)
            return [one for one in shown if one["dst"] == dst and one.get("protocol") == "boot"]

        return printed.get("routes", []), show

    return run


@pytest.mark.parametrize(
    ("attributes", "shown"),
    [
        ({"mtu": 1400, "advmss": 1360}, {"metrics": [{"mtu": 1400, "advmss": 1360}]}),
        ({"priority": 5}, {"metric": 5}),
        ({"table": 100, "scope": 0}, {"table": "100"}),
        ({"table": 70_000}, {"table": "70000"}),
        ({"table": 0, "priority": 7}, {"metric": 7}),
    ],
)
def test_route_is_made_with_every_attribute_of_cni_1_1(add, attributes, shown):
    routes = [{"dst": "198.51.100.0/24", **attributes}, {"dst": "2001:db8:1::/48", "gw": "2001:db8::2", **attributes}]
    printed, show = add(routes)
    assert printed == routes + DEFAULTS
    for route, gateway in zip(routes, ("192.0.2.1", "2001:db8::2"), strict=True):
        (made,) = show(route["dst"])
        assert (made["gateway"], {key: made.get(key) for key in shown}) == (gateway, shown)


@pytest.mark.parametrize(("scope", "shown"), [(253, "link"), (254, "host")])
def test_route_of_the_link_or_the_host_has_no_gateway(add, scope, shown):
    _, show = add([{"dst": "198.51.100.0/24", "scope": scope}])
    (made,) = show("198.51.100.0/24")
    assert (made["scope"], "gateway" in made) == (shown, False)


def test_gateway_outside_the_subnet_is_reached_over_a_route_of_the_link(add):
    _, show = add([{"dst": "169.254.1.1/32", "scope": 253}, {"dst": "0.0.0.0/0", "gw": "169.254.1.1"}])
    assert [made["gateway"] for made in show("default") if made["gateway"][:3] == "169"] == ["169.254.1.1"]


def test_equal_routes_and_a_second_default_are_left_out(add):
    first = [{"dst": "198.51.100.0/24"}, {"dst": "0.0.0.0/0", "gw": "192.0.2.9"}]
    again = [{"dst": "198.51.100.7/24", "gw": "192.0.2.1"}, {"dst": "0.0.0.0/0", "gw": "192.0.2.8"}]
    printed, show = add(first + again)
    assert printed == [*first, DEFAULTS[1]]
    assert [made["gateway"] for made in [*show("198.51.100.0/24"), *show("default")]][:2] == ["192.0.2.1", "192.0.2.9"]


def test_default_of_another_table_leaves_the_main_table_its_own(add):
    printed, show = add([{"dst": "0.0.0.0/0", "table": 100}])
    assert printed == [{"dst": "0.0.0.0/0", "table": 100}, *DEFAULTS]
    assert sorted(made.get("table", "main") for made in show("default")) == ["100", "main"]


def test_default_route_false_leaves_the_pod_without_one(add):
    printed, show = add([{"dst": "198.51.100.0/24"}], **{"default-route": False})
    assert printed == [{"dst": "198.51.100.0/24"}]
    assert (show("default"), len(show("198.51.100.0/24"))) == ([], 1)
