"""What a plugin process loads: enim's own files and a stated list, in a fresh interpreter without site.

What an installed plugin then runs for a call is counted in `tests/chain/enim/test_loaded_modules.py`.
"""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# Compiled into the interpreter or cheap: together about a millisecond (style 4.3).
ALLOWED = {"_socket", "errno", "time"}
# ``os`` and what it consists of; the interpreter has them frozen.
ALLOWED_OS = {"os", "os.path", "stat", "_stat", "posixpath", "genericpath", "_collections_abc"}

PROBE = """
import sys
sys.path.insert(0, sys.argv[1])
before = set(sys.modules)
__import__(sys.argv[2])
print("\\n".join(sorted(set(sys.modules) - before)))
"""


def loaded(module: str) -> set[str]:
    """What importing ``module`` adds to ``sys.modules`` of an interpreter without site."""
    command = [sys.executable, "-I", "-S", "-c", PROBE, str(ROOT), module]
    return set(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split())


@pytest.mark.parametrize("module", ["enim.__main__", "enim.exclusive_main"])
def test_entry_point_loads_only_what_is_listed(module: str) -> None:
    foreign = {name for name in loaded(module) if name.partition(".")[0] != "enim"}
    assert foreign - ALLOWED - ALLOWED_OS == set()


def test_what_few_calls_need_is_not_loaded_beforehand() -> None:
    few = {"enim.devices", "enim.exclusive_upkeep", "enim.upkeep", "enim.wishes"}
    assert (loaded("enim.__main__") | loaded("enim.exclusive_main")) & few == set()


def test_enim_does_not_load_the_upper_plugin() -> None:
    assert loaded("enim.__main__") & {"enim.exclusive", "enim.exclusive_main", "enim.rtnetlink"} == set()


@pytest.mark.parametrize("module", ["enim.__main__", "enim.exclusive_main"])
def test_log_and_what_no_pod_waits_for_are_not_loaded(module: str) -> None:
    assert loaded(module) & {"enim.log", "enim.upkeep", "enim.exclusive_upkeep"} == set()


CALL = """
import sys
sys.path.insert(0, sys.argv[1])
from enim import process
environment = {"CNI_COMMAND": "DEL", "CNI_CONTAINERID": "c1", "CNI_IFNAME": "eth0", "CNI_PATH": "/x"}
said = process.call("enim", environment, sys.argv[2].encode(), {"DEL": lambda _: iter(())}, {})
print(said, "enim.log" in sys.modules)
"""


@pytest.mark.parametrize(("more", "is_loaded"), [("", False), (',"log-file":"/dev/null"', True)])
def test_call_loads_the_log_only_where_one_is_asked_for(more: str, is_loaded: bool) -> None:
    command = [sys.executable, "-I", "-S", "-c", CALL, str(ROOT), f'{{"name":"n"{more}}}']
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert said == f"(0, b'') {is_loaded}\n"


def test_probe_sees_a_module_that_is_not_on_the_list(tmp_path: Path) -> None:
    (tmp_path / "heavy.py").write_text("import json\n")
    command = [sys.executable, "-I", "-S", "-c", PROBE, str(tmp_path), "heavy"]
    assert "json" in subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
