"""A share of the fuzzed inputs through the installed plugins, as real processes: kernel, socket and streams are real.

ENIM_FUZZ_PROCESSES says how many inputs. They are always the same ones; the agent's answers come from the same tape.
exclusive-device gets each input twice, to run enim in its own process and as a process of its own: it must print the
same, and ask the agent for the same.
"""

import contextlib
import json
import os
import random
import socket
import subprocess
import threading

import fuzz_verdict
from fuzz_edge import PART_LENGTHS, Edge
from fuzz_tape import MAC, NETNS, Tape, call

from enim import errors, wire

COUNT = int(os.environ.get("ENIM_FUZZ_PROCESSES", "60"))
TAPE_BYTES = 96
EXEC, IN_PROCESS = b'"exec"', b'""    '  # of one length, for errors that say where in stdin something is
HOST_NETNS = "/proc/1/ns/net"  # no plugin of a test enters it


class Agent(threading.Thread):
    """Answers as an ``Edge`` says, in parts, and hangs up; keeps what it was asked."""

    def __init__(self, path):
        super().__init__(daemon=True)
        self.edge = Edge(Tape(), {}, b"")
        self.asked = []
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(path))
        self.listener.listen(16)
        self.start()

    def run(self):
        while True:
            connection, _ = self.listener.accept()
            with connection, contextlib.suppress(OSError):  # the plugin may have seen enough
                connection.settimeout(20)
                self.answer(connection)

    def answer(self, connection):
        received = b""
        try:
            while (decoded := wire.decode_request(received)) is None:
                received += connection.recv(65536)
        except errors.WireError as error:
            connection.sendall(wire.encode_reply(wire.Reply(error.status)))
            return
        self.asked.append(decoded[0])
        data = self.edge._answer(decoded[0])
        try:
            reply = wire.decode_reply(data, closed=True)
        except errors.WireError:
            reply = None
        self.edge._act(decoded[0], reply)
        length = max(self.edge.tape.pick(PART_LENGTHS), len(data) // 400 + 1)
        for start in range(0, len(data), length):
            connection.sendall(data[start : start + length])


class Node:
    def __init__(self, node, plugins):
        self.node = node
        self.plugins = plugins
        self.netns = node.create_netns()
        self.socket = str(node.directory / "agent.sock")
        self.agent = Agent(self.socket)
        self.seen = set()
        node.create_nic("eni1", MAC)

    def is_at_home(self):
        return self.node.show("eni1").get("address") == MAC and self.node.names(self.netns) == []

    def run(self, plugin, environment, stdin):
        encoded = {name.encode(): value.encode("utf-8", "surrogateescape") for name, value in environment.items()}
        done = subprocess.run(
            [self.plugins / plugin], check=False, env=encoded, input=stdin, capture_output=True, timeout=50
        )
        assert b"Traceback" not in done.stderr
        return done.returncode, done.stdout, done.stderr

    def play(self, data):
        """What is wrong, "" for nothing."""
        plugin = Tape(data).pick(tuple(fuzz_verdict.PLUGINS))
        if plugin == "enim":
            return self.play_once(data)[0]
        problem, in_process = self.play_once(data, IN_PROCESS)
        other_problem, executed = self.play_once(data, EXEC)
        difference = "" if in_process == executed else f"in process {in_process}, by exec {executed}"
        return problem or other_problem or difference

    def play_once(self, data, way=b""):
        """What is wrong, "" for nothing; and what the call came to: exit code, stdout, stderr and requests.

        Args:
            way: in which exclusive-device runs enim.
        """
        tape = Tape(data)
        plugin = tape.pick(tuple(fuzz_verdict.PLUGINS))
        environment, stdin = call(tape, plugin)
        if way:
            stdin = stdin.replace(b"{", b'{"delegate": %s, ' % way, 1)
        stdin = stdin.replace(b', "socket": "/run/agent.sock"', b"").replace(NETNS.encode(), self.netns.encode())
        if b"socket" in stdin or b"log-" in stdin.lower():
            return "", ()  # it would wait for an agent that is not there, or write somewhere
        places = {NETNS: self.netns, HOST_NETNS: "/proc/self/ns/net", "/opt/cni/bin": str(self.plugins)}
        environment = {name: places.get(value, value) for name, value in environment.items()} | {
            "CCE_SOCK": self.socket
        }
        self.agent.edge = edge = Edge(tape, environment, stdin)
        del self.agent.asked[:]
        command = environment["CNI_COMMAND"]
        code, stdout, stderr = self.run(plugin, environment, stdin)
        self.seen.add((plugin, command, code))
        made = (code, stdout, stderr, tuple(self.agent.asked))
        if code == 0:
            problem = "" if bool(stdout) == (command in ("ADD", "VERSION")) else f"it printed {stdout[:300]!r}"
            json.loads(stdout or b"null")
        else:
            error = json.loads(stdout)
            is_known = code == 1 and error["code"] in fuzz_verdict.CODES
            problem = "" if is_known else f"exit code {code}, {stdout[:300]!r}"
            is_quiet = command == "ADD" and "the roll-back failed too" not in error["details"]
            if is_quiet and (edge.held or not self.is_at_home()):
                problem = f"left behind without a word: {edge.held}: {error}"
        if command == "ADD" and (edge.held or not self.is_at_home()):
            edge.tape = Tape()
            ended = self.run(plugin, {**environment, "CNI_COMMAND": "DEL"}, stdin)
            if ended[:2] != (0, b"") or edge.held or not self.is_at_home():
                problem += f" DEL did not take it away: {edge.held}: {ended}"
        return problem and f"{problem}\n{plugin} {environment} {stdin[:2000]!r}", made


def test_no_input_breaks_an_installed_plugin_or_leaks_an_eni(node, plugins):
    played = Node(node, plugins)
    draw = random.Random(0)
    for number in range(COUNT):
        tape = draw.randbytes(TAPE_BYTES)
        problem = played.play(tape)
        assert not problem, f"input {number}, tape {tape.hex()}: {problem}"
    ended_well = {(plugin, "ADD", 0) for plugin in fuzz_verdict.PLUGINS}
    assert ended_well <= played.seen or COUNT < 60
