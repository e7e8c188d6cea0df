"""A file that cannot be written is a sentence that names it."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from simulator.errors import ScenarioError
from simulator.model import PluginCall
from simulator.report import events, files, jsonl, junit

FULL = Path("/dev/full")
RAN = (events.RunStarted("sim", "why", 0), events.RunFinished(0, 0, 0, 1.0))


def test_failure_of_the_outside_is_told_with_the_path_and_a_bug_is_not() -> None:
    with (
        pytest.raises(ScenarioError, match=r"^out: it cannot be written: No space left on device$"),
        files.writing(Path("out")),
    ):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with pytest.raises(ZeroDivisionError), files.writing(Path("out")):
        PluginCall("enim", {}, b"", 1 // 0)


def write_trace(path: Path) -> None:
    with jsonl.TraceReport(path) as trace:
        for event in RAN:
            trace(event)


def write_junit(path: Path) -> None:
    report = junit.JunitReport(path)
    for event in RAN:
        report(event)


@pytest.mark.parametrize("path", [FULL, Path("/proc/nope/report")])
@pytest.mark.parametrize("write", [write_trace, write_junit])
def test_report_to_a_full_disk_or_into_no_folder_is_a_sentence(write: Callable[[Path], None], path: Path) -> None:
    with pytest.raises(ScenarioError, match=f"{path}: it cannot be written: "):
        write(path)
