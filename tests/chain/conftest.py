"""For tests of plugin processes: an agent of the test's own, the real one, and a runtime that calls the plugins."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from enim import effects, errors, transport, wire


class Agent:
    """A unix-socket server in a thread: answers from ``replies``, hangs up on None, and keeps the requests.

    ``replies`` is by method and path, or by method alone.
    """

    def __init__(self, path: Path) -> None:
        self.requests: list[wire.Request] = []
        self.replies: dict[str, wire.Reply | None] = {"DELETE": wire.Reply(200), "GET": wire.Reply(404)}
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(str(path))
        self._socket.listen()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def grant(self, *addresses: dict[str, Any], **answer: Any) -> None:
        """Answer every POST with an IPAMResponse: one ``ipv4`` or ``ipv6`` object each, and more members."""
        parts = {"ipv6" if ":" in str(one.get("ip")) else "ipv4": one for one in addresses}
        granted = {"address": {family: one.get("ip") for family, one in parts.items()}, **parts, **answer}
        self.replies["POST"] = wire.Reply(200, json.dumps(granted).encode(), "application/json")

    @property
    def methods(self) -> list[str]:
        return [request.method for request in self.requests]

    def stop(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._socket.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection:
                received = b""
                while (found := wire.decode_request(received)) is None:
                    received += connection.recv(65536)
                request = found[0]
                self.requests.append(request)
                reply = self.replies.get(f"{request.method} {request.path}", self.replies.get(request.method))
                if reply is not None:
                    connection.sendall(wire.encode_reply(reply))


@pytest.fixture
def plant_agent() -> Iterator[Callable[[Path], Agent]]:
    """Starts an agent at a path, in the process that calls this."""
    planted: list[Agent] = []

    def plant(path: Path) -> Agent:
        planted.append(Agent(path))
        return planted[-1]

    yield plant
    for agent in planted:
        agent.stop()


class Caller:
    """A runtime that calls one installed plugin for container c1 of the pod ns/pod.

    Args:
        program: the plugin; its directory is CNI_PATH.
        agent: where the agent's socket is, for ``ipam``.
        netns: CNI_NETNS; the default is no namespace, so that enim under host-device needs no link.
        netconf: what the network configuration has besides.
    """

    def __init__(self, program: Path, agent: Path, netns: str = "/var/run/netns/none", **netconf: Any) -> None:
        self.program = program
        self.ipam = {"type": "enim", "socket": str(agent)}
        self.netconf = {"cniVersion": "1.1.0", "name": "n", **netconf}
        self.environment = {
            "CNI_CONTAINERID": "c1",
            "CNI_NETNS": netns,
            "CNI_IFNAME": "eth0",
            "CNI_ARGS": "IgnoreUnknown=1;K8S_POD_NAMESPACE=ns;K8S_POD_NAME=pod",
            "CNI_PATH": str(program.parent),
            "PATH": os.environ["PATH"],
        }

    def run(
        self,
        command: str = "ADD",
        ipam: dict[str, Any] | str | None = None,
        *,
        document: dict[str, Any] | None = None,
        stdout: int = subprocess.PIPE,
        **changes: Any,
    ) -> subprocess.CompletedProcess[bytes]:
        """One call.

        Args:
            command: CNI_COMMAND.
            ipam: what ``ipam`` has besides; a text is all of it.
            document: all of the network configuration, in place of what else it would be.
            stdout: where the plugin prints.
            changes: in capitals variables, the others members of the network configuration.
        """
        variables = {name: changes.pop(name) for name in tuple(changes) if name.isupper()}
        netconf = {**self.netconf, "ipam": ipam if isinstance(ipam, str) else {**self.ipam, **(ipam or {})}, **changes}
        environment = {**self.environment, "CNI_COMMAND": command, **variables}
        return subprocess.run(
            [self.program],
            check=False,
            env=environment,
            input=json.dumps(document or netconf).encode(),
            stdout=stdout,
            stderr=subprocess.PIPE,
            timeout=20,
        )

    def succeed(self, command: str = "ADD", ipam: dict[str, Any] | str | None = None, **changes: Any) -> Any:
        """The result of a call that must succeed without a word on stderr; None for one without a result."""
        done = self.run(command, ipam, **changes)
        assert (done.returncode, done.stderr) == (0, b""), done
        return json.loads(done.stdout) if done.stdout else None

    def fail(self, command: str = "ADD", ipam: dict[str, Any] | str | None = None, **changes: Any) -> dict[str, Any]:
        """The error object of a call that must fail."""
        done = self.run(command, ipam, **changes)
        assert done.returncode == 1, done
        error: dict[str, Any] = json.loads(done.stdout)
        assert list(error) == ["cniVersion", "code", "msg", "details"]
        return error


@pytest.fixture
def call_plugin(plugins: Path) -> Callable[..., Caller]:
    """Makes a ``Caller`` of the plugin of that name, with the agent's socket and what else a Caller takes."""
    return lambda name, *arguments, **netconf: Caller(plugins / name, *arguments, **netconf)


class RealAgent:
    """``enim-lab agent`` with its own ENIs. Use it in ``in_lab``: its hardware process ends with the lab."""

    def __init__(self, scratch: Path, enis: int) -> None:
        self.socket = scratch / "agent.sock"
        self._control = scratch / "control.sock"
        self._enis = enis
        command = [sys.executable, "-m", "simulator", "agent", "--enis", str(enis), "--socket", str(self.socket)]
        places = ["--control", str(self._control), "--state", str(scratch / "state.db")]
        self._process = subprocess.Popen([*command, *places])

    def await_free(self) -> None:
        """Wait until all ENIs are free; the agent has to see its NICs, which it does after it listens."""
        question = effects.Request(str(self._control), wire.Request("GET", "/state"), 1000)
        deadline = time.monotonic() + 10
        states: list[str] = []
        while states != ["free"] * self._enis:
            assert time.monotonic() < deadline, f"the agent's ENIs are {states}"
            time.sleep(0.02)
            with contextlib.suppress(errors.Unreachable, errors.Interrupted):
                states = [one["state"] for one in json.loads(transport.round_trip(question).body)["records"]]

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait()


@pytest.fixture
def run_agent() -> Callable[[Path, int], contextlib.AbstractContextManager[RealAgent]]:
    """Runs a ``RealAgent`` from when all of its ENIs are free."""

    @contextlib.contextmanager
    def run(scratch: Path, enis: int) -> Iterator[RealAgent]:
        agent = RealAgent(scratch, enis)
        try:
            agent.await_free()
            yield agent
        finally:
            agent.stop()

    return run
