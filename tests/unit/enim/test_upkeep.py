"""CHECK, GC and STATUS of enim, driven by hand: what the flow asks for, and what the outside answers."""

import errno
import json

import pytest

from enim import config, effects, errors, upkeep, wire

NETNS, MAC, SOCKET = "/run/netns/n1", "fa:26:00:01:02:03", "/run/agent.sock"
PREVIOUS = {
    "cniVersion": "1.1.0",
    "interfaces": [{"name": "eni1", "mac": MAC}, {"name": "eth0", "mac": MAC.upper(), "sandbox": NETNS}],
    "ips": [{"address": "192.0.2.10/24", "interface": 1}, {"address": "2001:DB8::0a/64", "interface": 1}],
}
RECORD = {
    "network": "n",
    "containerID": "c1",
    "ifname": "eth0",
    "state": "in_use",
    "mac": MAC,
    "ips": ["192.0.2.10/24", "2001:db8::a/64"],
}
IN_POD = effects.Link(2, "eth0", MAC, "eni1")
QUERY = (("network", "n"), ("containerID", "c1"), ("ifname", "eth0"))
ASKED = effects.Request(SOCKET, wire.Request("GET", "/v1/x-enim/attachments", QUERY), 10_000)
HEALTH = effects.Request(SOCKET, wire.Request("GET", "/v1/healthz"), 900)
NIC = ((effects.NetnsAlive(NETNS), True), (effects.FindLink(name="eth0", netns=NETNS), IN_POD))
DOWN = errors.Unreachable(errno.ECONNREFUSED, "Connection refused")
LOST = errors.Interrupted("no answer within 900 ms")
NO_SUCH_PATH = wire.Reply(404, b'{"code":404,"message":"path was not found"}')


def call(command, **netconf):
    document = {"cniVersion": "1.1.0", "name": "n", "type": "exclusive-device", "prevResult": PREVIOUS, **netconf}
    document["ipam"] = {"type": "enim", "socket": SOCKET}
    environment = {
        "CNI_COMMAND": command,
        "CNI_CONTAINERID": "c1",
        "CNI_NETNS": NETNS,
        "CNI_IFNAME": "eth0",
        "CNI_PATH": "/opt/cni/bin",
    }
    return config.read(environment, json.dumps(document).encode(), commands=("CHECK", "GC", "STATUS"))


def recorded(*entries):
    return wire.Reply(200, json.dumps({"attachments": entries}).encode())


# --- CHECK


def test_check_passes_when_pod_and_agent_have_what_add_gave(play):
    assert play(upkeep.check(call("CHECK")), *NIC, (ASKED, recorded(RECORD))) is None


@pytest.mark.parametrize(
    ("previous", "words"),
    [
        (None, "CHECK needs prevResult"),
        ("text", "prevResult: "),
        ({**PREVIOUS, "interfaces": []}, "it names 0 interfaces eth0"),
        ({**PREVIOUS, "interfaces": [{"name": "eth0", "mac": MAC, "sandbox": "/other"}]}, "it names 0 interfaces"),
        ({**PREVIOUS, "interfaces": [{"name": "eth0", "mac": "nonsense", "sandbox": NETNS}]}, "prevResult: "),
        ({**PREVIOUS, "ips": []}, "prevResult has no address"),
        ({**PREVIOUS, "ips": [{"address": "nonsense"}]}, "prevResult: "),
    ],
)
def test_check_without_a_usable_result_of_add_is_code_7_and_asks_for_nothing(play, previous, words):
    error = play(upkeep.check(call("CHECK", prevResult=previous)))
    assert (error.code, words in error.msg) == (7, True)


def test_check_fails_when_the_nic_is_not_in_the_pod(play):
    alive, find = (step[0] for step in NIC)
    assert play(upkeep.check(call("CHECK")), (alive, False)).code == 8
    assert play(upkeep.check(call("CHECK")), (alive, True), (find, None)).code == 104
    other = effects.Link(2, "eth0", "fa:26:00:00:00:99")
    assert play(upkeep.check(call("CHECK")), (alive, True), (find, other)).code == 104
    refused = errors.KernelError("look", errno.EPERM, "Operation not permitted")
    assert play(upkeep.check(call("CHECK")), (alive, True), (find, refused)).code == 105


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ((), "no ENI in use"),
        (({**RECORD, "state": "superseded"},), "no ENI in use"),
        (({**RECORD, "containerID": "c2"},), "no ENI in use"),
        (({**RECORD, "mac": "fa:26:00:00:00:99"},), "the agent's record has the NIC fa:26:00:00:00:99"),
        (({**RECORD, "ips": ["192.0.2.10/24"]},), "lacks 2001:db8::a/64"),
    ],
)
def test_check_fails_when_the_agents_record_is_another(play, entries, words):
    error = play(upkeep.check(call("CHECK")), *NIC, (ASKED, recorded(*entries)))
    assert (error.code, words in error.msg) == (107, True)


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"attachments":[1]}', b'{"attachments":7}'])
def test_check_of_an_agent_that_answers_nonsense_is_code_102(play, body):
    assert play(upkeep.check(call("CHECK")), *NIC, (ASKED, wire.Reply(200, body))).code == 102


def test_check_of_an_agent_that_is_down_or_fails(play):
    assert play(upkeep.check(call("CHECK")), *NIC, (ASKED, DOWN)).code == 11
    assert play(upkeep.check(call("CHECK")), *NIC, (ASKED, LOST)).code == 11
    assert play(upkeep.check(call("CHECK")), *NIC, (ASKED, wire.Reply(500, b'"no"'))).code == 101


def test_check_of_the_real_agent_which_has_no_such_list_asks_for_its_health(play):
    for health, code in ((wire.Reply(200), None), (wire.Reply(500, b'"no ENIs available"'), 101)):
        error = play(upkeep.check(call("CHECK")), *NIC, (ASKED, NO_SUCH_PATH), (HEALTH, health))
        assert (error.code if error else None) == code


# --- GC


def collect(valid):
    body = b'{"network":"n","valid":%s}' % json.dumps(valid, separators=(",", ":")).encode()
    return effects.Request(SOCKET, wire.Request("POST", "/v1/x-enim/gc", body=body), 30_000)


ENTRY = {"containerID": "c1", "ifname": "eth0"}
VALID, TAGGED = "cni.dev/valid-attachments", "cni.dev/attachments"


@pytest.mark.parametrize(
    ("keys", "sent"),
    [
        ({VALID: [ENTRY]}, [ENTRY]),
        ({TAGGED: [ENTRY]}, [ENTRY]),
        ({VALID: [ENTRY], TAGGED: [{"containerID": "c2", "ifname": "eth0"}]}, [ENTRY, {**ENTRY, "containerID": "c2"}]),
        ({VALID: [ENTRY], TAGGED: [ENTRY]}, [ENTRY]),
        ({"CNI.dev/Valid-Attachments": [{"ContainerID": "c1", "IfName": "eth0"}]}, [ENTRY]),
        ({VALID: []}, []),
        ({VALID: None}, []),
    ],
)
def test_gc_hands_on_the_union_of_both_lists(play, keys, sent):
    assert play(upkeep.collect(call("GC", **keys)), (collect(sent), wire.Reply(200, b"{}"))) is None


def test_gc_without_a_list_does_nothing(play):
    assert play(upkeep.collect(call("GC"))) is None


@pytest.mark.parametrize("value", ["c1", 7, {}, [7], [{}], [{"containerID": "c1"}], [{**ENTRY, "ifname": ""}]])
def test_gc_with_a_list_that_cannot_be_read_asks_for_nothing(play, value):
    assert play(upkeep.collect(call("GC", **{VALID: value}))).code == 7


def test_gc_of_the_real_agent_says_that_it_takes_no_part(play):
    said = effects.Log("enim: the agent takes part in no garbage collection of n: /v1/x-enim/gc is 404")
    flow = upkeep.collect(call("GC", **{VALID: [ENTRY]}))
    assert play(flow, (collect([ENTRY]), NO_SUCH_PATH), (said, None)) is None


def test_gc_of_an_agent_that_is_down_or_fails(play):
    for outcome, code in ((DOWN, 11), (LOST, 11), (wire.Reply(500, b'"disk full"'), 101)):
        assert play(upkeep.collect(call("GC", **{VALID: [ENTRY]})), (collect([ENTRY]), outcome)).code == code


# --- STATUS


def test_status_is_the_agents_health_and_every_failure_is_code_50(play):
    assert play(upkeep.status(call("STATUS")), (HEALTH, wire.Reply(200))) is None
    for outcome in (DOWN, LOST, wire.Reply(500, b'"no ENIs available"'), wire.Reply(404)):
        assert play(upkeep.status(call("STATUS")), (HEALTH, outcome)).code == 50
