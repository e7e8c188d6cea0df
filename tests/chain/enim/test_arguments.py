"""What a runtime may ask for, in every place and spelling that CNI has for it: the installed plugins and a real agent.

The agent has three ENIs: eni-1 to eni-3 have 10.64.0.10 to .12, fd64::a to ::c and the MACs 02:e1:00:00:00:01 to :03.
"""

import pytest

from enim import errors, wire

MACS = [f"02:e1:00:00:00:0{number}" for number in (1, 2, 3)]
RANGE = {"subnet": "10.64.0.0/24", "rangeStart": "10.64.0.12", "rangeEnd": "10.64.0.12"}
UNKNOWN = {"IP": "192.0.2.1", "MAC": "02:e1:00:00:00:99", "deviceID": "0000:ff:1f.7"}


def test_third_eni_is_given_to_who_asks_for_it_in_any_way(in_lab, run_agent, call_plugin):
    ways = {
        "IP": {"CNI_ARGS": "IP=10.64.0.12"},
        "IP with a prefix": {"CNI_ARGS": "IgnoreUnknown=1;X=1;IP=10.64.0.12/24"},
        "ip": {"CNI_ARGS": "ip=fd64::c"},
        "args.cni.ips": {"args": {"cni": {"ips": ["10.64.0.12/24", "fd64::c"]}}},
        "runtimeConfig.ips": {"runtimeConfig": {"ips": ["10.64.0.12"]}},
        "ipRanges": {"runtimeConfig": {"ipRanges": [[{"subnet": "192.0.2.0/24"}, RANGE], [{"subnet": "fd64::c/128"}]]}},
        "ipRanges, flat": {"runtimeConfig": {"ipRanges": [{key[:1].upper() + key[1:]: RANGE[key] for key in RANGE}]}},
        "MAC": {"CNI_ARGS": f"MAC={MACS[2].upper()}"},
        "args.cni.mac": {"args": {"cni": {"mac": MACS[2]}}},
        "runtimeConfig.mac": {"runtimeConfig": {"mac": MACS[2].replace(":", "-")}},
        "runtimeConfig.deviceID": {"runtimeConfig": {"deviceID": "eni3"}},
        "keys in any case": {"RuntimeConfig": {"Mac": MACS[2]}, "Args": {"CNI": {"IPs": ["10.64.0.12"]}}},
        "all at once": {
            "CNI_ARGS": f"IP=10.64.0.12;MAC={MACS[0]}",
            "args": {"cni": {"mac": MACS[1], "ips": ["fd64::c"]}},
            "runtimeConfig": {"mac": MACS[2], "deviceID": "eni3", "ipRanges": [[RANGE]]},
        },
    }

    def play(scratch):
        found = {}
        with run_agent(scratch, enis=3) as agent:
            enim = call_plugin("enim", agent.socket, "/dev/null", type="exclusive-device")
            for number, (name, way) in enumerate(ways.items()):
                found[name] = enim.succeed(CNI_CONTAINERID=f"c{number}", **way)["interfaces"][0]["mac"]
                enim.succeed("DEL", CNI_CONTAINERID=f"c{number}", **way)
                agent.await_free()
        return found

    assert in_lab(play) == dict.fromkeys(ways, MACS[2])


def test_what_no_eni_has_or_another_pod_has_is_refused_and_nothing_is_allocated(in_lab, run_agent, call_plugin):
    ways = [
        *({"CNI_ARGS": f"{key}={UNKNOWN[key]}"} for key in ("IP", "MAC")),
        {"runtimeConfig": {"deviceID": UNKNOWN["deviceID"]}},
        {"runtimeConfig": {"ips": ["10.64.0.10", "10.64.0.11"]}},  # of two ENIs
        {"runtimeConfig": {"ipRanges": [[{"subnet": "192.0.2.0/24"}]]}},
        {"runtimeConfig": {"mac": MACS[0], "deviceID": "eni2"}},
    ]

    def play(scratch):
        with run_agent(scratch, enis=2) as agent:
            enim = call_plugin("enim", agent.socket, "/dev/null", type="exclusive-device")
            codes = [enim.fail(CNI_CONTAINERID=f"c{number}", **way)["code"] for number, way in enumerate(ways)]
            enim.succeed(CNI_CONTAINERID="holder", runtimeConfig={"mac": MACS[0]})
            taken = enim.fail(CNI_CONTAINERID="late", CNI_ARGS=f"K8S_POD_NAMESPACE=ns;K8S_POD_NAME=b;MAC={MACS[0]}")
            other = enim.succeed(CNI_CONTAINERID="other", CNI_ARGS="K8S_POD_NAMESPACE=ns;K8S_POD_NAME=b")
            return codes, taken["code"], MACS[0] in taken["msg"], other["interfaces"][0]["mac"]

    assert in_lab(play) == ([errors.TRY_AGAIN_LATER] * len(ways), errors.TRY_AGAIN_LATER, True, MACS[1])


@pytest.mark.parametrize(
    ("way", "code"),
    [
        *(({"CNI_ARGS": text}, errors.INVALID_ENVIRONMENT) for text in ("IP=x", "MAC=x", "IP=10.0.0.1/33", "NEW=1")),
        *(({"args": {"cni": part}}, errors.INVALID_CONFIG) for part in ({"ips": "x"}, {"ips": [7]}, {"mac": "x"})),
        *(
            ({"runtimeConfig": part}, errors.INVALID_CONFIG)
            for part in ({"ips": ["x"]}, {"ipRanges": [7]}, {"ipRanges": [[{}]]}, {"mac": 7}, {"deviceID": 7}, "text")
        ),
    ],
)
def test_what_cannot_be_understood_fails_add_and_never_del(call_plugin, plant_agent, tmp_path, way, code):
    agent = plant_agent(tmp_path / "agent.sock")
    enim = call_plugin("enim", tmp_path / "agent.sock", type="exclusive-device")
    assert enim.fail(**way)["code"] == code
    assert agent.methods == []
    assert enim.succeed("DEL", **way) is None
    assert agent.methods == ["DELETE"]


# An agent that ignores what it is asked for, as the real one does


@pytest.mark.parametrize(
    "way",
    [
        {"CNI_ARGS": f"MAC={MACS[1]}"},
        {"runtimeConfig": {"deviceID": "eni2"}},
        {"runtimeConfig": {"ips": ["10.64.0.11"]}},
        {"runtimeConfig": {"ipRanges": [[RANGE]]}},
    ],
)
def test_another_eni_than_the_one_that_was_asked_for_is_given_back(node, plant_agent, call_plugin, way):
    agent = plant_agent(node.directory / "agent.sock")
    ifindex = node.create_nic("eni1", MACS[0])
    eni = {"ip": "10.64.0.10", "cidrs": ["10.64.0.0/24"], "master-mac": MACS[0], "interface-number": str(ifindex)}
    agent.grant(eni)
    enim = call_plugin("enim", node.directory / "agent.sock", node.create_netns(), type="exclusive-device")
    assert enim.fail(**way)["code"] == errors.NOT_GRANTED
    assert agent.methods == ["POST", "DELETE"]
    for granted in ({"deviceID": "eni1"}, {"deviceID": MACS[0]}, {"mac": MACS[0]}, {"ips": ["10.64.0.10"]}):
        assert enim.succeed(runtimeConfig=granted)["interfaces"] == [{"mac": MACS[0], "name": "eni1"}]


@pytest.mark.parametrize("key", ["pciBusID", "kernelpath", "deviceID"])
def test_host_devices_nic_is_asked_for_by_the_mac_that_it_has_in_the_pod(node, plant_agent, call_plugin, key):
    agent = plant_agent(node.directory / "agent.sock")
    agent.grant({"ip": "10.64.0.10", "cidrs": ["10.64.0.0/24"], "master-mac": MACS[0], "interface-number": "7"})
    netns = node.create_netns()
    with node.within(netns):
        node.create_nic("eth0", MACS[0])
    named = {"runtimeConfig": {key: "0000:04:00.5"}} if key == "deviceID" else {key: "0000:04:00.5"}
    enim = call_plugin("enim", node.directory / "agent.sock", netns, type="host-device", **named)
    enim.succeed()
    assert b'"mac":"02:e1:00:00:00:01"' in agent.requests[0].body
    node.ip("link", "set", "eth0", "name", "eth1", netns=netns)
    assert enim.fail()["code"] == errors.WRONG_DEVICE
    assert agent.methods == ["POST"]


# Keys of the configuration may come in any case: Go's encoding/json reads them all


def spelt(value, change):
    """The same with other names of members."""
    if isinstance(value, dict):
        return {change(key): spelt(part, change) for key, part in value.items()}
    return [spelt(part, change) for part in value] if isinstance(value, list) else value


@pytest.mark.parametrize("change", [str.upper, str.lower, str.title, str.swapcase])
@pytest.mark.parametrize("delegate", ["exec", ""])
def test_every_key_of_the_configuration_may_be_in_any_case(node, plant_agent, call_plugin, change, delegate):
    agent = plant_agent(node.directory / "agent.sock")
    eni = {"master-mac": MACS[0], "interface-number": str(node.create_nic("eni1", MACS[0]))}
    agent.grant({"ip": "10.64.0.10", "cidrs": ["10.64.0.0/24"], "gateway": "10.64.0.1", **eni})
    runtime = call_plugin("exclusive-device", node.directory / "agent.sock", node.create_netns())
    ipam = {"connect-timeout": 2, "default-route": False, "routes": [{"dst": "192.0.2.0/24", "priority": 5}]}
    conf = {
        "cniVersion": "1.1.0",
        "name": "n",
        "type": "exclusive-device",
        "dns": {"domain": "x"},
        "delegate": delegate,
        "ipam": {**runtime.ipam, **ipam},
        "args": {"cni": {"ips": ["10.64.0.10"]}},
        "runtimeConfig": {"mac": MACS[0], "deviceID": "eni1", "ipRanges": [[{"subnet": "10.64.0.0/24"}]]},
    }
    printed = runtime.succeed(document=spelt(conf, change))
    assert (printed["cniVersion"], printed["routes"]) == ("1.1.0", ipam["routes"])
    assert b"10.64.0.10" in agent.requests[0].body
    assert b"eni1" in agent.requests[0].body
    previous = spelt({**conf, "prevResult": printed}, change)
    agent.replies["GET /v1/healthz"] = wire.Reply(200)
    assert runtime.succeed("CHECK", document=previous) is None
    assert runtime.succeed("DEL", document=previous) is None
    assert (node.names(), agent.methods[-1]) == (["eni1"], "DELETE")
