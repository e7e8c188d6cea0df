"""The command line: exit statuses, and a sentence instead of a traceback. The real program, in the sim lab where one
is needed.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from simulator.agent import openapi

ROOT = Path(__file__).parents[3]
PASSES = "chain: exclusive-device\nsteps:\n  - add: {pod: default/web-0, container: c1}\n"
FAILS = PASSES + "  - expect: {enis: {free: 2}}\n"


def enim_lab(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "simulator", *map(str, arguments)]
    return subprocess.run(
        command, cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True, timeout=60, check=False
    )


def scenario(folder: Path, name: str, text: str) -> Path:
    file = folder / f"{name}.yaml"
    file.write_text(f"name: {name}\nsummary: a test\n{text}")
    return file


def test_run_ends_with_0_and_says_which_lab_and_what_passed(tmp_path: Path) -> None:
    ran = enim_lab("run", "--lab", "sim", scenario(tmp_path, "good", PASSES))
    lines = ran.stdout.splitlines()
    assert (ran.returncode, ran.stderr) == (0, "")
    assert lines[0].startswith("lab sim: ")
    assert lines[1].startswith("passed good · exclusive-device")
    assert lines[-1].startswith("1 passed, 0 failed")


def test_run_that_fails_ends_with_1_and_names_file_line_and_both_views(tmp_path: Path) -> None:
    file = scenario(tmp_path, "bad", FAILS)
    ran = enim_lab("run", "--lab", "sim", "--junit", tmp_path / "new/junit.xml", file)
    assert (ran.returncode, ran.stderr) == (1, "")
    assert "2 ENIs must be free, but 1 are" in ran.stdout
    assert f"at step expect, {file}:6" in ran.stdout
    assert "the agent says: eni-1 in_use of podnet/c1/eth0; eni-2 free" in ran.stdout
    assert "eni-1 is eth0 in /run/netns/c1" in ran.stdout
    failure = ET.parse(tmp_path / "new/junit.xml").find("testcase/failure")
    assert failure is not None
    assert failure.get("message", "").startswith(f"{file}:6: expect: 2 ENIs must be free")


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["run", "no/such/folder"], 2, "no/such/folder: no such file or folder"),
        (["run", "docs"], 2, "docs: no *.yaml file in this folder"),
        (["run", "-k", "nothing-has-this-name"], 2, "no scenario matches -k 'nothing-has-this-name'"),
        (["run", "--lab", "sim", "-k", "happy", "--junit", "/proc/nope/j.xml"], 2, "j.xml: it cannot be written"),
        (
            ["run", "--lab", "sim", "-k", "happy", "--trace", "/dev/full"],
            2,
            "full: it cannot be written: No space",
        ),
        (["run", "-k", "a and"], 2, "-k: 'a and': a text is missing"),
        (["run", "--lab", "moon"], 2, "'moon' is not one of"),
        (["run", "--lab", "sim", "--trace", "docs"], 2, "is a directory"),
        (["lint", "LICENSE"], 2, ""),
        (["agent", "--socket", "/tmp/x", "--state", "/tmp/y", "--enis", "many"], 2, "'many' is not a valid integer"),
        (["agent"], 2, "Missing option '--socket'"),
        (["bench", "no/such.yaml"], 2, "no/such.yaml: cannot be read"),
        (["bench", "LICENSE"], 2, "LICENSE:"),
        (["bench", "--count", "0"], 2, "0 is not in the range"),
        (["bench", "--concurrency", "33"], 2, "33 is not in the range 1<=x<=32"),
        (["bench", "--chain", "bridge"], 2, "'bridge' is not one of"),
        (["bench", "--lab", "sim", "--json", "docs"], 2, "is a directory"),
        (["bench", "--lab", "sim", "--json", "LICENSE/x.json"], 2, "LICENSE/x.json: it cannot be written"),
    ],
)
def test_bad_input_is_a_sentence_and_status_2(arguments: list[str], status: int, said: str) -> None:
    ran = enim_lab(*arguments)
    assert (ran.returncode, "Traceback" in ran.stderr) == (status, False)
    assert said in ran.stderr


def test_agent_that_cannot_have_its_socket_is_a_sentence_and_status_3(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    ran = enim_lab("agent", "--socket", tmp_path / "file" / "s", "--state", tmp_path / "state", "--enis", "0")
    assert (ran.returncode, "Traceback" in ran.stderr) == (3, False)
    assert str(tmp_path / "file") in ran.stderr


def test_bench_of_a_scenario_that_fails_ends_with_1_and_its_figures(tmp_path: Path) -> None:
    file = scenario(tmp_path, "bad", FAILS)
    ran = enim_lab("bench", "--lab", "sim", "--count", "2", "--json", tmp_path / "b.json", file)
    assert ran.returncode == 1
    assert ran.stderr.count(f"a run failed: exclusive-device: {file}:6: expect: 2 ENIs must be free") == 2
    assert json.loads((tmp_path / "b.json").read_text())["rows"][0]["total_ms"]["count"] == 2


def test_lint_checks_the_library_and_every_file_that_is_wrong(tmp_path: Path) -> None:
    library = enim_lab("lint")
    assert (library.returncode, library.stdout.split(" of ")[0].isdigit()) == (0, True)
    files = [scenario(tmp_path, "one", "chains: 7\n"), scenario(tmp_path, "two", PASSES + "  - ad: {}\n")]
    ran = enim_lab("lint", *files)
    assert ran.returncode == 2
    assert [line.split(":")[0] for line in ran.stdout.splitlines()] == [str(file) for file in files]
    assert "did you mean `add`?" in ran.stdout


def test_schema_knows_every_verb() -> None:
    step = json.loads(enim_lab("schema").stdout)["$defs"]["Step"]
    assert {"add", "del", "netns.delete", "echo", "clock.advance", "agent.crash", "expect"} <= set(step["properties"])
    assert step["additionalProperties"] is False


def test_schema_of_the_agent_is_its_openapi_document() -> None:
    assert json.loads(enim_lab("schema", "agent").stdout) == json.loads(json.dumps(openapi.document()))


@pytest.mark.parametrize(
    "arguments", [("--help",), ("--version",), ("schema",), ("lint",), ("run", "--lab", "sim", "-k", "happy")]
)
def test_stdout_that_takes_nothing_is_said(arguments: tuple[str, ...]) -> None:
    command = [sys.executable, "-m", "simulator", *arguments]
    with Path("/dev/full").open("w") as full:
        ran = subprocess.run(command, cwd=ROOT, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    says = "enim-lab: stdout cannot be written: No space left on device. Send it elsewhere\n"
    assert (ran.returncode, ran.stderr) == (3, says)


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_streams_that_are_closed_change_no_exit_status(tmp_path: Path, closed: str) -> None:
    file = scenario(tmp_path, "good", PASSES)
    for arguments, status in ((f"run --lab sim {file}", 0), ("lint /nowhere", 2), ("--version", 0)):
        ran = subprocess.run(
            ["sh", "-c", f"{sys.executable} -m simulator {arguments} {closed}"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert (ran.returncode, "Traceback" in ran.stderr) == (status, False), ran.stderr
