"""Boots Debian's kernel in qemu, without KVM and without root, and runs there what this machine's kernel may not have.

The machine is an initramfs: Debian's userland and Python, our dependencies, this tree. RUNS says what it does. Nothing
is installed here but what the user installs himself: qemu.

Exit status: 0 all runs passed; 1 one failed, or the machine did not come to its end; 3 this machine cannot do it (it
says what is missing). With ``--junit DIRECTORY``, files ``vm*.xml`` in it, a skip with its reason included.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import image
import packages

QEMU = "qemu-system-x86_64"
MEMORY_MIB = 2048
NICS = ("52:54:00:00:00:01", "52:54:00:00:00:02")
LIMIT_S = 900  # it takes 270 s on two cores, twice that on a slow day
POLL_S = 0.2
TAIL_LINES = 60


@dataclass(frozen=True)
class Run:
    """What the machine does.

    Args:
        command: run in the tree; ``{junit}`` is where its results go.
        junit: the name of the file of its results, "" if it has none.
        as_root: else as an ordinary user.
    """

    name: str
    command: tuple[str, ...]
    junit: str = ""
    as_root: bool = False
    limit_s: int = LIMIT_S


LAB = ("python3", "-m", "simulator")
PYTEST = ("python3", "-m", "pytest", "-q", "-p", "no:cacheprovider", "--junitxml={junit}")


# What knows the kernel, held against this one; the rest of that tier has time limits that emulation cannot keep.
LAB_TESTS = tuple(
    f"tests/lab/simulator/real/test_{name}.py"
    for name in ("kernel", "kernel_netns", "hardware", "hardware_process", "hardware_rounds", "cloud")
)


def runs(tests: list[str]) -> list[Run]:
    """All of them, in their order."""
    scenarios = (*LAB, "run", "--lab", "userns", "scenarios/", "--junit", "{junit}")
    return [
        Run("doctor", (*LAB, "doctor")),
        Run("real NICs", (*PYTEST, *tests), junit="vm-tests.xml", as_root=True),
        Run("links and hardware", (*PYTEST, *LAB_TESTS), junit="vm-lab.xml"),
        *(
            Run(f"scenarios on {backend}", (*scenarios, "--backend", backend), junit=f"vm-scenarios-{backend}.xml")
            for backend in ("veth", "dummy")
        ),
    ]


class Machine:
    """One boot. Its console and its results are files."""

    def __init__(self, booted: image.Image, work: Path) -> None:
        self.console = work / "console.log"
        self.results = work / "results.jsonl"
        self.complaints = work / "qemu.log"
        for file in (self.console, self.results, self.complaints):
            file.write_text("")
        nics = [
            word
            for number, mac in enumerate(NICS)
            for word in (
                *("-netdev", f"hubport,id=hub{number},hubid={number}"),
                *("-device", f"virtio-net-pci,netdev=hub{number},mac={mac},romfile="),
            )
        ]
        self._command = [
            *(
                QEMU,
                "-nodefaults",
                "-no-user-config",
                "-display",
                "none",
                "-no-reboot",
                "-machine",
                "pc",
                "-cpu",
                "max",
            ),
            *("-accel", "tcg,thread=multi", "-smp", str(min(os.cpu_count() or 1, 4)), "-m", str(MEMORY_MIB)),
            *("-kernel", str(booted.kernel), "-initrd", str(booted.initramfs)),
            *("-append", "console=ttyS0 quiet panic=-1 net.ifnames=0"),
            *("-serial", f"file:{self.console}", "-serial", f"file:{self.results}"),
            *nics,
        ]

    def boot(self, limit_s: float) -> Iterator[dict[str, Any]]:
        """What the machine tells, as it tells it, until it is off or the time is up."""
        deadline = time.monotonic() + limit_s
        with (
            self.complaints.open("w") as complaints,
            self.results.open() as results,
            subprocess.Popen(self._command, stdin=subprocess.DEVNULL, stderr=complaints) as process,
        ):
            try:
                line = ""
                while True:
                    is_over = process.poll() is not None
                    line += results.readline()
                    if line.endswith("\n"):
                        yield json.loads(line)
                        line = ""
                    elif is_over:
                        return
                    elif time.monotonic() > deadline:
                        say(f"the virtual machine was ended after {limit_s:.0f} s")
                        return
                    else:
                        time.sleep(POLL_S)
            finally:
                process.kill()

    def tail(self) -> str:
        """The end of the console, and what qemu itself has said."""
        lines = [*self.console.read_text(errors="replace").splitlines(), *self.complaints.read_text().splitlines()]
        return "\n".join(lines[-TAIL_LINES:])


class Report:
    """Gathers what became of the runs, and writes it as JUnit XML."""

    def __init__(self, directory: Path | None) -> None:
        self._directory = directory
        self._suite = ET.Element("testsuite", name="virtual machine")

    def case(self, name: str, seconds: float = 0, failure: str = "", skipped: str = "") -> None:
        case = ET.SubElement(self._suite, "testcase", classname="vm", name=name, time=f"{seconds:.1f}")
        if failure:
            ET.SubElement(case, "failure", message=failure)
        if skipped:
            ET.SubElement(case, "skipped", message=skipped)

    def write(self) -> None:
        self.attach("vm.xml", ET.tostring(self._suite, encoding="unicode"))

    def prepare(self) -> None:
        """Find out now whether it can be written. Raises OSError; then nothing is written later."""
        directory, self._directory = self._directory, None
        if directory is not None:
            directory.mkdir(parents=True, exist_ok=True)
            (directory / "vm.xml").touch()
            self._directory = directory

    def attach(self, name: str, text: str) -> None:
        if self._directory is not None and text:
            (self._directory / name).write_text(text)


def carry_out(machine: Machine, plan: list[Run], limit_s: float, report: Report) -> bool:
    """Boot, and see every run pass. A run that says nothing has failed."""
    names = {one.name: one.junit for one in plan}
    passed: set[str] = set()
    began = time.monotonic()
    is_done = False
    for told in machine.boot(limit_s):
        if "ends" in told:
            name, status = told["ends"], told["status"]
            say(f"{'passed' if status == 0 else 'FAILED'} {name}: exit status {status}, {told['seconds']} s")
            report.case(name, told["seconds"], f"exit status {status}" if status else "")
            report.attach(names.pop(name), told["junit"])
            passed |= {name} if status == 0 else set()
        elif "begins" in told:
            say(f"{told['begins']}: begins {time.monotonic() - began:.1f} s after the power on")
        is_done = is_done or "done" in told
    for name in names:
        say(f"FAILED {name}: the virtual machine ended before it")
        report.case(name, failure="the virtual machine ended before it")
    return is_done and len(passed) == len(plan)


def say(text: str) -> None:
    """A line for whoever waits."""
    sys.stdout.write(f"vm: {text}\n")
    sys.stdout.flush()


def cache_directory() -> Path:
    """Of this user; content in it is named by its hash, so any checkout may share it."""
    named = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(named) if named.startswith("/") else Path("~/.cache").expanduser()) / "enim/vm"


@contextlib.contextmanager
def _writing(cure: str) -> Iterator[None]:
    """Around what writes files. Raises packages.Lacking, with what to set, where they cannot be written."""
    try:
        yield
    except (OSError, RuntimeError) as error:  # the latter: there is no home
        said = f"{error.filename}: {error.strerror}" if isinstance(error, OSError) else error
        raise packages.Lacking(f"nothing can be written there: {said}. Set {cure} to a directory of yours") from error


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--junit", type=Path, help="a directory for the results")
    parser.add_argument("--work", type=Path, default=image.ROOT / ".tox/vm", help="where the console's log goes")
    parser.add_argument("--limit", type=float, default=LIMIT_S, metavar="S", help="seconds from power on to power off")
    parser.add_argument("-k", dest="only", default="", metavar="TEXT", help="only the runs whose name has this text")
    parser.add_argument("tests", nargs="*", default=["tests/vm"], help="what pytest runs in the machine")
    asked = parser.parse_args()
    plan = [one for one in runs(asked.tests) if asked.only in one.name]
    if not plan:
        parser.error(f"-k {asked.only}: no run has this in its name, of {', '.join(one.name for one in runs([]))}")
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # so that qemu ends too
    report = Report(asked.junit)
    try:
        with _writing("--junit"):
            report.prepare()
        if shutil.which(QEMU) is None:
            raise packages.Lacking(f"there is no {QEMU}: install it ('sudo apt-get install qemu-system-x86')")
        with _writing("XDG_CACHE_HOME"):
            cache = cache_directory()
            cache.mkdir(parents=True, exist_ok=True)
            made = image.base(cache, say)
        with _writing("--work"):
            asked.work.mkdir(parents=True, exist_ok=True)
            machine = Machine(image.with_tree(made, asked.work, [asdict(one) for one in plan]), asked.work)
    except packages.Lacking as lacking:
        say(f"SKIPPED: {lacking}")
        report.case("boot", skipped=str(lacking))
        report.write()
        return 3
    passed = carry_out(machine, plan, asked.limit, report)
    report.write()
    if not passed:
        say(f"the end of {machine.console}:\n{machine.tail()}")
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
