"""Steps against a World: drives the runtime's half of CNI, checks expectations, and the invariants after every step.

The runner is handed a World and knows nothing of which it is. It reads no clock: time is the world's own.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from simulator.agent import audit
from simulator.agent.views import HOME
from simulator.chain import plan
from simulator.effects import World
from simulator.errors import WorldFault
from simulator.model import Attachment, EniRecord, PluginOutcome, Snapshot
from simulator.report import events
from simulator.scenario import expect, load, runtime, schema
from simulator.scenario.runtime import StepFailed

KERNEL_WAIT_MS = 2_000  # how long a check waits for what the kernel and the agent do by themselves (design 3.5)
POLL_MS = 20
SETTLE_MS = 60_000  # past every row of the agent's evidence table
END_WAIT_MS = 200  # for a clock that may have to be advanced once more
ECHO_MS = 2_000

SETTLE, END = "settle", "end of all containers"  # the steps that every run has after the file's own


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
        self._auditor = audit.Auditor(world.enis)
        self._runtime = runtime.Runtime(self._scenario, chain, world, self._auditor, self._ran)
        self._broken: list[str] = []  # what the scenario says that these plugins break
        self._links_at_first: frozenset[str] = frozenset()
        self._plugins: list[PluginOutcome] = []
        self._verbs = self._make_verbs()
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
        last_line = self._loaded.step_lines[-1]
        failed = failed or self._attempt(SETTLE, last_line, self._settle)
        return failed or self._attempt(END, last_line, self._end_all)

    def _attempt(self, title: str, line: int, action: Callable[[], str]) -> events.Failed | None:
        self._plugins = []
        self._report(events.StepStarted(title))
        started = self._world.elapsed_ms()
        try:
            outcome = action()
        except (StepFailed, WorldFault) as failed:
            views = (failed.views if isinstance(failed, StepFailed) else ()) or self._views_if_possible()
            return events.Failed(title, self._loaded.file, line, str(failed), views, tuple(self._plugins))
        self._report(events.StepFinished(title, outcome, self._world.elapsed_ms() - started))
        return None

    def _wait_until_ready(self) -> str:
        count = self._scenario.node.enis
        self._must(lambda now: self._state(schema.Expect(enis={"free": count}), now), KERNEL_WAIT_MS)
        self._links_at_first = frozenset(link.name for link in self._look().links[HOME])
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
        for key in schema.VERBS:
            asked = getattr(step, key)
            if asked is not None:
                return self._verbs[key](asked, step.expect) or ""
        return ""

    def _make_verbs(self) -> Mapping[str, Callable[[Any, schema.Expect | None], str | None]]:
        world, runtime_ = self._world, self._runtime
        return {
            "add": self._add,
            "delete": self._delete,
            "netns_delete": lambda name, _: runtime_.delete_netns(name),
            "runtime_forget": lambda name, _: runtime_.forget(name),
            "check": lambda check, expected: self._ask(lambda: runtime_.check(check), expected),
            "gc": lambda gc, expected: self._ask(lambda: runtime_.collect(gc.valid), expected),
            "status": lambda _, expected: self._ask(runtime_.status, expected),
            "echo": lambda echo, _: self._echo(echo.container),
            "clock_advance": lambda ms, _: world.advance_clock(ms),
            "agent_kill": lambda *_: self._kill_agent(),
            "agent_start": lambda start, _: world.start_agent(0 if start is True else start.after),
            "agent_crash": lambda crash, _: world.crash_agent_at(crash.at, crash.back),
        }

    def _kill_agent(self) -> None:
        self._world.kill_agent()
        self._is_agent_up = False

    def _state(self, expected: schema.Seen, now: Snapshot) -> list[str]:
        macs = {str(eni.id): eni.mac for eni in self._world.enis}
        return expect.state(expected, now, macs, self._runtime.namespaces, self._runtime.resolve)

    def _add(self, add: schema.Add, expected: schema.Expect | None) -> str:
        before = self._look()
        attachment, answer = self._runtime.add(add, self._last_records)
        older = frozenset(grant.attachment for grant in self._auditor.grants if grant.owner == add.pod)
        eni = gave = ""
        if answer.failure is None:
            grant = self._runtime.read(attachment, answer.result)
            self._no_violation(self._auditor.check_grant(grant, before))
            self._auditor.granted(grant)
            self._runtime.keep(grant, answer.result)
            eni = self._auditor.eni_id(grant.mac)
            gave = ", ".join(grant.addresses) if grant.leased else eni
        else:
            self._auditor.refused(attachment)
        self._fail_if(expect.answer(expected, answer, eni, self._runtime.resolve))
        self._unharmed(before, older | {attachment})
        return gave or str(answer.failure)

    def _delete(self, delete: schema.Delete, expected: schema.Expect | None) -> str:
        before = self._look()
        attachment, answer = self._runtime.delete(delete, self._last_records)
        self._fail_if(expect.answer(expected, answer, "", self._runtime.resolve))
        self._unharmed(before, frozenset({attachment}))
        return "" if answer.failure is None else str(answer.failure)

    def _ask(self, verb: Callable[[], plan.Answer], expected: schema.Expect | None) -> str:
        """CHECK, GC or STATUS: nobody who is not ended by it may be harmed."""
        before = self._look()
        answer = verb()
        self._fail_if(expect.answer(expected, answer, "", self._runtime.resolve))
        self._unharmed(before, frozenset())
        return "" if answer.failure is None else str(answer.failure)

    def _ran(self, outcome: PluginOutcome) -> None:
        self._plugins.append(outcome)
        self._report(events.PluginRan(outcome))
        self._no_violation(self._auditor.check_call(outcome))

    def _echo(self, name: str) -> str:
        netns, gateways = self._runtime.container(name).netns, self._runtime.gateways(name)
        for gateway in gateways:
            if not self._world.echo(netns, gateway, ECHO_MS):
                raise StepFailed(f"no answer from the gateway {gateway}")
        if not gateways:
            raise StepFailed(f"{name} has no address to send an echo request from")
        return f"answered by {', '.join(gateways)}"

    def _settle(self) -> str:
        """Past every timer, and over a restart of the agent, all invariants hold and the records stay what they are."""
        self._bring_agent_back()
        self._world.advance_clock(SETTLE_MS)
        at_rest = schema.Expect(enis={"returning": 0, "reserved": 0})
        self._must(lambda now: self._state(at_rest, now), KERNEL_WAIT_MS)
        self._check_invariants()
        before = {record.eni.id: _told(record) for record in self._look().records}
        self._world.kill_agent()
        self._world.start_agent()

        def changed(now: Snapshot) -> list[audit.Violation]:
            after = {record.eni.id: _told(record) for record in now.records}
            return [
                audit.Violation(
                    audit.RESTART_NEUTRAL, eni, f"before the restart {told}", f"now {after.get(eni, 'gone')}"
                )
                for eni, told in before.items()
                if after.get(eni) != told
            ]

        self._must(lambda now: self._judge(changed(now)), KERNEL_WAIT_MS)
        self._check_invariants()
        return ""

    def _end_all(self) -> str:
        """When every container has ended and every timer has run out, nothing is left of any of them."""
        for attachment, failure in self._runtime.end_all():
            twice = "the runtime has sent DEL twice, the second time without a netns"
            violation = audit.Violation(audit.DEL_CONVERGES, str(attachment), twice, f"it fails: {failure}")
            self._no_violation((violation,))
        bridges = {str(plugin.netconf().get("bridge", "cni0")) for plugin in self._scenario.network.plugins}

        def left(now: Snapshot) -> list[str]:
            return self._judge(self._auditor.check_end(now, self._links_at_first | bridges))

        # A timer runs from when the agent sees what starts it, and that may be just after its clock was advanced.
        for within_ms in (END_WAIT_MS, END_WAIT_MS, KERNEL_WAIT_MS):
            self._world.advance_clock(SETTLE_MS)
            try:
                self._must(left, within_ms)
                break
            except StepFailed:
                if within_ms == KERNEL_WAIT_MS:
                    raise
        self._check_invariants()
        if self._scenario.breaks and not self._broken:
            raise StepFailed(f"these plugins are expected to break `{self._scenario.breaks}`, but did not")
        return f"as expected, it breaks {self._broken[0]}" if self._broken else ""

    def _bring_agent_back(self) -> None:
        """A scenario may end with the agent down, or on its way back."""
        try:
            self._must(lambda now: [] if now.agent_running else ["the agent does not run"], KERNEL_WAIT_MS)
        except StepFailed:
            self._world.start_agent()

    def _unharmed(self, before: Snapshot, touched: frozenset[Attachment]) -> None:
        self._no_violation(self._auditor.check_step(before, self._look(), touched))

    def _check_invariants(self) -> None:
        def broken(now: Snapshot) -> list[str]:
            died = ["the agent does not run, and no step has stopped it"] if self._is_agent_up else []
            problems = self._judge(self._auditor.check(now))
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
        self._fail_if(self._judge(violations))

    def _judge(self, violations: Sequence[audit.Violation]) -> list[str]:
        """The violations that the scenario does not expect of these plugins."""
        expected = [str(one) for one in violations if one.invariant == self._scenario.breaks]
        self._broken += expected
        return [str(one) for one in violations if one.invariant != self._scenario.breaks]

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


def _told(record: EniRecord) -> str:
    """What a record says; the reason is only for people."""
    whose = f" of {record.attachment}, owner {record.owner!r}" if record.attachment else ""
    return f"the agent says {record.state}{whose}"


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
    elif step.check is not None:
        subject = step.check.container
    elif step.gc is not None:
        subject = f"but {', '.join(step.gc.valid) or 'nobody'}"
    else:
        subject = step.netns_delete or step.runtime_forget or (f"{step.clock_advance} ms" if step.clock_advance else "")
    return f"{step.verb} {subject}".strip()
