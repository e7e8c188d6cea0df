"""What the scripts of this folder share: commands measured side by side, in turns, in one run."""

import marshal
import subprocess
import sys
from importlib.util import MAGIC_NUMBER
from pathlib import Path

SYSTEM = Path("/usr/bin/python3")
WALL, CPU, PEAK = range(3)
_TELL_MAGIC = "import sys, _frozen_importlib_external as one; sys.stdout.buffer.write(one.MAGIC_NUMBER)"


def interpreter() -> str:
    """The system's Python, for which this one compiles if they are of one version; else this one."""
    if SYSTEM.exists():
        told = subprocess.run([SYSTEM, "-ISE", "-c", _TELL_MAGIC], capture_output=True, check=False).stdout
        if told == MAGIC_NUMBER:
            return str(SYSTEM)
    return sys.executable


def measure(rounds: int, *groups: list) -> dict:
    """See ``turns``. Ends the script with a sentence if a process fails."""
    plan = marshal.dumps({"rounds": rounds, "groups": list(groups)})
    command = [interpreter(), "-ISE", str(Path(__file__).with_name("turns.py"))]
    found = marshal.loads(subprocess.run(command, input=plan, stdout=subprocess.PIPE, check=True).stdout)
    if isinstance(found, str):
        sys.exit(found)
    return found


def column(found: dict, name: str, which: int = WALL) -> list:
    """All values of one kind of one command."""
    return [one[which] for one in found[name]]


def quantile(values: list, share: float) -> float:
    """The value below which that share of them is."""
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def ratio(found: dict, name: str, base: str, share: float = 0.5, which: int = WALL) -> float:
    """How many times the quantile of ``base`` that of ``name`` is."""
    return quantile(column(found, name, which), share) / quantile(column(found, base, which), share)
