"""Jobs on several processes: answers in order, failures told, and nothing left behind. Real processes."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from simulator import parallel
from simulator.errors import LabError, WorldFault


def test_answers_come_in_the_order_of_the_jobs_however_long_each_takes() -> None:
    def job(index: int) -> tuple[int, int]:
        time.sleep(0.02 * (3 - index % 4))
        return index, os.getpid()

    answers = list(parallel.run(job, 8, 3))
    assert [index for index, _ in answers] == list(range(8))
    assert len({pid for _, pid in answers}) == 3
    assert os.getpid() not in {pid for _, pid in answers}


@pytest.mark.parametrize("count", [0, 1])
def test_no_more_workers_than_jobs(count: int) -> None:
    assert list(parallel.run(lambda index: index, count, 4)) == list(range(count))


def test_error_of_a_job_is_raised_as_it_is_after_the_answers_before_it() -> None:
    def job(index: int) -> int:
        if index == 1:
            raise WorldFault("move eth0", 17, "File exists")
        return index

    answers = parallel.run(job, 3, 1)
    assert next(answers) == 0
    with pytest.raises(WorldFault, match="move eth0: File exists"):
        next(answers)


def test_bug_of_a_job_is_told_with_its_traceback() -> None:
    with pytest.raises(LabError, match="ZeroDivisionError"):
        list(parallel.run(lambda index: 1 // index, 1, 1))


def test_worker_that_is_killed_is_told() -> None:
    with pytest.raises(LabError, match="was killed"):
        list(parallel.run(lambda _: os.kill(os.getpid(), signal.SIGKILL), 1, 1))


def test_workers_end_with_the_caller(tmp_path: Path) -> None:
    program = (
        "import os, time; from pathlib import Path; from simulator import parallel\n"
        f"def job(index): Path({str(tmp_path)!r}, str(os.getpid())).touch(); time.sleep(60)\n"
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
