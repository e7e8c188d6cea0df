"""Steps against a world: what a failure says, what always runs, what settling checks. In the sim lab."""

from typing import Any

import pytest

from simulator import topology
from simulator.agent import flows, pool
from simulator.report import events
from simulator.scenario import load, run
from simulator.virtual import node

HEAD = "name: a\nsummary: b\nnode: {enis: 2}\nchain: {chain}\nsteps:\n"
ADD = "  - add: {pod: default/web-0, container: c1}\n"


def play(
    steps: str, chain: str = "exclusive-device", enis: int = 2
) -> tuple[events.Failed | None, list[events.Event], node.Node]:
    text = HEAD.replace("{chain}", chain).replace("enis: 2", f"enis: {enis}") + steps
    happened: list[events.Event] = []
    world = node.Node(topology.enis(enis))
    loaded = load.parse("s.yaml", text.encode())
    return run.ScenarioRun(loaded, chain, world, happened.append).run(), happened, world


def titles(happened: list[events.Event]) -> list[str]:
    return [event.step for event in happened if isinstance(event, events.StepFinished)]


def test_run_reports_each_step_and_settles_at_the_end() -> None:
    failed, happened, _ = play(ADD + "  - echo: {container: c1}\n    name: reach the gateways\n  - clock.advance: 3s\n")
    assert failed is None
    steps = [
        "set-up",
        "add c1 for default/web-0",
        "reach the gateways",
        "clock.advance 3000 ms",
        "settle",
        "end of all containers",
    ]
    assert titles(happened) == steps
    assert [one.outcome for one in happened if isinstance(one, events.StepFinished)][1:3] == [
        "eni-1",
        "answered by 10.64.0.1, fd64::1",
    ]


def test_failure_has_the_steps_place_what_was_seen_last_and_its_plugin_runs() -> None:
    failed, happened, _ = play(ADD + ADD.replace("c1", "c2").replace("web-0", "web-1"), enis=1)
    assert failed is not None
    assert (failed.step, failed.file, failed.line) == ("add c2 for default/web-1", "s.yaml", 7)
    assert "code 11: the agent has no ENI to give: no available ENI to be allocated" in failed.message
    assert dict(failed.views)["the runtime was told"] == "podnet/c1/eth0 has eni-1"
    assert [(one.call.plugin, one.exit_code) for one in failed.plugins] == [("exclusive-device", 1)]
    assert titles(happened)[-1] == "add c1 for default/web-0"


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        (ADD + "  - expect: {enis: {free: 2}}\n", "2 ENIs must be free, but 1 are"),
        (ADD + "  - eventually: {enis: {free: 2}, within: 1s}\n", "2 ENIs must be free, but 1 are"),
        (ADD.replace("}", "}\n    expect: {eni: {not: eni-1}}"), "must not get eni-1, but did"),
        (ADD.replace("}", "}\n    expect: {error: {code: 7}}"), "succeeded, but must fail with {'code': 7}"),
        ("  - agent.start: true\n", "agent.start: the agent runs already"),
        ("  - agent.kill: true\n  - agent.kill: true\n", "agent.kill: the agent does not run"),
        (ADD + "  - netns.delete: c1\n  - echo: {container: c1}\n", "no answer from the gateway 10.64.0.1"),
    ],
)
def test_step_that_does_not_do_what_it_must_fails_the_run(steps: str, message: str) -> None:
    failed, _, _ = play(steps)
    assert failed is not None
    assert message in failed.message


def test_reference_to_what_an_add_did_not_give_fails_with_its_name() -> None:
    refused = "  - add: {pod: default/web-1, container: c2}\n    expect: {error: {code: 11}}\n"
    uses = "  - add: {pod: default/web-2, container: c3}\n    expect: {eni: {is: '${c2.eni}'}}\n"
    failed, _, _ = play(ADD + refused + "  - del: {container: c1}\n" + uses, enis=1)
    assert failed is not None
    assert "${c2.eni} has no value: the ADD of c2 gave nothing" in failed.message


def test_finally_runs_after_a_failure_which_stays_the_one_that_is_told() -> None:
    steps = ADD + "  - expect: {enis: {free: 2}}\nfinally:\n  - del: {container: c1}\n  - expect: {enis: {free: 9}}\n"
    failed, happened, world = play(steps)
    assert failed is not None
    assert (failed.step, failed.line) == ("expect", 7)
    assert titles(happened)[-1] == "finally del c1"
    assert [record.state for record in world.snapshot().records] == ["free", "free"]


def test_settling_fails_if_a_restart_changes_what_the_agent_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    def forget(self: flows.Agent, enis: Any, _events: Any) -> None:
        remember(self, enis, ())

    remember = flows.Agent.__init__
    played = load.parse("s.yaml", (HEAD.replace("{chain}", "exclusive-device") + ADD).encode())
    world = node.Node(topology.enis(2))
    monkeypatch.setattr(flows.Agent, "__init__", forget)
    failed = run.ScenarioRun(played, "exclusive-device", world, lambda _: None).run()
    assert failed is not None
    assert failed.step == "settle"
    assert "restart-neutral: eni-1: before the restart the agent says in_use of podnet/c1/eth0" in failed.message


def test_invariant_that_is_broken_after_a_step_fails_it_with_both_views(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(pool.TRANSITIONS, (pool.RESERVED, "acknowledged"), pool.RETURNING)  # type: ignore[arg-type]
    failed, _, _ = play(ADD)
    assert failed is not None
    assert failed.message.startswith("conserved: eni-1: ADD gave it to podnet/c1/eth0")
    assert {label for label, _ in failed.views} == {"the agent says", "the kernel shows", "the runtime was told"}


def test_device_plugin_gives_each_attachment_a_free_nic_and_keeps_it_for_del() -> None:
    steps = ADD + "  - del: {container: c1}\n  - eventually: {enis: {free: 2}}\n"
    failed, happened, _ = play(steps, chain="host-device")
    assert failed is None
    stdins = [one.outcome.call.stdin for one in happened if isinstance(one, events.PluginRan)]
    assert [b'"device": "eni1"' in stdin for stdin in stdins] == [True, True]
