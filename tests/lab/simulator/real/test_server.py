"""The agent as its clients meet it. Every test runs all of it in a lab: real links, real journal, real sockets."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import queue
import signal
import socket
import threading
import time
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from enim import errors, wire
from simulator import topology
from simulator.errors import InvariantBroken, LabError
from simulator.real import kernel, server, store

InLab = Callable[[Callable[[Path], Any]], Any]

PATIENCE_S = 5.0
LAB_ERROR_STATUS = 3


def go_request(method: str, owner: str, container: str, netns: str = "") -> bytes:
    """What the real agent's Go client sends: an empty Host, sorted and percent-encoded keys, no body (contract C1)."""
    where = f"&netns={netns.replace('/', '%2F')}" if netns else ""
    target = f"/v1/eni?containerID={container}{where}&owner={owner.replace('/', '%2F')}"
    length = "Content-Length: 0\r\n" if method == "POST" else ""
    head = f"{method} {target} HTTP/1.1\r\nHost: \r\nUser-Agent: Go-http-client/1.1\r\n{length}"
    return (head + "Accept: application/json\r\n\r\n").encode()


def exchange(path: Path, request: bytes) -> bytes:
    """Send, say that there is no more, read to the end."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(PATIENCE_S)
        client.connect(str(path))
        client.sendall(request)
        client.shutdown(socket.SHUT_WR)
        answer = b""
        while more := client.recv(65536):
            answer += more
        return answer


class RunningAgent:
    """``run_agent`` in a child of its own, with its sockets and its state in ``directory``."""

    def __init__(self, directory: Path, enis: int) -> None:
        self.socket, self.control = directory / "run" / "agent.sock", directory / "control.sock"
        self._directory, self._enis = directory, enis
        self.pid = 0

    def start(self) -> RunningAgent:
        """Return when it serves. Raises LabError with what it said if it does not."""
        told, tell = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(told)
            self._be_agent(lambda: os.close(tell) if os.write(tell, b"ready") else None)
        os.close(tell)
        with os.fdopen(told, "rb") as pipe:
            if pipe.read() != b"ready":
                raise LabError(f"status {self.wait()}: {self.said()}")
        return self

    def settle(self, *states: str) -> list[str]:
        """The states of its ENIs when they are these, or in the end."""
        deadline = time.monotonic() + PATIENCE_S
        while (found := [record["state"] for record in self.state()["records"]]) != list(states):
            if time.monotonic() > deadline:
                break
            time.sleep(0.005)
        return found

    def state(self) -> Any:
        return json.loads(exchange(self.control, b"GET /state HTTP/1.1\r\n\r\n").partition(b"\r\n\r\n")[2])

    def ask(self, method: str, owner: str, container: str, netns: str = "") -> wire.Reply:
        reply = wire.decode_reply(exchange(self.socket, go_request(method, owner, container, netns)), closed=True)
        assert reply is not None
        return reply

    def end(self, number: int) -> int:
        """Send a signal; its exit status when it is gone."""
        os.kill(self.pid, number)
        return self.wait()

    def wait(self) -> int:
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def said(self, stream: str = "stderr") -> str:
        return (self._directory / stream).read_text()

    def _be_agent(self, ready: Callable[[], None]) -> None:
        status = 1
        try:
            for number, name in ((1, "stdout"), (2, "stderr")):
                os.dup2(os.open(self._directory / name, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), number)
            server.run_agent(self.socket, self._directory / "state.db", self._enis, self.control, ready)
            status = 0
        except LabError as error:
            os.write(2, str(error).encode())
            status = LAB_ERROR_STATUS
        except BaseException:  # noqa: BLE001 - a forked process must not go on as its parent
            os.write(2, traceback.format_exc().encode())
        finally:
            os._exit(status)


def test_add_and_del_of_the_go_client_byte_for_byte(in_lab: InLab) -> None:
    def run(scratch: Path) -> list[bytes]:
        agent = RunningAgent(scratch, 1).start()
        agent.settle("free")
        netns = str(scratch / "n1")
        kernel.create_netns(Path(netns), accept_dad=False)
        return [exchange(agent.socket, go_request(method, "ns/pod", "c1", netns)) for method in ("POST", "DELETE")]

    added, deleted = in_lab(run)
    (eni,) = topology.enis(1)
    head, _, body = added.partition(b"\r\n\r\n")
    answer = json.loads(body)
    assert head == (
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\nConnection: keep-alive" % len(body)
    )
    assert answer["address"] == {"ipv4": eni.ipv4, "ipv6": eni.ipv6}
    assert answer["ipv4"]["master-mac"] == eni.mac
    assert answer["ipv4"]["cidrs"] == [eni.subnet.cidr4]
    assert int(answer["ipv4"]["interface-number"]) > 0
    assert deleted == b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: keep-alive\r\n\r\n"


@pytest.mark.parametrize(
    ("request_text", "status", "content_type"),
    [
        ("GET /v1/healthz HTTP/1.1\r\n", 200, ""),
        ("GET /v1/enis HTTP/1.1\r\n", 404, "application/json"),
        ("PUT /v1/eni HTTP/1.1\r\n", 405, "application/json"),
        ("POST /v1/eni?owner=n%2Fp&containerID=c HTTP/1.1\r\nAccept: text/html\r\n", 406, "application/json"),
        ("POST /v1/eni HTTP/1.1\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\n{}", 415, "application/json"),
        (
            "POST /v1/eni HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: 1\r\n\r\n{",
            400,
            "application/json",
        ),
        ("BREW\r\n", 400, "application/json"),
    ],
)
def test_what_the_framework_answers(in_lab: InLab, request_text: str, status: int, content_type: str) -> None:
    text = request_text if "\r\n\r\n" in request_text else request_text + "\r\n"
    answer = in_lab(lambda scratch: exchange(RunningAgent(scratch, 1).start().socket, text.encode()))
    reply = wire.decode_reply(answer, closed=True)
    assert reply is not None
    assert (reply.status, reply.content_type) == (status, content_type)
    if status >= 400:
        fault = json.loads(reply.body)
        assert (fault["code"], type(fault["message"]), len(fault)) == (status, str, 2)


def test_metrics_are_what_clients_were_told(in_lab: InLab, figures: Callable[[bytes], dict[str, float]]) -> None:
    def run(scratch: Path) -> tuple[list[int], wire.Reply | None, int, int]:
        agent = RunningAgent(scratch, 2).start()
        agent.settle("free", "free")
        statuses = [agent.ask("POST", f"default/p{number}", f"c{number}").status for number in range(3)]
        statuses.append(agent.ask("DELETE", "default/p0", "c0").status)
        agent.settle("free", "in_use")
        answer = exchange(agent.socket, b"GET /v1/x-enim/metrics HTTP/1.1\r\nAccept: text/plain\r\n\r\n")
        size = sum(one.stat().st_size for one in scratch.glob("state.db*"))
        agent.end(signal.SIGKILL)
        with contextlib.closing(store.Journal(scratch / "state.db")) as journal:
            return statuses, wire.decode_reply(answer, closed=True), size, len(journal.read())

    statuses, reply, size, length = in_lab(run)
    assert reply is not None
    assert (statuses, reply.status, reply.content_type) == ([200, 200, 500, 200], 200, "text/plain; version=0.0.4")
    found = figures(reply.body)
    told = {
        'enis{state="free"}': 1,
        'enis{state="in_use"}': 1,
        "allocations_total": 2,
        "releases_total": 1,
        'refusals_total{reason="no_free_eni"}': 1,
        'requests_total{method="POST",path="/v1/eni",status="200"}': 2,
        'requests_total{method="POST",path="/v1/eni",status="500"}': 1,
        'requests_total{method="DELETE",path="/v1/eni",status="200"}': 1,
        'request_duration_seconds_count{method="POST",path="/v1/eni"}': 3,
        "journal_entries": length,
        "journal_size_bytes": size,
    }
    assert {key: found[f"enim_agent_{key}"] for key in told} == told


def test_200_pods_at_once_over_8_enis_get_each_one_once(in_lab: InLab) -> None:
    def run(scratch: Path) -> list[wire.Reply]:
        agent = RunningAgent(scratch, 8).start()
        assert agent.settle(*["free"] * 8) == ["free"] * 8
        with ThreadPoolExecutor(200) as clients:
            return list(clients.map(lambda number: agent.ask("POST", f"default/p{number}", f"c{number}"), range(200)))

    replies = in_lab(run)
    granted = [wire.parse_allocation(reply.body) for reply in replies if reply.status == 200]
    assert sorted(one.mac for one in granted) == sorted(eni.mac for eni in topology.enis(8))
    assert len({one.ifindex for one in granted}) == 8
    refused = {(reply.status, reply.body) for reply in replies if reply.status != 200}
    assert refused == {(500, b'"no available ENI to be allocated"\n')}


def test_what_was_acknowledged_outlives_any_number_of_kills(in_lab: InLab) -> None:
    def run(scratch: Path) -> list[list[tuple[str, str]]]:
        agent = RunningAgent(scratch, 4)
        seen = []
        for number in range(4):
            agent.start()
            agent.settle(*["in_use"] * number, *["free"] * (4 - number))
            assert agent.ask("POST", f"default/p{number}", f"c{number}").status == 200
            agent.end(signal.SIGKILL)
            agent.start()
            seen.append(
                [(record["owner"], record["eni"]["mac"]) for record in agent.state()["records"] if record["owner"]]
            )
            agent.end(signal.SIGKILL)
        return seen

    seen = in_lab(run)
    assert [owner for owner, _ in seen[-1]] == [f"default/p{number}" for number in range(4)]
    assert all(later[: len(earlier)] == earlier for earlier, later in itertools.pairwise(seen))


def test_kill_under_load_gives_no_eni_twice_and_loses_none(in_lab: InLab) -> None:
    """Pods with an odd number are deleted at once. The agent dies when five ADDs have been acknowledged."""
    added = threading.Semaphore(0)
    granted: dict[str, str] = {}
    deleted: list[str] = []

    def live(agent: RunningAgent, number: int) -> None:
        with contextlib.suppress(OSError, errors.WireError):  # the agent died before it answered
            reply = agent.ask("POST", f"default/p{number}", f"c{number}")
            if reply.status != 200:
                return
            granted[f"c{number}"] = wire.parse_allocation(reply.body).mac
            added.release()
            if number % 2 and agent.ask("DELETE", f"default/p{number}", f"c{number}").status == 200:
                deleted.append(f"c{number}")

    def run(scratch: Path) -> dict[str, Any]:
        agent = RunningAgent(scratch, 8).start()
        agent.settle(*["free"] * 8)
        with ThreadPoolExecutor(16) as clients:
            lives = [clients.submit(live, agent, number) for number in range(64)]
            in_time = [added.acquire(timeout=PATIENCE_S) for _ in range(5)]
            agent.end(signal.SIGKILL)
            for one in lives:
                one.result()
        records = agent.start().state()["records"]
        held = {
            record["attachment"]["container_id"]: record["eni"]["mac"] for record in records if record["attachment"]
        }
        statuses = {agent.ask("DELETE", f"default/p{number}", f"c{number}").status for number in range(64)}
        ended = agent.settle(*["free"] * 8)
        return {"in_time": in_time, "granted": granted, "deleted": deleted, "held": held, "end": (statuses, ended)}

    seen = in_lab(run)
    kept = {container: mac for container, mac in seen["granted"].items() if int(container[1:]) % 2 == 0}
    assert seen["in_time"] == [True] * 5
    assert len(set(kept.values())) == len(kept)
    assert kept.items() <= seen["held"].items()
    assert set(seen["deleted"]).isdisjoint(seen["held"])
    assert len(set(seen["held"].values())) == len(seen["held"])
    assert seen["end"] == ({200}, ["free"] * 8)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_ends_it_cleanly(in_lab: InLab, number: signal.Signals) -> None:
    def run(scratch: Path) -> list[Any]:
        agent = RunningAgent(scratch, 1).start()
        agent.settle("free")
        idle = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        idle.connect(str(agent.socket))
        agent.ask("POST", "default/p", "c1")
        began = time.monotonic()
        status = agent.end(number)
        took_s = time.monotonic() - began
        left = sorted(path.name for path in (scratch / "run").iterdir())
        stdout, stderr = agent.said("stdout"), agent.said()
        return [status, took_s < 1.5, left, agent.control.exists(), stdout, stderr, agent.start().settle("in_use")]

    status, is_quick, left, control_left, stdout, stderr, states = in_lab(run)
    assert (status, is_quick, left, control_left, stdout, states) == (0, True, [], False, "", ["in_use"])
    assert "POST default/p c1 200" in stderr
    assert "Traceback" not in stderr


def test_second_agent_on_the_socket_or_the_state_is_refused_and_the_first_goes_on(in_lab: InLab) -> None:
    def run(scratch: Path) -> list[Any]:
        first = RunningAgent(scratch, 1).start()
        first.settle("free")
        said = []
        (scratch / "b").mkdir()
        other_socket, other_state = RunningAgent(scratch, 1), RunningAgent(scratch / "b", 1)
        other_socket.socket = scratch / "other.sock"
        other_state.socket = first.socket
        for second in (other_socket, other_state):
            with pytest.raises(LabError) as refused:
                second.start()
            said.append(refused.value.cause)
        return [*said, (scratch / "b" / "control.sock").exists(), first.ask("POST", "default/p", "c1").status]

    same_state, same_socket, control_left, status = in_lab(run)
    assert same_state.startswith(f"status {LAB_ERROR_STATUS}: ")
    assert "Another agent uses the state file" in same_state
    assert same_socket.startswith(f"status {LAB_ERROR_STATUS}: Another agent serves")
    assert (control_left, status) == (False, 200)


def test_clock_that_was_advanced_stays_so_over_a_kill(in_lab: InLab) -> None:
    def run(scratch: Path) -> list[int]:
        agent = RunningAgent(scratch, 1).start()
        clocks = [agent.state()["clock_ms"]]
        exchange(agent.control, b"POST /clock?advance_ms=3600000 HTTP/1.1\r\n\r\n")
        clocks.append(agent.state()["clock_ms"])
        agent.end(signal.SIGKILL)
        return [*clocks, agent.start().state()["clock_ms"]]

    before, advanced, after = in_lab(run)
    assert 3_600_000 <= advanced - before < 3_610_000
    assert advanced <= after < advanced + 10_000


def test_state_file_that_is_taken_away_fails_adds_with_a_retry_and_grants_nothing(in_lab: InLab) -> None:
    def run(scratch: Path) -> tuple[wire.Reply, list[str], int]:
        agent = RunningAgent(scratch, 1).start()
        agent.settle("free")
        (scratch / "state.db").rename(scratch / "elsewhere.db")
        reply = agent.ask("POST", "default/p", "c1")
        owners = [record["owner"] for record in agent.state()["records"]]
        (scratch / "elsewhere.db").rename(scratch / "state.db")
        return reply, owners, agent.ask("POST", "default/p", "c2").status

    reply, owners, later = in_lab(run)
    assert reply.status == 500
    assert json.loads(reply.body).endswith("please retry")
    assert (owners, later) == ([""], 200)


def test_client_that_left_got_its_eni_all_the_same_and_its_del_gives_it_back(in_lab: InLab) -> None:
    def run(scratch: Path) -> list[Any]:
        agent = RunningAgent(scratch, 1).start()
        agent.settle("free")
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            client.connect(str(agent.socket))
            client.sendall(go_request("POST", "default/p", "c1"))
        taken = agent.settle("in_use")
        return [taken, agent.ask("DELETE", "default/p", "c1").status, agent.settle("free")]

    assert in_lab(run) == [["in_use"], 200, ["free"]]


@pytest.mark.parametrize(
    ("bug", "is_the_end"), [(InvariantBroken("two owners"), True), (AssertionError(), True), (KeyError("netns"), False)]
)
def test_broken_invariant_ends_the_process_after_its_client_was_told(bug: Exception, *, is_the_end: bool) -> None:
    def handle(request: wire.Request) -> wire.Reply:
        raise bug

    ended: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()
    client, accepted = socket.socketpair()
    with client, accepted:
        client.sendall(go_request("POST", "default/p", "c1"))
        client.shutdown(socket.SHUT_WR)
        server._serve(handle, lambda *_: None, ended, accepted, 0.0)
        assert client.recv(65536).startswith(b"HTTP/1.1 500 Internal Server Error\r\nContent-Type: text/plain\r\n")
    assert ended.empty() is not is_the_end
