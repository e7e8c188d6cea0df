"""Each import contract catches a violation of it that is planted in a copy of the tree."""

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CONTRACTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]

DOWN = "imports point down; worlds are strangers to each other"
# (name of the contract, module it is planted in, the line): in each the smallest step across the border.
PLANTED = [
    (DOWN, "simulator/scenario/run.py", "import simulator.real.node"),
    (DOWN, "simulator/virtual/driver.py", "import simulator.real.driver"),
    ("the plugin is layered too", "enim/config.py", "import enim.transport"),
    ("the core is pure", "simulator/agent/pool.py", "import time"),
    ("one door per outside world", "simulator/scenario/run.py", "import subprocess"),
    ("only a lab and the real world make system calls", "simulator/agent/flows.py", "import simulator.syscalls"),
    ("the plugin imports almost nothing", "enim/config.py", "import re"),
    ("the plugin imports almost nothing", "enim/config.py", "import simulator.model"),
]


def lint(tree: Path) -> subprocess.CompletedProcess[str]:
    program = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    environment = {**os.environ, "PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1", "COLUMNS": "200"}
    command = [sys.executable, "-c", program, "--no-cache", "--no-logo"]
    return subprocess.run(command, check=False, cwd=tree, env=environment, capture_output=True, text=True)


@pytest.mark.parametrize(
    ("contract", "module", "line"), PLANTED, ids=[f"{line} in {module}" for _, module, line in PLANTED]
)
def test_contract_catches(contract: str, module: str, line: str, tmp_path: Path) -> None:
    for package in ("enim", "simulator"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    with (tmp_path / module).open("a") as file:
        file.write(f"\n{line}\n")
    outcome = lint(tmp_path)
    assert (outcome.returncode, f"{contract} BROKEN" in outcome.stdout) == (1, True), outcome.stdout + outcome.stderr


def test_every_contract_has_a_planted_violation() -> None:
    assert {contract["name"] for contract in CONTRACTS} == {contract for contract, _, _ in PLANTED}
