"""Any input, any answer of the agent, any fault of the kernel: the plugins answer in CNI's words, and leak no ENI.

ENIM_FUZZ says how many inputs (a million in `tox -e deep`), ENIM_FUZZ_WORKERS how many processes share them. Without
them the inputs are always the same; a run with workers draws new ones, and says its seeds.
"""

import os
import subprocess
import sys
from pathlib import Path

import fuzz_run
import fuzz_verdict
import pytest
from fuzz_tape import ODD_VALUES, PATHS, Tape, changed

from enim import commands, errors, exclusive, framing, jsonio

COUNT = int(os.environ.get("ENIM_FUZZ", "15000"))
WORKERS = int(os.environ.get("ENIM_FUZZ_WORKERS", "1"))
SCRIPT = Path(fuzz_run.__file__)


@pytest.mark.timeout(7200)
def test_no_input_breaks_a_plugin_or_leaks_an_eni():
    if WORKERS == 1:
        assert not (problem := fuzz_run.run(COUNT, 0)), problem
        return
    first = int.from_bytes(os.urandom(3), "big")
    workers = [
        subprocess.Popen([sys.executable, SCRIPT, str(COUNT // WORKERS), str(first + one)], stdout=subprocess.PIPE)
        for one in range(WORKERS)
    ]
    said = [worker.communicate()[0].decode() for worker in workers]
    print(*said)
    assert [worker.returncode for worker in workers] == [0] * WORKERS, "\n".join(said)


def test_tape_of_zeros_is_an_add_that_ends_well():
    assert fuzz_verdict.play(b"") == fuzz_verdict.play(bytes(96)) == ""
    assert Tape().pick((7, 8)) == 7
    assert not Tape().rarely(256)


def test_tape_makes_the_same_call_whatever_was_played_before():
    before = repr(ODD_VALUES)
    first = (PATHS.index(("ipam",)), 0, ODD_VALUES.index({}))
    second = (PATHS.index(("ipam", "type")), 0, ODD_VALUES.index("enim"))
    tape, netconf = Tape(bytes(first + second)), {}
    for _ in (first, second):
        changed(tape, netconf, PATHS)
    assert (netconf, repr(ODD_VALUES)) == ({"ipam": {"type": "enim"}}, before)


# Faults that are planted must be found


def no_roll_back(_checked, failure):
    return commands._coded(failure)
    yield


def roll_back_of_another(checked, failure):
    checked.container_id += "x"
    return (yield from commands_roll_back(checked, failure))


def no_undo(_checked, _plugin, _home_name, failure):
    return errors.coded(failure)
    yield


def crash(_data):
    raise KeyError("no such thing")


def only_spaces(value, keep=""):
    return value.replace(" ", "%20")


commands_roll_back = commands.roll_back
PLANTED = [
    (commands, "roll_back", no_roll_back, "left behind without a word"),
    (commands, "roll_back", roll_back_of_another, "left behind without a word"),
    (exclusive, "_undo", no_undo, "left behind without a word"),
    (errors, "BAD_AGENT_REPLY", 99, '"code":99'),
    (framing, "quote", only_spaces, ""),
    (jsonio, "_loads_slowly", crash, "KeyError"),
    (commands, "ADD_BUDGET", (300_000, 300_000, 300_000), "it took "),
]


@pytest.mark.parametrize(
    ("module", "name", "planted", "said"), PLANTED, ids=lambda value: getattr(value, "__name__", "")
)
def test_fault_that_is_planted_is_found(monkeypatch, module, name, planted, said):
    monkeypatch.setattr(module, name, planted)
    found = fuzz_run.run(COUNT, 0)
    assert found
    assert said in found.partition("\n")[0]
