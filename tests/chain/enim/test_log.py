"""The operators' log of both plugins as real processes: what a call says, and every way in which a log can be bad."""

import contextlib
import json
import re
import socket
import stat
import subprocess
import time
from pathlib import Path

import pytest

from enim import errors

MAC = "02:00:00:00:00:01"
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
PLUGINS = ("enim", "exclusive-device")


@pytest.fixture
def caller(log_caller, tmp_path):
    return log_caller(tmp_path)


def make_pod(node, log_caller):
    """A pod of its own netns, and a NIC for it."""
    pod = log_caller(node.directory, node.create_nic("eni1", MAC))
    pod.netns = node.create_netns()
    pod.netconf |= {"type": "exclusive-device", "log-format": "json"}
    del pod.netconf["device"]
    return pod


def fill(write):
    with contextlib.suppress(BlockingIOError):
        while True:
            write()


def without_times(entry):
    return {key: value for key, value in entry.items() if key not in ("time", "duration_ms")}


# What is said


def test_without_a_key_nothing_is_written(caller):
    del caller.netconf["log-file"]
    for more in ({}, {"log_format": "json"}, {"log_file": None}, {"log_file": ""}):
        code, _, stderr = caller.run(**more)
        assert (code, stderr, caller.file.exists()) == (0, "", False)


def test_call_is_one_line_of_text(caller):
    assert caller.run()[0] == 0
    (line,) = caller.lines()
    fields = re.fullmatch(r"time=(\S+) (.*) duration_ms=(\d+) (.*)", line)
    assert TIME.fullmatch(fields[1])
    assert abs(time.time() - time.mktime(time.strptime(fields[1][:19], "%Y-%m-%dT%H:%M:%S")) + time.timezone) < 60
    assert fields[2] == (
        "level=info plugin=enim command=ADD network=podnet owner=default/web-0 container=c1 ifname=eth0"
        f" eni={MAC} code=0"
    )
    assert (fields[4], int(fields[3]) < 20_000) == ("msg=ok", True)
    assert stat.S_IMODE(caller.file.stat().st_mode) & ~0o640 == 0


def test_call_that_fails_is_a_line_with_its_code_and_text(caller):
    caller.agent.status = 500
    code, stdout, _ = caller.run(log_format="json")
    (entry,) = caller.logged()
    error = json.loads(stdout)
    assert list(entry)[:3] == ["time", "level", "plugin"]
    assert without_times(entry) == {
        "level": "error",
        "plugin": "enim",
        "command": "ADD",
        "network": "podnet",
        "owner": "default/web-0",
        "container": "c1",
        "ifname": "eth0",
        "code": errors.TRY_AGAIN_LATER,
        "msg": error["msg"],
        "details": error["details"],
    }
    assert (code, type(entry["duration_ms"])) == (1, int)


def test_configuration_that_is_refused_is_logged_where_it_says(caller):
    assert caller.run(name="a b", log_format="JSON")[0] == 1
    (entry,) = caller.logged()
    assert (entry["code"], entry["network"], "owner" in entry) == (errors.INVALID_CONFIG, "a b", False)


@pytest.mark.parametrize("command", ["STATUS", "GC", "DEL", "CHECK"])
def test_every_verb_is_logged_by_both_plugins(caller, command):
    for plugin in PLUGINS:
        caller.run(plugin, command, log_format="json", delegate="exec")
    plugins = [entry["plugin"] for entry in caller.logged()]
    is_delegated = command != "CHECK"  # which exclusive-device itself refuses here
    assert plugins == (["enim", "enim", "exclusive-device"] if is_delegated else ["enim", "exclusive-device"])
    assert {entry["command"] for entry in caller.logged()} == {command}


@pytest.mark.parametrize("command", ["STATUS", "GC"])
def test_verb_that_is_for_no_container_names_no_owner(caller, command):
    caller.run("enim", command, CNI_CONTAINERID="", CNI_ARGS="", log_format="json")
    (entry,) = caller.logged()
    assert ("owner" in entry, entry["network"]) == (False, "podnet")


def test_version_is_not_logged(caller):
    assert caller.run("enim", "VERSION")[0] == 0
    assert not caller.file.exists()


def test_note_of_a_flow_is_a_line_too_and_still_on_stderr(caller):
    """A roll-back that fails too is noted by the flow."""
    caller.agent.status = caller.agent.delete_status = 503
    _, _, stderr = caller.run(log_format="json")
    note, end = caller.logged()
    assert (note["level"], note["msg"]) == ("warning", "the roll-back failed too: no ENI is free")
    assert ("code" in note, end["level"], note["container"]) == (False, "error", "c1")
    assert type(note["duration_ms"]) is int
    assert stderr == f"enim: c1 eth0: {note['msg']}\n"


def test_note_of_an_eni_that_was_granted_names_it(caller):
    caller.agent.delete_status = 503
    with Path("/dev/full").open("wb") as full:
        caller.start(stdout=full, log_format="json").communicate()
    assert [(entry["level"], entry["eni"]) for entry in caller.logged()] == [("warning", MAC), ("error", MAC)]


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_whoever_names_a_pod_writes_no_line_of_his_own(caller, log_format):
    evil = 'web\n\r\v\x1b[2J\x85\u2028\u202e\x7f\udcff" level=info msg=\\n'
    caller.run(
        CNI_ARGS=f"IgnoreUnknown=1;K8S_POD_NAMESPACE=ns;K8S_POD_NAME={evil}".replace("level=", "level:"),
        log_format=log_format,
    )
    caller.run(CNI_CONTAINERID=f"c1\n{evil}", log_format=log_format)
    caller.run(stdin=json.dumps({**caller.netconf, "name": evil, "log-format": log_format}).encode())
    raw = caller.file.read_bytes()
    assert raw.count(b"\n") == 2  # the container id is refused before stdin is read
    assert set(raw) <= {10, *range(32, 127)}


def test_values_are_cut_off_so_that_a_line_is_written_at_once(caller):
    caller.run(stdin=json.dumps({**caller.netconf, "name": "\u00e9" * 100_000}).encode())
    caller.run(CNI_ARGS="K8S_POD_NAMESPACE=ns;K8S_POD_NAME=" + "\u00e9" * 5_000)
    assert [len(line) < 4000 for line in caller.lines()] == [True, True]


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_lines_of_plugins_at_the_same_time_do_not_mix(caller, log_format):
    processes = [caller.start(CNI_CONTAINERID=f"c{number}", log_format=log_format) for number in range(40)]
    for process in processes:
        process.communicate(timeout=60)
    assert len(caller.lines()) == 40
    assert all(line.startswith(("time=", '{"time":')) and line.endswith(("msg=ok", "}")) for line in caller.lines())


# Both plugins


def test_both_plugins_log_the_same_in_one_process_and_in_two(node, log_caller):
    pod = make_pod(node, log_caller)
    seen = []
    for delegate in ("", "exec"):
        code, stdout, stderr = pod.run("exclusive-device", "ADD", delegate=delegate)
        assert (code, stderr) == (0, ""), stdout
        assert pod.run("exclusive-device", "DEL", delegate=delegate, prevResult=json.loads(stdout))[0] == 0
        pod.agent.status = pod.agent.delete_status = 503
        pod.run("exclusive-device", "ADD", delegate=delegate)
        pod.run("exclusive-device", "ADD", delegate=delegate, log_file="/dev/full")
        pod.agent.status = pod.agent.delete_status = 200
        seen.append([without_times(entry) for entry in pod.logged()])
        pod.file.unlink()
    assert seen[0] == seen[1]
    ends = [(entry["plugin"], entry["command"], entry["level"]) for entry in seen[0]]
    assert ends[:4] == [(plugin, command, "info") for command in ("ADD", "DEL") for plugin in PLUGINS]
    assert ends[4:] == [("enim", "ADD", "warning"), ("enim", "ADD", "error"), ("exclusive-device", "ADD", "error")]
    assert [(entry["eni"], entry.get("device")) for entry in seen[0][:4]] == [
        *((MAC, "eni1"), (MAC, "eni1")),
        *((MAC, None), (MAC, "eni1")),
    ]


@pytest.mark.parametrize("kind", [socket.SOCK_DGRAM, socket.SOCK_STREAM])
def test_syslog_gets_what_the_c_library_would_send(node, log_caller, kind):
    """/dev/log is replaced in the mount namespace of this test."""
    pod = make_pod(node, log_caller)
    devices = node.directory / "dev"
    devices.mkdir()
    listener = socket.socket(socket.AF_UNIX, kind)
    listener.bind(str(devices / "log"))
    if kind == socket.SOCK_STREAM:
        listener.listen()
    subprocess.run(["mount", "--bind", devices, "/dev"], check=True)
    code, _, stderr = pod.run("enim", "ADD", log_file="syslog", log_format="text")
    assert (code, stderr) == (0, "")
    if kind == socket.SOCK_STREAM:
        received = listener.accept()[0].recv(65536)
        assert received.endswith(b"msg=ok\0")
    else:
        received = listener.recv(65536)
    head = r"<174>[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d enim\[\d+\]: time=\S+ level=info plugin=enim command=ADD "
    assert re.match(head, received.decode())
    listener.close()
    code, _, stderr = pod.run("enim", "ADD", log_file="syslog")
    assert (code, stderr) == (0, "enim: the log syslog cannot be written: Connection refused\n")
    (devices / "log").unlink()
    assert "No such file or directory" in pod.run("enim", "ADD", log_file="syslog")[2]


def test_syslog_that_does_not_read_is_not_waited_for(node, log_caller):
    pod = make_pod(node, log_caller)
    devices = node.directory / "dev"
    devices.mkdir()
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    listener.bind(str(devices / "log"))
    filling = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    filling.setblocking(False)
    filling.connect(str(devices / "log"))
    fill(lambda: filling.send(b"x"))
    subprocess.run(["mount", "--bind", devices, "/dev"], check=True)
    code, _, stderr = pod.run("enim", "ADD", log_file="syslog")
    assert (code, "temporarily unavailable" in stderr) == (0, True)
