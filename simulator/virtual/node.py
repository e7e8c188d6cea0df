"""A node in memory: kernel, journal, socket, agent and plugins on one heap. It is a World (see ``simulator.effects``).

The flows are the shipped ones, of the agent and of the plugins; only the handlers are the world's. There is one clock:
advancing the agent's lets everybody's time pass.
"""

from __future__ import annotations

import functools
import ipaddress
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from enim import wire
from simulator import effects
from simulator.agent import compaction, failpoints, flows
from simulator.agent.timings import Timings
from simulator.errors import InvariantBroken, KernelFault, WorldFault
from simulator.model import Eni, PluginCall, PluginOutcome, Served, Snapshot
from simulator.virtual import kernel
from simulator.virtual.driver import Changes, Driver, Handlers, Pending, Process
from simulator.virtual.network import NS_PER_MS, Network
from simulator.virtual.plugins import Plugins, Run
from simulator.virtual.store import Store

NETNS = "/run/netns/"


class Node:
    """One node, its ENIs attached, its agent started.

    Args:
        enis: what the cloud attaches.
        sync_ns: how long the journal takes to write.
        delay_ns: one way between a plugin and the agent.
        live_rename: whether its kernel renames a link that is up.
    """

    def __init__(self, enis: Sequence[Eni], sync_ns: int = 0, delay_ns: int = 0, *, live_rename: bool = True) -> None:
        self.enis: Sequence[Eni] = tuple(enis)
        self.socket = "/run/enim/agent.sock"
        self.state_directory = "/var/lib/cni"
        self.driver = Driver()
        self.changes = Changes(self.driver)
        self.kernel = kernel.Kernel(self.changes.note, live_rename=live_rename)
        self.store = Store(self.driver, self.changes, sync_ns)
        self.network = Network(self.driver, self.socket, delay_ns)
        self._plugins = Plugins(self.driver, self.kernel, self.network)
        self._agent: flows.Agent | None = None
        self._failpoint = ""
        self._back_after_ms = 0
        self._agent_processes: list[Process] = []
        self._served: list[Served] = []
        self._timings = Timings()  # of the agent that runs
        self._agent_handlers: Handlers = {
            effects.Now: lambda _, pending: pending.succeed(self.driver.now_ns),
            effects.WaitForChange: self.changes.wait,
            effects.Persist: self._persist,
            effects.ListLinks: _calling(lambda _: self.kernel.links()),
            effects.InspectNetns: _calling(lambda one: self.kernel.inspect(one.path, one.mac)),
            effects.MoveHome: _calling(lambda one: self.kernel.move_home(one.path, one.mac, one.name)),
            effects.RestoreIdentity: _calling(lambda one: self.kernel.restore(one.ifindex, one.name, one.mtu)),
            effects.Measure: lambda _, pending: pending.succeed(self._measure()),
        }
        for eni in self.enis:
            self.kernel.attach(eni)
        self.start_agent()

    # --- the World

    def machine(self) -> Mapping[str, Any]:
        """None: nothing here depends on it."""
        return {}

    def create_netns(self, name: str, *, dad: bool = False) -> str:  # noqa: ARG002
        """Create a namespace; the model has no duplicate address detection to leave on."""
        path = NETNS + name
        self.kernel.create_netns(path)
        return path

    def delete_netns(self, path: str) -> None:
        """Remove a namespace; its NICs come home at once, unless a process is inside."""
        self.kernel.delete_netns(path)

    def execute(self, call: PluginCall) -> PluginOutcome:
        """Run a plugin to its end, or to its timeout."""
        run = self.start(call)
        until_ns = self.driver.now_ns + call.timeout_ms * NS_PER_MS
        self.driver.run_while(lambda: run.is_alive, until_ns)
        timed_out = run.is_alive
        if timed_out:
            self.driver.run(until_ns)
            run.kill()
        return run.outcome(self.driver.now_ns, timed_out=timed_out)

    def execute_all(self, calls: Sequence[PluginCall]) -> Sequence[PluginOutcome]:
        """Start all at once, and run each to its end, or to its timeout."""
        runs = [self.start(call) for call in calls]
        began_ns = self.driver.now_ns
        ended_ns: dict[int, int] = {}

        def end(index: int) -> None:
            ended_ns[index] = self.driver.now_ns

        for index, run in enumerate(runs):
            if run.process is not None:
                run.process.on_end.append(functools.partial(end, index))
                run.process.on_kill.append(functools.partial(end, index))
        for timeout_ms in sorted({call.timeout_ms for call in calls}):
            until_ns = began_ns + timeout_ms * NS_PER_MS
            self.driver.run_while(lambda: any(run.is_alive for run in runs), until_ns)
            for run in runs:
                if run.is_alive and run.call.timeout_ms == timeout_ms:
                    self.driver.run(until_ns)
                    run.kill()
        return [run.outcome(ended_ns.get(index, began_ns), timed_out=run.is_killed) for index, run in enumerate(runs)]

    def served(self) -> Sequence[Served]:
        """What the agent has answered since this was last asked."""
        served, self._served = self._served, []
        return served

    def echo(self, netns: str, destination: str, timeout_ms: int) -> bool:  # noqa: ARG002
        """Whether an ENI that is up in the namespace is in the destination's subnet; answered at once, or never."""
        if not self.kernel.is_netns(netns):
            return False
        wanted = ipaddress.ip_address(destination)
        nics = {eni.mac for eni in self.enis}
        links = [link for link in self.kernel.links(netns) if link.up and link.mac in nics]
        return any(wanted in ipaddress.ip_interface(text).network for link in links for text in link.addresses)

    def snapshot(self) -> Snapshot:
        """What the agent says and what the kernel shows, now."""
        links = {path: self.kernel.links(path) for path in self.kernel.paths()}
        running = self._plugins.running_count
        if self._agent is None:
            return Snapshot((), agent_running=False, clock_ms=0, links=links, plugins_running=running)
        return Snapshot(
            self._agent.records(),
            agent_running=True,
            clock_ms=self.driver.now_ns // NS_PER_MS,
            links=links,
            plugins_running=running,
            adds_in_flight=self._agent.adds_in_flight,
        )

    def advance_clock(self, ms: int) -> None:
        """Let time pass, as long as an agent runs."""
        if self._agent is None:
            raise WorldFault("clock.advance", 0, "the agent does not run")
        self.pause(ms)

    def pause(self, ms: int) -> None:
        """Let time pass."""
        self.driver.run(self.driver.now_ns + ms * NS_PER_MS)

    def elapsed_ms(self) -> float:
        """Virtual milliseconds since the node began."""
        return self.driver.now_ns / NS_PER_MS

    def start_agent(self, after_ms: int = 0) -> None:
        """Start the agent on the state it left, now or later."""
        if after_ms:
            self.driver.after(after_ms * NS_PER_MS, self.start_agent)
            return
        if self._agent is not None:
            raise WorldFault("agent.start", 0, "the agent runs already")
        events = self.store.read()
        self.store.compact(*compaction.compact(events))
        self._agent = flows.Agent(self.enis, events)
        self._timings = Timings()
        self._start_agent_flow("reconcile", self._agent.reconcile())
        self.network.listen(self.ask)

    def kill_agent(self) -> None:
        """SIGKILL the agent; what it was writing to its journal is lost."""
        self.crash_agent(kept_count=0)

    def crash_agent_at(self, failpoint: str, back_after_ms: int) -> None:
        """The agent dies when it next comes to a failpoint, and is back some time later."""
        if self._agent is None:
            raise WorldFault("agent.crash", 0, "the agent does not run")
        self._failpoint, self._back_after_ms = failpoint, back_after_ms

    def _persist(self, effect: effects.Persist, pending: Pending) -> None:
        is_reached = failpoints.is_reached(self._failpoint, effect.events)
        self.store.persist(effect, pending)
        if is_reached:
            is_durable = failpoints.FAILPOINTS[self._failpoint].is_durable
            self._failpoint = ""
            self.crash_agent(kept_count=self.store.persist_count if is_durable else 0)
            self.start_agent(self._back_after_ms)

    # --- what only a model can do

    def crash_agent(self, kept_count: int) -> None:
        """Kill the agent; of the journal's writes under way the first ``kept_count`` are found at the next start."""
        if self._agent is None:
            raise WorldFault("agent.kill", 0, "the agent does not run")
        self._agent = None
        for process in self._agent_processes:
            process.kill()
        self._agent_processes = []
        self.store.crash(kept_count)
        self.network.close()

    @property
    def is_agent_running(self) -> bool:
        """Whether an agent runs."""
        return self._agent is not None

    def start(self, call: PluginCall) -> Run:
        """Start a plugin and do not wait for it."""
        return self._plugins.start(call)

    def finish(self, *runs: Run, within_ms: int = 300_000) -> None:
        """Let time pass until these have ended. Raises ``InvariantBroken`` if they do not within that time."""
        self.driver.run_while(lambda: any(run.is_alive for run in runs), self.driver.now_ns + within_ms * NS_PER_MS)
        if any(run.is_alive for run in runs):
            raise InvariantBroken(f"not ended within {within_ms} ms: {[run.call for run in runs if run.is_alive]}")

    def ask(self, request: wire.Request) -> Process:
        """Start the agent's flow for a request."""
        if self._agent is None:
            raise InvariantBroken("the agent does not run")
        return self._start_agent_flow(f"{request.method} {request.path}", self._timed(request))

    def _timed(self, request: wire.Request) -> effects.Flow[wire.Reply]:
        """The flow of a request, and a note of how long it took: what it waited for others is its time in the queue."""
        assert self._agent is not None, "only an agent that runs has been asked"
        flow = self._agent.handle(request)
        began_ns = self.driver.now_ns
        queue_ns = 0
        outcome: Any = None
        failure: Exception | None = None
        try:
            while True:
                effect = flow.send(outcome) if failure is None else flow.throw(failure)
                asked_ns = self.driver.now_ns
                outcome, failure = None, None
                try:
                    outcome = yield effect
                except Exception as error:  # noqa: BLE001 - thrown by the driver: it is the flow's to answer
                    failure = error
                if isinstance(effect, effects.WaitForChange):
                    queue_ns += self.driver.now_ns - asked_ns
        except StopIteration as end:
            work_ns = self.driver.now_ns - began_ns - queue_ns
            container_id = request.parameter("containerID")
            self._served.append(Served(request.method, container_id, queue_ns / NS_PER_MS, work_ns / NS_PER_MS))
            reply: wire.Reply = end.value
            self._timings.note(request.method, request.path, reply.status, (self.driver.now_ns - began_ns) / 1e9)
            return reply
        finally:
            flow.close()

    def _measure(self) -> effects.Measures:
        return effects.Measures(self._timings.durations(), journal_entries=len(self.store.read()))

    def _start_agent_flow(self, name: str, flow: effects.Flow[Any]) -> Process:
        process = self.driver.start(name, flow, self._agent_handlers)
        process.seen_changes = self.changes.count
        self._agent_processes = [*(one for one in self._agent_processes if one.is_alive), process]
        return process


def _calling(call: Callable[[Any], Any]) -> Callable[[Any, Pending], None]:
    """A handler that answers with what a call on the kernel gives, or with its fault."""

    def handle(effect: Any, pending: Pending) -> None:
        try:
            outcome = call(effect)
        except KernelFault as fault:
            pending.fail(fault)
        else:
            pending.succeed(outcome)

    return handle
