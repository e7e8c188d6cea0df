"""What enim reads out of a configuration: owner, socket, routes, wishes; strict on ADD, lenient on DEL."""

import json

import pytest

from enim import config, errors, settings, wire


def checked(netconf=None, arguments="", command="ADD", plugin="exclusive-device", **variables):
    document = {"cniVersion": "1.0.0", "name": "n", "type": plugin, "ipam": {"type": "enim"}, **(netconf or {})}
    environment = {
        "CNI_COMMAND": command,
        "CNI_CONTAINERID": "c1",
        "CNI_NETNS": "/n1",
        "CNI_IFNAME": "eth0",
        "CNI_PATH": "/opt",
        "CNI_ARGS": arguments,
        **variables,
    }
    return config.read(environment, json.dumps(document).encode())


def code_of(function, *arguments):
    with pytest.raises(errors.CniError) as caught:
        function(*arguments)
    return caught.value.code


def body(*arguments, **options):
    data = settings.wishes(checked(*arguments, **options)).body()
    return json.loads(data)["x-enim"] if data else None


@pytest.mark.parametrize(
    ("arguments", "owner"),
    [
        ("K8S_POD_NAMESPACE=ns;K8S_POD_NAME=web-0", "ns/web-0"),
        ("K8S_POD_NAME=web-0", "n/c1"),
        ("K8S_POD_NAMESPACE=ns", "n/c1"),
        ("K8S_POD_NAMESPACE=;K8S_POD_NAME=web-0", "n/c1"),
        ("", "n/c1"),
    ],
)
def test_owner_is_the_pod_or_else_the_container(arguments, owner):
    for command in ("ADD", "DEL"):
        assert settings.owner(checked(None, arguments, command)) == owner


def test_socket_is_configured_or_of_the_environment_or_the_default():
    configured = {"ipam": {"socket": "/a.sock"}}
    assert settings.socket(checked(configured, CCE_SOCK="/b.sock")) == "/a.sock"
    assert settings.socket(checked(CCE_SOCK="/b.sock")) == "/b.sock"
    assert settings.socket(checked(CCE_SOCK="")) == "/var/run/cce-network-v2/cce-network.sock"


def test_connect_timeout_can_only_shorten_the_time():
    assert settings.connect_ms(checked(), 25_000) == 25_000
    for seconds, ms in ((1, 1_000), (24, 24_000), (25, 25_000), (3_600, 25_000)):
        assert settings.connect_ms(checked({"ipam": {"connect-timeout": seconds}}), 25_000) == ms


@pytest.mark.parametrize("seconds", [0, -1, 1.5, "2", True, {}])
def test_connect_timeout_is_strict_on_add_and_lenient_on_del(seconds):
    netconf = {"ipam": {"connect-timeout": seconds}}
    assert code_of(settings.connect_ms, checked(netconf), 25_000) == 7
    assert code_of(settings.refuse_unusable, checked(netconf)) == 7
    assert settings.connect_ms(checked(netconf, command="DEL"), 25_000) == 25_000


@pytest.mark.parametrize("path", [7, {}, "x" * 108, "/a\0b"])
def test_socket_is_strict_on_add_and_lenient_on_del(path):
    netconf = {"ipam": {"socket": path}}
    assert code_of(settings.socket, checked(netconf)) == 7
    assert settings.socket(checked(netconf, command="DEL")) == settings.DEFAULT_SOCKET


def test_default_route_can_be_turned_off_and_nothing_else():
    assert [settings.default_route(checked({"ipam": {"default-route": value}})) for value in (None, True, False)] == [
        True,
        True,
        False,
    ]
    assert settings.default_route(checked())
    for value in (0, 1, "false", [], {}):
        assert code_of(settings.default_route, checked({"ipam": {"default-route": value}})) == 7


@pytest.mark.parametrize("ipam", ["enim", None, [], 7])
def test_routes_need_an_ipam_object(ipam):
    assert code_of(settings.routes, checked({"ipam": ipam})) == 7


def test_routes_reads_the_list_and_refuses_another():
    (route,) = settings.routes(checked({"ipam": {"routes": [{"dst": "198.51.100.0/24"}]}}))
    assert (route.dst, route.gw) == ("198.51.100.0/24", "")
    assert settings.routes(checked({"ipam": {"routes": None}})) == ()
    assert code_of(settings.routes, checked({"ipam": {"routes": [{"dst": "nonsense"}]}})) == 7


def test_wishes_add_up_and_lose_prefix_and_repetition():
    netconf = {
        "args": {"cni": {"ips": ["192.0.2.12/24", "2001:DB8::5"]}},
        "runtimeConfig": {"ips": ["192.0.2.13", "192.0.2.12"]},
    }
    assert body(netconf, "IP=192.0.2.10/24,192.0.2.11;ip=192.0.2.10") == {
        "ips": ["192.0.2.10", "192.0.2.11", "192.0.2.12", "2001:db8::5", "192.0.2.13"],
        "ipRanges": [],
        "mac": "",
        "device": "",
    }


@pytest.mark.parametrize(
    "netconf",
    [
        {},
        {"args": "text"},
        {"args": {"cni": 7}},
        {"args": {"cni": {"labels": [{"key": "a", "value": "b"}]}}},
        {"args": {"cni": {"ips": []}}, "runtimeConfig": {"ips": None, "ipRanges": []}},
        {"runtimeConfig": {"ipRanges": [[]], "mac": "c2:11:22:33:44:55", "io.kubernetes.cri.pod-annotations": {}}},
        {"device": "eth1", "hwaddr": "nonsense"},
    ],
)
def test_wishes_without_a_wish_have_no_body(netconf):
    assert body(netconf) is None


@pytest.mark.parametrize(
    ("netconf", "arguments", "code"),
    [
        ({}, "IP=nonsense", 4),
        ({}, "ip=192.0.2.1/33", 4),
        ({"args": {"cni": {"ips": "192.0.2.10"}}}, "", 7),
        ({"args": {"cni": {"ips": ["192.0.2"]}}}, "", 7),
        ({"args": {"cni": {"ips": [7]}}}, "", 7),
        ({"runtimeConfig": {"ips": {}}}, "", 7),
        ({"runtimeConfig": {"ips": ["::1/129"]}}, "", 7),
        ({"runtimeConfig": {"ipRanges": {}}}, "", 7),
        ({"runtimeConfig": {"ipRanges": [[{}]]}}, "", 7),
        ({"runtimeConfig": {"ipRanges": [None]}}, "", 7),
        ({"runtimeConfig": {"ipRanges": ["192.0.2.0/24"]}}, "", 7),
        ({"runtimeConfig": {"ipRanges": [[{"subnet": "192.0.2.0"}]]}}, "", 7),
        ({"runtimeConfig": {"ipRanges": [[{"subnet": 7}]]}}, "", 7),
        ({"runtimeConfig": {"ipRanges": [[{"subnet": "192.0.2.0/24", "rangeStart": "192.0.3.1"}]]}}, "", 7),
        ({"runtimeConfig": {"ipRanges": [[{"subnet": "192.0.2.0/24", "rangeEnd": "2001:db8::1"}]]}}, "", 7),
        (
            {
                "runtimeConfig": {
                    "ipRanges": [[{"subnet": "192.0.2.0/24", "rangeStart": "192.0.2.9", "rangeEnd": "192.0.2.8"}]]
                }
            },
            "",
            7,
        ),
    ],
)
def test_wishes_refuse_what_cannot_be_understood(netconf, arguments, code):
    assert code_of(settings.wishes, checked(netconf, arguments)) == code


def test_wishes_read_ranges_in_both_shapes():
    nested = {"ipRanges": [[{"subnet": "192.0.2.0/24", "rangeStart": "192.0.2.8", "gateway": "192.0.2.1"}]]}
    assert body({"runtimeConfig": nested})["ipRanges"] == [[{"subnet": "192.0.2.0/24", "rangeStart": "192.0.2.8"}]]
    flat = {"ipRanges": [{"Subnet": "192.0.2.0/24", "RangeStart": "", "RangeEnd": ""}, {"Subnet": "2001:db8::/64"}]}
    assert body({"runtimeConfig": flat})["ipRanges"] == [[{"subnet": "192.0.2.0/24"}], [{"subnet": "2001:db8::/64"}]]


@pytest.mark.parametrize(
    ("netconf", "mac", "device"),
    [
        ({"device": "eth1", "hwaddr": "FA:26:00:01:02:03", "pciBusID": "0000:04:00.5"}, "", "eth1"),
        ({"hwaddr": "FA-26-00-01-02-03", "pciBusID": "0000:04:00.5"}, "fa:26:00:01:02:03", ""),
        ({"pciBusID": "0000:04:00.5"}, "", "0000:04:00.5"),
        ({"pciBusID": "0000:04:00.5", "runtimeConfig": {"deviceID": "mlx5_core.sf.4"}}, "", "mlx5_core.sf.4"),
        ({"runtimeConfig": {"DeviceID": "0000:04:00.6"}}, "", "0000:04:00.6"),
    ],
)
def test_wishes_under_host_device_name_the_nic_that_it_takes(netconf, mac, device):
    assert body(netconf, plugin="host-device") == {"ips": [], "ipRanges": [], "mac": mac, "device": device}
    assert body(netconf) is None


def test_wishes_under_host_device_have_no_word_for_a_kernel_path():
    assert body({"kernelpath": "/sys/devices/x", "pciBusID": "0000:04:00.5"}, plugin="host-device") is None


@pytest.mark.parametrize("netconf", [{"device": 7}, {"hwaddr": "nonsense"}, {"runtimeConfig": {"deviceID": []}}])
def test_wishes_under_host_device_refuse_a_malformed_device(netconf):
    assert code_of(settings.wishes, checked(netconf, plugin="host-device")) == 7


@pytest.mark.parametrize(
    ("netconf", "unmet"),
    [
        ({"ips": ["192.0.2.10"]}, ""),
        ({"ips": ["192.0.2.10/16", "2001:db8::10"]}, ""),
        ({"ips": ["192.0.2.10", "192.0.2.11"]}, "192.0.2.11"),
        ({"ipRanges": [[{"subnet": "192.0.2.0/24"}], [{"subnet": "2001:db8::/64"}]]}, ""),
        ({"ipRanges": [[{"subnet": "198.51.100.0/24"}, {"subnet": "192.0.2.0/24"}]]}, ""),
        ({"ipRanges": [[{"subnet": "192.0.2.0/24", "rangeStart": "192.0.2.10", "rangeEnd": "192.0.2.10"}]]}, ""),
        ({"ipRanges": [[{"subnet": "192.0.2.0/24", "rangeStart": "192.0.2.11"}]]}, "192.0.2.0/24"),
        (
            {"ipRanges": [[{"subnet": "192.0.2.0/24"}], [{"subnet": "::/64"}, {"subnet": "fe80::/64"}]]},
            "::/64 or fe80::/64",
        ),
    ],
)
def test_unmet_names_the_wish_that_was_not_granted(netconf, unmet):
    both = (wire.Address(4, "192.0.2.10", 24, ""), wire.Address(6, "2001:db8::10", 64, ""))
    wishes = settings.wishes(checked({"runtimeConfig": netconf}))
    assert wishes.unmet(wire.Allocation("fa:26:00:01:02:03", 7, both)) == unmet
