"""How long a plugin can take when the agent is in trouble: the flows on a clock that only waiting moves.

Limits of those who wait: kubelet gives ADD four minutes, containerd and CRI-O give DEL one; the agent itself may take a
minute for an ADD, half of it before it begins (contract C5).
"""

import errno
import json

import pytest

from enim import commands, config, effects, errors, process, wire

ADD_LIMIT_MS, DEL_LIMIT_MS = 240_000, 60_000
ABSENT = errors.Unreachable(errno.ENOENT, "No such file or directory")
REFUSED = errors.Unreachable(errno.ECONNREFUSED, "Connection refused")
FULL = errors.Unreachable(errno.EAGAIN, "Resource temporarily unavailable")
SILENT, LOST = errors.Interrupted("the deadline has passed"), errors.Interrupted("the connection ended")
PART = {"ip": "192.0.2.10", "cidrs": ["192.0.2.0/24"], "master-mac": "fa:26:00:01:02:03", "interface-number": "7"}
GRANTED = wire.Reply(200, json.dumps({"address": {"ipv4": "192.0.2.10"}, "ipv4": PART}).encode())


class Agent:
    """``answer(now_ms, effect)`` says how long a request takes and how it ends; ``sent`` are those that it has got."""

    def __init__(self, answer):
        self.answer = answer
        self.now_ms = 0
        self.sent = []

    def serve(self, effect):
        took_ms, outcome = self.answer(self.now_ms, effect)
        self.now_ms += min(took_ms, effect.timeout_ms)
        if not isinstance(outcome, errors.Unreachable):
            self.sent.append(effect.request.method)
        if took_ms >= effect.timeout_ms:
            raise SILENT
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def sleep(self, effect):
        self.now_ms += effect.ms

    def run(self, command):
        """The code of the error that the command ends with, 0 for none."""
        environment = dict.fromkeys(("CNI_CONTAINERID", "CNI_IFNAME", "CNI_PATH", "CNI_NETNS"), "x")
        stdin = b'{"cniVersion":"1.1.0","name":"n","type":"exclusive-device","ipam":{"type":"enim"}}'
        handlers = {
            "Now": lambda _: self.now_ms,
            "Sleep": self.sleep,
            "Request": self.serve,
            "OwnNetns": lambda _: False,
            "FindLink": lambda _: effects.Link(7, "eni1", PART["master-mac"]),
            "Print": lambda _: None,
            "Log": lambda _: None,
        }
        flow = {"ADD": commands.add, "DEL": commands.delete}[command]
        try:
            process.drive(flow(config.read({**environment, "CNI_COMMAND": command}, stdin)), handlers)
        except errors.CniError as error:
            return error.code
        return 0


@pytest.mark.parametrize("failure", [ABSENT, REFUSED, FULL])
@pytest.mark.parametrize(("command", "longest_ms"), [("ADD", 30_000), ("DEL", 25_000)])
def test_an_agent_that_never_comes_is_given_up_and_nothing_was_sent(command, longest_ms, failure):
    agent = Agent(lambda _now, _effect: (0, failure))
    assert (agent.run(command), agent.sent) == (errors.TRY_AGAIN_LATER, [])
    assert longest_ms - commands.PAUSE_MS_MAX <= agent.now_ms <= longest_ms


@pytest.mark.parametrize(("command", "took_ms"), [("ADD", 69_000), ("DEL", 24_000)])
def test_an_agent_that_is_slow_is_waited_for(command, took_ms):
    agent = Agent(lambda _now, effect: (took_ms, GRANTED if effect.request.method == "POST" else wire.Reply(200)))
    assert (agent.run(command), agent.now_ms) == (0, took_ms)


@pytest.mark.parametrize(
    ("command", "sent", "longest_ms"), [("ADD", ["POST", "DELETE"], 80_000), ("DEL", ["DELETE"], 25_000)]
)
def test_an_agent_that_hangs_is_given_up_and_an_add_withdrawn(command, sent, longest_ms):
    agent = Agent(lambda _now, _effect: (10**9, None))
    assert (agent.run(command), agent.sent, agent.now_ms) == (errors.TRY_AGAIN_LATER, sent, longest_ms)


def late(after_ms, then):
    """Absent, then as ``then`` says."""
    return lambda now, effect: (0, ABSENT) if now < after_ms else then(now, effect)


# Whatever it does, and whenever it begins to.
TROUBLE = {
    "hangs": lambda _now, _effect: (10**9, None),
    "breaks every connection at once": lambda _now, _effect: (0, LOST),
    "breaks every connection after a while": lambda _now, effect: (effect.timeout_ms - 1, LOST),
    "breaks the first, then is gone": lambda _now, effect: (0, LOST if effect.request.method == "POST" else REFUSED),
    "fails": lambda _now, _effect: (1_000, wire.Reply(500, b'"locked"')),
    "grants what cannot be and cannot take it back": lambda _now, effect: (
        effect.timeout_ms - 1,
        wire.Reply(200 if effect.request.method == "POST" else 500, b"{}"),
    ),
}


@pytest.mark.parametrize("trouble", TROUBLE.values(), ids=TROUBLE)
@pytest.mark.parametrize("after_ms", [0, 24_000, 29_000])
@pytest.mark.parametrize(("command", "limit_ms"), [("ADD", ADD_LIMIT_MS), ("DEL", DEL_LIMIT_MS)])
def test_no_trouble_makes_a_call_longer_than_the_runtime_waits(command, limit_ms, after_ms, trouble):
    agent = Agent(late(after_ms, trouble))
    assert agent.run(command) != 0
    assert agent.now_ms < limit_ms
    assert agent.sent.count("POST") <= 1  # never twice
