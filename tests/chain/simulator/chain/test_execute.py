"""Plugin processes as libcni runs them. The plugins here are small shell scripts."""

import os
import signal
import time
from pathlib import Path

import pytest

from simulator.chain import execute
from simulator.model import PluginCall


def plugin(directory: Path, text: str, name: str = "p") -> None:
    path = directory / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def call(timeout_ms: int = 5_000, stdin: bytes = b"{}") -> PluginCall:
    return PluginCall("p", {"CNI_COMMAND": "ADD"}, stdin, timeout_ms)


def test_outcome_has_exit_code_and_both_outputs(tmp_path: Path) -> None:
    plugin(tmp_path, "cat; echo told >&2; exit 3")
    outcome = execute.run(call(stdin=b"in"), tmp_path)
    assert (outcome.exit_code, outcome.stdout, outcome.stderr, outcome.timed_out) == (3, b"in", b"told\n", False)
    assert outcome.duration_ms > 0


def test_environment_is_the_callers_with_the_calls_own_cni_variables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CNI_IFNAME", "left over")
    monkeypatch.setenv("CCE_SOCK", "/run/x")
    plugin(tmp_path, "env")
    lines = execute.run(call(), tmp_path).stdout.decode().splitlines()
    assert {"CNI_COMMAND=ADD", f"CNI_PATH={tmp_path}", "CCE_SOCK=/run/x"} <= set(lines)
    assert not any(line.startswith("CNI_IFNAME") for line in lines)


def test_plugin_that_is_not_there_is_127_and_says_where_it_was_looked_for(tmp_path: Path) -> None:
    (tmp_path / "p").mkdir()
    outcome = execute.run(call(), tmp_path)
    assert (outcome.exit_code, outcome.stderr.decode()) == (127, f'failed to find plugin "p" in path [{tmp_path}]')


def test_megabytes_go_through_both_pipes(tmp_path: Path) -> None:
    plugin(tmp_path, "cat")
    data = b"x" * 3_000_000
    assert execute.run(call(stdin=data), tmp_path).stdout == data


def test_plugin_that_does_not_read_its_stdin_is_no_failure(tmp_path: Path) -> None:
    plugin(tmp_path, "echo done")
    assert execute.run(call(stdin=b"x" * 3_000_000), tmp_path).stdout == b"done\n"


def test_plugin_can_be_run_under_another_program(tmp_path: Path) -> None:
    plugin(tmp_path, 'echo "$0 $TRACED"; cat')
    outcome = execute.run(call(stdin=b"in"), tmp_path, ("env", "TRACED=yes"))
    assert outcome.stdout == f"{tmp_path}/p yes\nin".encode()


def test_timeout_kills_the_direct_child_and_leaves_its_delegate_alive(tmp_path: Path) -> None:
    plugin(tmp_path, f"sleep 30 & echo $! >{tmp_path}/delegate; wait")
    outcome = execute.run(call(timeout_ms=300), tmp_path)
    delegate = int((tmp_path / "delegate").read_text())
    try:
        assert (outcome.exit_code, outcome.timed_out) == (-9, True)
        assert Path(f"/proc/{delegate}").exists()
    finally:
        os.kill(delegate, 9)


def test_timeout_does_not_wait_for_the_delegate(tmp_path: Path) -> None:
    plugin(tmp_path, f"sleep 30 & echo $! >{tmp_path}/delegate; wait")
    started = time.monotonic()
    execute.run(call(timeout_ms=200), tmp_path)
    os.kill(int((tmp_path / "delegate").read_text()), 9)
    assert time.monotonic() - started < 5


@pytest.mark.parametrize(
    ("text", "mode", "said"),
    [
        ("#!/bin/sh\n", 0o644, "Permission denied"),
        ("#!/no/such/interpreter\n", 0o755, "No such file or directory"),
        ("", 0o755, "Exec format error"),
    ],
)
def test_plugin_that_cannot_be_started_is_126_and_says_why(tmp_path: Path, text: str, mode: int, said: str) -> None:
    (tmp_path / "p").write_text(text)
    (tmp_path / "p").chmod(mode)
    outcome = execute.run(call(), tmp_path)
    assert (outcome.exit_code, outcome.stderr.decode()) == (126, f"fork/exec {tmp_path}/p: {said}")


def test_plugin_that_is_still_being_written_is_started_when_it_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plugin(tmp_path, "echo whole")
    writer = (tmp_path / "p").open("ab")
    monkeypatch.setattr(execute.time, "sleep", lambda _: writer.close())
    assert execute.run(call(), tmp_path).stdout == b"whole\n"


def test_plugin_that_stays_busy_cannot_be_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plugin(tmp_path, "echo whole")
    monkeypatch.setattr(execute, "BUSY_WAIT_S", 0)
    with (tmp_path / "p").open("ab"):
        outcome = execute.run(call(), tmp_path)
    assert (outcome.exit_code, outcome.stderr.decode()) == (126, f"fork/exec {tmp_path}/p: Text file busy")


def test_plugin_that_has_ended_is_not_timed_out_though_its_child_holds_the_pipes(tmp_path: Path) -> None:
    plugin(tmp_path, f"echo out; sleep 30 & echo $! >{tmp_path}/delegate")
    outcome = execute.run(call(timeout_ms=300), tmp_path)
    os.kill(int((tmp_path / "delegate").read_text()), 9)
    assert (outcome.exit_code, outcome.stdout, outcome.timed_out) == (0, b"out\n", False)


def test_output_until_the_timeout_is_kept(tmp_path: Path) -> None:
    plugin(tmp_path, "echo out; echo err >&2; exec sleep 30")
    outcome = execute.run(call(timeout_ms=300), tmp_path)
    assert (outcome.stdout, outcome.stderr, outcome.timed_out) == (b"out\n", b"err\n", True)


def test_plugin_that_kills_itself_has_the_signal_as_its_exit_code(tmp_path: Path) -> None:
    plugin(tmp_path, "kill -TERM $$")
    assert execute.run(call(), tmp_path).exit_code == -15


def test_plugins_that_run_are_counted_also_when_their_runtime_has_given_them_up(tmp_path: Path) -> None:
    plugin(tmp_path, f"sleep 30 & echo $! >{tmp_path}/orphan; wait")
    execute.run(call(timeout_ms=200), tmp_path)
    orphan = int((tmp_path / "orphan").read_text())
    assert execute.running_count(tmp_path) == 1
    os.kill(orphan, signal.SIGKILL)
    deadline = time.monotonic() + 5
    while execute.running_count(tmp_path) != 0:
        assert time.monotonic() < deadline
        time.sleep(0.005)
