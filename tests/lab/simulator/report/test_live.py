"""`enim-lab run` on a real terminal: the steps while it runs, a clean screen at its end, and Ctrl-C."""

from __future__ import annotations

import contextlib
import os
import pty
import select
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pyte
import pytest

ROOT = Path(__file__).parents[4]
COLUMNS, LINES = 100, 24
PATIENCE_S = 30.0
# A terminal that a session's first process opens is the one whose Ctrl-C it gets.
ON_TERMINAL = 'terminal=$1; shift; exec <"$terminal" >"$terminal" 2>&1; exec "$@"'
SCENARIO = """
name: echoes
summary: A pod that uses its ENI.
node: {enis: 1}
chain: exclusive-device
steps:
  - add: {pod: default/web-0, container: c1}
"""
ECHO = "  - {name: echo number %d, echo: {container: c1}}\n"


class Terminal:
    """A pseudo-terminal with ``enim-lab run`` on it, and an emulator that shows its screen."""

    def __init__(self, *arguments: str) -> None:
        self._ours, theirs = pty.openpty()
        self._theirs = theirs
        self.settings = termios.tcgetattr(theirs)
        termios.tcsetwinsize(theirs, (LINES, COLUMNS))
        command = ["sh", "-c", ON_TERMINAL, "sh", os.ttyname(theirs), sys.executable, "-m", "simulator", "run"]
        environment = {**os.environ, "TERM": "xterm", "COLUMNS": str(COLUMNS), "LINES": str(LINES)}
        self.run = subprocess.Popen([*command, *arguments], cwd=ROOT, env=environment, start_new_session=True)
        self.screen = pyte.Screen(COLUMNS, LINES)
        self._stream = pyte.ByteStream(self.screen)

    def lines(self) -> list[str]:
        return [line.rstrip() for line in self.screen.display if line.strip()]

    def type(self, keys: bytes) -> None:
        os.write(self._ours, keys)

    def watch(self, seen: Callable[[list[str]], bool]) -> bool:
        """Shows what comes until the screen is as wanted; False if the run ends, or patience does, before."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            has_ended = self.run.poll() is not None
            while select.select([self._ours], [], [], 0 if has_ended else 0.02)[0]:
                self._stream.feed(os.read(self._ours, 4096))
                if seen(self.lines()):
                    return True
            if has_ended:
                return False
        return False

    def end(self) -> int:
        """The run's exit status, when it has ended and all is on the screen."""
        self.watch(lambda _lines: False)
        return self.run.wait(PATIENCE_S)

    def is_as_it_was(self) -> bool:
        return not self.screen.cursor.hidden and termios.tcgetattr(self._theirs) == self.settings

    def close(self) -> None:
        self.run.kill()
        self.run.wait()
        os.close(self._ours)
        os.close(self._theirs)


@contextlib.contextmanager
def on_terminal(*arguments: str | Path) -> Iterator[Terminal]:
    terminal = Terminal(*map(str, arguments))
    try:
        yield terminal
    finally:
        terminal.close()


@pytest.fixture
def scenario(tmp_path: Path) -> Callable[[int], Path]:
    def write(echoes: int) -> Path:
        file = tmp_path / "echoes.yaml"
        file.write_text(SCENARIO + "".join(ECHO % number for number in range(echoes)))
        return file

    return write


def shows_step(lines: list[str]) -> bool:
    return any("echoes · exclusive-device  step " in line and "echo number" in line for line in lines)


def test_terminal_shows_steps_while_they_run_and_is_clean_at_the_end(scenario: Callable[[int], Path]) -> None:
    with on_terminal("--lab", "userns", scenario(200)) as terminal:
        assert terminal.watch(shows_step), terminal.lines()
        assert terminal.end() == 0
        lines = terminal.lines()
        assert [line.split()[0] for line in lines if line[0] != " "][-2:] == ["passed", "1"], lines
        assert not any("step " in line for line in lines)
        assert terminal.is_as_it_was()


def test_ctrl_c_says_how_far_it_got_and_leaves_the_terminal_as_it_was(scenario: Callable[[int], Path]) -> None:
    with on_terminal("--lab", "userns", scenario(1500)) as terminal:
        assert terminal.watch(shows_step), terminal.lines()
        terminal.type(b"\x03")
        assert terminal.end() == 130
        said = "".join(line.ljust(COLUMNS) for line in terminal.lines())
        assert "enim-lab: interrupted: 0 passed, 0 failed; under way: echoes · exclusive-device at step " in said
        assert "Traceback" not in said
        assert terminal.is_as_it_was()


@pytest.mark.parametrize("colour", [{}, {"FORCE_COLOR": "1"}])
def test_pipe_gets_lines_and_no_escapes(scenario: Callable[[int], Path], colour: dict[str, str]) -> None:
    command = [sys.executable, "-m", "simulator", "run", "--lab", "userns", "-v", str(scenario(1))]
    ran = subprocess.run(command, cwd=ROOT, env={**os.environ, **colour}, capture_output=True, timeout=60, check=True)
    assert (b"\x1b" in ran.stdout, ran.stderr) == (False, b"")
    assert b"    echo number 0 " in ran.stdout
