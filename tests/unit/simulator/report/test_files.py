"""A file that cannot be written is a sentence that names it."""

import errno
import os
from pathlib import Path

import pytest

from simulator.errors import ScenarioError
from simulator.model import PluginCall
from simulator.report import events, files, jsonl, junit

FULL = Path("/dev/full")
RAN = (events.RunStarted("sim", "why", 0), events.RunFinished(0, 0, 0, 1.0))


def test_failure_of_the_outside_is_told_with_the_path_and_a_bug_is_not() -> None:
    with (
        pytest.raises(ScenarioError, match="^out: it cannot be written: No space left on device$"),
        files.writing(Path("out")),
    ):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with pytest.raises(ZeroDivisionError), files.writing(Path("out")):
        PluginCall("enim", {}, b"", 1 // 0)


@pytest.mark.parametrize("path", [FULL, Path("/proc/nope/report")])
def test_report_to_a_full_disk_or_into_no_folder_is_a_sentence(path: Path) -> None:
    with pytest.raises(ScenarioError, match=f"{path}: it cannot be written: "), jsonl.TraceReport(path) as trace:
        for event in RAN:
            trace(event)
    report = junit.JunitReport(path)
    with pytest.raises(ScenarioError, match=f"{path}: it cannot be written: "):
        for event in RAN:
            report(event)
