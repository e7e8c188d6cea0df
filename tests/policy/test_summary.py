"""The table at the end of a CI run: what counts as failed, and that each skip has its reason on the screen."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

PASSED = '<testcase name="a" time="1.5"/>'
SKIPPED = '<testcase name="b"><skipped message="no host-device"/></testcase>'
FAILED = '<testcase name="c"><failure message="no"/></testcase>'
ERROR = '<testcase name="d"><error message="no"/></testcase>'


@pytest.mark.parametrize(
    ("cases", "status", "last_lines"),
    [
        ([PASSED], 0, ["1 passed, 0 failed, 0 skipped"]),
        ([PASSED, SKIPPED], 0, ["skipped lab b: no host-device", "1 passed, 0 failed, 1 skipped"]),
        ([PASSED, FAILED], 1, ["1 passed, 1 failed, 0 skipped"]),
        ([PASSED, ERROR], 1, ["1 passed, 1 failed, 0 skipped"]),
        ([SKIPPED], 1, ["skipped lab b: no host-device", "0 passed, 0 failed, 1 skipped"]),
        ([], 1, ["0 passed, 0 failed, 0 skipped"]),
    ],
    ids=["passed", "skipped", "failed", "error", "all skipped", "nothing ran"],
)
def test_summary_of(cases: list[str], status: int, last_lines: list[str], tmp_path: Path) -> None:
    (tmp_path / "lab.xml").write_text(f"<testsuites><testsuite>{''.join(cases)}</testsuite></testsuites>")
    command = [sys.executable, ROOT / ".ci/summary.py", tmp_path]
    outcome = subprocess.run(command, check=False, capture_output=True, text=True)
    assert (outcome.returncode, outcome.stdout.splitlines()[1:]) == (status, last_lines)
