"""The defects of the exclusive-device that this one replaces, by their numbers in the contract's list C8: 20 to 31.

The installed plugin moves a real NIC (a veth) on a real kernel. Its IPAM plugin is the installed enim, with an agent
of the test's own and both ways (``delegate``), or one that the test plants to misbehave.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from enim import errors, wire

MAC = "02:00:00:00:00:01"
ADDRESSES = (
    {"ip": "192.0.2.10", "cidrs": ["192.0.2.0/24"], "gateway": "192.0.2.1"},
    {"ip": "2001:db8::10", "cidrs": ["2001:db8::/64"], "gateway": "2001:db8::1"},
)
UNREACHABLE = {"routes": [{"dst": "0.0.0.0/0", "gw": "203.0.113.1"}]}  # the kernel refuses it, after all else is done

# Keeps its calls, each with whether the NIC is at home; prints an answer on ADD, and ends with the code it is given.
DELEGATE = """#!/bin/sh
cat > /dev/null
echo "$CNI_COMMAND $(ip -o link show dev eni1 2>/dev/null | grep -c eni1)" >> "$0.calls"
if [ "$CNI_COMMAND" = ADD ]; then cat "$0.answer"; exit $(cat "$0.code"); fi
"""


class Pod:
    """A pod without a NIC, the NIC eni1 at home, and an agent that grants it."""

    def __init__(self, node, plant_agent, call_plugin, **netconf):
        self.node = node
        self.netns = node.create_netns()
        self.ifindex = node.create_nic("eni1", MAC)
        self.agent = plant_agent(node.directory / "agent.sock")
        eni = {"master-mac": MAC, "interface-number": str(self.ifindex)}
        self.agent.grant(*({**address, **eni} for address in ADDRESSES))
        self.plugin = call_plugin(
            "exclusive-device", node.directory / "agent.sock", self.netns, type="exclusive-device", **netconf
        )

    def plant_delegate(self, exit_code=0, **changes):
        """An IPAM plugin in place of enim, whose ADD answers as enim's but for the changes."""
        path = self.node.directory / "delegate"
        ips = [{"address": "192.0.2.10/24", "interface": self.ifindex}]
        answer = {"cniVersion": "1.1.0", "interfaces": [{"name": "eni1", "mac": MAC}], "ips": ips}
        for name, text in (("", DELEGATE), (".answer", json.dumps({**answer, **changes})), (".code", str(exit_code))):
            Path(f"{path}{name}").write_text(text)
        path.chmod(0o755)
        self.plugin.ipam = {"type": "delegate"}
        self.plugin.environment["CNI_PATH"] += f":{self.node.directory}"
        return lambda: Path(f"{path}.calls").read_text().splitlines() if Path(f"{path}.calls").exists() else []

    def in_pod(self, ifname="eth0"):
        return self.node.show(ifname, self.netns)

    def is_home(self):
        link = self.node.show("eni1")
        return (link.get("address"), link.get("ifalias"), self.node.names(self.netns)) == (MAC, None, [])


@pytest.fixture
def pod_of(plant_agent, call_plugin):
    return lambda node, **netconf: Pod(node, plant_agent, call_plugin, **netconf)


def test_c8_20_a_failed_add_ends_with_its_own_error_whatever_comes_of_the_roll_back(node, pod_of, delegate):
    pod = pod_of(node, delegate=delegate)
    refused = pod.plugin.fail(ipam=UNREACHABLE)
    assert (refused["code"], "invalid gateway" in refused["details"]) == (errors.LINK_FAILURE, True)
    assert pod.agent.methods == ["POST", "DELETE"]
    pod.agent.replies["DELETE"] = wire.Reply(500, b'"locked"')
    still = pod.plugin.fail(ipam=UNREACHABLE)
    assert (still["code"], still["msg"]) == (refused["code"], refused["msg"])
    assert "the roll-back failed too" in still["details"]


def test_c8_21_the_interface_may_have_any_name(node, pod_of, delegate):
    pod = pod_of(node, delegate=delegate)
    printed = pod.plugin.succeed(CNI_IFNAME="net1")
    assert (printed["interfaces"][0]["name"], pod.in_pod("net1")["address"]) == ("net1", MAC)
    pod.plugin.succeed("DEL", CNI_IFNAME="net1")
    assert pod.is_home()


def test_c8_22_the_nic_comes_home_after_a_failure(node, pod_of, delegate):
    pod = pod_of(node, delegate=delegate)
    pod.plugin.fail(ipam=UNREACHABLE)
    assert pod.is_home()
    assert pod.plugin.succeed()["ips"] != []


@pytest.mark.parametrize("netns", ["", "vanished", "unmounted"])
def test_c8_23_del_without_a_netns_releases(node, pod_of, delegate, netns):
    pod = pod_of(node, delegate=delegate)
    (node.directory / "unmounted").touch()
    assert pod.plugin.succeed("DEL", CNI_NETNS=netns and str(node.directory / netns)) is None
    assert pod.agent.methods == ["DELETE"]


def test_c8_24_the_nic_is_home_before_it_is_released_even_without_its_alias(node, pod_of):
    pod = pod_of(node)
    calls = pod.plant_delegate()
    printed = pod.plugin.succeed()
    pod.plugin.succeed("DEL", prevResult=printed)
    assert calls() == ["ADD 1", "DEL 1"]
    printed = pod.plugin.succeed()
    node.ip("link", "set", "eth0", "alias", "", netns=pod.netns)
    pod.plugin.succeed("DEL", prevResult=printed)
    assert (node.names(pod.netns), [node.show(name)["address"] for name in node.names()]) == ([], [MAC])


@pytest.mark.parametrize("version", ["0.3.1", "0.4.0", "1.0.0", "1.1.0"])
def test_c8_25_all_addresses_are_of_the_one_interface_in_the_sandbox(node, pod_of, delegate, version):
    pod = pod_of(node, delegate=delegate)
    printed = pod.plugin.succeed(cniVersion=version)
    assert printed["interfaces"] == [{"name": "eth0", "mac": MAC, "sandbox": pod.netns}]
    assert [(ip["address"], ip["interface"]) for ip in printed["ips"]] == [("192.0.2.10/24", 0), ("2001:db8::10/64", 0)]


def test_c8_26_an_address_without_an_interface_is_an_error_and_no_crash(node, pod_of):
    pod = pod_of(node)
    calls = pod.plant_delegate(ips=[{"address": "192.0.2.10/24"}])
    error = pod.plugin.fail()
    assert (error["code"], "gave no interface index" in error["msg"]) == (errors.DELEGATE_FAILURE, True)
    assert calls() == ["ADD 1", "DEL 1"]


def test_c8_27_a_stale_index_moves_no_other_nic(node, pod_of):
    pod = pod_of(node)
    other = node.create_nic("eth0", "02:00:00:00:00:99", up=True)  # the node's own
    calls = pod.plant_delegate(ips=[{"address": "192.0.2.10/24", "interface": other}])
    assert pod.plugin.fail()["code"] == errors.WRONG_DEVICE
    assert (node.names(), node.names(pod.netns), calls()) == (["eni1", "eth0"], [], ["ADD 1", "DEL 1"])


def test_c8_27_enim_finds_the_nic_of_a_stale_index_by_its_mac(node, pod_of, delegate):
    pod = pod_of(node, delegate=delegate)
    other = node.create_nic("eth0", "02:00:00:00:00:99")
    pod.agent.grant({**ADDRESSES[0], "master-mac": MAC, "interface-number": str(other)})
    pod.plugin.succeed()
    assert (pod.in_pod()["address"], node.names()) == (MAC, ["eth0"])


def test_c8_28_check_looks_and_asks_the_ipam_plugin_and_so_do_gc_and_status(node, pod_of):
    pod = pod_of(node)
    calls = pod.plant_delegate()
    printed = pod.plugin.succeed()
    pod.plugin.succeed("CHECK", prevResult=printed)
    pod.plugin.succeed("GC")
    pod.plugin.succeed("STATUS")
    assert calls() == ["ADD 1", "CHECK 0", "GC 0", "STATUS 0"]
    node.ip("address", "flush", "dev", "eth0", netns=pod.netns)
    assert pod.plugin.fail("CHECK", prevResult=printed)["code"] == errors.CHANGED


def test_c8_29_the_ipam_plugins_error_keeps_its_code_and_nothing_is_logged_as_a_success(node, pod_of):
    pod = pod_of(node)
    said = {"cniVersion": "1.1.0", "code": 50, "msg": "not now", "details": "HTTP status 503"}
    pod.plant_delegate(1, **said)
    done = pod.plugin.run()
    answer = json.loads(done.stdout)
    assert (done.returncode, {key: answer[key] for key in said}) == (1, said)
    assert b"success" not in done.stderr.lower()


def test_c8_30_the_alias_is_the_name_at_home_and_the_netns_is_looked_at_first(node, pod_of):
    pod = pod_of(node)
    calls = pod.plant_delegate()
    for netns in (node.directory / "missing", node.directory):
        assert pod.plugin.fail(CNI_NETNS=str(netns))["code"] == errors.INVALID_NETNS
    assert calls() == []
    node.ip("link", "set", "eni1", "alias", "stale0")
    pod.plugin.succeed()
    assert pod.in_pod()["ifalias"] == "eni1"
    pod.plugin.succeed("DEL")
    assert pod.is_home()


def test_c8_31_the_conflist_that_is_installed_names_its_ipam_plugin_as_cni_does(node, pod_of):
    pod = pod_of(node)
    conflist, bin_directory = node.directory / "net.d" / "10-enim.conflist", node.directory / "bin"
    command = [sys.executable, "-m", "simulator", "install", "--bin-dir", str(bin_directory)]
    places = ["--conflist", str(conflist), "--socket", pod.plugin.ipam["socket"]]
    subprocess.run([*command, *places], check=True, capture_output=True)
    network = json.loads(conflist.read_text())
    (plugin,) = network["plugins"]
    assert plugin["ipam"]["type"] == "enim"
    pod.plugin.program = bin_directory / plugin["type"]
    pod.plugin.environment["CNI_PATH"] = str(bin_directory)
    pod.plugin.netconf = {"name": network["name"], "cniVersion": network["cniVersion"], **plugin}
    assert pod.plugin.succeed()["ips"] != []
    # What the first one generated: it is refused in words, before anything is asked.
    del pod.agent.requests[:]
    error = pod.plugin.fail(ipam="enim", cniVersion="0.4.0", name="generic-veth")
    assert (error["code"], 'an object such as {"type": "enim"}' in error["msg"]) == (errors.INVALID_CONFIG, True)
    assert pod.agent.methods == []
