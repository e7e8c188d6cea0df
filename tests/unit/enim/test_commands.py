"""ADD and DEL, driven by hand: what the flow asks for, and what the outside answers, line by line."""

import errno
import json

import pytest

from enim import commands, config, effects, errors, process, wire

MAC = "fa:26:00:01:02:03"
IPV4 = {"ip": "192.0.2.10", "cidrs": ["192.0.2.0/24"], "gateway": "192.0.2.1"}
ANSWER = {
    "address": {"ipv4": "192.0.2.10"},
    "host-addressing": {},
    "ipv4": {**IPV4, "master-mac": MAC, "interface-number": "7"},
}
GRANTED = wire.Reply(200, json.dumps(ANSWER).encode(), "application/json")
RELEASED = wire.Reply(200)
ENI = effects.Link(7, "cce-eni-7", MAC)
QUERY = (("owner", "ns/pod"), ("containerID", "c1"), ("netns", "/var/run/netns/n1"), ("ifname", "eth0"))
SOCKET = "/run/agent.sock"
DOWN = errors.Unreachable(errno.ECONNREFUSED, "Connection refused")
FULL = errors.Unreachable(errno.EAGAIN, "Resource temporarily unavailable")
ABSENT = errors.Unreachable(errno.ENOENT, "No such file or directory")
LOST = errors.Interrupted("the connection ended without an answer")


def call(command="ADD", *, version="1.1.0", plugin="exclusive-device", routes=None, override="", **changes):
    """The checked Config of one call of the contract's transcripts."""
    ipam = {"type": "enim", "socket": SOCKET, "routes": routes}
    netconf = {"cniVersion": version, "name": "n", "type": plugin, "ipam": ipam, **changes.pop("netconf", {})}
    environment = {
        "CNI_COMMAND": command,
        "CNI_CONTAINERID": "c1",
        "CNI_NETNS": "/var/run/netns/n1",
        "CNI_IFNAME": "eth0",
        "CNI_PATH": "/opt/cni/bin",
        "CNI_ARGS": "K8S_POD_NAMESPACE=ns;K8S_POD_NAME=pod",
        "CNI_NETNS_OVERRIDE": override,
        **changes,
    }
    return config.read(environment, json.dumps(netconf).encode())


def request(method, query=QUERY, body=b""):
    return wire.Request(method, "/v1/eni", query, (("x-enim-network", "n"),), body)


def post(body=b""):
    return effects.Request(SOCKET, request("POST", body=body), 70_000)


def roll_back(timeout_ms=10_000):
    return effects.Request(SOCKET, request("DELETE"), timeout_ms)


def play(flow, *script):
    """Drive a flow through pairs (effect that must come, its outcome or failure); return what it raises, or None.

    ``Now`` is answered from a clock that only ``Sleep`` moves, and needs no line.
    """
    now_ms = 0
    lines = list(script)
    step, value = flow.send, None
    while True:
        try:
            effect = step(value)
        except StopIteration:
            assert lines == []
            return None
        except errors.CniError as error:
            assert lines == []
            return error
        step = flow.send
        if isinstance(effect, effects.Now):
            value = now_ms
            continue
        expected, value = lines.pop(0)
        assert effect == expected
        if isinstance(effect, effects.Sleep):
            now_ms += effect.ms
        if isinstance(value, Exception):
            step = flow.throw


DELETE = effects.Request(SOCKET, request("DELETE"), 25_000)
START = (effects.OwnNetns("/var/run/netns/n1"), False)
AT_HOME = (effects.FindLink(ifindex=7, mac=MAC), ENI)
OLDEST = (
    '{"cniVersion":"0.1.0","ip4":{"ip":"192.0.2.10/24","gateway":"192.0.2.1",'
    '"routes":[{"dst":"0.0.0.0/0","gw":"192.0.2.1"}]},"dns":{}}'
)


def printed(text):
    return effects.Print(text.encode())


def test_add_of_exclusive_device_is_transcript_3():
    error = play(
        commands.add(call(version="0.4.0", routes=[{"dst": "198.51.100.0/24"}])),
        START,
        (post(), GRANTED),
        AT_HOME,
        (
            printed(
                '{"cniVersion":"0.4.0","interfaces":[{"name":"cce-eni-7","mac":"fa:26:00:01:02:03"}],'
                '"ips":[{"version":"4","interface":7,"address":"192.0.2.10/24","gateway":"192.0.2.1"}],'
                '"routes":[{"dst":"198.51.100.0/24"},{"dst":"0.0.0.0/0","gw":"192.0.2.1"}],"dns":{}}'
            ),
            None,
        ),
    )
    assert error is None


def test_add_of_host_device_is_transcript_2_with_the_interface_of_d2():
    error = play(
        commands.add(call(plugin="host-device", routes=[{"dst": "198.51.100.0/24"}], netconf={"device": "e1"})),
        START,
        (post(b'{"x-enim":{"ips":[],"ipRanges":[],"mac":"","device":"e1"}}'), GRANTED),
        (effects.NetnsAlive("/var/run/netns/n1"), True),
        (effects.FindLink(name="eth0", netns="/var/run/netns/n1"), effects.Link(9, "eth0", MAC, "e1")),
        (
            printed(
                '{"cniVersion":"1.1.0","interfaces":[{"mac":"fa:26:00:01:02:03","name":"e1"}],'
                '"ips":[{"address":"192.0.2.10/24","gateway":"192.0.2.1","interface":7}],'
                '"routes":[{"dst":"198.51.100.0/24"},{"dst":"0.0.0.0/0","gw":"192.0.2.1"}]}'
            ),
            None,
        ),
    )
    assert error is None


def test_add_of_0_2_0_is_transcript_4():
    text = OLDEST.replace("0.1.0", "0.2.0")
    assert play(commands.add(call(version="0.2.0")), START, (post(), GRANTED), AT_HOME, (printed(text), None)) is None


def test_add_that_finds_no_free_eni_is_transcript_5():
    reply = wire.Reply(500, b'"no available ENI to be allocated"\n', "application/json")
    error = play(commands.add(call()), START, (post(), reply), (roll_back(), RELEASED))
    assert (error.code, error.details) == (11, "HTTP status 500")
    assert "no available ENI to be allocated" in error.msg


def test_del_with_an_empty_netns_is_transcript_6():
    query = (("owner", "ns/pod"), ("containerID", "c1"), ("netns", ""), ("ifname", "eth0"))
    sent = effects.Request(SOCKET, request("DELETE", query), 25_000)
    assert play(commands.delete(call("DEL", CNI_NETNS="")), (sent, RELEASED)) is None
    assert wire.encode_request(sent.request).startswith(
        b"DELETE /v1/eni?containerID=c1&ifname=eth0&owner=ns%2Fpod HTTP"
    )


def test_add_in_the_plugins_own_netns_asks_for_nothing():
    assert play(commands.add(call()), (effects.OwnNetns("/var/run/netns/n1"), True)).code == 8


def test_add_looks_at_no_netns_if_told_so():
    assert next(commands.add(call(override="1"))) == effects.Now()


@pytest.mark.parametrize(
    "changes",
    [
        {"routes": [{"dst": "nonsense"}]},
        *({"netconf": one} for one in ({"ipam": "enim"}, {"ipam": {"socket": 7}}, {"args": {"cni": {"ips": ["no"]}}})),
    ],
)
def test_add_with_a_wrong_configuration_asks_for_nothing(changes):
    assert play(commands.add(call(**changes))).code == 7


def test_add_waits_for_the_agent_with_growing_pauses():
    pauses = [50, 100, 200, 400, 800, 1000, 1000]
    script = [START]
    for pause, failure in zip(pauses, [ABSENT, DOWN, FULL, ABSENT, ABSENT, DOWN, FULL], strict=True):
        script += [(post(), failure), (effects.Sleep(pause), None)]
    script += [(post(), GRANTED), AT_HOME, (printed(OLDEST), None)]
    assert play(commands.add(call(version="")), *script) is None


@pytest.mark.parametrize(("timeout", "add_ms", "del_ms"), [(None, 30_000, 25_000), (2, 2_000, 2_000)])
@pytest.mark.parametrize("command", ["ADD", "DEL"])
def test_an_agent_that_stays_down_is_code_11_within_the_budget(command, timeout, add_ms, del_ms):
    flow, budget_ms = (commands.add, add_ms) if command == "ADD" else (commands.delete, del_ms)
    pauses_ms = []

    def refuse(_):
        raise ABSENT

    handlers = {
        "OwnNetns": lambda _: False,
        "Now": lambda _: sum(pauses_ms),
        "Sleep": lambda effect: pauses_ms.append(effect.ms),
        "Request": refuse,
    }
    checked = call(command, netconf={"ipam": {"type": "enim", "socket": SOCKET, "connect-timeout": timeout}})
    with pytest.raises(errors.CniError) as caught:
        process.drive(flow(checked), handlers)
    assert (caught.value.code, caught.value.details) == (11, "No such file or directory")
    assert budget_ms - commands.PAUSE_MS_MAX <= sum(pauses_ms) <= budget_ms


def test_a_socket_that_cannot_be_connected_ever_is_code_11_at_once():
    denied = errors.Unreachable(errno.EACCES, "Permission denied")
    assert play(commands.add(call()), START, (post(), denied)).code == 11
    assert play(commands.delete(call("DEL")), (DELETE, denied)).code == 11


def test_add_whose_answer_is_lost_releases_once():
    assert play(commands.add(call()), START, (post(), LOST), (roll_back(), RELEASED)).details == LOST.text


@pytest.mark.parametrize(
    ("outcome", "note"),
    [
        (wire.Reply(500, b'"locked"'), "locked"),
        (errors.Unreachable(errno.EACCES, "Permission denied"), f"the agent cannot be reached at {SOCKET}"),
        (RuntimeError("a bug"), "a bug"),
    ],
)
def test_add_reports_the_first_error_and_the_failed_roll_back_as_a_detail(outcome, note):
    text = f"the roll-back failed too: {note}"
    logged = (effects.Log(f"enim: c1 eth0: {text}"), None)
    error = play(commands.add(call()), START, (post(), LOST), (roll_back(), outcome), logged)
    assert (error.code, error.details) == (11, f"{LOST.text}; {text}")


def test_roll_back_waits_for_an_agent_that_is_restarting_and_may_have_accepted_what_it_never_answers():
    script = [START, (post(), LOST), (roll_back(), ABSENT), (effects.Sleep(50), None), (roll_back(9_950), LOST)]
    script += [(effects.Sleep(100), None), (roll_back(9_850), wire.Reply(404))]
    assert play(commands.add(call()), *script).code == 11


@pytest.mark.parametrize(
    ("status", "body", "code"),
    [
        (404, b'{"code":404,"message":"path was not found"}', 101),
        (409, b'"c1 holds eni-1 as net1"', 100),
        (409, b'"eni-1 is not at home, please retry"', 11),
        (422, b"", 101),
    ],
)
def test_add_that_is_refused_sends_no_delete_because_it_could_only_hit_another_attachment(status, body, code):
    error = play(commands.add(call()), START, (post(), wire.Reply(status, body)))
    assert (error.code, error.details) == (code, f"HTTP status {status}")


@pytest.mark.parametrize(
    ("reply", "code"),
    [
        (wire.Reply(500, b'"failed to get pod, please retry"'), 11),
        (wire.Reply(502, b"<html>Bad Gateway</html>"), 11),
        (wire.Reply(503, b""), 11),
        (wire.Reply(500, b'"noop enim"\n'), 101),
        (wire.Reply(501, b'{"code":501,"message":"no"}'), 101),
        (wire.Reply(200, b""), 102),
        (wire.Reply(200, b"{}"), 102),
        (wire.Reply(200, b"not json"), 102),
        (wire.Reply(200, json.dumps({**ANSWER, "ipv4": None}).encode()), 102),
        (wire.Reply(200, json.dumps({**ANSWER, "address": None}).encode()), 102),
        (wire.Reply(201, GRANTED.body), 102),
        (wire.Reply(302, b""), 102),
    ],
)
def test_add_releases_after_every_answer_that_may_have_allocated(reply, code):
    error = play(commands.add(call()), START, (post(), reply), (roll_back(), RELEASED))
    assert error.code == code
    assert code != 102 or reply.status != 200 or error.details == reply.body.decode()


def test_add_of_an_eni_whose_index_is_stale_follows_the_mac():
    flow = commands.allocate(call())
    script = [next(flow), flow.send(False), flow.send(0), flow.send(GRANTED)]
    assert script[3] == effects.FindLink(ifindex=7, mac=MAC)
    assert flow.send(None) == effects.FindLink(mac=MAC)
    with pytest.raises(StopIteration) as caught:
        flow.send(effects.Link(12, "dev12", MAC))
    made = caught.value.value
    assert (made.interfaces[0].name, made.addresses[0].interface) == ("dev12", 12)


def test_add_of_an_eni_that_is_not_at_home_releases_it():
    error = play(
        commands.add(call()),
        START,
        (post(), GRANTED),
        (effects.FindLink(ifindex=7, mac=MAC), None),
        (effects.FindLink(mac=MAC), None),
        (roll_back(), RELEASED),
    )
    assert error.code == 104


def test_add_with_a_kernel_that_cannot_be_asked_releases():
    failure = errors.KernelError("look at eth0", errno.EPERM, "Operation not permitted")
    error = play(commands.add(call()), START, (post(), GRANTED), (AT_HOME[0], failure), (roll_back(), RELEASED))
    assert (error.code, error.msg, error.details) == (105, "cannot look at eth0", "Operation not permitted")


@pytest.mark.parametrize("link", [None, effects.Link(9, "eth0", "fa:26:00:01:02:04", "e1")])
def test_add_under_host_device_with_another_nic_releases(link):
    error = play(
        commands.add(call(plugin="host-device", netconf={"hwaddr": "FA:26:00:01:02:03"})),
        START,
        (post(f'{{"x-enim":{{"ips":[],"ipRanges":[],"mac":"{MAC}","device":""}}}}'.encode()), GRANTED),
        (effects.NetnsAlive("/var/run/netns/n1"), True),
        (effects.FindLink(name="eth0", netns="/var/run/netns/n1"), link),
        (roll_back(), RELEASED),
    )
    assert error.code == 104


def test_add_under_host_device_compares_nothing_where_there_is_no_netns():
    flow = commands.allocate(call(plugin="host-device", netconf={"device": "e1"}))
    assert [next(flow), flow.send(False), flow.send(0), flow.send(GRANTED)][3] == effects.NetnsAlive(
        "/var/run/netns/n1"
    )
    with pytest.raises(StopIteration) as caught:
        flow.send(False)
    assert (caught.value.value.interfaces[0].name, caught.value.value.addresses[0].interface) == ("e1", 7)


def test_add_without_the_requested_address_releases():
    error = play(
        commands.add(call(CNI_ARGS="K8S_POD_NAMESPACE=ns;K8S_POD_NAME=pod;IP=192.0.2.11")),
        START,
        (post(b'{"x-enim":{"ips":["192.0.2.11"],"ipRanges":[],"mac":"","device":""}}'), GRANTED),
        (roll_back(), RELEASED),
    )
    assert (error.code, error.details) == (103, "it granted 192.0.2.10")


def test_add_whose_reader_is_gone_releases():
    gone = (printed(OLDEST), BrokenPipeError(errno.EPIPE, "Broken pipe"))
    error = play(commands.add(call(version="")), START, (post(), GRANTED), AT_HOME, gone, (roll_back(), RELEASED))
    assert error.code == 5


def test_add_with_an_unforeseen_failure_releases_and_lets_it_pass():
    flow = commands.add(call())
    for outcome in (None, False, 0):
        flow.send(outcome)
    assert isinstance(flow.throw(ZeroDivisionError("a bug")), effects.Now)
    assert flow.send(0) == roll_back()
    with pytest.raises(ZeroDivisionError, match="a bug"):
        flow.send(RELEASED)


@pytest.mark.parametrize("reply", [RELEASED, wire.Reply(204), wire.Reply(404, b'{"code":404,"message":"unknown"}')])
def test_del_of_what_the_agent_does_not_know_is_a_success(reply):
    assert play(commands.delete(call("DEL")), (DELETE, reply)) is None


@pytest.mark.parametrize(
    ("outcome", "code"),
    [
        (wire.Reply(500, b'"busy"'), 11),
        (wire.Reply(500, b'"noop enim"'), 101),
        (wire.Reply(400, b'{"code":400,"message":"bad"}'), 101),
        (wire.Reply(302), 101),
    ],
)
def test_del_that_the_agent_does_not_confirm_fails(outcome, code):
    assert play(commands.delete(call("DEL")), (DELETE, outcome)).code == code


def test_del_waits_for_the_agent_and_asks_again_when_its_connection_breaks():
    script = [
        (DELETE, ABSENT),
        (effects.Sleep(50), None),
        (DELETE, LOST),
        (effects.Sleep(100), None),
        (DELETE, RELEASED),
    ]
    assert play(commands.delete(call("DEL")), *script) is None


@pytest.mark.parametrize(
    "changes",
    [
        {"CNI_ARGS": "bad;K8S_POD_NAMESPACE=ns;K8S_POD_NAME=pod;IP=nonsense;X=1"},
        {"netconf": {"prevResult": "nonsense"}},
        {"netconf": {"args": {"cni": {"ips": "nonsense"}}, "runtimeConfig": 7}},
        {"netconf": {"device": 7}, "plugin": "host-device"},
        {"routes": "nonsense"},
    ],
)
def test_del_is_not_stopped_by_what_it_does_not_need(changes):
    assert play(commands.delete(call("DEL", **changes)), (DELETE, RELEASED)) is None


@pytest.mark.parametrize("ipam", [None, "enim", 7, {}, {"socket": 7}])
def test_del_with_a_broken_ipam_section_asks_the_default_agent(ipam):
    flow = commands.delete(call("DEL", netconf={"ipam": ipam}, CCE_SOCK="/b.sock"))
    assert play(flow, (effects.Request("/b.sock", DELETE.request, 25_000), RELEASED)) is None
