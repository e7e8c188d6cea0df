"""A lab for one question."""

import os
import time
from pathlib import Path

import pytest

from simulator.errors import LabError
from simulator.lab import throwaway


def test_answer_comes_out_of_a_lab() -> None:
    assert throwaway.ask(lambda scratch: {"pid": os.getpid(), "files": len(list(scratch.iterdir()))}) == {
        "pid": 2,
        "files": 0,
    }


def end(_scratch: Path) -> None:
    os._exit(0)


@pytest.mark.parametrize("job", [end, lambda _scratch: time.sleep(60)], ids=["ends", "hangs"])
def test_job_without_an_answer_is_an_error(job: throwaway.Job) -> None:
    with pytest.raises(LabError, match="gave no answer"):
        throwaway.ask(job, timeout_s=0.1)
