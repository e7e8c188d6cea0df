"""EDGE: the labs that a scenario run can choose from, each as a maker of fresh worlds.

Nothing Linux-only is imported before a lab is chosen: ``sim`` runs wherever Python does.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol, TypeAlias, TypeVar

from simulator.effects import World
from simulator.errors import LabError
from simulator.model import BACKENDS, Backend
from simulator.scenario import schema

USERNS, DOCKER, SIM = "userns", "docker", "sim"

Said = TypeVar("Said")
Job: TypeAlias = Callable[[int, Callable[[Said], None]], None]


class Lab(Protocol):
    """What a node runs in."""

    name: str
    why: str

    def backend(self, scenario: schema.Scenario | None = None) -> str:
        """Which kind of link the ENIs of a scenario, or of any without a wish, are; "" in a lab without a kernel."""
        ...

    def lacks(self, plugins: Sequence[str], scenario: schema.Scenario | None = None) -> str:
        """Why these plugins, or a scenario that needs them, cannot run here; "" if they can."""
        ...

    def world(self, scenario: schema.Scenario) -> contextlib.AbstractContextManager[World]:
        """A fresh node with the ENIs of a scenario; gone when the context ends. Raises LabError."""
        ...

    def now_ms(self) -> float:
        """The time that a run takes; in virtual time, none."""
        ...

    def each(self, job: Job[Said], count: int, jobs: int) -> Iterator[tuple[int, Said]]:
        """What each of ``count`` runs says, with its number, as it says it; up to ``jobs`` of them at a time."""
        ...


class _Real:
    """What the labs with a real kernel share: ENIs are links of some kind, time is real, runs are processes.

    Args:
        backend: which kind of link ENIs are where a scenario has no wish; without it the first that this kernel makes.

    Raises:
        LabError: this kernel makes none, or the lab does not work.
    """

    def __init__(self, backend: Backend | None) -> None:
        self._refusals = self._refused((backend,) if backend else BACKENDS)
        usable = [kind for kind, refusal in self._refusals.items() if not refusal]
        if not usable and not backend:
            refused = ", ".join(f"{kind}: {why}" for kind, why in self._refusals.items())
            raise LabError(f"this kernel has no link for an ENI ({refused})", "sudo modprobe veth")
        self._default = backend or usable[0]

    def _refused(self, kinds: Sequence[Backend]) -> dict[Backend, str]:
        """What ``lab.links.refusals`` says of them where the nodes will be."""
        raise NotImplementedError

    def backend(self, scenario: schema.Scenario | None = None) -> Backend:
        """The scenario's wish, or what the run has."""
        return (scenario and scenario.node.backend) or self._default

    def now_ms(self) -> float:
        """Real time."""
        return time.monotonic() * 1000

    def each(self, job: Job[Said], count: int, jobs: int) -> Iterator[tuple[int, Said]]:
        """On processes of their own."""
        from simulator import parallel  # noqa: PLC0415 - Linux only

        return parallel.run(job, count, jobs)

    def lacks(self, plugins: Sequence[str], scenario: schema.Scenario | None = None) -> str:
        """The links for its ENIs, or an answer to its echo; a plugin that is missing was an error at the start."""
        del plugins
        kind = self.backend(scenario)
        if kind not in self._refusals:  # a wish: the run did without it so far
            self._refusals |= self._refused((kind,))
        if self._refusals[kind]:
            return f"this kernel makes no {kind} ENIs ({self._refusals[kind]})"
        is_mute = kind == "dummy" and scenario is not None and scenario.has_echo
        return "it needs an echo, and a dummy ENI answers none" if is_mute else ""


class Userns(_Real):
    """The real kernel and real plugin processes, in namespaces of their own.

    Args:
        plugins: file names of the plugins that will be needed.
        backend: see ``_Real``.
        bin_dir: where others' plugins are looked for first.

    Raises:
        LabError: it does not work on this machine, or one of the plugins is not installed.
    """

    name = USERNS

    def __init__(self, plugins: Sequence[str], backend: Backend | None = None, bin_dir: Path | None = None) -> None:
        from simulator.chain import install  # noqa: PLC0415 - Linux only
        from simulator.lab import namespaces  # noqa: PLC0415 - Linux only
        from simulator.lab import plugins as foreign  # noqa: PLC0415 - Linux only

        self._bundle = install.node()
        self._needed = (bin_dir,) if bin_dir else ()
        theirs = [name for name in plugins if name not in self._bundle]  # ours are this checkout's, installed or not
        self._foreign = foreign.find(*theirs, first=bin_dir)
        missing = [name for name in theirs if name not in self._foreign]
        if missing:
            what = "plugin" if len(missing) == 1 else "plugins"
            verb = "is" if len(missing) == 1 else "are"
            text = f"the {', '.join(missing)} {what} {verb} not installed"
            from_package = all(name in foreign.PLUGINS for name in missing)
            by_hand = "Put it into a CNI directory, or name its directory in CNI_PATH"
            raise LabError(text, "Run `enim-lab doctor --install`" if from_package else by_hand)
        super().__init__(backend)
        is_root = namespaces.has_cap_sys_admin()
        self.why = "namespaces of root's own" if is_root else f"an unprivileged user namespace of uid {os.getuid()}"

    def _refused(self, kinds: Sequence[Backend]) -> dict[Backend, str]:
        from simulator.lab import links, throwaway  # noqa: PLC0415 - Linux only

        refusals: dict[Backend, str] = throwaway.ask(lambda _scratch: links.refusals(kinds))
        return refusals

    @contextlib.contextmanager
    def world(self, scenario: schema.Scenario) -> Iterator[World]:
        """A lab of its own for each run."""
        from simulator.lab import namespaces  # noqa: PLC0415 - Linux only
        from simulator.real import node  # noqa: PLC0415 - Linux only

        setup = node.NodeSetup(scenario.node.enis, self._bundle, self._foreign, self.backend(scenario))
        process = namespaces.start(lambda channel, scratch: node.serve(channel, scratch, setup), *self._needed)
        try:
            world = node.RemoteWorld(process.channel)
            yield world
            world.close()
        finally:
            process.close()


class Docker(_Real):
    """A privileged container for each run, with the real kernel and real plugin processes in it.

    Args:
        plugins: file names of the plugins that will be needed.
        backend: see ``_Real``.
        tell: told what is done if the image of a node must be made first, a line at a time.

    Raises:
        LabError: no engine answers, it has no image and none can be made, or it starts no container that can be a node.
    """

    name = DOCKER

    def __init__(self, plugins: Sequence[str], backend: Backend | None, tell: Callable[[str], None]) -> None:
        from simulator.lab import containers, image  # noqa: PLC0415 - only this lab needs an engine
        from simulator.lab import plugins as foreign  # noqa: PLC0415 - only this lab needs an engine

        absent = [name for name in plugins if name not in ("enim", "exclusive-device", *foreign.PLUGINS)]
        if absent:
            raise LabError(f"the image of a node has no {', '.join(absent)}", "Use --lab userns")
        self._run = containers.labels()
        with containers.Engine() as engine:
            engine.sweep(everything=False)
            self._image = image.ensure(engine, tell)
            self._power = engine.power(self._image, self._run)
        super().__init__(backend)
        self.why = f"containers of {self._image}, with {self._power}"

    def _refused(self, kinds: Sequence[Backend]) -> dict[Backend, str]:
        from simulator.lab import containers, image  # noqa: PLC0415 - only this lab needs an engine

        with containers.Engine() as engine:
            said = engine.ask(self._image, (*image.LINKS, *kinds), self._power, self._run)
        refusals: dict[Backend, str] = json.loads(said)
        return refusals

    @contextlib.contextmanager
    def world(self, scenario: schema.Scenario) -> Iterator[World]:
        """A container of its own for each run."""
        from simulator.lab import containers, image  # noqa: PLC0415 - only this lab needs an engine
        from simulator.real import node  # noqa: PLC0415 - Linux only

        command = (*image.COMMAND, containers.SCRATCH, str(scenario.node.enis), self.backend(scenario))
        with containers.Engine() as engine:  # of this process: a connection does not survive a fork
            container = engine.start(self._image, command, self._power, self._run)
            try:
                world = node.RemoteWorld(container.channel)
                yield world
                world.close()
            except node.Gone as error:
                if not container.has_ended():  # another world's
                    raise
                raise LabError(f"{error.cause}; the container said: {container.said() or 'nothing'}") from error
            finally:
                container.close()


class Sim:
    """Everything in this process and in virtual time: the shipped flows against models of kernel, hardware and host-
    device.

    Args:
        sync_ns: how long the agent's journal takes to write.
        delay_ns: one way between a plugin and the agent.
    """

    name = SIM

    def __init__(self, why: str, sync_ns: int = 0, delay_ns: int = 0) -> None:
        self.why = why
        self._sync_ns = sync_ns
        self._delay_ns = delay_ns

    def backend(self, scenario: schema.Scenario | None = None) -> str:
        """None: its model of a NIC is the hardware, whichever link stands for that elsewhere."""
        del scenario
        return ""

    def lacks(self, plugins: Sequence[str], scenario: schema.Scenario | None = None) -> str:
        """The plugins without a model."""
        del scenario
        from simulator.virtual import plugins as models  # noqa: PLC0415 - each lab pays for its own imports

        missing = [name for name in plugins if name not in models.PLUGINS]
        return f"sim has no model of {', '.join(missing)}" if missing else ""

    @contextlib.contextmanager
    def world(self, scenario: schema.Scenario) -> Iterator[World]:
        """A node in memory."""
        from simulator import topology  # noqa: PLC0415 - each lab pays for its own imports
        from simulator.virtual import node  # noqa: PLC0415 - each lab pays for its own imports

        yield node.Node(topology.enis(scenario.node.enis), self._sync_ns, self._delay_ns)

    def now_ms(self) -> float:
        """No time passes."""
        return 0.0

    def each(self, job: Job[Said], count: int, jobs: int) -> Iterator[tuple[int, Said]]:
        """One at a time, which is quicker than to divide the work."""
        del jobs
        for index in range(count):
            said: list[Said] = []
            job(index, said.append)
            yield from ((index, one) for one in said)


def choose(
    name: str | None,
    plugins: Sequence[str],
    backend: Backend | None = None,
    tell: Callable[[str], None] = lambda _line: None,
    bin_dir: Path | None = None,
) -> Lab:
    """The lab that was asked for; without a wish ``userns`` if it works on this machine, else ``sim``.

    Args:
        plugins: file names of the plugins that will be needed.
        backend: which kind of link ENIs are where a scenario has no wish; without it the best that works.
        tell: told what a lab does before it can start, a line at a time.
        bin_dir: where others' plugins are looked for first; only ``userns`` can, so it is that one then.

    Raises:
        LabError: the one that was asked for does not work here, or has its own plugins.
    """
    if bin_dir and name in (SIM, DOCKER):
        raise LabError(f"the lab {name} has its own plugins, not those of {bin_dir}", "Use --lab userns")
    if name == SIM:
        return Sim("asked for; virtual time, no kernel, no process")
    if name == USERNS or bin_dir:
        return Userns(plugins, backend, bin_dir)
    if name == DOCKER:
        return Docker(plugins, backend, tell)
    try:
        return Userns(plugins, backend)
    except LabError as error:
        return Sim(f"virtual time, as userns does not work here ({error.cause})")
    except (ImportError, OSError, AttributeError) as error:  # not Linux
        return Sim(f"virtual time, as userns needs Linux ({error})")
