"""What enim reads out of a configuration: owner, socket, routes; strict on ADD, lenient on DEL."""

import json

import pytest

from enim import config, errors, settings


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


@pytest.mark.parametrize(
    ("netconf", "arguments", "plugin", "may"),
    [
        ({}, "K8S_POD_NAME=web-0", "exclusive-device", False),
        ({"args": {"labels": 7}, "runtimeConfig": None}, "", "exclusive-device", False),
        ({}, "", "host-device", True),
        ({}, "IP=192.0.2.10", "exclusive-device", True),
        ({}, "ip=192.0.2.10", "exclusive-device", True),
        ({}, "MAC=fa:26:00:01:02:03", "exclusive-device", True),
        ({"Args": {"CNI": {}}}, "", "exclusive-device", True),
        ({"runtimeConfig": {}}, "", "exclusive-device", True),
        ({"runtimeConfig": 7}, "", "exclusive-device", True),
    ],
)
def test_may_wish_is_false_only_where_there_is_no_place_for_a_wish(netconf, arguments, plugin, may):
    assert settings.may_wish(checked(netconf, arguments, plugin=plugin)) is may
