"""The defects of the enim that this one replaces, by their numbers in the contract's list C8: ours has none of 1 to 19.

The installed plugin runs as a process against an agent that is planted to provoke each. Nearly all of them run under
host-device with a namespace that is none, so that enim needs no link; where it must find one, the test has a node.
"""

import json
import threading
from pathlib import Path

import pytest

from enim import commands, config, errors, process, wire
from simulator import syscalls

MAC = "fa:26:00:01:02:03"
IPV4 = {"ip": "192.0.2.10", "cidrs": ["192.0.2.0/24"], "gateway": "192.0.2.1"}
IPV6 = {"ip": "2001:db8::10", "cidrs": ["2001:db8::/64"], "gateway": "2001:db8::1"}
ENI = {"master-mac": MAC, "interface-number": "7"}
V4, V6 = {**IPV4, **ENI}, {**IPV6, **ENI}
DEFAULT = {"dst": "0.0.0.0/0", "gw": "192.0.2.1"}


@pytest.fixture
def agent(plant_agent, tmp_path):
    planted = plant_agent(tmp_path / "agent.sock")
    planted.grant(V4)
    return planted


@pytest.fixture
def enim(call_plugin, tmp_path):
    return call_plugin("enim", tmp_path / "agent.sock", type="host-device", device="e1")


@pytest.mark.parametrize("broken", [{"gateway": "nowhere"}, {"interface-number": "seven"}, {"gateway": "2001:db8::1"}])
def test_c8_01_a_bad_gateway_or_interface_number_is_an_error_and_is_released(enim, agent, broken):
    agent.grant({**V4, **broken}, V6)
    assert enim.fail()["code"] == errors.BAD_AGENT_REPLY
    assert agent.methods == ["POST", "DELETE"]


@pytest.mark.parametrize("version", [*config.VERSIONS, "1.0.10"])
def test_c8_02_the_result_is_in_the_version_of_the_configuration(enim, agent, version):
    printed = enim.succeed(cniVersion=version)
    shape = {"ip4"} if version in ("0.1.0", "0.2.0") else {"interfaces", "ips", "routes"}
    assert (printed["cniVersion"], set(printed) - {"cniVersion", "dns"}) == (version, shape)
    assert [ip.get("version") for ip in printed.get("ips", [])] in ([], ["4"] if version < "1" else [None])
    assert ("dns" in printed) == (version < "1")


def test_c8_03_routes_are_kept_without_a_gateway_too_by_their_destination_and_with_all_attributes(enim, agent):
    agent.grant(V4, V6)
    attributes = {"mtu": 1400, "advmss": 1360, "priority": 5, "table": 100, "scope": 253}
    routes = [{"dst": "198.51.100.0/24"}, {"dst": "2001:db8:1::/48"}, {"dst": "203.0.113.0/24", **attributes}]
    assert enim.succeed(ipam={"routes": routes})["routes"] == [*routes, DEFAULT, {"dst": "::/0", "gw": "2001:db8::1"}]


def test_c8_04_a_default_route_is_added_where_none_is_configured_and_can_be_turned_off(enim, agent):
    for configured in ([DEFAULT], [{"dst": "0.0.0.0/0"}], [{"dst": "0.0.0.0/0", "gw": "192.0.2.9"}]):
        assert enim.succeed(ipam={"routes": configured})["routes"] == configured
    assert enim.succeed()["routes"] == [DEFAULT]
    assert "routes" not in enim.succeed(ipam={"default-route": False})


def test_c8_05_the_mask_is_of_the_cidr_that_holds_the_address(enim, agent):
    agent.grant({**V4, "cidrs": ["192.0.0.0/16", "192.0.2.0/25", "2001:db8::/64", "198.51.100.0/24"]})
    assert enim.succeed()["ips"][0]["address"] == "192.0.2.10/25"
    for broken in ({"cidrs": None}, {"cidrs": ["2001:db8::/64"]}, {"cidrs": ["198.51.100.0/24"]}, {"ip": "192.0.2"}):
        agent.grant({**V4, **broken})
        assert enim.fail()["code"] == errors.BAD_AGENT_REPLY
    assert agent.methods == ["POST", *["POST", "DELETE"] * 4]


def test_c8_06_one_eni_is_one_interface_with_its_name(node, plant_agent, call_plugin):
    agent = plant_agent(node.directory / "agent.sock")
    ifindex = node.create_nic("eni1", MAC)
    agent.grant(*({**family, **ENI, "interface-number": str(ifindex)} for family in (IPV4, IPV6)))
    enim = call_plugin("enim", node.directory / "agent.sock", node.create_netns(), type="exclusive-device")
    printed = enim.succeed()
    assert printed["interfaces"] == [{"mac": MAC, "name": "eni1"}]
    assert [ip["interface"] for ip in printed["ips"]] == [ifindex, ifindex]


@pytest.mark.parametrize("promised", [{"ipv6": "2001:db8::10"}, {"ipv4": "192.0.2.10", "ipv6": "2001:db8::10"}])
def test_c8_07_an_address_without_its_family_is_an_error_and_no_crash(enim, agent, promised):
    agent.grant(V4, address=promised, ipv6=None)
    assert enim.fail()["code"] == errors.BAD_AGENT_REPLY
    assert agent.methods == ["POST", "DELETE"]


def test_c8_08_an_answer_without_an_address_is_released(enim, agent):
    for address in (None, {}, {"ipv4": ""}):
        agent.grant(V4, address=address)
        assert enim.fail()["code"] == errors.BAD_AGENT_REPLY
    assert agent.methods == ["POST", "DELETE"] * 3


def test_c8_09_an_answer_that_takes_a_minute_is_waited_for_and_one_that_never_comes_is_withdrawn(enim, agent):
    longest_ms = []
    drive_add(enim, {"Request": lambda one: longest_ms.append(one.timeout_ms) or agent.replies["POST"]})
    assert longest_ms[0] >= 65_000  # the agent may take 60 s: 30 for its limiter, 30 for its work

    agent.replies["POST"] = None  # it allocates, and its answer is lost
    assert enim.fail()["code"] == errors.TRY_AGAIN_LATER
    posted, withdrawn = agent.requests
    assert (withdrawn.method, withdrawn.query) == ("DELETE", posted.query)


def drive_add(enim, handlers):
    """ADD's flow without its process, for what would take real minutes."""
    environment = {**enim.environment, "CNI_COMMAND": "ADD"}
    checked = config.read(environment, json.dumps({**enim.netconf, "ipam": enim.ipam}).encode())
    known = {"Now": lambda _: 0, "OwnNetns": lambda _: False, "NetnsAlive": lambda _: False}
    return process.drive(commands.allocate(checked), {**known, **handlers})


@pytest.mark.parametrize("command", ["ADD", "DEL"])
def test_c8_10_a_restarting_agent_is_waited_for_within_a_budget(enim, plant_agent, tmp_path, command):
    error = enim.fail(command, ipam={"connect-timeout": 1})
    assert (error["code"], "cannot be reached" in error["msg"]) == (errors.TRY_AGAIN_LATER, True)
    start = threading.Timer(0.3, lambda: plant_agent(tmp_path / "agent.sock").grant(V4))
    start.start()
    enim.succeed(command)
    start.join()


def test_c8_11_check_gc_and_status_are_known(enim, agent, node, plant_agent, call_plugin):
    planted = plant_agent(node.directory / "agent.sock")
    planted.replies["GET /v1/healthz"] = wire.Reply(200)
    enim = call_plugin("enim", node.directory / "agent.sock", node.create_netns(), type="exclusive-device")
    with node.within(enim.environment["CNI_NETNS"]):
        node.create_nic("eth0", MAC)
    interface = {"name": "eth0", "mac": MAC, "sandbox": enim.environment["CNI_NETNS"]}
    previous = {"interfaces": [interface], "ips": [{"address": "192.0.2.10/24", "interface": 0}]}
    assert enim.succeed("CHECK", prevResult=previous) is None
    assert enim.fail("CHECK", prevResult={**previous, "interfaces": []})["code"] == errors.INVALID_CONFIG
    assert enim.succeed("GC") is None
    assert enim.succeed("STATUS") is None
    assert enim.fail("STATUS", ipam={"socket": "/none"})["code"] == errors.NOT_AVAILABLE


def test_c8_12_a_requested_address_may_have_a_prefix_and_is_asked_for_and_compared(enim, agent):
    for way in (
        {"CNI_ARGS": "IP=192.0.2.10/24"},
        {"args": {"cni": {"ips": ["192.0.2.10/24"]}}},
        {"runtimeConfig": {"ips": ["192.0.2.10/24"]}},
        {"runtimeConfig": {"ipRanges": [[{"subnet": "192.0.2.0/24"}]]}},
    ):
        enim.succeed(**way)
        assert b"192.0.2." in agent.requests.pop().body
        agent.grant({**V4, "ip": "203.0.113.10", "cidrs": ["203.0.113.0/24"], "gateway": ""})
        assert enim.fail(**way)["code"] == errors.NOT_GRANTED
        assert agent.methods == ["POST", "DELETE"]
        agent.requests.clear()
        agent.grant(V4)
    assert enim.succeed("DEL", CNI_ARGS="IP=192.0.2.10/24") is None


def test_c8_13_without_a_pod_the_owner_is_the_container(enim, agent):
    for arguments in ("", "K8S_POD_NAME=pod", "K8S_POD_NAMESPACE=;K8S_POD_NAME="):
        for command in ("ADD", "DEL"):
            enim.succeed(command, CNI_ARGS=arguments)
    assert {request.parameter("owner") for request in agent.requests} == {"n/c1"}


def test_c8_14_a_second_interface_of_a_pod_does_not_evict_the_first(in_lab, run_agent, call_plugin):
    def play(scratch):
        with run_agent(scratch, enis=2) as agent:
            enim = call_plugin("enim", agent.socket, "/dev/null", type="exclusive-device")
            first = enim.succeed()
            return first, enim.fail(CNI_IFNAME="net1"), enim.succeed(), enim.succeed("DEL", CNI_IFNAME="net1")

    first, refused, again, _ = in_lab(play)
    assert (refused["code"], "eth0" in refused["msg"]) == (errors.REFUSED, True)
    assert again == first


def test_c8_15_a_failed_roll_back_is_told_and_no_text_of_del_reads_as_success(enim, agent):
    agent.grant({**V4, "gateway": "nowhere"})
    agent.replies["DELETE"] = wire.Reply(500, b'"endpoint not found: No such file or directory"')
    error = enim.fail()
    assert (error["code"], "roll-back failed too" in error["details"]) == (errors.BAD_AGENT_REPLY, True)
    text = json.dumps(enim.fail("DEL")).lower()
    assert ("not found" in text, "no such file or directory" in text) == (False, False)


def test_c8_16_no_syslog_is_needed(node, plant_agent, call_plugin):
    for path in map(Path, ("/dev/log", "/var/run/syslog", "/var/run/log")):
        if path.is_socket():
            syscalls.mount("/dev/null", str(path), flags=syscalls.MS_BIND)
    planted = plant_agent(node.directory / "agent.sock")
    planted.grant(V4)
    enim = call_plugin("enim", node.directory / "agent.sock", type="host-device", device="e1")
    assert enim.succeed()["ips"][0]["address"] == "192.0.2.10/24"
    assert enim.succeed("DEL") is None


def test_c8_17_errors_have_the_code_of_their_cause(enim, agent):
    assert enim.fail(cniVersion="1.0")["code"] == errors.INCOMPATIBLE_VERSION
    assert enim.fail(CNI_ARGS="=")["code"] == errors.INVALID_ENVIRONMENT
    assert enim.fail(cniVersion=7)["code"] == errors.DECODING_FAILURE
    assert enim.fail(ipam={"routes": 7})["code"] == errors.INVALID_CONFIG
    assert enim.fail(CNI_NETNS="/proc/self/ns/net")["code"] == errors.INVALID_NETNS
    for status, body, code in (
        (500, b'"no available ENI to be allocated"', errors.TRY_AGAIN_LATER),
        (500, b'"noop enim"', errors.AGENT_FAILURE),
        (409, b'"c1 holds one"', errors.REFUSED),
        (400, b'{"code":400,"message":"bad"}', errors.AGENT_FAILURE),
        (200, b"", errors.BAD_AGENT_REPLY),
    ):
        agent.replies["POST"] = wire.Reply(status, body)
        assert enim.fail()["code"] == code


def test_c8_18_ipv4_comes_first(enim, agent):
    agent.grant(V6, V4)
    assert [ip["address"] for ip in enim.succeed()["ips"]] == ["192.0.2.10/24", "2001:db8::10/64"]


@pytest.mark.parametrize("previous", ["text", 7, [], {"cniVersion": "9.9.9"}, {"ips": 7}, {"ips": [{"address": "no"}]}])
def test_c8_19_an_unusable_prev_result_stops_neither_add_nor_del(enim, agent, previous):
    assert enim.succeed(prevResult=previous)["ips"] != []
    assert enim.succeed("DEL", prevResult=previous) is None
