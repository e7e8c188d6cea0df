"""A log that is broken, in every way that we know: it is said once on stderr, and the call goes on as without it."""

import contextlib
import json
import os
import re
import resource
import socket
import subprocess
import time

import pytest

from enim import errors


@pytest.fixture
def caller(log_caller, tmp_path):
    return log_caller(tmp_path)


def fill(write):
    with contextlib.suppress(BlockingIOError):
        while True:
            write()


def no_directory(directory):
    return directory / "none/plugins.log"


def a_directory(directory):
    return directory


def symlink_loop(directory):
    (directory / "a").symlink_to("b")
    (directory / "b").symlink_to("a")
    return directory / "a"


def fifo_without_reader(directory):
    os.mkfifo(directory / "fifo")
    return directory / "fifo"


def file_as_directory(directory):
    (directory / "file").touch()
    return directory / "file/plugins.log"


def full_device(_directory):
    return "/dev/full"


def a_socket(directory):
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(directory / "socket"))
    return directory / "socket"


def relative(_directory):
    return "plugins.log"


def with_nul(directory):
    return f"{directory}/a\0b"


def with_surrogate(directory):
    return f"{directory}/\ud800"


def too_long(directory):
    return f"{directory}/{'x' * 5000}"


def no_text(_directory):
    return 7


def own_stdout(_directory):
    return "/dev/stdout"


def another_name_of_stdout(_directory):
    return "/proc/self/fd/1"


BAD = [
    *(no_directory, a_directory, symlink_loop, fifo_without_reader, file_as_directory, full_device, a_socket),
    *(relative, with_nul, with_surrogate, too_long, no_text),
    *(own_stdout, another_name_of_stdout),
]


@pytest.mark.parametrize("bad", BAD, ids=lambda bad: bad.__name__)
def test_bad_log_is_said_once_and_nothing_else_changes(caller, tmp_path, bad):
    without = caller.run(log_file=None)[:2]
    log = bad(tmp_path)
    started = time.monotonic()
    code, stdout, stderr = caller.run(log_file=log if isinstance(log, int) else str(log))
    assert time.monotonic() - started < 5
    assert (code, stdout) == without
    assert re.fullmatch(r"enim: the log .* (cannot be written|is not written).*\n", stderr), stderr
    assert len(stderr) < 600
    assert stderr.isprintable() or stderr[:-1].isprintable()


def test_bad_log_is_said_once_though_there_are_notes(caller):
    caller.agent.status = caller.agent.delete_status = 503
    _, stdout, stderr = caller.run(log_file="/dev/full")
    assert json.loads(stdout)["code"] == errors.TRY_AGAIN_LATER
    assert [line.startswith("enim: the log ") for line in stderr.splitlines()].count(True) == 1
    assert len(stderr.splitlines()) == 2


def test_read_only_file_is_said_unless_the_kernel_lets_root_write(caller):
    caller.file.touch(mode=0o400)
    code, _, stderr = caller.run()
    assert code == 0
    assert ("Permission denied" in stderr) != bool(caller.lines())


def test_read_only_file_system_is_said(node, log_caller):
    caller = log_caller(node.directory)
    frozen = node.directory / "frozen"
    frozen.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "none", frozen], check=True)
    code, _, stderr = caller.run(log_file=f"{frozen}/plugins.log")
    assert (code, "Read-only file system" in stderr) == (0, True)


def test_full_disk_is_said(node, log_caller):
    caller = log_caller(node.directory)
    disk = node.directory / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4k", "none", disk], check=True)
    (disk / "plugins.log").write_bytes(b"x" * 4095 + b"\n")
    code, _, stderr = caller.run(log_file=f"{disk}/plugins.log")
    assert (code, "No space left on device" in stderr) == (0, True)


def test_file_that_may_not_grow_is_said(caller):
    limit = 50
    code, _, stderr = caller.run(preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)))
    assert (code, caller.file.stat().st_size) == (0, limit)
    assert "only a part of a line was written" in stderr


def test_fifo_whose_reader_sleeps_is_not_waited_for(caller, tmp_path):
    path = fifo_without_reader(tmp_path)
    reading = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    assert caller.run(log_file=str(path))[2] == ""
    assert os.read(reading, 65536).startswith(b"time=")
    writing = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
    fill(lambda: os.write(writing, b"x" * 4096))
    assert "temporarily unavailable" in caller.run(log_file=str(path))[2]
    os.close(reading)
    os.close(writing)


def test_bad_log_and_a_closed_stderr_are_no_failure(caller):
    process = caller.start(log_file="/dev/full", preexec_fn=lambda: os.close(2))
    process.communicate(timeout=20)
    assert process.returncode == 0


def test_stderr_can_be_the_log_and_a_device_that_stdout_is_too(caller, tmp_path):
    code, stdout, stderr = caller.run(log_file="/dev/stderr")
    assert (code, json.loads(stdout)["cniVersion"], stderr.count("msg=ok")) == (0, "1.1.0", 1)
    with open(os.devnull, "wb") as null:  # noqa: PTH123
        stdin = json.dumps({**caller.netconf, "log-file": os.devnull}).encode()
        process = caller.start(stdin=stdin, stdout=null)
    assert (process.communicate(timeout=20)[1], process.returncode) == (b"", 0)


@pytest.mark.parametrize("log_format", ["xml", 7, ["json"], {}])
def test_format_that_there_is_not_is_said_and_it_is_text(caller, log_format):
    code, _, stderr = caller.run(log_format=log_format)
    assert (code, caller.lines()[0][:5]) == (0, "time=")
    assert stderr.startswith("enim: log-format is text or json, not ")
