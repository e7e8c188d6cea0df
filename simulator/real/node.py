"""EDGE: a node of a lab: the process that carries out a World's methods inside the namespaces, and its remote control.

``serve`` is the node's side: it puts the plugins into a CNI bin directory, has the hardware attach its ENIs, starts
the agent, and then does what it is told over a control channel until that closes. ``RemoteWorld`` is the runner's
side. Labs differ only in how ``serve`` is started. Both ends are this same code, so the channel carries pickled
values.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import errno
import ipaddress
import json
import socket
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from enim import effects as plugin_effects
from enim import errors as plugin_errors
from enim import namespaces, transport, wire
from simulator.bench import machine
from simulator.chain import execute, install
from simulator.errors import LabError, SimulatorError, WorldFault
from simulator.model import (
    Attachment,
    Backend,
    Eni,
    EniId,
    EniRecord,
    Lease,
    Link,
    PluginCall,
    PluginOutcome,
    Served,
    Snapshot,
    Subnet,
)
from simulator.real import agent_process, cloud, echo, hardware, kernel

CONTROL_TIMEOUT_MS = 5_000
_GONE = "the lab is gone: its first process ended"


class Gone(LabError):
    """The node's process has ended, and everything of the node with it."""


@dataclass(frozen=True, slots=True)
class NodeSetup:
    """What a node needs to start.

    Args:
        enis: how many ENIs the cloud has attached.
        plugins: the CNI bin directory's files, path → content (``chain.install.bundle``).
        foreign: plugins that others have made, file name → binary.
        backend: which kind of link its ENIs are.
    """

    enis: int
    plugins: Mapping[str, bytes]
    foreign: Mapping[str, Path]
    backend: Backend = hardware.VETH


_LIMITS = (errno.EFBIG, errno.EMFILE, errno.ENFILE)  # of this process or the machine; a lab's files are in memory


class Node:
    """A World on the real kernel, from inside the lab. See ``simulator.effects.World``."""

    def __init__(self, setup: NodeSetup, scratch: Path) -> None:
        self._setup = setup
        self._bin = scratch / "cni-bin"
        self._netns = scratch / "netns"
        agent_files, state = scratch / "agent", scratch / "cni-state"
        for directory in (self._bin, self._netns, agent_files, state):
            directory.mkdir()
        self.state_directory = str(state)
        install.write(self._bin, dict(setup.plugins))
        for name, binary in setup.foreign.items():
            (self._bin / name).symlink_to(binary)
        self._agent = agent_process.AgentProcess(agent_files, setup.enis)
        self.socket = str(self._agent.socket)
        self.enis: Sequence[Eni] = cloud.attach(setup.enis, setup.backend)
        self._kernel = kernel.Kernel()
        self.start_agent()

    def machine(self) -> Mapping[str, Any]:
        return machine.facts()

    def create_netns(self, name: str, *, dad: bool) -> str:
        path = self._netns / name
        kernel.create_netns(path, accept_dad=dad)
        return str(path)

    def delete_netns(self, path: str) -> None:
        cloud.attach(self._setup.enis, self._setup.backend)  # so that a NIC comes back as it is in there now
        kernel.delete_netns(Path(path))

    def execute(self, call: PluginCall) -> PluginOutcome:
        return execute.run(call, self._bin)

    def execute_all(self, calls: Sequence[PluginCall]) -> Sequence[PluginOutcome]:
        if len(calls) == 1:
            return [self.execute(calls[0])]
        with concurrent.futures.ThreadPoolExecutor(max(1, len(calls))) as threads:
            return list(threads.map(self.execute, calls))

    def served(self) -> Sequence[Served]:
        said = self._ask_agent("GET", "/served", ())
        return [] if said is None else [Served(**one) for one in said["served"]]

    def echo(self, netns: str, destination: str, timeout_ms: int) -> bool:
        return echo.echo(netns, destination, timeout_ms)

    def snapshot(self) -> Snapshot:
        links: dict[str, tuple[Link, ...]] = {"": self._kernel.links()}
        for path in sorted(map(str, self._netns.iterdir())):
            if namespaces.netns_alive(path):  # else a plain file is left where a namespace was (K9)
                links[path] = self._kernel.netns_links(path)
        state = self._ask_agent("GET", "/state", ()) or {"records": (), "clock_ms": 0, "adds_in_flight": None}
        return Snapshot(
            records=tuple(_record(one) for one in state["records"]),
            agent_running=state["adds_in_flight"] is not None,
            clock_ms=int(state["clock_ms"]),
            links=links,
            leases=tuple(_leases(Path(self.state_directory))),
            plugins_running=execute.running_count(self._bin),
            adds_in_flight=state["adds_in_flight"] or 0,
        )

    def advance_clock(self, ms: int) -> None:
        if self._ask_agent("POST", "/clock", (("advance_ms", str(ms)),)) is None:
            raise WorldFault("clock.advance", 0, "the agent does not run")

    def start_agent(self, after_ms: int = 0) -> None:
        self._agent.start(after_ms)

    def kill_agent(self) -> None:
        self._agent.kill()

    def crash_agent_at(self, failpoint: str, back_after_ms: int) -> None:
        if self._ask_agent("POST", "/crash", (("at", failpoint),)) is None:
            raise WorldFault("agent.crash", 0, "the agent does not run")
        self._agent.keep_reserve(back_after_ms)

    def agent_pid(self) -> int:
        """The agent's pid as the node sees it, 0 if it does not run."""
        return self._agent.pid

    def _ask_agent(self, method: str, path: str, query: tuple[tuple[str, str], ...]) -> Any:
        """One question on the control socket; None if no agent answers there."""
        request = wire.Request(method, path, query)
        try:
            reply = transport.round_trip(plugin_effects.Request(str(self._agent.control), request, CONTROL_TIMEOUT_MS))
        except (plugin_errors.Unreachable, plugin_errors.Interrupted):
            return None
        if reply.status != 200:
            raise WorldFault(f"{method} {path}", 0, wire.error_text(reply))
        return json.loads(reply.body)


def _record(value: Mapping[str, Any]) -> EniRecord:
    eni = dict(value["eni"])
    subnet = Subnet(**eni.pop("subnet"))
    attachment = value["attachment"]
    return EniRecord(
        eni=Eni(**{**eni, "id": EniId(eni["id"]), "subnet": subnet}),
        state=value["state"],
        attachment=None if attachment is None else Attachment(**attachment),
        owner=value["owner"],
        netns=value["netns"],
        reason=value["reason"],
    )


def _leases(state: Path) -> Iterator[Lease]:
    """What host-local has on record: a file for each address, named for it; in it the container and its interface.

    Source: host-local backend/disk/backend.go.
    """
    for network in sorted(state.iterdir()):
        for file in sorted(network.iterdir()):
            with contextlib.suppress(ValueError, OSError):  # its lock, and its note of the address it gave last
                address = str(ipaddress.ip_address(file.name))
                container_id, _, ifname = file.read_text().partition("\n")
                yield Lease(network.name, address, container_id.strip(), ifname.strip())


def serve(channel: socket.socket, scratch: Path, setup: NodeSetup) -> None:
    """Be a node: answer one message at a time until the channel closes."""
    connection = Connection(channel.detach())
    try:
        node = Node(setup, scratch)
    except SimulatorError as error:
        _answer(connection, ("raise", error))
        return
    except Exception as error:
        if isinstance(error, OSError) and error.errno in _LIMITS:
            cause = f"the node did not start: {error.strerror}"
            _answer(connection, ("raise", LabError(cause, "Raise the limits of this process (`ulimit -a`)")))
            return
        _answer(connection, ("raise", LabError(f"the node did not start: {traceback.format_exc()}")))
        raise
    _answer(connection, ("ok", (tuple(node.enis), node.socket, node.state_directory)))
    while True:
        try:
            method, arguments, keywords = connection.recv()
        except (EOFError, OSError):
            return
        try:
            answer = ("ok", getattr(node, method)(*arguments, **keywords))
        except SimulatorError as error:
            answer = ("raise", error)
        except Exception:  # noqa: BLE001 - the other end tells its user
            answer = ("raise", LabError(f"the node failed in {method}: {traceback.format_exc()}"))
        _answer(connection, answer)


def _answer(connection: Connection, answer: tuple[str, object]) -> None:
    with contextlib.suppress(OSError):  # the runner is gone; the next thing that is received says so
        connection.send(answer)


class RemoteWorld:
    """The World whose node is at the other end of a channel. Waits for the node to be up.

    Raises (the constructor and every method): ``WorldFault`` and ``LabError`` of the node, ``Gone`` if it is gone.
    """

    def __init__(self, channel: socket.socket) -> None:
        self._connection = Connection(channel.detach())
        self._began = time.monotonic()
        self.enis: Sequence[Eni]
        self.socket: str
        self.state_directory: str
        self.enis, self.socket, self.state_directory = self._receive()

    def close(self) -> None:
        """Hang up: the node ends."""
        self._connection.close()

    def machine(self) -> Mapping[str, Any]:
        facts: Mapping[str, Any] = self._call("machine")
        return facts

    def create_netns(self, name: str, *, dad: bool) -> str:
        return str(self._call("create_netns", name, dad=dad))

    def delete_netns(self, path: str) -> None:
        self._call("delete_netns", path)

    def execute(self, call: PluginCall) -> PluginOutcome:
        outcome: PluginOutcome = self._call("execute", call)
        return outcome

    def execute_all(self, calls: Sequence[PluginCall]) -> Sequence[PluginOutcome]:
        outcomes: Sequence[PluginOutcome] = self._call("execute_all", calls)
        return outcomes

    def served(self) -> Sequence[Served]:
        served: Sequence[Served] = self._call("served")
        return served

    def echo(self, netns: str, destination: str, timeout_ms: int) -> bool:
        return bool(self._call("echo", netns, destination, timeout_ms))

    def snapshot(self) -> Snapshot:
        snapshot: Snapshot = self._call("snapshot")
        return snapshot

    def advance_clock(self, ms: int) -> None:
        self._call("advance_clock", ms)

    def pause(self, ms: int) -> None:
        time.sleep(ms / 1000)

    def elapsed_ms(self) -> float:
        return (time.monotonic() - self._began) * 1000

    def start_agent(self, after_ms: int = 0) -> None:
        self._call("start_agent", after_ms)

    def kill_agent(self) -> None:
        self._call("kill_agent")

    def crash_agent_at(self, failpoint: str, back_after_ms: int) -> None:
        self._call("crash_agent_at", failpoint, back_after_ms)

    def agent_pid(self) -> int:
        """The agent's pid as the node sees it, 0 if it does not run."""
        return int(self._call("agent_pid"))

    def _call(self, method: str, *arguments: object, **keywords: object) -> Any:
        try:
            self._connection.send((method, arguments, keywords))
        except OSError as error:
            raise Gone(_GONE) from error
        return self._receive()

    def _receive(self) -> Any:
        try:
            verdict, value = self._connection.recv()
        except (EOFError, OSError) as error:
            raise Gone(_GONE) from error
        if verdict == "raise":
            raise value
        return value
