"""EDGE: puts a scenario run together: loads the files, starts a lab for each run, hands its world to the runner."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from simulator.chain import install
from simulator.errors import LabError, ScenarioError
from simulator.lab import doctor, namespaces
from simulator.real import clock, node
from simulator.report import events
from simulator.scenario import load, run, select

Report = Callable[[events.Event], None]


def run_scenarios(paths: Sequence[Path], lab: str, expression: str, reports: Sequence[Report]) -> int:
    """Run every chosen scenario in every chosen chain, each in a fresh lab.

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
    runs = [
        (one, chain) for one in loaded for chain in one.scenario.all_chains if wanted(f"{one.scenario.name} {chain}")
    ]
    if not runs:
        raise ScenarioError(", ".join(map(str, paths)), 0, 0, f"no scenario matches -k {expression!r}")
    host_device = doctor.find_host_device()
    if host_device is None and any(chain == "host-device" for _, chain in runs):
        raise LabError("the host-device plugin is not installed", "Run `enim-lab doctor --install`")
    plugins = install.bundle(sys.executable)
    started = clock.monotonic_ms()
    report(events.RunStarted(lab, _who(), len(runs)))
    failed_count = 0
    for one, chain in runs:
        setup = node.NodeSetup(one.scenario.node.enis, plugins, host_device)
        finished = _run_one(one, chain, setup, report)
        report(finished)
        failed_count += finished.failed is not None
    report(events.RunFinished(len(runs) - failed_count, failed_count, clock.monotonic_ms() - started))
    return 1 if failed_count else 0


def _who() -> str:
    if namespaces.has_cap_sys_admin():
        return "namespaces of root's own"
    return f"an unprivileged user namespace of uid {os.getuid()}"


def _run_one(loaded: load.LoadedScenario, chain: str, setup: node.NodeSetup, report: Report) -> events.ScenarioFinished:
    scenario = loaded.scenario
    report(events.ScenarioStarted(scenario.name, chain, loaded.file))
    started = clock.monotonic_ms()
    process = namespaces.start(lambda channel, scratch: node.serve(channel, scratch, setup))
    try:
        world = node.RemoteWorld(process.channel)
        report(events.LabUp(len(world.enis), clock.monotonic_ms() - started))
        failed = run.ScenarioRun(loaded, chain, world, report).run()
        world.close()
    finally:
        process.close()
    return events.ScenarioFinished(scenario.name, chain, loaded.file, clock.monotonic_ms() - started, failed)
