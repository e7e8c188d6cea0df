"""The installed exclusive-device as a real process, between a real kernel and a delegate of the test's own."""

import json
import os
import posix
import signal
import subprocess
import threading
from pathlib import Path

import pytest

from enim import effects, errors, exclusive_main

MAC = "02:00:00:00:00:01"
ROUTES = [{"dst": "0.0.0.0/0", "gw": "192.0.2.1"}, {"dst": "::/0", "gw": "2001:db8::1"}]

# Prints ``answer``; keeps its stdin, its calls, and which NIC it sees at home.
DELEGATE = """#!/bin/sh
cat > "$0.stdin"
echo "$CNI_COMMAND $CNI_CONTAINERID $(ip -o link show dev eni1 2>/dev/null | grep -c eni1)" >> "$0.calls"
if [ "$CNI_COMMAND" = ADD ]; then cat "$0.answer"; fi
"""


class Pod:
    """One attachment of exclusive-device with a delegate that grants the NIC eni1."""

    def __init__(self, node, plugins, **granted):
        self.node = node
        self.plugin = plugins / "exclusive-device"
        self.delegate = node.directory / "delegate"
        self.delegate.write_text(DELEGATE)
        self.delegate.chmod(0o755)
        self.netns = node.create_netns()
        ifindex = node.create_nic("eni1", MAC)
        ips = [
            {"address": "192.0.2.10/24", "gateway": "192.0.2.1", "interface": ifindex},
            {"address": "2001:db8::10/64", "gateway": "2001:db8::1", "interface": ifindex},
        ]
        answer = {"cniVersion": "1.0.0", "interfaces": [{"name": "eni1", "mac": MAC}], "ips": ips, "routes": ROUTES}
        self.write("answer", {**answer, **granted})

    def write(self, kind, value):
        Path(f"{self.delegate}.{kind}").write_text(json.dumps(value))

    def calls(self):
        path = Path(f"{self.delegate}.calls")
        return path.read_text().splitlines() if path.exists() else []

    def run(self, command, *, stdout=subprocess.PIPE, netconf=None, **variables):
        document = {"cniVersion": "1.0.0", "name": "n", "type": "exclusive-device", "ipam": {"type": "delegate"}}
        environment = {
            "CNI_COMMAND": command,
            "CNI_CONTAINERID": "c1",
            "CNI_NETNS": self.netns,
            "CNI_IFNAME": "eth0",
            "CNI_PATH": f"{self.plugin.parent}:{self.node.directory}",
            "PATH": os.environ["PATH"],
        }
        return subprocess.run(
            [self.plugin],
            check=False,
            input=json.dumps({**document, **(netconf or {})}).encode(),
            env={**environment, **variables},
            stdout=stdout,
            stderr=subprocess.PIPE,
        )

    def at_home(self):
        """The NIC at home as it was, and nothing in the pod."""
        link = self.node.show("eni1")
        return (link.get("address"), link.get("ifalias"), link.get("addr_info"), self.node.names(self.netns)) == (
            MAC,
            None,
            [],
            [],
        )


def succeeded(done):
    assert (done.returncode, done.stderr) == (0, b""), done
    return json.loads(done.stdout) if done.stdout else None


def failed(done):
    assert done.returncode == 1, done
    return json.loads(done.stdout)


def test_add_and_two_deletes(node, plugins):
    pod = Pod(node, plugins)
    printed = succeeded(pod.run("ADD"))
    assert printed == {
        "cniVersion": "1.0.0",
        "interfaces": [{"name": "eth0", "mac": MAC, "sandbox": pod.netns}],
        "ips": [
            {"address": "192.0.2.10/24", "gateway": "192.0.2.1", "interface": 0},
            {"address": "2001:db8::10/64", "gateway": "2001:db8::1", "interface": 0},
        ],
        "routes": ROUTES,
    }
    link = node.show("eth0", pod.netns)
    addresses = [entry["local"] for entry in link["addr_info"] if entry["scope"] == "global"]
    assert (link["address"], link["ifalias"], addresses) == (MAC, "eni1", ["192.0.2.10", "2001:db8::10"])
    gateways = [node.ip(family, "route", "show", "default", netns=pod.netns)[0]["gateway"] for family in ("-4", "-6")]
    assert (gateways, node.names()) == (["192.0.2.1", "2001:db8::1"], [])

    assert succeeded(pod.run("DEL", netconf={"prevResult": printed})) is None
    assert pod.at_home()
    assert succeeded(pod.run("DEL", netconf={"prevResult": printed})) is None
    assert pod.calls() == ["ADD c1 1", "DEL c1 1", "DEL c1 1"]


def test_add_and_delete_in_a_version_without_previous_results(node, plugins):
    pod = Pod(node, plugins)
    printed = succeeded(pod.run("ADD", netconf={"cniVersion": "0.3.1"}))
    assert [(ip["version"], ip["interface"]) for ip in printed["ips"]] == [("4", 0), ("6", 0)]
    succeeded(pod.run("DEL", netconf={"cniVersion": "0.3.1"}))
    assert pod.at_home()


def test_delegate_gets_the_same_stdin_and_the_other_command(node, plugins):
    pod = Pod(node, plugins)
    extra = {"cniVersion": "1.0.0", "args": {"unknown": "x" * 200_000}}
    succeeded(pod.run("ADD", netconf=extra))
    received = json.loads(Path(f"{pod.delegate}.stdin").read_text())
    assert (received["type"], received["args"]) == ("exclusive-device", extra["args"])


def test_add_onto_a_link_of_that_name_allocates_nothing(node, plugins):
    pod = Pod(node, plugins)
    succeeded(pod.run("ADD"))
    error = failed(pod.run("ADD"))
    assert (error["code"], pod.calls()) == (errors.LINK_FAILURE, ["ADD c1 1"])
    assert node.show("eth0", pod.netns)["ifalias"] == "eni1"


@pytest.mark.parametrize(
    ("granted", "code", "said"),
    [
        ({"routes": [{"dst": "0.0.0.0/0", "gw": "198.51.100.1"}]}, errors.LINK_FAILURE, "Nexthop has invalid gateway"),
        ({"interfaces": [{"name": "eni1", "mac": "02:00:00:00:00:99"}]}, errors.WRONG_DEVICE, "02:00:00:00:00:99"),
        ({"ips": []}, errors.DELEGATE_FAILURE, '"ips": []'),
    ],
)
def test_add_that_fails_leaves_the_nic_at_home_and_released(node, plugins, granted, code, said):
    pod = Pod(node, plugins, **granted)
    error = failed(pod.run("ADD"))
    assert (error["code"], said in error["details"]) == (code, True), error
    assert pod.at_home()
    assert pod.calls() == ["ADD c1 1", "DEL c1 1"]


def test_add_that_nobody_reads_leaves_the_nic_at_home_and_released(node, plugins):
    pod = Pod(node, plugins)
    reading, writing = os.pipe()
    os.close(reading)
    assert pod.run("ADD", stdout=writing).returncode == 1
    assert pod.at_home()
    assert pod.calls() == ["ADD c1 1", "DEL c1 1"]


def test_delegates_refusal_is_passed_on(node, plugins):
    pod = Pod(node, plugins)
    said = {"cniVersion": "1.0.0", "code": 11, "msg": "no ENI is free", "details": "HTTP 500"}
    pod.write("answer", said)
    pod.delegate.write_text(DELEGATE + "exit 1\n")
    assert failed(pod.run("ADD")) == said
    assert pod.at_home()
    assert pod.calls() == ["ADD c1 1"]


@pytest.mark.parametrize("netns", ["", "left-over", "missing", "own"])
def test_delete_without_the_netns_only_releases(node, plugins, netns):
    pod = Pod(node, plugins)
    node.create_nic("eth0", "02:00:00:00:00:02")
    node.ip("link", "set", "eth0", "alias", "of-the-node")
    (node.directory / "left-over").touch()
    paths = {"": "", "own": "/proc/self/ns/net"}
    succeeded(pod.run("DEL", CNI_NETNS=paths.get(netns, str(node.directory / netns))))
    assert (pod.calls(), node.names()) == (["DEL c1 1"], ["eni1", "eth0"])


def test_delete_whose_home_name_is_taken_comes_home_under_a_free_one(node, plugins):
    pod = Pod(node, plugins)
    succeeded(pod.run("ADD"))
    node.ip("link", "set", "far-eni1", "name", "eni1")
    succeeded(pod.run("DEL"))
    assert (node.show("dev0")["address"], node.names(pod.netns)) == (MAC, [])


def test_version_lists_what_is_accepted(node, plugins):
    printed = succeeded(Pod(node, plugins).run("VERSION"))
    assert printed == {
        "cniVersion": "1.0.0",
        "supportedVersions": ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"],
    }


def test_call_without_a_command_explains_itself(node, plugins):
    done = Pod(node, plugins).run("")
    assert (done.returncode, done.stdout, done.stderr[:16]) == (0, b"", b"exclusive-device")


def test_check_compares_the_pod_with_what_add_gave_and_asks_the_delegate(node, plugins):
    pod = Pod(node, plugins)
    previous = {"prevResult": succeeded(pod.run("ADD"))}
    assert succeeded(pod.run("CHECK", netconf=previous)) is None
    assert pod.calls()[1:] == ["CHECK c1 0"]
    node.ip("address", "del", "2001:db8::10/64", "dev", "eth0", netns=pod.netns)
    error = failed(pod.run("CHECK", netconf=previous))
    assert (error["code"], error["msg"]) == (107, "eth0 has lost its address 2001:db8::10/64")
    node.ip("link", "set", "eth0", "name", "eth1", netns=pod.netns)
    assert failed(pod.run("CHECK", netconf=previous))["code"] == 104
    assert pod.calls()[2:] == []


@pytest.mark.parametrize("command", ["GC", "STATUS"])
def test_gc_and_status_are_handed_on_to_the_delegate(node, plugins, command):
    pod = Pod(node, plugins)
    nobody = dict.fromkeys(("CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"), "")
    assert succeeded(pod.run(command, netconf={"cniVersion": "1.1.0"}, **nobody)) is None
    assert pod.calls() == [f"{command}  1"]
    assert failed(pod.run(command))["code"] == 1  # not a verb of 1.0.0


# The delegate's process


@pytest.fixture
def delegate(tmp_path, monkeypatch):
    monkeypatch.setitem(posix.environ, b"CNI_PATH", os.fsencode(f"{tmp_path}/missing::{tmp_path}/a:{tmp_path}/b"))

    def run(script, *, stdin=b"", directory="b"):
        path = tmp_path / directory / "delegate"
        path.parent.mkdir(exist_ok=True)
        path.write_text(script)
        path.chmod(0o755)
        return exclusive_main.delegate(effects.Delegate("delegate", "ADD", stdin))

    return run


def test_delegate_and_caller_never_wait_for_each_other(delegate):
    stdin = b"x" * 3_000_000
    assert delegate("#!/bin/sh\ncat; exit 7\n", stdin=stdin) == (7, stdin)
    assert delegate("#!/bin/sh\necho unread\n", stdin=stdin) == (0, b"unread\n")


def test_delegate_that_is_killed_has_a_negative_code(delegate):
    assert delegate("#!/bin/sh\necho half; kill -9 $$\n") == (-9, b"half\n")


def test_delegate_is_the_first_regular_file_of_its_name(delegate, tmp_path):
    (tmp_path / "a" / "delegate").mkdir(parents=True)
    assert delegate('#!/bin/sh\necho "$0 $CNI_COMMAND"\n') == (0, f"{tmp_path}/b/delegate ADD\n".encode())


def test_delegate_does_not_inherit_that_sigpipe_is_ignored(delegate):
    _, stdout = delegate("#!/bin/sh\nexec grep SigIgn /proc/self/status\n")
    assert int(stdout.split()[1], 16) >> (signal.SIGPIPE - 1) & 1 == 0


def test_delegate_that_cannot_be_started_is_a_delegate_failure(delegate, tmp_path):
    for script in ("#!/no/interpreter\n", "no program"):
        with pytest.raises(errors.CniError) as caught:
            delegate(script)
        assert (caught.value.code, str(tmp_path) in caught.value.details) == (errors.DELEGATE_FAILURE, True)
    with pytest.raises(errors.CniError) as caught:
        exclusive_main.delegate(effects.Delegate("other", "ADD", b""))
    assert caught.value.msg == "there is no IPAM plugin other in CNI_PATH"


def test_delegate_that_is_being_written_is_started_when_that_is_over(delegate, tmp_path, monkeypatch):
    monkeypatch.setattr(exclusive_main, "START_PAUSE_S", 0.05)
    delegate("#!/bin/sh\n")
    writer = (tmp_path / "b" / "delegate").open("ab")
    timer = threading.Timer(0.08, writer.close)
    timer.start()
    assert exclusive_main.delegate(effects.Delegate("delegate", "ADD", b"")) == (0, b"")
    timer.join()


def test_delegate_leaves_no_descriptor_open(delegate):
    descriptors = Path("/proc/self/fd")
    before = sorted(descriptors.iterdir())
    delegate("#!/bin/sh\necho done\n")
    with pytest.raises(errors.CniError):
        delegate("no program")
    assert sorted(descriptors.iterdir()) == before
