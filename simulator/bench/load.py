"""PURE: arrival plans on any World: what one round of a measurement does, for each state of the pool.

A *round* starts ``concurrency`` plugin processes at once, each for a pod of its own, and waits for all. What is between
(namespaces, waiting for ENIs to come home) is not measured.

- ``warm``: more free ENIs than ADDs. Each pod's ADD, then each pod's DEL; the next round waits until all are free.
- ``exhausted``: every ENI is in use. Each ADD is refused; then the DEL that a runtime sends after a failed ADD. Under
  host-device the device plugin has no ENI to give; the configuration names one that is in a pod. host-device refuses
  that by itself (code 999) and never starts enim; at the DEL it starts enim, and then finds no NIC (code 999).
- ``reclaiming``: each pod has a container, and one before it whose DEL was never sent and whose namespace lives on.
  The agent's clock goes past its timer, and at once each pod's next container is added: no ENI is free but what the
  agent takes back. A refusal (code 11) is tried again at once, and all tries count as one ADD. Then comes the old
  container's late DEL. Under host-device the device plugin waits for the free ENI first, and that is not in the figure;
  its late DEL finds no NIC and says so (code 999).
"""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from simulator.bench import networks, stats
from simulator.chain import plan
from simulator.effects import World
from simulator.errors import LabError
from simulator.model import Eni, PluginCall, PluginOutcome
from simulator.scenario import containers

WARM, EXHAUSTED, RECLAIMING = "warm", "exhausted", "reclaiming"
STATES = (WARM, EXHAUSTED, RECLAIMING)

TRY_AGAIN_LATER = 11
TRIES_MAX = 100
TIMER_MS = 2_500  # past the agent's 2 s for a superseded ENI
HOME_WAIT_MS, HOME_POLL_MS = 5_000, 2
IFNAME = "eth0"


@dataclass(frozen=True, slots=True)
class Measured:
    """One verb of one pod.

    Args:
        verb: ADD or DEL, or RUN for a bare program.
        result: ``ok``, or ``code N`` of the error.
        tries: how many times it was run.
        why: the error in the plugin's own words, "" if it went well.
    """

    verb: str
    result: str
    phases: stats.Phases
    tries: int = 1
    why: str = ""


@dataclass(frozen=True, slots=True)
class Round:
    """What a round gave. ``busy_ms``: how long plugins ran, by the longest of each batch."""

    measured: tuple[Measured, ...]
    busy_ms: float


def enis_of(state: str, concurrency: int) -> int:
    """How many ENIs a node needs for a state of the pool."""
    return concurrency if state == EXHAUSTED else 2 * concurrency


@dataclass(frozen=True, slots=True)
class _Pod:
    """``container``: what the runtime knows of its latest one."""

    name: str
    container_id: str
    container: containers.Container


class Series:
    """One subject in one state of the pool, on a world of its own.

    Args:
        world: fresh, with ``enis_of`` ENIs.
        concurrency: pods at once.
    """

    def __init__(self, world: World, subject: networks.Subject, state: str, concurrency: int) -> None:
        self.subject = subject
        self.state = state
        self._world = world
        self._concurrency = concurrency
        self._runtime = plan.Runtime()
        self._probe = Probe(world, subject.plugins, concurrency)
        self._container_count = 0
        self._old: list[_Pod] = []  # holders; where it is reclaimed, superseded ones
        self._current: list[_Pod] = []
        self._devices: list[Eni] = []

    def prepare(self) -> None:
        """Bring the pool into its state."""
        count = len(self._world.enis)
        self._free_enis(count)
        if self.state != WARM:
            self._old = self._must_add([self._new_pod(number) for number in range(self._concurrency)])
        if self.state == RECLAIMING:
            self._current = self._must_add([self._next_container(pod) for pod in self._old])

    def round(self) -> Round:
        """Measure once."""
        self._probe.run()
        if self.state == RECLAIMING:
            return self._reclaim()
        pods = [self._new_pod(self._concurrency + number) for number in range(self._concurrency)]
        if self.state == WARM:
            self._devices = self._free_enis(len(self._world.enis))
        else:
            self._devices = list(self._world.enis)  # the device plugin has none to give: one that is in a pod
        pods = [self._with_network(pod, index) for index, pod in enumerate(pods)]
        added = self._together("ADD", pods)
        deleted = self._together("DEL", pods)
        if self.state == WARM:
            self._must_be_ok([*added, *deleted])
        self._end(pods)
        return _round(added, deleted)

    def _reclaim(self) -> Round:
        pods = [self._next_container(pod) for pod in self._current]
        self._world.advance_clock(TIMER_MS)
        if self.subject.takes_eni:
            self._devices = self._free_enis(self._concurrency)
        pods = [self._with_network(pod, index) for index, pod in enumerate(pods)]
        added = self._together("ADD", pods, tries_max=TRIES_MAX)
        self._must_be_ok(added)
        deleted = self._together("DEL", self._old)
        self._end(self._old)
        self._old, self._current = self._current, pods
        return _round(added, deleted)

    def _must_add(self, pods: Sequence[_Pod]) -> list[_Pod]:
        self._devices = self._free_enis(len(pods))
        pods = [self._with_network(pod, index) for index, pod in enumerate(pods)]
        self._must_be_ok(self._together("ADD", pods))
        return list(pods)

    def _new_pod(self, number: int) -> _Pod:
        return self._next_container(_Pod(f"default/web-{number}", "", containers.Container("", "")))

    def _next_container(self, pod: _Pod) -> _Pod:
        self._container_count += 1
        container_id = f"c{self._container_count}"
        netns = self._world.create_netns(container_id, dad=False)
        return _Pod(pod.name, container_id, containers.Container(pod.name, netns))

    def _with_network(self, pod: _Pod, index: int) -> _Pod:
        eni = self._devices[index] if self.subject.takes_eni else None
        network = networks.network(self.subject, self._world.socket, eni)
        return replace(pod, container=replace(pod.container, networks={IFNAME: network}))

    def _end(self, pods: Sequence[_Pod]) -> None:
        for pod in pods:
            self._world.delete_netns(pod.container.netns)

    def _free_enis(self, count: int) -> list[Eni]:
        """Wait until so many ENIs are free; which ones. Raises LabError after ``HOME_WAIT_MS``."""
        deadline_ms = self._world.elapsed_ms() + HOME_WAIT_MS
        while True:
            records = self._world.snapshot().records
            free = [record.eni for record in records if record.state == "free"]
            if len(free) >= count:
                return free
            if self._world.elapsed_ms() >= deadline_ms:
                states = ", ".join(f"{record.eni.id} {record.state}" for record in records)
                text = f"{self.subject.name}, {self.state}: {count} ENIs must be free within {HOME_WAIT_MS} ms"
                raise LabError(f"{text}, but these are: {states or 'the agent does not run'}")
            self._world.pause(HOME_POLL_MS)

    def _together(self, verb: str, pods: Sequence[_Pod], tries_max: int = 1) -> list[Measured]:
        """Run a verb for all pods at once; who is refused tries again while the others go on to wait."""
        ran: dict[str, list[PluginOutcome]] = defaultdict(list)
        answers: dict[str, plan.Answer] = {}
        todo = list(pods)
        for _ in range(tries_max):
            answers |= drive_all(self._world, {pod.container_id: self._calls(verb, pod) for pod in todo}, ran)
            todo = [pod for pod in todo if _code(answers[pod.container_id]) == TRY_AGAIN_LATER]
            if not todo:
                break
        phases = self._probe.phases(ran)
        measured = []
        for one in (pod.container_id for pod in pods):
            failure = answers[one].failure
            why = "" if failure is None else str(failure)
            measured.append(Measured(verb, result(failure), phases[one], len(ran[one]), why))  # one plugin in each list
        return measured

    def _calls(self, verb: str, pod: _Pod) -> plan.Calls:
        sandbox = containers.sandbox(pod.container_id, IFNAME, pod.container)
        run = self._runtime.add if verb == "ADD" else self._runtime.delete
        return run(pod.container.networks[IFNAME], sandbox)

    def _must_be_ok(self, measured: Sequence[Measured]) -> None:
        """Raises LabError: what was to be measured did not happen."""
        for one in measured:
            if one.result != "ok":
                raise LabError(f"{self.subject.name}, {self.state}: {one.verb} must go well, but failed: {one.why}")


class Probe:
    """Measures beside the plugins how long their processes take to come up: asked for VERSION, they do nothing else.

    Args:
        plugins: the upper plugin, and the IPAM plugin that it starts.
        concurrency: how many of them start at once.
    """

    def __init__(self, world: World, plugins: Sequence[str], concurrency: int) -> None:
        self._world = world
        self._plugins = plugins
        self._concurrency = concurrency
        self._start_ms: dict[str, float] = {}

    def run(self) -> None:
        """Measure now; the mean of ``concurrency`` starts at once holds until the next time."""
        for plugin in self._plugins:
            call = PluginCall(plugin, {"CNI_COMMAND": "VERSION"}, b'{"cniVersion":"1.0.0"}')
            outcomes = self._world.execute_all([call] * self._concurrency)
            self._start_ms[plugin] = sum(one.duration_ms for one in outcomes) / len(outcomes)

    def phases(self, ran: Mapping[str, Sequence[PluginOutcome]]) -> dict[str, stats.Phases]:
        """Divide what was run just now. Args and result by container id.

        exclusive-device runs enim in its own process. Whether another upper plugin came to start enim is seen by
        whether the agent was asked; other IPAM plugins are always started.
        """
        queue: dict[str, float] = defaultdict(float)
        work: dict[str, float] = defaultdict(float)
        for one in self._world.served():
            queue[one.container_id] += one.queue_ms
            work[one.container_id] += one.work_ms
        upper, ipam = (self._start_ms.get(plugin, 0.0) for plugin in self._plugins)
        found = {}
        for container_id, outcomes in ran.items():
            is_ipam_run = self._plugins[1] != "enim" or (
                self._plugins[0] != "exclusive-device" and container_id in work
            )
            start_ms = len(outcomes) * (upper + is_ipam_run * ipam)
            total_ms = sum(one.duration_ms for one in outcomes)
            found[container_id] = stats.split(total_ms, start_ms, queue[container_id], work[container_id])
        return found


class Bare:
    """A program that does nothing, measured as a plugin is. See ``chain.install.bare``."""

    state = WARM

    def __init__(self, world: World, program: str, concurrency: int) -> None:
        self._world = world
        self._calls = [PluginCall(program, {}, b"")] * concurrency

    def prepare(self) -> None:
        """Nothing is needed."""

    def round(self) -> Round:
        """Measure once."""
        outcomes = self._world.execute_all(self._calls)
        durations = [one.duration_ms for one in outcomes]
        measured = tuple(Measured("RUN", "ok", stats.Phases(one, one, 0.0, 0.0)) for one in durations)
        return Round(measured, max(durations))


def drive_all(
    world: World, calls: Mapping[str, plan.Calls], ran: Mapping[str, list[PluginOutcome]]
) -> dict[str, plan.Answer]:
    """Drive several verbs at once, each plugin of one beside the same plugin of the others.

    Args:
        calls: a key of the caller's → the verb.
        ran: takes what each of them ran.
    """
    answers: dict[str, plan.Answer] = {}
    waiting: dict[str, PluginCall] = {}

    def step(key: str, go_on: Callable[[], PluginCall]) -> None:
        try:
            waiting[key] = go_on()
        except StopIteration as end:
            answers[key] = end.value

    for key, flow in calls.items():
        step(key, functools.partial(next, flow))
    while waiting:
        keys, batch = list(waiting), list(waiting.values())
        waiting.clear()
        for key, outcome in zip(keys, world.execute_all(batch), strict=True):
            ran[key].append(outcome)
            step(key, functools.partial(calls[key].send, outcome))
    return answers


def _round(*batches: Sequence[Measured]) -> Round:
    busy_ms = sum(max(one.phases.total_ms for one in batch) for batch in batches)
    return Round(tuple(one for batch in batches for one in batch), busy_ms)


def _code(answer: plan.Answer) -> int | None:
    return None if answer.failure is None else answer.failure.code


def result(failure: plan.Failure | None) -> str:
    """How a verb ended, in the words of ``Measured``."""
    return "ok" if failure is None else f"code {failure.code}"
