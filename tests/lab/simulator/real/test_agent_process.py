"""The agent as a process of a node: started, killed, started later, dead at a failpoint and back. Each test runs in a
lab.
"""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from enim import effects, errors, transport, wire
from simulator import topology
from simulator.agent import compaction, pool
from simulator.errors import LabError, WorldFault
from simulator.real import agent_process, store

ATTACHMENT = {"network": "podnet", "container_id": "c1", "ifname": "eth0"}
ADD = (("owner", "default/web-0"), ("containerID", "c1"), ("ifname", "eth0"))


def ask(socket: Path, method: str, path: str, query: tuple[tuple[str, str], ...] = ()) -> wire.Reply:
    return transport.round_trip(effects.Request(str(socket), wire.Request(method, path, query), 5_000))


def ask_when_up(socket: Path, method: str, path: str, query: tuple[tuple[str, str], ...] = ()) -> wire.Reply:
    deadline = time.monotonic() + 5
    while True:
        try:
            return ask(socket, method, path, query)
        except (errors.Unreachable, errors.Interrupted):
            assert time.monotonic() < deadline
            time.sleep(0.01)


def started(scratch: Path, enis: int = 1) -> agent_process.AgentProcess:
    agent = agent_process.AgentProcess(scratch, enis)
    agent.start()
    return agent


def start_and_kill(scratch: Path) -> list[Any]:
    agent = started(scratch)
    healthy = ask(agent.socket, "GET", "/v1/healthz").status
    pid = agent.pid
    agent.kill()
    return [healthy, pid > 0, agent.pid, Path(f"/proc/{pid}").exists()]


def test_agent_serves_when_start_returns_and_is_gone_when_kill_does(in_lab: Callable[..., Any]) -> None:
    assert in_lab(start_and_kill) == [200, True, 0, False]


def start_later(scratch: Path) -> list[Any]:
    agent = agent_process.AgentProcess(scratch, 1)
    began = time.monotonic()
    agent.start(after_ms=150)
    returned_ms = (time.monotonic() - began) * 1000
    status = ask_when_up(agent.socket, "GET", "/v1/healthz").status
    up_ms = (time.monotonic() - began) * 1000
    agent.kill()
    return [returned_ms < 150 <= up_ms, status]


def test_agent_that_starts_later_does_not_keep_the_caller_waiting(in_lab: Callable[..., Any]) -> None:
    assert in_lab(start_later) == [True, 200]


def crash(scratch: Path, failpoint: str) -> list[Any]:
    agent = started(scratch)
    first = agent.pid
    assert ask(agent.control, "POST", "/crash", (("at", failpoint),)).status == 200
    agent.keep_reserve(back_after_ms=20)
    deadline = time.monotonic() + 5
    while True:  # until the ENI has been seen at home
        try:
            reply = ask(agent.socket, "POST", "/v1/eni", ADD)
        except errors.Interrupted:
            break
        assert (reply.status, time.monotonic() < deadline) == (500, True)
    state = ask_when_up(agent.control, "GET", "/state").body
    return [agent.pid not in (0, first), b'"in_use"' in state]


@pytest.mark.parametrize(("failpoint", "is_in_use"), [("add.A1", False), ("add.A2", False), ("add.reply", True)])
def test_agent_dies_at_its_failpoint_and_the_reserve_finds_what_was_durable(
    in_lab: Callable[..., Any], failpoint: str, is_in_use: bool
) -> None:
    def run(scratch: Path) -> list[Any]:
        return crash(scratch, failpoint)

    assert in_lab(run) == [True, is_in_use]


def kill_with_reserve(scratch: Path) -> list[int]:
    agent = started(scratch)
    agent.keep_reserve(back_after_ms=0)
    agent.kill()
    time.sleep(0.05)
    children = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()
    return [agent.pid, len(children)]


def test_kill_ends_the_reserve_too(in_lab: Callable[..., Any]) -> None:
    assert in_lab(kill_with_reserve) == [0, 0]


def refuse(scratch: Path) -> list[str]:
    agent = agent_process.AgentProcess(scratch, 1)
    said = []
    for action in (agent.kill, lambda: agent.keep_reserve(10), lambda: (agent.start(), agent.start())):
        try:
            action()
        except WorldFault as fault:
            said.append(str(fault))
    (scratch / "other").mkdir()
    (scratch / "other" / "state.db").write_text("this is no database, and longer than a header of one would be" * 3)
    try:
        agent_process.AgentProcess(scratch / "other", 1).start()
    except LabError as error:
        said.append(str(error))
    return said


def start_on_a_journal_of_another(scratch: Path) -> str:
    journal = store.Journal(scratch / "state.db")
    journal.append([{"eni": "one", "kind": "invented", "at_ns": 1}])
    journal.close()
    try:
        started(scratch)
    except LabError as error:
        return str(error)
    return ""


def test_journal_whose_events_tell_no_state_is_refused_with_what_to_do(in_lab: Callable[..., Any]) -> None:
    said = in_lab(start_on_a_journal_of_another)
    assert "state.db is damaged: one: invented must not happen in state unknown. Move it away" in said
    assert "Traceback" not in said


def test_what_cannot_be_done_is_said(in_lab: Callable[..., Any]) -> None:
    no_kill, no_crash, runs, no_start = in_lab(refuse)
    assert no_kill == "agent.kill: the agent does not run"
    assert no_crash.startswith("agent.crash: the agent does not run")
    assert runs == "agent.start: the agent runs already"
    assert no_start.startswith("the agent did not start: ")
    assert "state.db" in no_start


def start_on_a_long_journal(scratch: Path) -> list[Any]:
    eni = topology.enis(1)[0].id
    discovered = pool.Pool.replay(topology.enis(1), []).unwritten
    in_use = [
        pool.event("freed", eni, 1, ifindex=2),
        pool.event("reserved", eni, 1, owner="default/web-0", netns="", ifindex=2, **ATTACHMENT),
        pool.event("acknowledged", eni, 1, identity=""),
    ]
    again = pool.event("repeated", eni, 2, netns="", identity="", ifindex=2)
    journal = store.Journal(scratch / "state.db")
    journal.append([*discovered, *in_use, *[again] * compaction.LENGTH_MAX])
    journal.close()
    agent = started(scratch)
    records = json.loads(ask(agent.control, "GET", "/state").body)["records"]
    agent.kill()
    journal = store.Journal(scratch / "state.db")
    (record,), events = records, journal.read()
    return [record["state"], record["attachment"], [one["kind"] for one in events[:2]], len(events)]


def test_journal_that_has_become_long_is_shorter_after_a_start(in_lab: Callable[..., Any]) -> None:
    assert in_lab(start_on_a_long_journal) == ["in_use", ATTACHMENT, ["snapshot", "repeated"], compaction.KEPT + 1]


def add_as_soon_as_it_serves(scratch: Path) -> list[int]:
    agent = started(scratch, enis=20)
    statuses = []
    for _ in range(5):
        agent.kill()
        agent.start()
        statuses.append(ask(agent.socket, "POST", "/v1/eni", ADD).status)
        ask(agent.socket, "DELETE", "/v1/eni", ADD)
    agent.kill()
    return statuses


def test_add_right_after_a_restart_gets_an_eni(in_lab: Callable[..., Any]) -> None:
    assert in_lab(add_as_soon_as_it_serves) == [200] * 5
