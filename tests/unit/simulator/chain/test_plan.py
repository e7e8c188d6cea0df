"""The runtime's half of CNI: what is called, in which order, with which prevResult, and what stays in the cache."""

import json
from typing import Any

import pytest

from simulator.chain import plan
from simulator.model import Attachment, PluginCall, PluginOutcome

NETWORK = plan.NetworkList("podnet", "1.0.0", ({"type": "first", "capabilities": {"ips": True}}, {"type": "second"}))
SANDBOX = plan.Sandbox("c1", "/run/netns/c1", "eth0", (("K", "v"), ("L", "w")), {"ips": ["192.0.2.1/24"], "mac": "x"})
RESULT = b'{"cniVersion":"1.0.0","ips":[]}'


def drive(calls: plan.Calls, *outcomes: dict[str, Any]) -> tuple[list[PluginCall], plan.Answer]:
    """Give each call its outcome; what was called, and the answer."""
    called: list[PluginCall] = []
    pending = list(outcomes)
    try:
        call = next(calls)
        while True:
            called.append(call)
            given = {"exit_code": 0, "stdout": b"", "stderr": b"", "duration_ms": 0.0, **pending.pop(0)}
            call = calls.send(PluginOutcome(call, **given))
    except StopIteration as stop:
        assert pending == []
        return called, stop.value


def stdin(call: PluginCall) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(call.stdin)
    return value


def test_add_calls_the_plugins_in_order_and_chains_their_results() -> None:
    called, answer = drive(plan.Runtime().add(NETWORK, SANDBOX), {"stdout": RESULT}, {"stdout": b'{"last":1}'})
    assert [call.plugin for call in called] == ["first", "second"]
    assert called[0].environment == {
        "CNI_COMMAND": "ADD",
        "CNI_CONTAINERID": "c1",
        "CNI_NETNS": "/run/netns/c1",
        "CNI_IFNAME": "eth0",
        "CNI_ARGS": "K=v;L=w",
    }
    assert "prevResult" not in stdin(called[0])
    assert stdin(called[1])["prevResult"] == json.loads(RESULT)
    assert (answer.result, answer.failure) == ({"last": 1}, None)


def test_conf_carries_name_version_and_only_the_capabilities_that_the_plugin_declares() -> None:
    called, _ = drive(plan.Runtime().add(NETWORK, SANDBOX), {"stdout": RESULT}, {"stdout": RESULT})
    assert (stdin(called[0])["name"], stdin(called[0])["cniVersion"]) == ("podnet", "1.0.0")
    assert stdin(called[0])["runtimeConfig"] == {"ips": ["192.0.2.1/24"]}
    assert "runtimeConfig" not in stdin(called[1])


def test_add_stops_at_the_first_error_and_sends_no_del() -> None:
    runtime = plan.Runtime()
    error = b'{"code":11,"msg":"busy","details":"later"}'
    called, answer = drive(runtime.add(NETWORK, SANDBOX), {"exit_code": 1, "stdout": error})
    assert [call.plugin for call in called] == ["first"]
    assert answer.failure == plan.Failure("first", 11, "busy", "later")
    assert runtime.cached(Attachment("podnet", "c1", "eth0")) is None


@pytest.mark.parametrize(
    ("outcome", "message"),
    [
        ({"exit_code": 1, "stderr": b"no such thing\n"}, "netplugin failed: no such thing"),
        ({"exit_code": 1}, "netplugin failed with no error message"),
        ({"exit_code": 1, "stdout": b"oops"}, "netplugin failed but error parsing its diagnostic message 'oops'"),
        ({"exit_code": 1, "stdout": b"[1]"}, "netplugin failed but error parsing its diagnostic message '[1]'"),
        ({"exit_code": -9, "timed_out": True}, "killed after 60000 ms"),
        ({"exit_code": 1, "stdout": b"{}"}, "netplugin failed but error parsing its diagnostic message '{}'"),
        ({"exit_code": 0}, "failed to unmarshal raw result ''"),
        ({"exit_code": 0, "stdout": b'"text"\n'}, "failed to unmarshal raw result '\"text\"'"),
        ({"exit_code": 0, "stdout": b"\xff"}, "failed to unmarshal raw result '\N{REPLACEMENT CHARACTER}'"),
    ],
)
def test_what_is_no_cni_error_is_what_libcni_makes_of_it(outcome: dict[str, Any], message: str) -> None:
    _, answer = drive(plan.Runtime().add(NETWORK, SANDBOX), outcome)
    assert answer.failure == plan.Failure("first", 0, message)


@pytest.mark.parametrize(
    "error",
    [
        {"code": "7", "msg": "m"},
        {"code": None, "msg": "m"},
        {"code": True, "msg": "m"},
        {"code": 7.5, "msg": "m"},
        {"code": 7, "msg": 1},
        {"code": 7, "msg": "m", "details": []},
    ],
)
def test_error_of_another_shape_is_none_to_libcni(error: dict[str, Any]) -> None:
    _, answer = drive(plan.Runtime().add(NETWORK, SANDBOX), {"exit_code": 1, "stdout": json.dumps(error).encode()})
    assert answer.failure is not None
    assert (answer.failure.code, answer.failure.message.partition(" message ")[0]) == (
        0,
        "netplugin failed but error parsing its diagnostic",
    )


@pytest.mark.parametrize("exit_code", [0, 1])
def test_output_that_no_parser_bears_is_a_failure_that_quotes_its_beginning(exit_code: int) -> None:
    _, answer = drive(plan.Runtime().add(NETWORK, SANDBOX), {"exit_code": exit_code, "stdout": b"[" * 100_000})
    assert answer.failure is not None
    assert len(answer.failure.message) < 2_000


def test_arguments_of_a_sandbox_without_any_are_an_empty_variable() -> None:
    called, _ = drive(plan.Runtime().delete(NETWORK, plan.Sandbox("c1", "", "eth0")), {}, {})
    assert [(call.environment["CNI_ARGS"], call.environment["CNI_NETNS"]) for call in called] == [("", "")] * 2


def test_add_that_fails_keeps_what_an_earlier_one_left_in_the_cache() -> None:
    runtime = plan.Runtime()
    added(runtime)
    drive(runtime.add(NETWORK, SANDBOX), {"exit_code": 1})
    assert runtime.cached(Attachment("podnet", "c1", "eth0")) == json.loads(RESULT)


def test_cache_is_one_entry_for_each_network_container_and_interface() -> None:
    runtime = plan.Runtime()
    added(runtime)
    others = [
        (NETWORK, plan.Sandbox("c2", "", "eth0")),
        (NETWORK, plan.Sandbox("c1", "", "net1")),
        (plan.NetworkList("other", "1.0.0", NETWORK.plugins), SANDBOX),
    ]
    for network, sandbox in others:
        called, _ = drive(runtime.delete(network, sandbox), {}, {})
        assert ["prevResult" in stdin(call) for call in called] == [False, False]
    assert runtime.cached(plan.attachment_of(NETWORK, SANDBOX)) == json.loads(RESULT)


def added(runtime: plan.Runtime, network: plan.NetworkList = NETWORK) -> None:
    drive(runtime.add(network, SANDBOX), *({"stdout": RESULT} for _ in network.plugins))


def test_del_goes_backwards_with_the_cached_result_and_then_forgets() -> None:
    runtime = plan.Runtime()
    added(runtime)
    called, answer = drive(runtime.delete(NETWORK, SANDBOX), {}, {})
    assert [call.plugin for call in called] == ["second", "first"]
    assert [stdin(call)["prevResult"] for call in called] == [json.loads(RESULT)] * 2
    assert (answer, runtime.cached(Attachment("podnet", "c1", "eth0"))) == (plan.Answer(), None)


def test_del_that_fails_stops_and_keeps_the_cache_for_the_next_try() -> None:
    runtime = plan.Runtime()
    added(runtime)
    called, answer = drive(runtime.delete(NETWORK, SANDBOX), {"exit_code": 1, "stdout": b'{"code":5,"msg":"no"}'})
    assert ([call.plugin for call in called], answer.failure) == (["second"], plan.Failure("second", 5, "no"))
    assert runtime.cached(Attachment("podnet", "c1", "eth0")) == json.loads(RESULT)


@pytest.mark.parametrize(
    ("version", "has_previous"), [("", False), ("0.1.0", False), ("0.3.1", False), ("0.4.0", True), ("1.1.0", True)]
)
def test_del_has_a_previous_result_since_0_4_0(version: str, has_previous: bool) -> None:
    runtime = plan.Runtime()
    network = plan.NetworkList("podnet", version, ({"type": "first"},))
    added(runtime, network)
    called, _ = drive(runtime.delete(network, SANDBOX), {})
    assert ("prevResult" in stdin(called[0])) == has_previous


def test_del_of_what_was_never_added_has_no_previous_result() -> None:
    called, answer = drive(plan.Runtime().delete(NETWORK, SANDBOX), {}, {})
    assert (["prevResult" in stdin(call) for call in called], answer.failure) == ([False, False], None)


def test_conflist_of_a_chain_has_one_upper_plugin_with_enim_inside() -> None:
    network = plan.conflist(
        "host-device",
        name="n",
        cni_version="1.0.0",
        socket="/run/a.sock",
        device="eni1",
        ipam={"routes": [{"dst": "::/0"}]},
        arguments={"cni": {}},
        capabilities=("ips",),
    )
    assert network.plugins == (
        {
            "type": "host-device",
            "device": "eni1",
            "ipam": {"type": "enim", "socket": "/run/a.sock", "routes": [{"dst": "::/0"}]},
            "args": {"cni": {}},
            "capabilities": {"ips": True},
        },
    )


def test_conflist_leaves_out_what_is_not_given() -> None:
    network = plan.conflist("exclusive-device", name="n", cni_version="1.0.0", socket="/s")
    assert network.plugins == ({"type": "exclusive-device", "ipam": {"type": "enim", "socket": "/s"}},)


def test_failure_reads_as_a_sentence() -> None:
    assert str(plan.Failure("enim", 11, "busy", "later")) == "enim: code 11: busy (later)"
    assert str(plan.Failure("enim", 11, "busy")) == "enim: code 11: busy"


def test_conflist_of_its_own_is_told_where_the_lab_has_what_its_plugins_need() -> None:
    plugins = (
        {"type": "bridge", "ipam": {"type": "host-local", "ranges": []}},
        {"type": "exclusive-device", "ipam": {"type": "enim", "socket": "/mine"}},
        {"type": "tuning"},
    )
    assert plan.with_places(plugins, socket="/run/a.sock", state_directory="/state") == (
        {"type": "bridge", "ipam": {"dataDir": "/state", "type": "host-local", "ranges": []}},
        {"type": "exclusive-device", "ipam": {"socket": "/mine", "type": "enim"}},
        {"type": "tuning"},
    )
