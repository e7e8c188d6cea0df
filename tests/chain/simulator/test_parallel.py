"""Jobs on several processes: what they say handed on, failures told, and nothing left behind. Real processes."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import pytest

from simulator import parallel
from simulator.errors import LabError, WorldFault

Say: TypeAlias = Callable[[object], None]


def test_everything_is_handed_on_with_the_number_of_its_job() -> None:
    def job(index: int, say: Say) -> None:
        say("begins")
        time.sleep(0.02)
        say(os.getpid())

    said = list(parallel.run(job, 8, 3))
    assert sorted(index for index, _ in said) == sorted([*range(8), *range(8)])
    for number in range(8):
        begins, pid = (one for index, one in said if index == number)
        assert begins == "begins"
        assert pid != os.getpid()
    assert len({one for _, one in said if one != "begins"}) == 3


def test_what_a_job_says_is_there_while_it_still_runs() -> None:
    reader, writer = os.pipe()

    def job(_index: int, say: Say) -> None:
        say("waits")
        os.read(reader, 1)

    said = parallel.run(job, 1, 1)
    assert next(said) == (0, "waits")
    os.write(writer, b".")
    assert list(said) == []


@pytest.mark.parametrize("count", [0, 1])
def test_no_more_workers_than_jobs(count: int) -> None:
    assert [one for _, one in parallel.run(lambda index, say: say(index), count, 4)] == list(range(count))


def test_error_of_a_job_is_raised_as_it_is_after_what_was_said_before_it() -> None:
    def job(index: int, say: Say) -> None:
        if index == 1:
            raise WorldFault("move eth0", 17, "File exists")
        say("fine")

    said = parallel.run(job, 3, 1)
    assert next(said) == (0, "fine")
    with pytest.raises(WorldFault, match="move eth0: File exists"):
        next(said)


def test_bug_of_a_job_is_told_with_its_traceback() -> None:
    with pytest.raises(LabError, match="ZeroDivisionError"):
        list(parallel.run(lambda index, say: say(1 // index), 1, 1))


def test_worker_that_is_killed_is_told() -> None:
    with pytest.raises(LabError, match="was killed"):
        list(parallel.run(lambda _index, _say: os.kill(os.getpid(), signal.SIGKILL), 1, 1))


def test_workers_end_with_the_caller(tmp_path: Path) -> None:
    program = (
        "import os, time; from pathlib import Path; from simulator import parallel\n"
        f"def job(index, say): Path({str(tmp_path)!r}, str(os.getpid())).touch(); time.sleep(60)\n"
        "list(parallel.run(job, 2, 2))"
    )
    caller = subprocess.Popen([sys.executable, "-c", program])
    deadline = time.monotonic() + 10
    while len(list(tmp_path.iterdir())) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    caller.kill()
    caller.wait()
    while alive := [path for path in tmp_path.iterdir() if Path("/proc", path.name).exists()]:
        assert time.monotonic() < deadline, alive
        time.sleep(0.01)
