"""EDGE: the ``userns`` lab: a process tree in namespaces of its own, which an ordinary user can make, and which
always ends.

    runner ── intermediate ── pid 1 of the lab ── worker (runs ``entry``) ── everything else
                 leash            leash

The leash is a pipe whose one writing end the runner holds. The intermediate and pid 1 do nothing but wait for its end
of file or for their child's end; when pid 1 ends, the kernel kills whatever is left in the pid namespace, and the
mounts, network namespaces and files of the lab go with it. So SIGKILL of any one of them, at any moment, leaves
nothing behind. (PDEATHSIG alone does not do that: it follows the thread that forked, and is lost over an exec of a
set-uid program.)

Source: pid_namespaces(7), user_namespaces(7), mount_namespaces(7), pidfd_open(2).
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import select
import signal
import socket
import struct
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn, TypeAlias

from simulator import syscalls
from simulator.errors import LabError

Entry: TypeAlias = Callable[[socket.socket, Path], None]

_CAP_SYS_ADMIN = 1 << 21
_SCRATCH_ROOTS = ("/mnt", "/srv", "/media", "/run")
_REAP_INTERVAL_MS = 200
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 0x1


class LabProcess:
    """A lab that runs. ``channel`` is the runner's end of the control channel.

    Args:
        pid: the intermediate process, a child of the runner.
        init_pid: pid 1 of the lab, as the runner's pid namespace numbers it; 0 if it has none yet.
    """

    def __init__(self, pid: int, channel: socket.socket, leash: int) -> None:
        self.pid = pid
        self.init_pid = 0
        self.channel = channel
        self._leash = leash
        self._init = -1

    def born(self, init_pid: int) -> None:
        """Note pid 1 of the lab. It may be dead already."""
        self.init_pid = init_pid
        with contextlib.suppress(ProcessLookupError):
            self._init = os.pidfd_open(init_pid)

    def close(self, timeout_s: float = 5.0) -> None:
        """End the lab and wait until its processes are gone. Repeating it does nothing."""
        if not self.pid:
            return
        self.channel.close()
        os.close(self._leash)
        _end(self.pid, timeout_s)
        self.pid = 0
        if self._init >= 0:  # no child of ours, and still there if somebody killed the intermediate
            _end_stranger(self._init, timeout_s)
            os.close(self._init)


def start(entry: Entry, *needed: Path) -> LabProcess:
    """Start a lab in which ``entry(channel, scratch)`` runs.

    It runs as root of new mount, pid, network and IPC namespaces; of a user namespace too, unless the caller has
    CAP_SYS_ADMIN. ``lo`` is up, ``/proc`` is its own, ``scratch`` is an empty tmpfs. When ``entry`` returns, the lab
    ends.

    Args:
        entry: given the lab's end of the control channel, and the scratch directory.
        needed: what must be seen in the lab, and no scratch directory be mounted over.

    Raises:
        LabError: this machine does not allow it; the cause and the cure.
    """
    scratch = _scratch_root(*needed)
    sys.stdout.flush()
    sys.stderr.flush()
    channel, lab_channel = socket.socketpair()
    leash, leash_held = os.pipe()
    report, report_held = os.pipe()
    pid = _fork()
    if pid == 0:
        _in_child(report_held, lambda: _intermediate(entry, scratch, lab_channel, leash, report_held))
    lab_channel.close()
    os.close(leash)
    os.close(report_held)
    lab = LabProcess(pid, channel, leash_held)
    try:
        _await_ready(lab, report)
    except BaseException:
        lab.close()
        raise
    return lab


def _await_ready(lab: LabProcess, report: int) -> None:
    """Until the worker runs and pid 1 is known; they are told by two processes, so in any order."""
    is_ready = False
    with os.fdopen(report) as lines:
        for line in lines:
            told = json.loads(line)
            if "cause" in told:
                raise LabError(told["cause"], told["cure"])
            if "init" in told:
                lab.born(told["init"])
            is_ready = is_ready or "ready" in told
            if is_ready and lab.init_pid:
                return
    raise LabError("the lab ended while it started")


def _in_child(report: int, run: Callable[[], None]) -> NoReturn:
    """Run the life of a forked process. It never returns into its parent's code, whatever happens."""
    status = 1
    try:
        run()
        status = 0
    except LabError as error:
        _tell(report, {"cause": error.cause, "cure": error.cure})
    except BaseException:  # noqa: BLE001 - a forked process must not go on as its parent
        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):  # whoever read our output may be gone
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)


def _fork() -> int:
    try:
        return os.fork()
    except OSError as error:
        raise LabError(*_refused("another process", error)) from error


def _intermediate(entry: Entry, scratch: Path, channel: socket.socket, leash: int, report: int) -> None:
    _start_anew(channel.fileno(), leash, report)
    os.setsid()  # Ctrl-C in the runner's terminal is the runner's business
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    _enter_namespaces()
    pid = _fork()
    if pid == 0:
        _in_child(report, lambda: _init(entry, scratch, channel, leash, report))
    channel.close()
    _tell(report, {"init": pid})
    os.close(report)
    _wait_for_end(pid, leash)
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def _init(entry: Entry, scratch: Path, channel: socket.socket, leash: int, report: int) -> None:
    """Pid 1: makes the lab, starts the worker, adopts orphans, and takes everything with it when it ends."""
    _make_mounts(scratch)
    _bring_lo_up()
    pid = _fork()
    if pid == 0:
        os.close(leash)
        _in_child(report, lambda: _work(entry, scratch, channel, report))
    channel.close()
    os.close(report)
    _wait_for_end(pid, leash)


def _work(entry: Entry, scratch: Path, channel: socket.socket, report: int) -> None:
    _tell(report, {"ready": True})
    os.close(report)
    entry(channel, scratch)


def _wait_for_end(pid: int, leash: int) -> None:
    """Until the child has ended or the leash is cut; reaps the orphans that a pid 1 adopts meanwhile."""
    child = os.pidfd_open(pid)
    poll = select.poll()
    poll.register(child, select.POLLIN)
    poll.register(leash, select.POLLIN)
    while not poll.poll(_REAP_INTERVAL_MS):
        _reap_all_but(pid)


def _reap_all_but(pid: int) -> None:
    """Collect ended children, but leave ``pid`` itself to be waited for."""
    with contextlib.suppress(ChildProcessError):
        while (
            ended := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        ) is not None and ended.si_pid != pid:
            os.waitpid(ended.si_pid, 0)


def _enter_namespaces() -> None:
    kinds = syscalls.CLONE_NEWNS | syscalls.CLONE_NEWPID | syscalls.CLONE_NEWNET | syscalls.CLONE_NEWIPC
    uid, gid = os.geteuid(), os.getegid()
    rootless = not has_cap_sys_admin()
    try:
        syscalls.unshare(kinds | (syscalls.CLONE_NEWUSER if rootless else 0))
    except OSError as error:
        raise LabError(*_refused("user, mount, pid and network namespaces", error)) from error
    if not rootless:
        return
    try:
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"0 {uid} 1")
        Path("/proc/self/gid_map").write_text(f"0 {gid} 1")
    except OSError as error:
        raise LabError(*_refused("a user namespace with a root user", error)) from error


def _make_mounts(scratch: Path) -> None:
    flags = syscalls.MS_NOSUID | syscalls.MS_NODEV
    try:
        syscalls.mount("", "/", flags=syscalls.MS_REC | syscalls.MS_PRIVATE)
        syscalls.mount("proc", "/proc", "proc", flags | syscalls.MS_NOEXEC)
        syscalls.mount("enim", str(scratch), "tmpfs", flags, "mode=0755")
    except OSError as error:
        raise LabError(*_refused(str(error.filename or "a mount"), error)) from error


def _refused(what: str, error: OSError) -> tuple[str, str]:
    hint = "Run `enim-lab doctor`: it names what stands in the way"
    if error.errno == errno.ENOSPC:
        hint = "Raise the limits: sudo sysctl -w user.max_user_namespaces=10000 user.max_net_namespaces=10000"
    return f"the kernel refuses {what}: {error.strerror}", hint


def _bring_lo_up() -> None:
    """Source: netdevice(7), SIOCSIFFLAGS."""
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
            request = fcntl.ioctl(any_socket, _SIOCGIFFLAGS, struct.pack("16sH14x", b"lo", 0))
            (flags,) = struct.unpack_from("H", request, 16)
            fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", flags | _IFF_UP))
    except OSError as error:
        raise LabError(*_refused("to set lo up", error)) from error


def has_cap_sys_admin() -> bool:
    """Whether this process may make namespaces and mounts without a user namespace."""
    status = Path("/proc/self/status").read_text()
    effective = next(line for line in status.splitlines() if line.startswith("CapEff:"))
    return bool(int(effective.split()[1], 16) & _CAP_SYS_ADMIN)


def _scratch_root(*more: Path) -> Path:
    """An existing directory to mount over, which hides nothing that the lab needs."""
    places = [sys.prefix, sys.base_prefix, sys.executable, __file__]
    with contextlib.suppress(FileNotFoundError):  # the working directory was removed
        places.append(str(Path.cwd()))
    places += [os.environ.get(name, "") for name in ("HOME", "XDG_CACHE_HOME")]  # where host-device may be
    places += os.environ.get("CNI_PATH", "").split(":")
    places += map(str, more)
    needed = [Path(path) for place in places if place for path in (place, os.path.realpath(place))]
    for root in map(Path, _SCRATCH_ROOTS):
        if root.is_dir() and not root.is_symlink() and not any(path.is_relative_to(root) for path in needed):
            return root
    raise LabError("the lab needs a directory to mount its files on", f"Make one of {', '.join(_SCRATCH_ROOTS)}")


def _start_anew(*kept: int) -> None:
    """Let go of what this process has inherited, the leashes and channels of other labs above all."""
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    syscalls.close_all_but(*kept)
    with contextlib.suppress(OSError):  # whatever the runner had made of them: now they are what every process has
        sys.stdout = os.fdopen(1, "w", buffering=1, closefd=False)
        sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)


def _tell(report: int, told: dict[str, object]) -> None:
    with contextlib.suppress(OSError):  # the runner is gone, and so is the leash
        os.write(report, json.dumps(told).encode() + b"\n")


def _end(pid: int, timeout_s: float) -> None:
    """Wait for a child; kill it when the time is up: its own end takes the lab with it."""
    deadline = time.monotonic() + timeout_s
    while os.waitpid(pid, os.WNOHANG) == (0, 0):
        if time.monotonic() > deadline:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            return
        time.sleep(0.001)


def _end_stranger(process: int, timeout_s: float) -> None:
    """The same for a process that is no child, by its pidfd."""
    poll = select.poll()
    poll.register(process, select.POLLIN)
    for _ in range(2):
        if poll.poll(timeout_s * 1000):
            return
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(process, signal.SIGKILL)
