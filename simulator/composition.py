"""EDGE: puts a scenario run together: loads the files, makes a fresh world of the chosen lab for each run, gives it
to the runner.

Nothing Linux-only is imported before a lab is chosen: ``sim`` runs wherever Python does.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

from simulator.effects import World
from simulator.errors import LabError, ScenarioError
from simulator.report import events
from simulator.scenario import load, run, schema, select

Report = Callable[[events.Event], None]
USERNS, SIM = "userns", "sim"


class Lab(Protocol):
    """What a node runs in."""

    name: str
    why: str

    def world(self, scenario: schema.Scenario) -> contextlib.AbstractContextManager[World]:
        """A fresh node with the ENIs of a scenario; gone when the context ends. Raises LabError."""
        ...

    def now_ms(self) -> float:
        """The time that a run takes; in virtual time, none."""
        ...

    def each(self, run: Callable[[int], list[events.Event]], count: int, jobs: int) -> Iterator[list[events.Event]]:
        """The events of each run, in order, of up to ``jobs`` runs at a time."""
        ...


class _Userns:
    """The real kernel and real plugin processes, in namespaces of their own."""

    name = USERNS

    def __init__(self, *, needs_host_device: bool) -> None:
        from simulator.chain import install  # noqa: PLC0415 - Linux only
        from simulator.lab import doctor, namespaces  # noqa: PLC0415 - Linux only

        self._host_device = doctor.find_host_device()
        if self._host_device is None and needs_host_device:
            raise LabError("the host-device plugin is not installed", "Run `enim-lab doctor --install`")
        namespaces.start(lambda _channel, _scratch: None).close()
        self._plugins = install.bundle(sys.executable)
        is_root = namespaces.has_cap_sys_admin()
        self.why = "namespaces of root's own" if is_root else f"an unprivileged user namespace of uid {os.getuid()}"

    @contextlib.contextmanager
    def world(self, scenario: schema.Scenario) -> Iterator[World]:
        from simulator.lab import namespaces  # noqa: PLC0415 - Linux only
        from simulator.real import node  # noqa: PLC0415 - Linux only

        setup = node.NodeSetup(scenario.node.enis, self._plugins, self._host_device)
        process = namespaces.start(lambda channel, scratch: node.serve(channel, scratch, setup))
        try:
            world = node.RemoteWorld(process.channel)
            yield world
            world.close()
        finally:
            process.close()

    def now_ms(self) -> float:
        return time.monotonic() * 1000

    def each(self, run: Callable[[int], list[events.Event]], count: int, jobs: int) -> Iterator[list[events.Event]]:
        from simulator import parallel  # noqa: PLC0415 - Linux only

        return parallel.run(run, count, jobs)


class _Sim:
    """Everything in this process and in virtual time: the shipped flows against models of kernel, hardware and host-
    device.
    """

    name = SIM

    def __init__(self, why: str) -> None:
        self.why = why

    @contextlib.contextmanager
    def world(self, scenario: schema.Scenario) -> Iterator[World]:
        from simulator import topology  # noqa: PLC0415 - each lab pays for its own imports
        from simulator.virtual import node  # noqa: PLC0415 - each lab pays for its own imports

        yield node.Node(topology.enis(scenario.node.enis))

    def now_ms(self) -> float:
        return 0.0

    def each(self, run: Callable[[int], list[events.Event]], count: int, jobs: int) -> Iterator[list[events.Event]]:
        del jobs  # one at a time is quicker than to divide the work
        return map(run, range(count))


def choose_lab(name: str | None, *, needs_host_device: bool) -> Lab:
    """The lab that was asked for; without a wish ``userns`` if it works on this machine, else ``sim``.

    Raises:
        LabError: the one that was asked for does not work here.
    """
    if name == SIM:
        return _Sim("asked for; virtual time, no kernel, no process")
    if name == USERNS:
        return _Userns(needs_host_device=needs_host_device)
    try:
        return _Userns(needs_host_device=needs_host_device)
    except LabError as error:
        return _Sim(f"virtual time, as userns does not work here ({error.cause})")
    except (ImportError, OSError, AttributeError) as error:  # not Linux
        return _Sim(f"virtual time, as userns needs Linux ({error})")


def run_scenarios(
    paths: Sequence[Path], lab_name: str | None, expression: str, reports: Sequence[Report], jobs: int = 1
) -> int:
    """Run every chosen scenario in every chosen chain, each in a fresh world; up to ``jobs`` at a time.

    Returns:
        The exit status: 0 all passed, 1 something failed.

    Raises:
        ScenarioError: a file is wrong; nothing has run then.
        LabError: this machine cannot hold the lab.
    """

    def report(event: events.Event) -> None:
        for take in reports:
            take(event)

    loaded = [load.load(path) for path in load.find(tuple(paths))]
    wanted = select.parse(expression)
    runs = [(one, chain) for one in loaded for chain in one.scenario.all_chains if wanted(_run_name(one, chain))]
    if not runs:
        raise ScenarioError(", ".join(map(str, paths)), 0, 0, f"no scenario matches -k {expression!r}")
    lab = choose_lab(lab_name, needs_host_device=any(chain == "host-device" for _, chain in runs))
    started_ms = lab.now_ms()
    report(events.RunStarted(lab.name, lab.why, len(runs)))
    failed_count = 0
    for happened in lab.each(lambda index: _run_one(*runs[index], lab), len(runs), jobs):
        for event in happened:
            report(event)
            failed_count += isinstance(event, events.ScenarioFinished) and event.failed is not None
    report(events.RunFinished(len(runs) - failed_count, failed_count, lab.now_ms() - started_ms))
    return 1 if failed_count else 0


def _run_name(loaded: load.LoadedScenario, chain: str) -> str:
    return f"{loaded.scenario.name} {chain}"


def _run_one(loaded: load.LoadedScenario, chain: str, lab: Lab) -> list[events.Event]:
    scenario = loaded.scenario
    happened: list[events.Event] = [events.ScenarioStarted(scenario.name, chain, loaded.file)]
    started_ms = lab.now_ms()
    with lab.world(scenario) as world:
        happened.append(events.LabUp(len(world.enis), lab.now_ms() - started_ms))
        failed = run.ScenarioRun(loaded, chain, world, happened.append).run()
    duration_ms = lab.now_ms() - started_ms
    happened.append(events.ScenarioFinished(scenario.name, chain, loaded.file, duration_ms, failed))
    return happened
