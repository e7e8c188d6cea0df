"""Steps against a World: drives the runtime's half of CNI, checks expectations, and the invariants after every step.

The runner is handed a World and knows nothing of which it is. It reads no clock: time is the world's own.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from simulator.agent import audit
from simulator.chain import plan
from simulator.effects import World
from simulator.errors import WorldFault
from simulator.model import Attachment, EniRecord, PluginOutcome, Snapshot
from simulator.report import events
from simulator.scenario import containers, expect, load, references, schema
from simulator.scenario.containers import Container

KERNEL_WAIT_MS = 2_000  # how long a check waits for what the kernel and the agent do by themselves (design 3.5)
POLL_MS = 20
SETTLE_MS = 60_000  # past every row of the agent's evidence table
ECHO_MS = 2_000


class StepFailed(Exception):
    """A step did not do what it must, or an invariant is broken after it."""

    def __init__(self, message: str, views: Sequence[tuple[str, str]] = ()) -> None:
        super().__init__(message)
        self.views = tuple(views)


class ScenarioRun:
    """One run of one scenario in one chain.

    Args:
        loaded: the scenario.
        chain: the upper plugin.
        world: the node, fresh, its agent running.
        report: called with every event.
    """

    def __init__(
        self, loaded: load.LoadedScenario, chain: str, world: World, report: Callable[[events.Event], None]
    ) -> None:
        self._loaded = loaded
        self._scenario = loaded.scenario
        self._chain = chain
        self._world = world
        self._report = report
        self._runtime = plan.Runtime()
        self._auditor = audit.Auditor(world.enis)
        self._containers: dict[str, Container] = {}
        self._plugins: list[PluginOutcome] = []
        self._is_agent_up = False  # it was seen, and no step has killed it since
        self._last_records: Sequence[
            EniRecord
        ] = ()  # a device plugin goes on with what it knew while the agent is down

    def run(self) -> events.Failed | None:
        """Run all steps, then settle. Returns why it failed, or None."""
        failed = self._attempt("set-up", 1, self._wait_until_ready)
        steps = zip(self._scenario.steps, self._loaded.step_lines, strict=True)
        for step, line in steps:
            failed = failed or self._attempt(_title(step), line, functools.partial(self._step, step))
        for step, line in zip(self._scenario.finally_, self._loaded.finally_lines, strict=True):
            cleaned = self._attempt(f"finally {_title(step)}", line, functools.partial(self._step, step))
            failed = failed or cleaned
        return failed or self._attempt("settle", self._loaded.step_lines[-1], self._settle)

    def _attempt(self, title: str, line: int, action: Callable[[], str]) -> events.Failed | None:
        self._plugins = []
        self._report(events.StepStarted(title))
        started = self._world.elapsed_ms()
        try:
            outcome = action()
        except (StepFailed, WorldFault) as failed:
            views = failed.views if isinstance(failed, StepFailed) else self._views_if_possible()
            return events.Failed(title, self._loaded.file, line, str(failed), views, tuple(self._plugins))
        self._report(events.StepFinished(title, outcome, self._world.elapsed_ms() - started))
        return None

    def _wait_until_ready(self) -> str:
        count = self._scenario.node.enis
        self._must(lambda now: self._state(schema.Expect(enis={"free": count}), now), KERNEL_WAIT_MS)
        return f"{count} free ENIs"

    def _step(self, step: schema.Step) -> str:
        outcome = self._act(step)
        for expected, within_ms in ((step.expect, KERNEL_WAIT_MS), (step.eventually, 0)):
            if expected is not None:
                limit_ms = expected.within if isinstance(expected, schema.Eventually) else within_ms
                self._must(functools.partial(self._state, expected), limit_ms)
        self._check_invariants()
        return outcome

    def _look(self) -> Snapshot:
        now = self._world.snapshot()
        if now.agent_running:
            self._last_records = now.records
            self._is_agent_up = True
        return now

    def _act(self, step: schema.Step) -> str:
        """Do what the verb says; what it gave, for people."""
        if step.add is not None:
            return self._add(step.add, step.expect)
        if step.delete is not None:
            return self._delete(step.delete, step.expect)
        if step.echo is not None:
            return self._echo(step.echo.container)
        if step.netns_delete is not None:
            self._delete_netns(step.netns_delete)
        elif step.clock_advance is not None:
            self._world.advance_clock(step.clock_advance)
        elif step.agent_kill:
            self._world.kill_agent()
            self._is_agent_up = False
        elif step.agent_start is not None:
            self._world.start_agent(step.agent_start.after if isinstance(step.agent_start, schema.AgentStart) else 0)
        elif step.agent_crash is not None:
            self._world.crash_agent_at(step.agent_crash.at, step.agent_crash.back)
        return ""

    def _state(self, expected: schema.Seen, now: Snapshot) -> list[str]:
        macs = {str(eni.id): eni.mac for eni in self._world.enis}
        netns = {name: container.netns for name, container in self._containers.items()}
        return expect.state(expected, now, macs, netns, self._resolve)

    def _add(self, add: schema.Add, expected: schema.Expect | None) -> str:
        before = self._look()
        container = self._containers.get(add.container) or self._new_container(add)
        self._containers[add.container] = container
        network = container.networks.get(add.ifname) or self._network(before, tuple(add.capabilities))
        container = replace(container, networks={**container.networks, add.ifname: network})
        self._containers[add.container] = container
        sandbox = containers.sandbox(add.container, add.ifname, container)
        arguments = (*sandbox.arguments, *self._resolve_all(add.args).items())
        sandbox = replace(sandbox, arguments=arguments, capabilities=self._resolve_all(add.capabilities))
        attachment = Attachment(network.name, add.container, add.ifname)
        self._auditor.adding(attachment, container.pod)
        answer = self._drive(self._runtime.add(network, sandbox))
        older = frozenset(grant.attachment for grant in self._auditor.grants if grant.owner == container.pod)
        eni = ""
        if answer.failure is None:
            grant = self._grant(attachment, container, answer.result)
            self._no_violation(self._auditor.check_grant(grant, before))
            self._auditor.granted(grant)
            self._containers[add.container] = replace(container, grants={**container.grants, add.ifname: grant})
            eni = self._auditor.eni_id(grant.mac)
        self._fail_if(expect.answer(expected, answer, eni, self._resolve))
        self._unharmed(before, older | {attachment})
        return eni or str(answer.failure)

    def _delete(self, delete: schema.Delete, expected: schema.Expect | None) -> str:
        before = self._look()
        if delete.pod is not None:
            self._containers.setdefault(delete.container, Container(delete.pod, f"/run/netns/{delete.container}"))
        container = self._container(delete.container)
        network = container.networks.get(delete.ifname) or self._network(before, ())
        sandbox = containers.sandbox(delete.container, delete.ifname, container)
        if delete.netns is not None:
            sandbox = replace(sandbox, netns=delete.netns)
        attachment = Attachment(network.name, delete.container, delete.ifname)
        self._auditor.ending(attachment)
        answer = self._drive(self._runtime.delete(network, sandbox))
        if answer.failure is None:
            self._auditor.ended(attachment)
        self._fail_if(expect.answer(expected, answer, "", self._resolve))
        self._unharmed(before, frozenset({attachment}))
        return "" if answer.failure is None else str(answer.failure)

    def _delete_netns(self, name: str) -> None:
        netns = self._container(name).netns
        self._world.delete_netns(netns)
        self._auditor.netns_deleted(netns)

    def _echo(self, name: str) -> str:
        container = self._container(name)
        answered = []
        for grant in container.grants.values():
            for gateway in self._gateways(grant):
                if not self._world.echo(container.netns, gateway, ECHO_MS):
                    raise StepFailed(f"no answer from the gateway {gateway}", self._views(self._look()))
                answered.append(gateway)
        if not answered:
            raise StepFailed(f"{name} has no address to send an echo request from")
        return f"answered by {', '.join(answered)}"

    def _gateways(self, grant: audit.Grant) -> list[str]:
        subnets = [eni.subnet for eni in self._world.enis if eni.mac == grant.mac]
        families = sorted({":" in address for address in grant.addresses})
        return [subnet.gateway6 if is_ipv6 else subnet.gateway4 for subnet in subnets for is_ipv6 in families]

    def _settle(self) -> str:
        """Past every timer, and over a restart of the agent, all invariants hold and the records stay what they are."""
        self._bring_agent_back()
        self._world.advance_clock(SETTLE_MS)
        at_rest = schema.Expect(enis={"returning": 0, "reserved": 0})
        self._must(lambda now: self._state(at_rest, now), KERNEL_WAIT_MS)
        self._check_invariants()
        before = _settled(self._look().records)
        self._world.kill_agent()
        self._world.start_agent()

        def unchanged(now: Snapshot) -> list[str]:
            after = _settled(now.records)
            return [f"restart-neutral: {one} before the restart" for one in before if one not in after]

        self._must(unchanged, KERNEL_WAIT_MS)
        self._check_invariants()
        return ""

    def _bring_agent_back(self) -> None:
        """A scenario may end with the agent down, or on its way back."""
        try:
            self._must(lambda now: [] if now.agent_running else ["the agent does not run"], KERNEL_WAIT_MS)
        except StepFailed:
            self._world.start_agent()

    def _container(self, name: str) -> Container:
        """A container that a step has made. A step that failed before it is why there may be none."""
        if name not in self._containers:
            raise StepFailed(f"no step has made the container {name}")
        return self._containers[name]

    def _grant(self, attachment: Attachment, container: Container, result: Mapping[str, Any]) -> audit.Grant:
        try:
            return containers.grant(attachment, container, result)
        except ValueError as error:
            raise StepFailed(str(error), self._views(self._look())) from error

    def _new_container(self, add: schema.Add) -> Container:
        return Container(add.pod, self._world.create_netns(add.container, dad=self._scenario.dad))

    def _network(self, now: Snapshot, capabilities: tuple[str, ...]) -> plan.NetworkList:
        """The conf of a new attachment. Under host-device the device plugin's part is played here (design D5)."""
        network = self._scenario.network
        device = network.device or ""
        if self._chain == "host-device" and not device:
            free = [record.eni.name for record in self._last_records if record.state == "free"]
            if not free:
                raise StepFailed("the device plugin has no free ENI to give", self._views(now))
            device = free[0]
        return plan.conflist(
            self._chain,
            name=network.name,
            cni_version=network.cni_version,
            socket=self._world.socket,
            device=device,
            routes=[route.model_dump(exclude_none=True) for route in network.routes],
            arguments=network.args,
            capabilities=capabilities,
        )

    def _drive(self, calls: plan.Calls) -> plan.Answer:
        try:
            call = next(calls)
            while True:
                outcome = self._world.execute(call)
                self._plugins.append(outcome)
                self._report(events.PluginRan(outcome))
                call = calls.send(outcome)
        except StopIteration as stop:
            answer: plan.Answer = stop.value
            return answer

    def _unharmed(self, before: Snapshot, touched: frozenset[Attachment]) -> None:
        self._no_violation(self._auditor.check_step(before, self._look(), touched))

    def _check_invariants(self) -> None:
        def broken(now: Snapshot) -> list[str]:
            died = ["the agent does not run, and no step has stopped it"] if self._is_agent_up else []
            problems = [str(violation) for violation in self._auditor.check(now)]
            return problems if now.agent_running else [*died, *problems]

        self._must(broken, KERNEL_WAIT_MS)

    def _must(self, look: Callable[[Snapshot], list[str]], within_ms: int) -> None:
        """Wait until ``look`` finds no problem. A failure says what was seen last."""
        deadline = self._world.elapsed_ms() + within_ms
        while problems := look(now := self._look()):
            if self._world.elapsed_ms() >= deadline:
                raise StepFailed("; ".join(problems), self._views(now))
            self._world.pause(POLL_MS)

    def _fail_if(self, problems: Sequence[str]) -> None:
        if problems:
            raise StepFailed("; ".join(problems), self._views(self._look()))

    def _no_violation(self, violations: Sequence[audit.Violation]) -> None:
        self._fail_if([str(violation) for violation in violations])

    def _views(self, now: Snapshot) -> list[tuple[str, str]]:
        """The agent's and the kernel's view, side by side, and what the runtime was told."""
        records = "; ".join(
            f"{record.eni.id} {record.state}" + (f" of {record.attachment}" if record.attachment else "")
            for record in now.records
        )
        macs = {eni.mac for eni in self._world.enis}
        links = "; ".join(
            f"{self._auditor.eni_id(link.mac)} is {link.name} in {netns or 'the initial netns'}"
            for netns, found in now.links.items()
            for link in found
            if link.mac in macs
        )
        told = "; ".join(f"{grant.attachment} has {self._auditor.eni_id(grant.mac)}" for grant in self._auditor.grants)
        agent = records or ("no ENI" if now.agent_running else "it does not run")
        return [("the agent says", agent), ("the kernel shows", links), ("the runtime was told", told or "nothing")]

    def _views_if_possible(self) -> tuple[tuple[str, str], ...]:
        try:
            return tuple(self._views(self._look()))
        except WorldFault:
            return ()

    def _resolve_all(self, value: Any) -> Any:
        """The same for every text in it."""
        if isinstance(value, str):
            return self._resolve(value)
        if isinstance(value, Mapping):
            return {key: self._resolve_all(one) for key, one in value.items()}
        return [self._resolve_all(one) for one in value] if isinstance(value, tuple) else value

    def _resolve(self, text: str) -> str:
        """A text with the values of its ``${container.output}`` in their places."""

        def value(match: object) -> str:
            name, _, output = match[1].partition(".")  # type: ignore[index]
            return self._output(name, output)

        return references.REFERENCE.sub(value, text)

    def _output(self, name: str, output: str) -> str:
        container = self._container(name)
        if output == "netns":
            return container.netns
        grant = next(iter(container.grants.values()), None)
        if grant is None:
            raise StepFailed(f"${{{name}.{output}}} has no value: the ADD of {name} gave nothing")
        if output == "mac":
            return grant.mac
        if output == "eni":
            return self._auditor.eni_id(grant.mac)
        wanted_v6 = output == "ipv6"
        return next((one.partition("/")[0] for one in grant.addresses if (":" in one) == wanted_v6), "")


def _settled(records: Sequence[EniRecord]) -> list[str]:
    return [f"{record.eni.id} {record.state} of {record.attachment}, owner {record.owner!r}" for record in records]


def _title(step: schema.Step) -> str:
    if step.name is not None:
        return step.name
    subject: object = ""
    if step.add is not None:
        subject = f"{step.add.container} for {step.add.pod}"
    elif step.delete is not None:
        subject = step.delete.container
    elif step.echo is not None:
        subject = step.echo.container
    else:
        subject = step.netns_delete or (f"{step.clock_advance} ms" if step.clock_advance else "")
    return f"{step.verb} {subject}".strip()
