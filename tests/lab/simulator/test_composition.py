"""SIGKILL of any one process of a run, at a random moment, leaves nothing behind.

ENIM_KILLS says how often (20 for a release). Without it: six times, and the agent only where no plugin waits for it to
come back (DEL does for 25 s).
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
SEED = 2026
IS_THOROUGH = "ENIM_KILLS" in os.environ
KILLS = int(os.environ.get("ENIM_KILLS", "6"))
VICTIMS = ("runner", "pid 1", "agent", "worker", "intermediate") if IS_THOROUGH else ("runner", "pid 1", "worker")
STATUSES = {  # what the scenarios themselves come to is not at stake here: 0 or 1
    "runner": {-signal.SIGKILL},
    "worker": {3},
    "pid 1": {0, 1, 3},  # 3: the lab is gone, or could not be started
    "intermediate": {0, 1, 3},
    "agent": {0, 1},
    "nobody": {0, 1},
}
MARK = "ENIM_TEST_RUN"
PATIENCE_S = 10.0
RUN_S_MAX = 100.0
MOMENT_S_MAX = 2.5 if IS_THOROUGH else 1.5  # the run takes a little longer
SCENARIO = """
name: nobody-waits-for-the-agent
summary: A pod that only uses its ENI.
node: {enis: 1}
chain: exclusive-device
steps:
  - add: {pod: default/web-0, container: c1}
"""


@dataclass(frozen=True, slots=True)
class Process:
    """One that carries the mark. ``pids``: in every pid namespace from here to its own."""

    parent: int
    pids: tuple[int, ...]
    threads: int
    command: bytes


def marked(mark: str) -> Iterator[Process]:
    """The living processes with the mark in their environment, which a fork and an exec hand on."""
    for directory in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, KeyError):
            if f"{MARK}={mark}\0".encode() in (directory / "environ").read_bytes():
                status = dict(line.split(":\t", 1) for line in (directory / "status").read_text().splitlines())
                if status["State"][0] not in "ZX":
                    pids = tuple(map(int, status["NSpid"].split()))
                    command = (directory / "cmdline").read_bytes()
                    yield Process(int(status["PPid"]), pids, int(status["Threads"]), command)


def find(victim: str, runner: int, mark: str) -> list[int]:
    """The pids of such processes of the run at this moment.

    The tree: runner → worker (runs scenarios) → intermediate → pid 1 of a lab → its second process → agent.
    """
    processes = {process.pids[0]: process for process in marked(mark)}
    if victim == "runner" or runner not in processes:
        return [runner]
    depth = len(processes[runner].pids)
    inits = [pid for pid, one in processes.items() if len(one.pids) > depth and one.pids[-1] == 1]
    nodes = [pid for pid, one in processes.items() if one.parent in inits and one.pids[-1] == 2]
    program = processes[runner].command  # an agent is forked, a plugin is another program
    agents = [p for p, one in processes.items() if one.parent in nodes and one.command == program and one.threads > 1]
    intermediates = [processes[pid].parent for pid in inits]
    workers = [processes[pid].parent for pid in intermediates if pid in processes]
    found = {"pid 1": inits, "agent": agents, "intermediate": intermediates, "worker": workers}
    return sorted(pid for pid in found[victim] if pid in processes and pid != runner)


def outside() -> dict[str, object]:
    """What a run must not change: mounts, links, names of namespaces and of abstract sockets."""
    named = Path("/run/netns")
    return {
        "mounts": Path("/proc/self/mountinfo").read_text(),
        "links": socket.if_nameindex(),
        "netns": sorted(named.iterdir()) if named.is_dir() else [],
        "sockets": [line for line in Path("/proc/net/unix").read_text().splitlines() if "@enim" in line],
    }


def wait_until(true: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + PATIENCE_S
    while not true():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def start(mark: str, temporary: Path, *arguments: str) -> subprocess.Popen[bytes]:
    """A run whose processes carry the mark; its output is in ``output`` beside its files."""
    temporary.mkdir()
    environment = {**os.environ, MARK: mark, "TMPDIR": str(temporary), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "simulator", "run", "--lab", "userns", *arguments]
    with temporary.with_name("output").open("wb") as output:
        return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=output, stderr=output)


def kill_one(victim: str, run: subprocess.Popen[bytes], mark: str, chance: random.Random) -> bool:
    """Kill such a process, now or as soon as there is one. False if the run ended before."""
    while run.poll() is None:
        with contextlib.suppress(IndexError, ProcessLookupError):
            os.kill(chance.choice(find(victim, run.pid, mark)), signal.SIGKILL)
            return True
    return False


def check_nothing_is_left(mark: str, temporary: Path, before: dict[str, object], told: str) -> None:
    assert wait_until(lambda: not list(marked(mark))), f"{list(marked(mark))} after {told}"
    assert outside() == before, told
    assert list(temporary.iterdir()) == [], told


@pytest.mark.timeout(RUN_S_MAX + 20)
@pytest.mark.parametrize("number", range(KILLS))
def test_kill_at_a_random_moment_leaves_nothing(tmp_path: Path, number: int) -> None:
    victim = VICTIMS[number % len(VICTIMS)]
    chance = random.Random(f"{SEED} {number}")
    moment_s = chance.uniform(0, MOMENT_S_MAX)
    mark, temporary, before = f"{os.getpid()}-{number}", tmp_path / "temporary", outside()
    run = start(mark, temporary, "scenarios/leak")
    try:
        time.sleep(moment_s)
        was_there = kill_one(victim, run, mark, chance)
        status = run.wait(RUN_S_MAX)
    finally:
        run.kill()
        run.wait()
    output = (tmp_path / "output").read_text()
    told = f"{victim} {moment_s:.3f} s after the start: status {status}\n{output}"
    check_nothing_is_left(mark, temporary, before, told)
    died_at_its_start = victim == "agent" and status == 3 and "the agent did not start" in output
    assert status in STATUSES[victim if was_there else "nobody"] or died_at_its_start, told


def runs_a_plugin(mark: str) -> bool:
    return any(b"/exclusive-device" in process.command for process in marked(mark))


def test_run_whose_agent_is_killed_says_that_it_failed(tmp_path: Path) -> None:
    echoes = "  - echo: {container: c1}\n" * 500
    (tmp_path / "scenario.yaml").write_text(SCENARIO + echoes)
    mark, temporary, before = f"{os.getpid()}-echo", tmp_path / "temporary", outside()
    run = start(mark, temporary, "-v", str(tmp_path / "scenario.yaml"))
    try:
        for is_running in (True, False):
            assert wait_until(lambda wanted=is_running: runs_a_plugin(mark) == wanted)
        assert kill_one("agent", run, mark, random.Random(SEED))
        status = run.wait(RUN_S_MAX)
    finally:
        run.kill()
        run.wait()
    output = (tmp_path / "output").read_text()
    check_nothing_is_left(mark, temporary, before, output)
    assert (status, "does not run" in output) == (1, True), output


@pytest.mark.parametrize("asked", [signal.SIGINT, signal.SIGTERM])
def test_run_that_is_told_to_end_leaves_nothing(tmp_path: Path, asked: signal.Signals) -> None:
    mark, temporary, before = f"{os.getpid()}-{asked.name}", tmp_path / "temporary", outside()
    run = start(mark, temporary, "scenarios/leak")
    try:
        assert wait_until(lambda: bool(find("agent", run.pid, mark)))
        run.send_signal(asked)
        assert run.wait(PATIENCE_S) != 0
    finally:
        run.kill()
        run.wait()
    check_nothing_is_left(mark, temporary, before, asked.name)
