from __future__ import annotations

import contextlib
import gc
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from simulator.errors import LabError
from simulator.lab import namespaces

PATIENCE_S = 5.0
ROOT = Path(__file__).parents[4]
SEED = 20
KILLS_DURING_START = 24


def serve_for_ever(channel: socket.socket, _scratch: Path) -> None:
    channel.sendall(b"up\n")
    while channel.recv(1):
        pass
    signal.pause()  # only the leash ends it


def outside() -> tuple[str, list[tuple[int, str]]]:
    return Path("/proc/self/mountinfo").read_text(), socket.if_nameindex()


@contextlib.contextmanager
def lab_of(entry: namespaces.Entry) -> Iterator[namespaces.LabProcess]:
    lab = namespaces.start(entry)
    try:
        yield lab
    finally:
        lab.close()


def processes_at(directory: Path) -> list[int]:
    """Who has this working directory: a test's mark on a process and on all that it forks, in any namespace."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (process / "cwd").samefile(directory):
                found.append(int(process.name))
    return sorted(found)


def namespace_of(pid: int, kind: str) -> int:
    return Path(f"/proc/{pid}/ns/{kind}").stat().st_ino


def processes_in(inode: int, kind: str) -> list[int]:
    """Who lives in that namespace; not the dead that nobody has waited for yet."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            is_dead = (process / "stat").read_text().rpartition(")")[2].split()[0] in "ZX"
            if not is_dead and namespace_of(int(process.name), kind) == inode:
                found.append(int(process.name))
    return found


def wait_until(true: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + PATIENCE_S
    while not true():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True


# What is inside


def test_lab_is_root_of_its_own_world(in_lab: Callable[..., Any]) -> None:
    def look(scratch: Path) -> dict[str, Any]:
        return {
            "uid": os.geteuid(),
            "may make namespaces": namespaces.has_cap_sys_admin(),
            "first process": Path("/proc/1/stat").read_text().split()[0],
            "processes": sorted(int(process.name) for process in Path("/proc").glob("[0-9]*")),
            "own pid": os.getpid(),
            "links": socket.if_nameindex(),
            "scratch": sorted(scratch.iterdir()),
            "scratch is a tmpfs": f" {scratch} rw,nosuid,nodev" in Path("/proc/self/mountinfo").read_text(),
        }

    seen = in_lab(look)
    assert seen == {
        "uid": 0,
        "may make namespaces": True,
        "first process": "1",
        "processes": [1, 2],
        "own pid": 2,
        "links": [(1, "lo")],
        "scratch": [],
        "scratch is a tmpfs": True,
    }


def test_lo_is_up_and_the_network_is_not_the_outer_one(in_lab: Callable[..., Any]) -> None:
    def talk_to_oneself(_scratch: Path) -> tuple[bytes, int]:
        with socket.socket() as listener, socket.socket() as client:
            listener.bind(("127.0.0.1", 0))
            listener.listen()
            client.connect(listener.getsockname())
            server, _ = listener.accept()
            with server:
                client.sendall(b"hello")
                return server.recv(5), Path("/proc/self/ns/net").stat().st_ino

    said, netns = in_lab(talk_to_oneself)
    assert said == b"hello"
    assert netns != Path("/proc/self/ns/net").stat().st_ino


def test_lab_inherits_no_files_but_the_channel(tmp_path: Path) -> None:
    def tell_files(channel: socket.socket, _scratch: Path) -> None:
        files = {int(file.name) for file in Path("/proc/self/fd").iterdir() if file.exists()}  # but the listing itself
        stdin = Path("/proc/self/fd/0").readlink()
        channel.sendall(f"{sorted(files - {channel.fileno()})} {stdin} {os.read(0, 1)!r}".encode())

    with (tmp_path / "file").open("w") as file:
        os.set_inheritable(file.fileno(), True)
        with lab_of(tell_files) as lab:
            assert lab.channel.recv(1000).decode() == "[0, 1, 2] /dev/null b''"


def test_runner_s_garbage_closes_no_file_of_the_lab() -> None:
    """A file object that is collected after the fork would close whatever has got its number since."""

    def open_and_collect(channel: socket.socket, _scratch: Path) -> None:
        opened = [os.open("/dev/null", os.O_RDONLY) for _ in range(50)]
        gc.collect()
        channel.sendall(f"{[fd for fd in opened if not Path(f'/proc/self/fd/{fd}').exists()]}".encode())

    gc.disable()
    try:
        garbage: list[Any] = [socket.socketpair() for _ in range(5)]
        garbage.append(garbage)
        del garbage
        with lab_of(open_and_collect) as lab:
            assert lab.channel.recv(1000) == b"[]"
    finally:
        with pytest.warns(ResourceWarning):
            gc.collect()
        gc.enable()


def test_signals_of_the_terminal_do_not_reach_the_lab() -> None:
    with lab_of(serve_for_ever) as lab:
        assert os.getsid(lab.pid) == lab.pid
        assert os.getsid(lab.init_pid) == lab.pid


def test_orphans_are_adopted_and_reaped(in_lab: Callable[..., Any]) -> None:
    def leave_an_orphan(_scratch: Path) -> list[str]:
        if os.fork() == 0:
            if os.fork() == 0:
                time.sleep(0.05)
            os._exit(0)
        os.wait()
        wait_until(lambda: len(list(Path("/proc").glob("[0-9]*"))) == 2)
        return sorted(process.name for process in Path("/proc").glob("[0-9]*"))

    assert in_lab(leave_an_orphan) == ["1", "2"]


# What is outside


def test_nothing_outside_changes() -> None:
    before = outside()
    with lab_of(serve_for_ever) as lab:
        lab.channel.recv(3)
        during = outside()
    assert (during, outside()) == (before, before)


def test_close_leaves_no_process_and_can_be_repeated() -> None:
    lab = namespaces.start(serve_for_ever)
    lab.channel.recv(3)
    pids, netns = namespace_of(lab.init_pid, "pid"), namespace_of(lab.init_pid, "net")
    assert len(processes_in(pids, "pid")) == 2
    lab.close()
    lab.close()
    assert (processes_in(pids, "pid"), processes_in(netns, "net")) == ([], [])


def test_two_labs_at_once_are_strangers_and_the_first_can_end_first() -> None:
    with lab_of(serve_for_ever) as first, lab_of(serve_for_ever) as second:
        second.channel.recv(3)
        assert namespace_of(first.init_pid, "net") != namespace_of(second.init_pid, "net")
        began = time.monotonic()
        first.close()
        assert time.monotonic() - began < 2  # the second lab does not hold the first one's leash
        assert len(processes_in(namespace_of(second.init_pid, "pid"), "pid")) == 2


def test_lab_ends_when_its_entry_returns() -> None:
    with lab_of(lambda channel, _scratch: channel.sendall(b"done")) as lab:
        assert lab.channel.recv(10) == b"done"
        assert lab.channel.recv(10) == b""
        assert wait_until(lambda: not Path(f"/proc/{lab.init_pid}").exists())


def test_entry_that_raises_ends_the_lab_and_shows_why(capfd: pytest.CaptureFixture[str]) -> None:
    def fail(_channel: socket.socket, _scratch: Path) -> None:
        raise ValueError("no such thing")

    with lab_of(fail) as lab:
        assert lab.channel.recv(10) == b""
    assert capfd.readouterr().err.endswith("ValueError: no such thing\n")


# When it cannot be made

TRY_TO_START = """
from simulator.errors import LabError
from simulator.lab import namespaces
try:
    namespaces.start(lambda channel, scratch: None).close()
except LabError as error:
    print(error.cause, error.cure, sep="|")
"""


@pytest.mark.parametrize(("limit", "drop"), [("max_user_namespaces", "-all"), ("max_net_namespaces", "+all")])
def test_used_up_limit_is_named_with_its_cure(limit: str, drop: str) -> None:
    confine = f'echo 0 > /proc/sys/user/{limit} && exec setpriv --bounding-set={drop} "$0" -c "$1"'
    ran = subprocess.run(
        ["unshare", "--user", "--map-root-user", "sh", "-c", confine, sys.executable, TRY_TO_START],
        check=False,
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    cause, _, cure = ran.stdout.strip().partition("|")
    assert (ran.returncode, ran.stderr) == (0, "")
    assert cause == "the kernel refuses user, mount, pid and network namespaces: No space left on device"
    assert cure.startswith("Raise the limits: sudo sysctl -w user.max_user_namespaces=")


def test_lab_without_a_place_for_its_files_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(namespaces, "_SCRATCH_ROOTS", (str(tmp_path / "missing"),))
    with pytest.raises(LabError, match=r"needs a directory .*Make one of"):
        namespaces.start(serve_for_ever)


@pytest.mark.parametrize("named_by", ["CNI_PATH", "XDG_CACHE_HOME", "HOME"])
def test_files_of_the_lab_hide_no_plugin(named_by: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("mnt/cni", "srv"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "mnt/cni")
    monkeypatch.setattr(namespaces, "_SCRATCH_ROOTS", (str(tmp_path / "mnt"), str(tmp_path / "srv")))
    monkeypatch.delenv("CNI_PATH", raising=False)
    assert namespaces._scratch_root() == tmp_path / "mnt"
    for place in ("mnt/cni", "link"):
        monkeypatch.setenv(named_by, str(tmp_path / place))
        assert namespaces._scratch_root() == tmp_path / "srv"
    monkeypatch.delenv(named_by)
    assert namespaces._scratch_root(tmp_path / "link") == tmp_path / "srv"


def test_lab_starts_in_a_working_directory_that_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    namespaces.start(lambda channel, _scratch: None).close()


# SIGKILL


def be_runner(directory: Path, told: int) -> None:
    """A runner's life, in a forked process that a test can kill: start a lab, tell its pids, wait, close it."""
    try:
        os.chdir(directory)
        lab = namespaces.start(serve_for_ever)
        lab.channel.recv(3)
        os.write(told, f"{lab.pid} {lab.init_pid}\n".encode())
        while lab.channel.recv(1):
            pass
        lab.close()
        os.write(told, b"closed\n")
    except LabError:
        os.write(told, b"refused\n")
    finally:
        os._exit(0)


@contextlib.contextmanager
def runner_at(directory: Path) -> Iterator[tuple[int, Any]]:
    """A runner whose processes all have ``directory`` as their working directory; its pid and what it tells."""
    told, tell = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(told)
        be_runner(directory, tell)
    os.close(tell)
    with os.fdopen(told) as lines:
        yield pid, lines
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


@pytest.mark.parametrize("victim", ["runner", "intermediate", "pid 1"])
def test_kill_of_any_one_process_leaves_nothing(tmp_path: Path, victim: str) -> None:
    before = outside()
    with runner_at(tmp_path) as (runner, lines):
        intermediate, init = map(int, lines.readline().split())
        netns = namespace_of(init, "net")
        assert len(processes_at(tmp_path)) == 4
        os.kill({"runner": runner, "intermediate": intermediate, "pid 1": init}[victim], signal.SIGKILL)
        if victim == "intermediate":
            os.kill(runner, signal.SIGTERM)  # the lab itself goes on, until its runner ends
        assert wait_until(lambda: set(processes_at(tmp_path)) <= {runner})
        assert wait_until(lambda: set(processes_in(netns, "net")) == set())
    assert outside() == before


def test_close_waits_for_a_lab_whose_intermediate_was_killed() -> None:
    lab = namespaces.start(serve_for_ever)
    lab.channel.recv(3)
    pids = namespace_of(lab.init_pid, "pid")
    os.kill(lab.pid, signal.SIGKILL)
    lab.close()
    assert processes_in(pids, "pid") == []


def test_kill_of_any_one_process_during_the_start_leaves_nothing(tmp_path: Path) -> None:
    before = outside()
    chance = random.Random(SEED)
    for number in range(KILLS_DURING_START):
        directory = tmp_path / str(number)
        directory.mkdir()
        with runner_at(directory) as (runner, lines):
            time.sleep(chance.uniform(0, 0.012))
            victims = processes_at(directory) or [runner]
            victim = victims[chance.randrange(len(victims))]
            with contextlib.suppress(ProcessLookupError):
                os.kill(victim, signal.SIGKILL)
            if victim == runner:
                assert wait_until(lambda directory=directory: processes_at(directory) == []), f"kill {number}"
            else:
                said = lines.readline()  # the runner gets an answer, whichever
                assert said != "" or processes_at(directory) == [], f"kill {number}"
        assert wait_until(lambda directory=directory: processes_at(directory) == []), f"kill {number}"
    assert outside() == before
