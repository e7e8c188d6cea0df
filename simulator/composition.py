"""EDGE: puts a scenario run together: loads the files, chooses a lab, makes a fresh world for each run, and tells the
reports what happens.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from simulator import labs
from simulator.errors import ScenarioError
from simulator.model import Backend
from simulator.report import events
from simulator.scenario import load, run, select

Report: TypeAlias = Callable[[events.Event], None]
Progress: TypeAlias = Callable[[int, events.Event], None]

PASSED, FAILED, ALL_SKIPPED = 0, 1, 3


@dataclass(frozen=True, slots=True)
class Run:
    """One scenario in one chain."""

    loaded: load.LoadedScenario
    chain: str

    @property
    def name(self) -> str:
        """What ``-k`` looks at."""
        return f"{self.loaded.scenario.name} {self.chain}"


def run_scenarios(
    paths: Sequence[Path],
    lab_name: str | None,
    expression: str,
    reports: Sequence[Report],
    *,
    jobs: int = 1,
    backend: Backend | None = None,
    progress: Progress | None = None,
    tell: Callable[[str], None] = lambda _line: None,
    bin_dir: Path | None = None,
) -> int:
    """Run every chosen scenario in every chosen chain, each in a fresh world; up to ``jobs`` at a time.

    Args:
        backend: which kind of link ENIs are where a scenario has no wish; without it the best that this kernel has.
        reports: told of one run after the other, in the order of the files, whichever ends first.
        progress: told of everything at once, with the run's number.
        tell: told what the lab does before it can start, a line at a time.
        bin_dir: where others' plugins are looked for first, in ``userns``.

    Returns:
        The exit status: 0 all passed, 1 something failed, 3 everything was skipped.

    Raises:
        ScenarioError: a file is wrong; nothing has run then.
        LabError: this machine cannot hold the lab.
    """

    def report(event: events.Event) -> None:
        for take in reports:
            take(event)

    runs = select_runs(paths, expression)
    plugins = sorted({plugin for one in runs for plugin in one.loaded.scenario.plugins(one.chain)})
    lab = labs.choose(lab_name, plugins, backend, tell, bin_dir)
    started_ms = lab.now_ms()
    report(events.RunStarted(lab.name, lab.why, len(runs), lab.backend()))
    counts = {"passed": 0, "failed": 0, "skipped": 0}

    def job(index: int, say: Report) -> None:
        _run_one(runs[index], lab, say)

    said: Iterator[tuple[int, events.Event]] = lab.each(job, len(runs), jobs)
    for event in _in_order(_watched(said, progress)):
        report(event)
        if isinstance(event, events.ScenarioFinished):
            counts["failed" if event.failed else "passed"] += 1
        counts["skipped"] += isinstance(event, events.ScenarioSkipped)
    report(events.RunFinished(counts["passed"], counts["failed"], counts["skipped"], lab.now_ms() - started_ms))
    if counts["failed"]:
        return FAILED
    return PASSED if counts["passed"] else ALL_SKIPPED


def select_runs(paths: Sequence[Path], expression: str = "") -> list[Run]:
    """The runs of the files at these paths whose name ``expression`` accepts; at least one.

    Raises:
        ScenarioError: a file is wrong, or none matches.
    """
    loaded = [load.load(path) for path in load.find(tuple(paths))]
    wanted = select.parse(expression)
    runs = [one for file in loaded for one in (Run(file, chain) for chain in file.scenario.all_chains)]
    runs = [one for one in runs if wanted(one.name)]
    if not runs:
        raise ScenarioError(", ".join(map(str, paths)), 0, 0, f"no scenario matches -k {expression!r}")
    return runs


def _run_one(one: Run, lab: labs.Lab, say: Report) -> None:
    scenario, file = one.loaded.scenario, one.loaded.file
    lacking = lab.lacks(scenario.plugins(one.chain), scenario)
    if lacking:
        say(events.ScenarioSkipped(scenario.name, one.chain, file, lacking))
        return
    say(events.ScenarioStarted(scenario.name, one.chain, file, len(scenario.steps)))
    started_ms = lab.now_ms()
    with lab.world(scenario) as world:
        say(events.LabUp(len(world.enis), lab.now_ms() - started_ms, lab.backend(scenario)))
        failed = run.ScenarioRun(one.loaded, one.chain, world, say).run()
    say(events.ScenarioFinished(scenario.name, one.chain, file, lab.now_ms() - started_ms, failed))


def _watched(said: Iterable[tuple[int, events.Event]], progress: Progress | None) -> Iterator[tuple[int, events.Event]]:
    for index, event in said:
        if progress is not None:
            progress(index, event)
        yield index, event


def _in_order(said: Iterable[tuple[int, events.Event]]) -> Iterator[events.Event]:
    """The events of run 0, then of run 1 …, each as early as that allows."""
    waiting: defaultdict[int, list[events.Event]] = defaultdict(list)
    current = 0
    for index, event in said:
        waiting[index].append(event)
        while waiting[current]:
            one = waiting[current].pop(0)
            yield one
            current += isinstance(one, (events.ScenarioFinished, events.ScenarioSkipped))
