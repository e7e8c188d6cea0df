"""Traces and kills plugins in labs, each series of runs on a node of its own."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from kill_node import TracedNode
from kill_steps import Group, Kill, Traces

from simulator import parallel
from simulator.chain import install, interpreter, trace
from simulator.scenario import run

InLab: TypeAlias = Callable[[Callable[[Path], Any]], Any]

SERIES_MAX = 5
ATTEMPTS_MAX = 3  # of a kill that missed its moment: a call was repeated, or a list changed while it was read

Play: TypeAlias = tuple[str, Callable[[TracedNode], None]]  # a scenario's steps, and what is done before


class Bench:
    """Traces and kills plugins, each series of runs on a node of its own, on every core."""

    def __init__(self, in_lab: InLab, bundle: Mapping[str, bytes] | None = None) -> None:
        self._in_lab = in_lab
        self._bundle = dict(bundle or install.bundle(sys.executable))

    def with_source(self, module: str, old: str, new: str) -> Bench:
        """The same, with plugins of which one module reads otherwise."""
        (path,) = (path for path in self._bundle if path.endswith(f"/enim/{module}.py"))
        home = path.rpartition("/enim/")[0]
        sources = {Path(name).stem: file for name, file in self._bundle.items() if name.startswith(f"{home}/enim/")}
        assert sources[module].count(old.encode()) == 1
        sources[module] = sources[module].replace(old.encode(), new.encode())
        compiled = interpreter.compiled(sys.executable, sources).file
        return Bench(self._in_lab, {**self._bundle, path: sources[module], f"{home}/{install.COMPILED}": compiled})

    def traces(self, groups: Sequence[Group]) -> Traces:
        """What each plugin does in an undisturbed call of each verb."""
        return dict(self._each(lambda group: self._in_lab(lambda scratch: self._look_on(scratch, group)), groups))

    def kill(self, kills: Sequence[Kill], traces: Traces) -> Iterator[tuple[Kill, str]]:
        """Do them all; each with what is wrong then, "" for nothing."""
        series = [kills[start : start + SERIES_MAX] for start in range(0, len(kills), SERIES_MAX)]
        return self._each(lambda some: self._series(some, traces), series)

    def watch(self, group: Group, see: Callable[[TracedNode], Any]) -> dict[str, list[tuple[list[str], Any]]]:
        """Step through an undisturbed call of each verb: the kinds of the calls until each stop, and what is seen then.

        Args:
            group: one that is stepped through.
            see: looks at the node while the process has stopped.
        """

        def go(scratch: Path) -> dict[str, list[tuple[list[str], Any]]]:
            world = TracedNode(scratch, self._bundle)
            seen: dict[str, list[tuple[list[str], Any]]] = {verb: [] for verb in group.verbs}

            def note(verb: str, log: str) -> int:
                seen[verb].append(([call.kind for call in trace.parse(log)], see(world)))
                return 0

            for verb in group.verbs:
                world.look_on(group, verb, trace.STEPS, lambda log, verb=verb: note(verb, log))
            failed = play(world, group, group.clean)
            assert failed == "", failed
            return seen

        seen: dict[str, list[tuple[list[str], Any]]] = self._in_lab(go)
        return seen

    def play(self, plays: Mapping[Group, Sequence[Play]]) -> list[tuple[Group, str]]:
        """Play scenarios, each on a node that has been prepared for it; of each what is wrong then, "" for nothing."""

        def go(scratch: Path, group: Group) -> list[tuple[Group, str]]:
            world = TracedNode(scratch, self._bundle)
            verdicts = []
            for steps, prepare in plays[group]:
                prepare(world)
                verdicts.append((group, play(world, group, steps) or world.wrong()))
            return verdicts

        return list(self._each(lambda group: self._in_lab(lambda scratch: go(scratch, group)), list(plays)))

    @staticmethod
    def _each(job: Callable[[Any], Iterable[Any]], items: Sequence[Any]) -> Iterator[Any]:
        def work(index: int, say: Callable[[Any], None]) -> None:
            for said in job(items[index]):
                say(said)

        for _index, said in parallel.run(work, len(items), os.cpu_count() or 1):
            yield said

    def _look_on(self, scratch: Path, group: Group) -> list[tuple[tuple[Group, str], tuple[trace.Call, ...]]]:
        world = TracedNode(scratch, self._bundle)
        for verb in group.verbs:
            if group.has_threads:
                world.look_on(group, verb, trace.STEPS, lambda _log: 0)
            else:
                world.look_on(group, verb)
        failed = play(world, group, group.clean) or world.wrong()
        assert failed == "", failed
        return [((group, verb), trace.parse(world.log(verb))) for verb in group.verbs]

    def _series(self, kills: Sequence[Kill], traces: Traces) -> Iterator[tuple[Kill, str]]:
        """One after the other on one node; on a new one after something was wrong, or a kill has missed its moment."""
        rest, attempts = list(kills), 1
        while rest:
            verdicts = self._in_lab(lambda scratch, rest=tuple(rest): self._until_wrong(scratch, rest, traces))
            *_, (missed, _) = verdicts
            if missed and attempts < ATTEMPTS_MAX:
                verdicts.pop()
                attempts += 1
            else:
                attempts = 1
            for missed, failed in verdicts:
                yield rest.pop(0), missed or failed

    def _until_wrong(self, scratch: Path, kills: Sequence[Kill], traces: Traces) -> list[tuple[str, str]]:
        """Of each, why the plugin was not killed where it was to be, and what was wrong then; of the last, perhaps."""
        world = TracedNode(scratch, self._bundle)
        verdicts: list[tuple[str, str]] = []
        for kill in kills:
            clean = traces[kill.group, kill.verb]
            failed = self._play_kill(world, kill, clean) or world.wrong()
            missed = kill.point.missed(clean, world.log(kill.verb), kill.signal) if world.has_called(kill.verb) else ""
            verdicts.append((missed, failed))
            if missed or failed:
                break
        return verdicts

    @staticmethod
    def _play_kill(world: TracedNode, kill: Kill, clean: Sequence[trace.Call]) -> str:
        def on_stop(log: str) -> int:
            return getattr(signal, f"SIG{kill.signal}") if kill.point.is_reached(clean, log) else 0

        options = kill.point.options(kill.signal)
        world.look_on(kill.group, kill.verb, options, on_stop if kill.point.is_step else None)
        return play(world, kill.group, kill.steps)


def play(world: TracedNode, group: Group, steps: str) -> str:
    """Run a scenario: why it failed, "" if it did not."""
    world.belong_to(group)
    failed = run.ScenarioRun(group.scenario(steps), group.chain, world, lambda _event: None).run()
    if failed is None:
        return ""
    calls = [
        f"{one.call.plugin} {one.call.environment['CNI_COMMAND']}: {one.exit_code} {one.stdout!r}"
        for one in failed.plugins
    ]
    return "\n".join([f"{failed.step}: {failed.message}", *map(": ".join, failed.views), *calls])


@pytest.fixture
def bench(in_lab: InLab) -> Bench:
    if shutil.which("strace") is None:
        pytest.skip("plugins are killed with strace, which is missing. Install it: sudo apt-get install strace")
    if problem := in_lab(lambda _scratch: cannot_trace()):
        pytest.skip(f"strace cannot trace in a lab here ({problem}): sudo sysctl kernel.yama.ptrace_scope=1")
    return Bench(in_lab)


def cannot_trace() -> str:
    ran = subprocess.run(["strace", "-o", os.devnull, "true"], check=False, capture_output=True, text=True)
    return ran.stderr.strip().partition("\n")[0] if ran.returncode else ""
