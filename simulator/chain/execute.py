"""EDGE: runs plugin binaries as processes, as ``pkg/invoke`` does: look-up, environment, and whom a timeout kills.

Source: libcni ``pkg/invoke`` find.go (first regular file of that name) and raw_exec.go (SIGKILL to the direct child
only).
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from simulator.model import PluginCall, PluginOutcome

BUSY_RETRIES_MAX = 5  # raw_exec.go: a plugin that is being written or copied cannot be started (ETXTBSY)
BUSY_WAIT_S = 1.0

SAID_MAX = 256

NOT_FOUND, NOT_EXECUTABLE = 127, 126  # as a shell has it; libcni has no exit code for what did not start


def run(call: PluginCall, directory: Path, under: Sequence[str] = ()) -> PluginOutcome:
    """Run one plugin to its end.

    Args:
        call: what to run.
        directory: the CNI bin directory; becomes CNI_PATH.
        under: a command that runs the plugin, whose path is appended to it: a tracer.

    Returns:
        What it did. A plugin that is not there has exit code 127, one that cannot be started 126; stderr says why.
    """
    started = time.monotonic()
    binary = directory / call.plugin
    if not binary.is_file():
        text = f'failed to find plugin "{call.plugin}" in path [{directory}]'
        return PluginOutcome(call, NOT_FOUND, b"", text.encode(), 0.0)
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("CNI_")}
    try:
        process = _start((*under, str(binary)), {**inherited, **call.environment, "CNI_PATH": str(directory)})
    except OSError as error:
        text = f"fork/exec {binary}: {error.strerror}"
        return PluginOutcome(call, NOT_EXECUTABLE, b"", text.encode(), _since_ms(started))
    timed_out = False
    with process:
        try:
            stdout, stderr = process.communicate(call.stdin, timeout=call.timeout_ms / 1000)
        except subprocess.TimeoutExpired as expired:
            timed_out = process.poll() is None  # else only a child of its own still holds the pipes
            process.kill()
            stdout, stderr = expired.stdout or b"", expired.stderr or b""
        except BaseException:  # this process is to end, and would wait for the plugin first
            process.kill()
            raise
    return PluginOutcome(call, process.returncode, stdout, stderr, _since_ms(started), timed_out)


def program(command: Sequence[str], stdin: bytes, timeout_s: float) -> tuple[int, bytes, str]:
    """Run a program that is no plugin to its end: exit code, stdout, and why it failed, "" if it did not.

    Exit codes are those of ``run``; what does not end in time has that of SIGKILL.
    """
    try:
        ran = subprocess.run(command, check=False, input=stdin, capture_output=True, timeout=timeout_s)
    except subprocess.TimeoutExpired:
        return -signal.SIGKILL, b"", f"it did not end within {timeout_s:.0f} s"
    except OSError as error:
        return NOT_EXECUTABLE, b"", error.strerror or str(error)
    if ran.returncode == 0:
        return 0, ran.stdout, ""
    said = ran.stderr.decode(errors="replace").strip().splitlines()
    return ran.returncode, ran.stdout, (said or [f"exit code {ran.returncode}"])[-1][:SAID_MAX]


def running_count(directory: Path) -> int:
    """How many plugin processes with this CNI_PATH live, of all in /proc: what a timeout has orphaned, too."""
    count = 0
    theirs = b"\0CNI_PATH=" + os.fsencode(directory) + b"\0"
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended meanwhile, or is another user's
            count += theirs in b"\0" + (process / "environ").read_bytes()
    return count


def _start(command: Sequence[str], environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    pipe = subprocess.PIPE
    for _ in range(BUSY_RETRIES_MAX):
        try:
            return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, env=environment)
        except OSError as error:
            if error.errno != errno.ETXTBSY:
                raise
            time.sleep(BUSY_WAIT_S)
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, env=environment)


def _since_ms(started: float) -> float:
    return (time.monotonic() - started) * 1000
