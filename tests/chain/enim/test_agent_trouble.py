"""An agent in trouble: what the plugins do and say, and that a runtime cannot take their word for something else."""

import json
import socket
import time
from concurrent import futures

import pytest

from enim import errors, wire

# containerd's go-cni takes a failed DEL for a success if its text has one of these.
SWALLOWED = ("not found", "no such file or directory")
# A plugin, and what its configuration has besides.
WAYS = [("enim", {}), ("exclusive-device", {}), ("exclusive-device", {"delegate": "exec"})]


def hang(listener):
    """Accept a connection and never answer; the seconds until the other side has hung up."""
    connection, _ = listener.accept()
    begun = time.monotonic()
    with connection:
        while connection.recv(65536):
            pass
    return time.monotonic() - begun


def go_text(error):
    """The text of an error object as Go's ``types.Error`` has it."""
    return f"{error['msg']}; {error['details']}"


@pytest.mark.parametrize("plugin", WAYS)
@pytest.mark.parametrize(
    "text", ["endpoint Not Found", "open /x: no such file or directory", "not found" * 40, "\u0130" * 20 + "not found"]
)
def test_del_error_says_nothing_that_go_cni_takes_for_success(plugin, text, call_plugin, plant_agent, tmp_path):
    name, more = plugin
    agent = plant_agent(tmp_path / "agent.sock")
    runtime = call_plugin(name, tmp_path / "agent.sock", type="exclusive-device", **more)
    for netns in ("", "/var/run/netns/not found"):
        for status in (400, 500):
            agent.replies["DELETE"] = wire.Reply(status, json.dumps(text).encode())
            said = go_text(runtime.fail("DEL", CNI_NETNS=netns)).lower()
            assert [trap for trap in SWALLOWED if trap in said] == [], said


@pytest.mark.parametrize(("name", "more"), WAYS)
def test_del_error_of_an_agent_without_a_socket_says_no_such_thing_either(name, more, call_plugin, tmp_path):
    runtime = call_plugin(name, tmp_path / "agent.sock", type="exclusive-device", **more)
    error = runtime.fail("DEL", ipam={"connect-timeout": 1})
    assert (error["code"], [trap for trap in SWALLOWED if trap in go_text(error).lower()]) == (11, [])


def test_del_error_of_the_upper_plugin_itself_says_no_such_thing_either(call_plugin, tmp_path):
    runtime = call_plugin("exclusive-device", tmp_path / "agent.sock", type="exclusive-device")
    for ipam in ({"type": "not found"}, {"type": "/x"}, "not found"):
        said = go_text(runtime.fail("DEL", ipam=ipam)).lower()
        assert [trap for trap in SWALLOWED if trap in said] == [], said


@pytest.mark.parametrize("delegate", [{}, {"delegate": "exec"}])
def test_add_whose_answer_is_lost_is_withdrawn_once_with_the_same_words(node, plant_agent, call_plugin, delegate):
    agent = plant_agent(node.directory / "agent.sock")
    agent.replies["POST"] = None
    netns = node.create_netns()
    runtime = call_plugin("exclusive-device", node.directory / "agent.sock", netns, type="exclusive-device", **delegate)
    assert runtime.fail()["code"] == errors.TRY_AGAIN_LATER
    posted, *withdrawn = agent.requests
    assert [(one.method, one.query, one.header("x-enim-network")) for one in withdrawn] == [
        ("DELETE", posted.query, posted.header("x-enim-network"))
    ]


def test_add_whose_answer_is_lost_says_so_where_it_cannot_be_withdrawn(call_plugin, plant_agent, tmp_path):
    agent = plant_agent(tmp_path / "agent.sock")
    agent.replies.update(POST=None, DELETE=wire.Reply(500, b'"locked"'))
    done = call_plugin("enim", tmp_path / "agent.sock", type="host-device", device="e1").run()
    error = json.loads(done.stdout)
    assert (error["code"], "roll-back failed too: locked" in error["details"]) == (errors.TRY_AGAIN_LATER, True)
    assert b"roll-back failed too: locked" in done.stderr


@pytest.mark.parametrize(("name", "more"), WAYS)
def test_status_of_an_agent_that_hangs_is_told_within_a_second(name, more, call_plugin, tmp_path):
    """Its own second is what the agent sees; to start one or two interpreters takes what the machine makes of it."""
    with socket.socket(socket.AF_UNIX) as listener, futures.ThreadPoolExecutor() as pool:
        listener.bind(str(tmp_path / "agent.sock"))
        listener.listen()
        listener.settimeout(10)
        runtime = call_plugin(name, tmp_path / "agent.sock", type="exclusive-device", **more)
        waited = pool.submit(hang, listener)
        begun = time.monotonic()
        assert runtime.fail("STATUS")["code"] == errors.NOT_AVAILABLE
        took_s = time.monotonic() - begun
        listener.setblocking(False)
        with pytest.raises(BlockingIOError):  # it asked once
            listener.accept()
    assert (0.8 <= waited.result() < 1, took_s < 3) == (True, True), (waited.result(), took_s)


def test_status_is_well_though_nothing_is_free_and_ill_when_the_agent_says_so(in_lab, run_agent, call_plugin):
    def play(scratch):
        with run_agent(scratch, enis=1) as agent:
            enim = call_plugin("enim", agent.socket, "/dev/null", type="exclusive-device")
            enim.succeed()
            other = {"CNI_CONTAINERID": "c2", "CNI_ARGS": "K8S_POD_NAMESPACE=ns;K8S_POD_NAME=b"}
            return enim.succeed("STATUS"), enim.fail(**other)

    healthy, exhausted = in_lab(play)
    assert (healthy, exhausted["code"]) == (None, errors.TRY_AGAIN_LATER)
