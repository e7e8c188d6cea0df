"""What a call wants of the ENI, from all the places where it can say so; what the agent did not grant of it."""

import json

import pytest

from enim import config, effects, errors, wire, wishes

MAC = "fa:26:00:01:02:03"


def checked(netconf=None, arguments="", plugin="exclusive-device"):
    document = {"cniVersion": "1.0.0", "name": "n", "type": plugin, "ipam": {"type": "enim"}, **(netconf or {})}
    environment = {
        "CNI_COMMAND": "ADD",
        "CNI_CONTAINERID": "c1",
        "CNI_NETNS": "/n1",
        "CNI_IFNAME": "eth0",
        "CNI_PATH": "/opt",
        "CNI_ARGS": arguments,
    }
    return config.read(environment, json.dumps(document).encode())


def code_of(function, *arguments):
    with pytest.raises(errors.CniError) as caught:
        function(*arguments)
    return caught.value.code


def body(*arguments, **options):
    data = wishes.read(checked(*arguments, **options)).body()
    return json.loads(data)["x-enim"] if data else None


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
        {"args": {"cni": {"mac": None}}, "runtimeConfig": {"mac": "", "deviceID": None}},
        {"runtimeConfig": {"ipRanges": [[]], "portMappings": [], "io.kubernetes.cri.pod-annotations": {}}},
    ],
)
def test_wishes_without_a_wish_have_no_body(netconf):
    assert body(netconf) is None


@pytest.mark.parametrize(
    ("netconf", "arguments", "code"),
    [
        ({}, "IP=nonsense", 4),
        ({}, "ip=192.0.2.1/33", 4),
        ({}, "MAC=fa:26", 4),
        ({"runtimeConfig": {"mac": MAC}}, "MAC=fa:26", 4),
        ({"args": {"cni": {"mac": 7}}}, "", 7),
        ({"runtimeConfig": {"mac": [MAC]}}, "", 7),
        ({"runtimeConfig": {"deviceID": 7}}, "", 7),
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
        ({"runtimeConfig": {"ipRanges": [[{"subnet": "192.0.2.0/24", "gateway": "router"}]]}}, "", 7),
        ({"runtimeConfig": {"ipRanges": [[{"subnet": "192.0.2.0/24", "gateway": "2001:db8::1"}]]}}, "", 7),
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
    assert code_of(wishes.read, checked(netconf, arguments)) == code


def test_wishes_read_ranges_in_both_shapes():
    nested = {"ipRanges": [[{"subnet": "192.0.2.0/24", "rangeStart": "192.0.2.8", "gateway": "192.0.2.1"}]]}
    assert body({"runtimeConfig": nested})["ipRanges"] == nested["ipRanges"]
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


@pytest.mark.parametrize("plugin", ["exclusive-device", "host-device"])
@pytest.mark.parametrize(
    ("netconf", "arguments", "mac"),
    [
        ({}, "MAC=FA-26-00-01-02-03", MAC),
        ({"args": {"cni": {"mac": MAC}}}, "", MAC),
        ({"runtimeConfig": {"Mac": MAC.upper()}}, "", MAC),
        ({"args": {"cni": {"mac": "fa:26:00:01:02:02"}}}, "MAC=fa:26:00:01:02:01", "fa:26:00:01:02:02"),
        ({"args": {"cni": {"mac": "fa:26:00:01:02:02"}}, "runtimeConfig": {"mac": MAC}}, "", MAC),
    ],
)
def test_wishes_take_the_mac_of_the_last_who_asks_for_one(netconf, arguments, mac, plugin):
    assert body(netconf, arguments, plugin=plugin)["mac"] == mac


def test_wishes_under_host_device_refuse_two_macs_of_one_nic():
    netconf = {"hwaddr": MAC, "runtimeConfig": {"mac": "fa:26:00:01:02:04"}}
    assert code_of(wishes.read, checked(netconf, plugin="host-device")) == 7
    assert body({**netconf, "runtimeConfig": {"mac": MAC}}, plugin="host-device")["mac"] == MAC


def test_wishes_under_exclusive_device_name_the_device_that_the_runtime_names_and_no_key_of_host_device():
    netconf = {"device": "eth1", "hwaddr": MAC, "pciBusID": "0000:04:00.5"}
    assert body(netconf) is None
    assert body({**netconf, "runtimeConfig": {"deviceID": "0000:04:00.6"}})["device"] == "0000:04:00.6"


@pytest.mark.parametrize("netconf", [{"device": 7}, {"hwaddr": "nonsense"}, {"runtimeConfig": {"deviceID": []}}])
def test_wishes_under_host_device_refuse_a_malformed_device(netconf):
    assert code_of(wishes.read, checked(netconf, plugin="host-device")) == 7


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
        ({"ipRanges": [[{"subnet": "2001:db8::/64", "gateway": "2001:db8:0::1"}]]}, ""),
        (
            {"ipRanges": [[{"subnet": "2001:db8::/64", "gateway": "2001:db8::2"}]]},
            "2001:db8::/64 with the gateway 2001:db8::2",
        ),
        ({"ipRanges": [[{"subnet": "192.0.2.0/24"}], [{"subnet": "192.0.2.0/25"}]]}, "192.0.2.0/25"),
        ({"ipRanges": [[{"subnet": "192.0.2.0/24"}, {"subnet": "2001:db8::/64"}], [{"subnet": "192.0.2.0/24"}]]}, ""),
        (
            {"ipRanges": [[{"subnet": "192.0.2.0/24"}], [{"subnet": "::/64"}, {"subnet": "fe80::/64"}]]},
            "::/64 or fe80::/64",
        ),
    ],
)
def test_unmet_names_the_wish_that_was_not_granted(netconf, unmet):
    both = (wire.Address(4, "192.0.2.10", 24, ""), wire.Address(6, "2001:db8::10", 64, "2001:db8::1"))
    wanted = wishes.read(checked({"runtimeConfig": netconf}))
    assert wanted.unmet(wire.Allocation("fa:26:00:01:02:03", 7, both)) == unmet


def test_unmet_names_the_mac_that_was_not_granted():
    granted = wire.Allocation(MAC, 7, ())
    assert [wishes.Wishes(mac=mac).unmet(granted) for mac in ("", MAC, "fa:26:00:01:02:04")] == [
        "",
        "",
        "the MAC fa:26:00:01:02:04",
    ]


@pytest.mark.parametrize(("device", "is_it"), [("", True), ("eni1", True), (MAC.upper(), True), ("eni2", False)])
def test_is_device_by_its_name_at_home_or_its_mac(device, is_it):
    assert wishes.Wishes(device=device).is_device("eni1", MAC) is is_it


# A bus id


def resolve(call, *script):
    """Drive ``resolve`` through pairs of effect and outcome; the MAC and the device that it ends with."""
    flow = wishes.resolve(call, wishes.read(call))
    step, value = flow.send, None
    try:
        for expected, outcome in script:
            assert step(value) == expected
            step, value = (flow.throw if isinstance(outcome, Exception) else flow.send), outcome
        step(value)
    except StopIteration as stop:
        return stop.value.mac, stop.value.device
    raise AssertionError("it goes on")


ID = "0000:04:00.5"
BY_ID = {"runtimeConfig": {"deviceID": ID}}
AT_HOME = (effects.DeviceName(ID), "ens5")
LINK = effects.Link(7, "ens5", MAC)
MOVED = (effects.FindLink(name="eth0", netns="/n1"), effects.Link(7, "eth0", MAC, "ens5"))


def test_resolve_asks_for_the_mac_of_a_nic_at_home_or_for_the_id_as_it_stands():
    assert resolve(checked(BY_ID), AT_HOME, (effects.FindLink(name="ens5"), LINK)) == (MAC, "")
    assert resolve(checked(BY_ID), (effects.DeviceName(ID), "")) == ("", ID)
    assert resolve(checked(BY_ID, f"MAC={MAC}"), AT_HOME, (effects.FindLink(name="ens5"), LINK)) == (MAC, "")


@pytest.mark.parametrize("netconf", [BY_ID, {"pciBusID": ID}, {"kernelpath": "/sys/devices/x"}])
def test_resolve_under_host_device_asks_for_the_mac_of_the_nic_that_it_has_moved(netconf):
    call = checked(netconf, plugin="host-device")
    assert resolve(call, (effects.NetnsAlive("/n1"), True), MOVED) == (MAC, "")
    assert resolve(call, (effects.NetnsAlive("/n1"), False)) == ("", "" if "kernelpath" in netconf else ID)


@pytest.mark.parametrize("netconf", [{}, {"device": "ens5"}, {"hwaddr": MAC}])
def test_resolve_has_nothing_to_do_without_a_bus_id(netconf):
    assert resolve(checked(netconf, plugin="host-device")) == (netconf.get("hwaddr", ""), netconf.get("device", ""))


@pytest.mark.parametrize(
    ("link", "code"),
    [
        (None, errors.WRONG_DEVICE),
        (effects.Link(7, "ens5", "fa:26:00:01:02:04"), errors.WRONG_DEVICE),
        (errors.KernelError("look up ens5", 1, "Operation not permitted"), errors.LINK_FAILURE),
    ],
)
def test_resolve_refuses_a_nic_that_is_not_there_or_has_another_mac(link, code):
    call = checked(BY_ID, f"MAC={MAC}")
    assert code_of(resolve, call, AT_HOME, (effects.FindLink(name="ens5"), link)) == code
