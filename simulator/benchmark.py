"""EDGE: puts a benchmark together: chooses a lab, makes the worlds, runs rounds in turn, writes what was found.

Within a state of the pool all subjects are measured in the same run: one round of each, then the next round of each, in
an order that rotates. Each has a world of its own.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO, TypeAlias

from simulator import labs
from simulator.bench import load, networks, outcome, workload
from simulator.chain.install import BARE
from simulator.effects import World
from simulator.errors import LabError, ScenarioError
from simulator.model import PluginCall
from simulator.report import files
from simulator.scenario import load as scenario_load
from simulator.scenario import schema

ROUNDS_MAX = 100  # without a wish
TIME_MS = {load.WARM: 20_000.0, load.EXHAUSTED: 8_000.0, load.RECLAIMING: 12_000.0}  # without a wish; 60 s are allowed
FILE_TIME_MS = 40_000.0
CONCURRENCY_MAX = 32  # two ENIs for each, and a node has at most 64

SIM_SYNC_NS, SIM_DELAY_NS = 200_000, 20_000
SIM_WHY = "virtual time: a write of the journal takes 0.2 ms, a message 0.02 ms, all else none"
BARE_NAME = "python3 -ISE"

Progress: TypeAlias = Callable[[str, int, int], None]  # what is measured, rounds done, rounds in all at the most


@dataclass(frozen=True, slots=True)
class Options:
    """What was asked for.

    Args:
        file: a scenario to measure; None measures the three states of the pool.
        lab: a lab's name; None takes userns if it works.
        chain: an upper plugin; None takes both, or all of the file's.
        concurrency: plugin processes, or runs of the file, at once.
        count: rounds; None is ``ROUNDS_MAX``, or as many as fit into the time.
    """

    file: Path | None = None
    lab: str | None = None
    chain: str | None = None
    concurrency: int = 1
    count: int | None = None


@dataclass(slots=True)
class _Findings:
    measured: list[load.Measured]
    busy_ms: float = 0.0


def run(
    options: Options, progress: Progress, tell: Callable[[str], None] = lambda _line: None
) -> tuple[outcome.Bench, list[str]]:
    """Measure.

    Args:
        tell: told what the lab does before it can start, a line at a time.

    Returns:
        What was found, and why runs of the scenario failed (their figures count all the same).

    Raises:
        ScenarioError: the file is wrong, or cannot run in this chain.
        LabError: this machine cannot hold the lab, or what was to be measured did not happen.
    """
    loaded = None if options.file is None else scenario_load.load(options.file)
    lab = _lab(options, _needed(options, loaded), tell)
    with lab.world(_node(0)) as world:  # which may be on another machine, or have another Python
        facts = world.machine()
    failures: list[str] = []
    left_out: dict[str, str] = {}
    if loaded is None:
        rows = _states(options, lab, left_out, progress)
    else:
        rows = _file(options, loaded, lab, failures, progress)
    asked = {"file": None if options.file is None else str(options.file), "chain": options.chain}
    numbers = {"concurrency": options.concurrency, "count": options.count}
    is_virtual = lab.name == labs.SIM
    return outcome.Bench(lab.name, lab.why, is_virtual, asked | numbers, facts, rows, left_out), failures


def _needed(options: Options, loaded: scenario_load.LoadedScenario | None) -> tuple[str, ...]:
    """Plugins without which there is nothing to measure."""
    if loaded is None:
        return (options.chain or networks.CHAINS[0].upper, "enim")
    return tuple(sorted({plugin for chain in _chains(options, loaded) for plugin in loaded.scenario.plugins(chain)}))


def _chains(options: Options, loaded: scenario_load.LoadedScenario) -> Sequence[str]:
    chains = loaded.scenario.all_chains
    if options.chain is None:
        return chains
    if options.chain not in chains:
        raise ScenarioError(loaded.file, 0, 0, f"it has no chain {options.chain}, only {', '.join(chains)}")
    return (options.chain,)


def _lab(options: Options, plugins: Sequence[str], tell: Callable[[str], None]) -> labs.Lab:
    lab = labs.choose(options.lab, plugins, tell=tell)
    if lab.name == labs.SIM:
        return labs.Sim(f"{lab.why}; {SIM_WHY}" if options.lab is None else SIM_WHY, SIM_SYNC_NS, SIM_DELAY_NS)
    return lab


def _node(enis: int) -> schema.Scenario:
    """Only the node of it is looked at."""
    step = {"expect": {"enis": {"free": enis}}}
    document = {"name": "bench", "summary": "bench", "node": {"enis": enis}, "chain": "exclusive-device"}
    return schema.Scenario.model_validate({**document, "steps": (step,)})


def _states(options: Options, lab: labs.Lab, left_out: dict[str, str], progress: Progress) -> list[outcome.Row]:
    wanted = [one for one in networks.CHAINS if options.chain in (None, one.upper)]
    found: list[outcome.Row] = []
    for state in load.STATES:
        subjects = [*wanted, *(networks.BASELINES if state == load.WARM else ())]
        with contextlib.ExitStack() as stack:
            series = _series(options, lab, state, subjects, left_out, stack=stack)
            findings = _rounds(options, lab, state, series, progress)
        for name, one in findings.items():
            found += outcome.rows(state, name, one.measured, one.busy_ms)
    return found


def _series(
    options: Options,
    lab: labs.Lab,
    state: str,
    subjects: Sequence[networks.Subject],
    left_out: dict[str, str],
    *,
    stack: contextlib.ExitStack,
) -> dict[str, load.Series | load.Bare]:
    """What can be measured here, ready; what cannot is noted in ``left_out``."""
    series: dict[str, load.Series | load.Bare] = {}
    node = _node(load.enis_of(state, options.concurrency))
    for subject in subjects:
        lacking = left_out.get(subject.name) or lab.lacks(subject.plugins)
        if not lacking:
            world = stack.enter_context(lab.world(node))
            lacking = _missing(lab, world, subject.plugins)
        if lacking:
            left_out[subject.name] = lacking
            continue
        series[subject.name] = load.Series(world, subject, state, options.concurrency)
    if state == load.WARM:
        lacking = lab.lacks((BARE,))
        if lacking:
            left_out[BARE_NAME] = "no process starts in virtual time"
        else:
            series[BARE_NAME] = load.Bare(stack.enter_context(lab.world(_node(0))), BARE, options.concurrency)
    return series


def _missing(lab: labs.Lab, world: World, plugins: Sequence[str]) -> str:
    """Why these plugins cannot run on a world; "" if they can."""
    absent = [name for name in plugins if _starts(world, name) in (126, 127)]
    cure = "; run `enim-lab doctor --install`" if lab.name == labs.USERNS else ""  # in docker, the image has them
    return f"the {' and the '.join(absent)} plugin cannot be started here{cure}" if absent else ""


def _starts(world: World, plugin: str) -> int:
    return world.execute(PluginCall(plugin, {"CNI_COMMAND": "VERSION"}, b'{"cniVersion":"1.0.0"}')).exit_code


def _rounds(
    options: Options,
    lab: labs.Lab,
    state: str,
    series: Mapping[str, load.Series | load.Bare],
    progress: Progress,
) -> dict[str, _Findings]:
    """One round of each in turn; the first one of each, which meets cold caches, does not count."""
    for one in series.values():
        one.prepare()
        one.round()
    names = list(series)
    findings = {name: _Findings([]) for name in names}
    began_ms = lab.now_ms()
    count = options.count or ROUNDS_MAX
    for number in range(count):
        if options.count is None and number and lab.now_ms() - began_ms > TIME_MS[state]:
            break
        progress(state, number, count)
        first = number % len(names)
        for name in names[first:] + names[:first]:
            measured = series[name].round()
            findings[name].measured += measured.measured
            findings[name].busy_ms += measured.busy_ms
    progress(state, count, count)
    return findings


def _file(
    options: Options, loaded: scenario_load.LoadedScenario, lab: labs.Lab, failures: list[str], progress: Progress
) -> list[outcome.Row]:
    """Each run in a fresh world; chains take turns."""
    chains = _chains(options, loaded)
    name = loaded.scenario.name
    for chain in chains:
        lacking = lab.lacks(loaded.scenario.plugins(chain), loaded.scenario)
        if lacking:
            raise LabError(f"{loaded.file} in the chain {chain}: {lacking}")
    count = (options.count or ROUNDS_MAX) * len(chains)

    def job(index: int, say: Callable[[workload.Played], None]) -> None:
        with lab.world(loaded.scenario) as world:
            say(workload.play(loaded, chains[index % len(chains)], world))

    findings = {chain: _Findings([]) for chain in chains}
    began_ms = lab.now_ms()
    progress(name, 0, count)
    played: Iterator[tuple[int, workload.Played]] = lab.each(job, count, options.concurrency)
    for done, (_, one) in enumerate(played, start=1):
        found = findings[one.chain]
        found.measured += one.measured
        found.busy_ms += sum(each.phases.total_ms for each in one.measured) / options.concurrency
        failures += [f"{one.chain}: {one.failed}"] if one.failed else []
        progress(name, done, count)
        if options.count is None and done >= len(chains) and lab.now_ms() - began_ms > FILE_TIME_MS:
            break
    progress(name, count, count)
    return [row for chain, one in findings.items() for row in outcome.rows(name, chain, one.measured, one.busy_ms)]


@contextlib.contextmanager
def json_file(path: Path | None) -> Iterator[Callable[[outcome.Bench], None]]:
    """Hands out a function that writes the findings to a file, whole or not at all. Without a path it does nothing.

    What is there and no regular file, such as a device or a link to /dev/stdout, is written to and not replaced.

    Raises:
        ScenarioError: the file cannot be written; if that can be known, found out before anything is measured.
    """
    if path is None:
        yield lambda _: None
        return
    if path.is_symlink() or (path.exists() and not path.is_file()):
        yield lambda bench: _write_through(path, bench)
        return
    with files.writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")

    def write(bench: outcome.Bench) -> None:
        with files.writing(path):
            with os.fdopen(os.dup(descriptor), "w", encoding="utf-8", newline="\n") as file:
                _write_json(file, bench)
                os.fchmod(file.fileno(), 0o644)
            Path(temporary).replace(path)

    try:
        yield write
    finally:
        os.close(descriptor)
        Path(temporary).unlink(missing_ok=True)


def _write_through(path: Path, bench: outcome.Bench) -> None:
    with files.writing(path), path.open("w", encoding="utf-8") as stream:
        _write_json(stream, bench)


def _write_json(stream: TextIO, bench: outcome.Bench) -> None:
    json.dump(outcome.as_json(bench), stream, ensure_ascii=False, indent=2)
    stream.write("\n")
    stream.flush()
