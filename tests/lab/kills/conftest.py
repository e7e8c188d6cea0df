"""A node whose plugins are killed at a moment of our choice, under the scenario runner and its auditor."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from enim import netlink
from simulator import parallel
from simulator.chain import execute, install, interpreter, trace
from simulator.lab import plugins
from simulator.model import PluginCall, PluginOutcome
from simulator.real import node
from simulator.scenario import load, run

InLab: TypeAlias = Callable[[Callable[[Path], Any]], Any]

SERIES_MAX = 5
LOOK_MS, PARTS = 20, 20
PATIENCE_S = 2.0
STEP_S = 0.001
ATTEMPTS_MAX = 3  # of a kill that missed its moment: a call was repeated, or a list changed while it was read
HEAD = "name: kill\nsummary: A plugin is killed.\nnode: {{enis: 2}}\nchain: {chain}\n{network}steps:\n"
POD = """
  - add: {pod: default/web-0, container: c1}
  - del: {container: c1}
"""
UNDONE = """
  - add: {pod: default/web-0, container: c1}
    expect: {error: {code: 105}}
"""


@dataclasses.dataclass(frozen=True, slots=True)
class Group:
    """Who is killed.

    Args:
        chain: the upper plugin.
        plugin: it, or enim alone, its child.
        delegate: of exclusive-device: ``exec``, or "" for enim in its own process.
        fails: its ADD cannot make a route, and undoes all that it has done until then.
    """

    chain: str
    plugin: str
    delegate: str = ""
    fails: bool = False

    def __str__(self) -> str:
        child = f", child of {self.chain}" if self.plugin != self.chain else ""
        more = ", delegate: exec" if self.delegate else ""
        return f"{self.plugin}{child}{more}{', undoing' if self.fails else ''}"

    @property
    def verbs(self) -> tuple[str, ...]:
        return ("ADD",) if self.fails else ("ADD", "DEL")

    @property
    def has_threads(self) -> bool:
        return self.plugin == "host-device"

    def scenario(self, steps: str) -> load.LoadedScenario:
        keys = [f"delegate: {self.delegate}"] if self.delegate else []
        keys += ["routes: [{dst: 198.51.100.0/24, gw: 192.0.2.1}]"] if self.fails else []
        network = f"network: {{{', '.join(keys)}}}\n" if keys else ""
        return load.parse("kill.yaml", (HEAD.format(chain=self.chain, network=network) + steps).encode())


Traces: TypeAlias = Mapping[tuple[Group, str], tuple[trace.Call, ...]]


@dataclasses.dataclass(frozen=True, slots=True)
class Kill:
    """One run: the plugin is killed there, when it is first called with the verb.

    Args:
        then: what the steps after that are, for people.
        steps: all of them, YAML.
    """

    group: Group
    verb: str
    point: trace.KillPoint
    signal: str
    then: str
    steps: str

    def __str__(self) -> str:
        return f"{self.group}: {self.verb}: SIG{self.signal} {self.point}; then {self.then}"


class TracedNode(node.Node):
    """A World in this very process, which can run a plugin under another program the next time it is called."""

    def __init__(self, scratch: Path, bundle: dict[str, bytes]) -> None:
        super().__init__(node.NodeSetup(2, bundle, plugins.find()), scratch)
        self._logs = scratch / "strace"
        self._logs.mkdir()
        self._armed: dict[str, Callable[[PluginCall], PluginOutcome]] = {}
        self._began = time.monotonic()
        self._residents = residents()

    def pause(self, ms: int) -> None:
        time.sleep(ms / 1000)

    def elapsed_ms(self) -> float:
        return (time.monotonic() - self._began) * 1000

    def create_netns(self, name: str, *, dad: bool) -> str:
        """Without IPv6, as runtimes leave it for pods that have none: so ADD has to write to the kernel's settings."""
        path = super().create_netns(name, dad=dad)
        with netlink.Channel(path) as inside:
            disable = Path("/proc/sys/net/ipv6/conf/default/disable_ipv6")
            netlink.inside(inside.descriptor, lambda: disable.write_text("1"))
        return path

    def advance_clock(self, ms: int) -> None:
        """A long time in parts: the agent may count from when it sees something, and for that it must get to look."""
        if ms <= run.SETTLE_MS:
            super().advance_clock(ms)
            return
        for _ in range(PARTS):
            super().advance_clock(ms // PARTS)
            self.pause(LOOK_MS)
            if all(record.state == "free" for record in self.snapshot().records):
                return  # there is nothing left that it could wait for

    def left_over(self) -> str:
        """Processes and network namespaces that were not there at first, "" for none."""
        deadline = time.monotonic() + PATIENCE_S
        while (now := residents()) != self._residents and time.monotonic() < deadline:
            time.sleep(0.01)
        return "" if now == self._residents else f"at first there were {self._residents}, then {now}"

    def put_under(self, verb: str, *command: str) -> None:
        """The next run of a plugin with this verb is one of ``command`` with its path."""
        self._armed[verb] = lambda call: execute.run(call, self._bin, command)

    def look_on(self, group: Group, verb: str, options: Sequence[str] = ()) -> None:
        """Trace the next run of the group's plugin with this verb; with the right options, kill it."""
        command = trace.strace(str(self._fresh_log(verb)), options)
        if group.plugin == group.chain:
            self.put_under(verb, *command)
            return

        def run_with_child(call: PluginCall) -> PluginOutcome:
            with self._in_front_of(group.plugin, command):
                return execute.run(call, self._bin)

        self._armed[verb] = run_with_child

    def step(self, verb: str, is_there: Callable[[str], bool], number: int) -> None:
        """Step through the next run of a plugin with this verb, and kill it where the log says that it is there."""
        log = self._fresh_log(verb)
        command = trace.strace(str(log), trace.STEPS)

        def run_in_steps(call: PluginCall) -> PluginOutcome:
            with ThreadPoolExecutor(1) as beside:
                ran = beside.submit(execute.run, call, self._bin, command)
                stops = 0
                while not ran.done():
                    time.sleep(STEP_S)
                    text = log.read_text() if log.exists() else ""
                    text = text[: text.rfind("\n") + 1]
                    if trace.stop_count(text) > stops:
                        stops = trace.stop_count(text)
                        go_on(int(text.split()[0]), number if is_there(text) else 0)
                return ran.result()

        self._armed[verb] = run_in_steps

    def has_called(self, verb: str) -> bool:
        """Whether the run that was prepared has been."""
        return verb not in self._armed

    def log(self, verb: str) -> str:
        """What strace wrote of the process that was traced with this verb."""
        return self._log(verb).read_text()

    def execute(self, call: PluginCall) -> PluginOutcome:
        return self._armed.pop(call.environment["CNI_COMMAND"], super().execute)(call)

    def _log(self, verb: str) -> Path:
        return self._logs / f"{verb}.log"

    def _fresh_log(self, verb: str) -> Path:
        self._log(verb).unlink(missing_ok=True)
        return self._log(verb)

    @contextlib.contextmanager
    def _in_front_of(self, plugin: str, command: Sequence[str]) -> Iterator[None]:
        """A program of the plugin's name that runs it under ``command``, once: its parent may call it again."""
        binary, aside, once = self._bin / plugin, self._bin / f"{plugin}-itself", self._logs / "once"
        binary.rename(aside)
        script = f"#!/bin/sh\nmkdir {once} 2>/dev/null || exec {aside}\nexec {shlex.join(command)} {aside}\n"
        install.write(self._bin, {plugin: script.encode()})
        try:
            yield
        finally:
            aside.replace(binary)
            once.rmdir()


def residents() -> tuple[list[str], int]:
    """The programs that run in the lab, and how many network namespaces they are in, or hold open."""
    programs, namespaces = [], set()
    nsfs = Path("/proc/self/ns/net").stat().st_dev
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it ends just now
            command = (process / "cmdline").read_text().replace("\0", " ").strip()
            programs += [command] if command else []  # a zombie has none
            for file in (process / "ns/net", *(process / "fd").iterdir()):
                with contextlib.suppress(OSError):  # it is closed just now
                    held = file.stat()
                    namespaces |= {held.st_ino} if held.st_dev == nsfs else set()
    return sorted(programs), len(namespaces)


def go_on(thread: int, number: int) -> None:
    """Send a process that has stopped a signal, 0 for none, and let it go on. It may have ended by itself."""
    with contextlib.suppress(ProcessLookupError, FileNotFoundError):
        status = Path(f"/proc/{thread}/status").read_text()
        process = int(status.partition("\nTgid:")[2].split()[0])
        os.kill(process, number)
        if number != signal.SIGKILL:
            os.kill(process, signal.SIGCONT)


Play: TypeAlias = tuple[str, Callable[[TracedNode], None]]  # a scenario's steps, and what is done before


class Bench:
    """Traces and kills plugins, each series of runs on a node of its own, on every core."""

    Group, Kill = Group, Kill

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
        """What each plugin does in an undisturbed ADD, and in the DEL after it."""
        return dict(self._each(lambda group: self._in_lab(lambda scratch: self._look_on(scratch, group)), groups))

    def kill(self, kills: Sequence[Kill], traces: Traces) -> Iterator[tuple[Kill, str]]:
        """Do them all; each with what is wrong then, "" for nothing."""
        series = [kills[start : start + SERIES_MAX] for start in range(0, len(kills), SERIES_MAX)]
        return self._each(lambda some: self._series(some, traces), series)

    def play(self, plays: Mapping[Group, Sequence[Play]]) -> list[tuple[Group, str]]:
        """Play scenarios, each on a node that has been prepared for it; of each what is wrong then, "" for nothing."""

        def go(scratch: Path, group: Group) -> list[tuple[Group, str]]:
            world = TracedNode(scratch, self._bundle)
            verdicts = []
            for steps, prepare in plays[group]:
                prepare(world)
                verdicts.append((group, play(world, group, steps) or world.left_over()))
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
                world.step(verb, lambda _log: False, 0)
            else:
                world.look_on(group, verb)
        failed = play(world, group, UNDONE if group.fails else POD)
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
            failed = self._play_kill(world, kill, clean) or world.left_over()
            missed = kill.point.missed(clean, world.log(kill.verb), kill.signal) if world.has_called(kill.verb) else ""
            verdicts.append((missed, failed))
            if missed or failed:
                break
        return verdicts

    @staticmethod
    def _play_kill(world: TracedNode, kill: Kill, clean: Sequence[trace.Call]) -> str:
        if kill.point.is_step:
            number = getattr(signal, f"SIG{kill.signal}")
            world.step(kill.verb, lambda log: kill.point.is_reached(clean, log), number)
        else:
            world.look_on(kill.group, kill.verb, kill.point.options(kill.signal))
        return play(world, kill.group, kill.steps)


def play(world: TracedNode, group: Group, steps: str) -> str:
    """Run a scenario: why it failed, "" if it did not."""
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
