"""What a person reads."""

import io

from rich.console import Console

from simulator.bench import load, outcome, screen, stats

MEASURED = [
    load.Measured("ADD", "ok", stats.split(12.5, 8.0, 0.25, 0.25)),
    load.Measured("DEL", "ok", stats.split(1, 0, 0, 0)),
]
BENCH = outcome.Bench(
    "userns",
    "for a test",
    False,
    {"concurrency": 3},
    {"kernel": "Linux 1", "cores": 2},
    outcome.rows("warm", "exclusive-device+enim", MEASURED, 13.5),
    {"ptp+host-local": "it is not here"},
)


def shown(console: Console) -> list[str]:
    screen.show(BENCH, console)
    file = console.file
    assert isinstance(file, io.StringIO)
    return file.getvalue().splitlines()


def test_machine_tables_and_what_was_left_out() -> None:
    lines = shown(Console(file=io.StringIO()))
    assert lines[:3] == [
        "lab userns: for a test",
        "kernel Linux 1, cores 2",
        "milliseconds of real time, 3 at once",
    ]
    assert lines[3].split() == ["pool", "subject", "verb", "ended", "n", "p50", "p90", "p99", "p99.9", "max", "pairs/s"]
    assert lines[4].split() == ["warm", "exclusive-device+enim", "ADD", "ok", "1", *["12.50"] * 5, "74.1"]
    assert lines[7].split() == [
        *("warm", "exclusive-device+enim", "ADD", "ok", "1", "12.50", "8.00", "0.25", "0.25", "4.00", "1"),
    ]
    assert lines[-1] == "left out ptp+host-local: it is not here"


def test_numbers_are_whole_on_a_narrow_terminal() -> None:
    lines = shown(Console(file=io.StringIO(), width=80, force_terminal=True, color_system=None))
    assert "12.50" in lines[4]
    assert not any("…" in line for line in lines)


def test_progress_is_silent_where_nobody_watches() -> None:
    console = Console(file=io.StringIO())
    with screen.progress(console) as tell:
        tell("warm", 1, 2)
    assert isinstance(console.file, io.StringIO)
    assert console.file.getvalue() == ""


def test_progress_names_what_is_measured() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, color_system=None, width=80)
    with screen.progress(console) as tell:
        tell("warm", 1, 2)
        tell("warm", 2, 2)
    assert isinstance(console.file, io.StringIO)
    assert "warm" in console.file.getvalue()
