"""The library again and again on the real kernel: every run comes to the same verdicts, by the same steps.

ENIM_RUNS says how often (10 in `tox -e deep`); without it, twice, and only the leaks.
"""

import os
from pathlib import Path
from typing import Any

import pytest

from simulator import labs

SCENARIOS = Path(__file__).parents[2] / "scenarios"
IS_THOROUGH = "ENIM_RUNS" in os.environ
RUNS = int(os.environ.get("ENIM_RUNS", "2"))


@pytest.mark.timeout(60 * RUNS)
def test_runs_in_a_row_come_to_the_same_verdicts(verdicts: Any) -> None:
    path = SCENARIOS if IS_THOROUGH else SCENARIOS / "leak"
    first = verdicts(labs.USERNS, path)
    assert {steps[-1] for steps in first.values()} == {"passed"}
    for _ in range(RUNS - 1):
        again = verdicts(labs.USERNS, path)
        assert again == first, [(one, first[one], again.get(one)) for one in first if again.get(one) != first[one]]
