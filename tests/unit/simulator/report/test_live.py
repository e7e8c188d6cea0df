"""The bottom lines of a terminal, on a terminal emulator: what stands on its screen."""

import io

import pyte
import pytest
from rich.console import Console

from simulator.report import console, events, live, progress

STARTED = events.ScenarioStarted("leak", "host-device", "s.yaml", 9)
FINISHED = events.ScenarioFinished("leak", "host-device", "s.yaml", 12.0, None)


def area(width: int, *, is_terminal: bool = True, now_s: float = 0.0) -> tuple[live.LiveArea, Console, io.StringIO]:
    written = io.StringIO()
    terminal = Console(file=written, force_terminal=is_terminal, width=width, height=10, color_system=None)
    return live.LiveArea(terminal, progress.Progress(), lambda: now_s), terminal, written


def lines(terminal: Console, drawn: live.LiveArea) -> list[str]:
    with terminal.capture() as captured:
        terminal.print(drawn.drawn())
    return captured.get().splitlines()


def screen(written: io.StringIO, width: int) -> pyte.Screen:
    shown = pyte.Screen(width, 10)
    pyte.Stream(shown).feed(written.getvalue().replace("\n", "\r\n"))
    return shown


def text_of(shown: pyte.Screen) -> list[str]:
    return [line.rstrip() for line in shown.display if line.strip()]


def test_each_run_under_way_has_a_line_with_its_step() -> None:
    drawn, terminal, _ = area(80, is_terminal=False)
    for index in (1, 0):
        drawn(index, STARTED)
        drawn(index, events.StepStarted("set-up"))
    drawn(0, events.StepStarted("add c1 for default/web-0"))
    assert lines(terminal, drawn) == [
        "-    0 s  leak · host-device  step 1/9  add c1 for default/web-0",
        "-    0 s  leak · host-device  step 0/9  set-up",
    ]


def test_run_that_ended_has_no_line() -> None:
    drawn, terminal, _ = area(80, is_terminal=False)
    drawn(0, STARTED)
    drawn(0, FINISHED)
    assert lines(terminal, drawn) == []


@pytest.mark.parametrize("width", [12, 20, 40])
def test_narrow_terminal_cuts_a_line_and_does_not_wrap_it(width: int) -> None:
    drawn, terminal, _ = area(width, is_terminal=False)
    drawn(0, STARTED)
    drawn(0, events.StepStarted("add " + "c" * 100))
    (line,) = lines(terminal, drawn)
    assert (len(line), line[-1]) == (width, "…")


def test_title_of_a_step_is_shown_and_not_obeyed() -> None:
    drawn, terminal, _ = area(80, is_terminal=False)
    drawn(0, STARTED)
    drawn(0, events.StepStarted("[red]one\ntwo\x1b[2J"))
    (line,) = lines(terminal, drawn)
    assert line.endswith(r"step 0/9  [red]one two\x1b[2J")


def test_lines_stand_below_what_is_printed_and_are_gone_at_the_end() -> None:
    drawn, terminal, written = area(40)
    report = console.ConsoleReport(terminal)
    with drawn:
        drawn(0, STARTED)
        drawn(0, events.StepStarted("add c1"))
        report(events.ScenarioFinished("x" * 50, "host-device", "s.yaml", 1.0, None))
        during = text_of(screen(written, 40))
        is_cursor_hidden = screen(written, 40).cursor.hidden
    assert during[-1].startswith("-    0 s  leak · host-device  step 0/9")
    assert "".join(during[:-1]).startswith("passed " + "x" * 50)
    after = screen(written, 40)
    assert (is_cursor_hidden, after.cursor.hidden) == (True, False)
    assert text_of(after) == during[:-1]
    assert after.cursor.y == len(during) - 1


def test_nothing_is_drawn_where_there_is_no_terminal() -> None:
    drawn, _, written = area(40, is_terminal=False)
    with drawn:
        drawn(0, STARTED)
        drawn(0, events.StepStarted("add c1"))
    assert written.getvalue() == ""
