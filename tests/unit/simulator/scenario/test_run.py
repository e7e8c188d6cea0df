"""Steps against a world that lies, refuses and breaks, as no lab does: a failure is told with all that explains it."""

from collections.abc import Callable
from typing import Any

import pytest

from simulator.errors import LabError, WorldFault
from simulator.model import Attachment
from simulator.report import events
from simulator.scenario import run

ADD = "  - add: {pod: default/web-0, container: c1}\n"
ADD2 = "  - add: {pod: default/web-1, container: c2}\n"
Play = Callable[..., Any]


def test_scenario_that_passes_reports_every_step_and_plugin_run_in_order(world: Any, play: Play) -> None:
    played = play(world, ADD + "  - echo: {container: c1}\n  - del: {container: c1}\n    name: good bye\n")
    assert played.failed is None
    assert played.steps == [
        ("set-up", "2 free ENIs"),
        ("add c1 for default/web-0", "eni-1"),
        ("echo c1", "answered by 10.64.0.1, fd64::1"),
        ("good bye", ""),
        ("settle", ""),
        ("end of all containers", ""),
    ]
    step, step_with_plugin = ["StepStarted", "StepFinished"], ["StepStarted", "PluginRan", "StepFinished"]
    kinds = [type(event).__name__ for event in played.happened]
    assert kinds == [*step, *step_with_plugin, *step, *step_with_plugin, *step, *step]


# --- what a failure says


def test_expectation_that_is_not_met_is_told_with_place_and_views_after_the_wait(world: Any, play: Play) -> None:
    played = play(world, ADD + "  - expect: {enis: {free: 2}}\n")
    assert played.failed == events.Failed(
        "expect",
        "s.yaml",
        7,
        "2 ENIs must be free, but 1 are",
        (
            ("the agent says", "eni-1 in_use of podnet/c1/eth0; eni-2 free"),
            ("the kernel shows", "eni-2 is eni2 in the initial netns; eni-1 is eth0 in /n/c1"),
            ("the runtime was told", "podnet/c1/eth0 has eni-1"),
        ),
    )
    assert world.now_ms == run.KERNEL_WAIT_MS


def test_plugin_error_is_told_with_the_plugin_run(make_world: Any, play: Play) -> None:
    played = play(make_world(1), ADD + ADD2)
    failed = played.failure
    assert (failed.step, failed.file, failed.line) == ("add c2 for default/web-1", "s.yaml", 7)
    assert failed.message == "failed: exclusive-device: code 11: no available ENI (try again)"
    assert dict(failed.views)["the runtime was told"] == "podnet/c1/eth0 has eni-1"
    assert [(one.call.environment["CNI_CONTAINERID"], one.exit_code) for one in failed.plugins] == [("c2", 1)]


def test_del_that_fails_is_told_too_and_the_container_may_have_lost_its_nic(world: Any, play: Play) -> None:
    world.answers = [world.honest, lambda call: (1, {"code": 5, "msg": "io"}) if world.honest(call) else (0, None)]
    played = play(world, ADD + "  - del: {container: c1}\n    expect: {error: {code: 5}}\n")
    assert (played.failed, played.steps[2]) == (None, ("del c1", "exclusive-device: code 5: io"))


@pytest.mark.parametrize(
    ("steps", "fault", "message"),
    [
        ("  - clock.advance: 3s\n", "advance_clock", "clock: refused"),
        ("  - agent.kill: true\n", "kill_agent", "clock: refused"),
        (ADD, "create_netns", "clock: refused"),
        (ADD, "execute", "clock: refused"),
        (ADD + "  - netns.delete: c1\n", "delete_netns", "clock: refused"),
        (ADD + "  - echo: {container: c1}\n", "echo", "clock: refused"),
        ("  - agent.crash: {at: add.A1}\n", "crash_agent_at", "clock: refused"),
    ],
)
def test_refusal_of_the_outside_fails_the_step_with_what_can_still_be_seen(
    world: Any, play: Play, steps: str, fault: str, message: str
) -> None:
    world.faults[fault] = WorldFault("clock", 1, "refused")
    failed = play(world, steps).failure
    assert (failed.message, failed.line) == (message, 5 + steps.count("\n"))
    assert [label for label, _ in failed.views] == ["the agent says", "the kernel shows", "the runtime was told"]


def test_failure_of_the_view_itself_leaves_the_views_out(world: Any, play: Play) -> None:
    world.faults["snapshot"] = WorldFault("snapshot", 5, "blind")
    assert play(world, ADD).failed == events.Failed("set-up", "s.yaml", 1, "snapshot: blind")


def test_lab_that_is_gone_ends_the_run(world: Any, play: Play) -> None:
    world.faults["execute"] = LabError("the lab is gone")
    with pytest.raises(LabError, match="the lab is gone"):
        play(world, ADD)


def test_node_that_does_not_come_up_fails_before_the_first_step(world: Any, play: Play) -> None:
    world.records.popitem()
    failed = play(world, ADD).failure
    assert (failed.step, failed.line, failed.message) == ("set-up", 1, "2 ENIs must be free, but 1 are")


def test_agent_that_is_down_and_no_grant_are_said_in_the_views(world: Any, play: Play) -> None:
    failed = play(world, "  - agent.kill: true\n  - expect: {enis: {free: 2}}\n").failure
    assert dict(failed.views)["the agent says"] == "it does not run"
    assert dict(failed.views)["the runtime was told"] == "nothing"


# --- invariants


def test_exclusive_is_checked_after_an_add(world: Any, play: Play) -> None:
    def give_again(call: Any) -> tuple[int, object]:
        mac = world.enis[0].mac
        return 0, world.give(mac, Attachment("podnet", "c2", "eth0"), "default/web-1", call.environment["CNI_NETNS"])

    world.answers = [world.honest, give_again]
    failed = play(world, ADD + ADD2).failure
    assert (failed.step, failed.line, len(failed.plugins)) == ("add c2 for default/web-1", 7, 1)
    assert failed.message == (
        "return-before-reuse: eni-1: ADD gave it to podnet/c2/eth0; "
        "but before that ADD was sent, the kernel shows it in /n/c1 as eth0"
    )


def test_stale_harm_is_checked_after_a_del(world: Any, play: Play) -> None:
    world.answers = [world.honest, world.honest, lambda _: world.release(Attachment("podnet", "c2", "eth0"))]
    failed = play(world, ADD + ADD2 + "  - del: {container: c1}\n").failure
    assert (failed.step, failed.line) == ("del c1", 8)
    assert failed.message.startswith("no-stale-harm: podnet/c2/eth0: the kernel said eth0 (")


@pytest.mark.parametrize("back_ms", [500, 5_000])
def test_conserved_is_checked_after_every_step_with_patience_for_the_kernel(
    world: Any, play: Play, back_ms: int
) -> None:
    eni = world.enis[1]

    def lose_another(call: Any) -> tuple[int, object]:
        del world.links[eni.mac]
        return honest(call)

    def come_back() -> None:
        if world.now_ms >= back_ms:
            world.links[eni.mac] = world.at_home(eni)

    honest = world.honest
    world.answers, world.on_pause = [lose_another], come_back
    failed = play(world, ADD).failed
    if back_ms < run.KERNEL_WAIT_MS:
        assert (failed, world.now_ms) == (None, back_ms)
    else:
        lost = "conserved: eni-2: the cloud says it is attached; but the kernel shows it nowhere"
        assert (failed.message, world.now_ms) == (lost, run.KERNEL_WAIT_MS)


def test_container_that_a_failed_add_superseded_is_no_violation(world: Any, play: Play) -> None:
    def commit_and_fail(call: Any) -> tuple[int, object]:
        world.honest(call)
        world.release(Attachment("podnet", "c2", "eth0"))
        return 1, {"code": 11, "msg": "no whole answer"}

    world.answers = [world.honest, commit_and_fail]
    add_again = "  - add: {pod: default/web-0, container: c2}\n    expect: {error: {code: 11}}\n"
    assert play(world, ADD + add_again + "  - clock.advance: 3s\n  - expect: {enis: {free: 2}}\n").failed is None


# --- results as a foreign plugin may print them


@pytest.mark.parametrize(
    "result",
    [
        {},
        {"interfaces": None, "ips": None},
        {"interfaces": "eth0", "ips": "10.64.0.10/24"},
        {"interfaces": {"sandbox": "/n/c1"}, "ips": {}},
        {"interfaces": ["eth0", 1], "ips": [1]},
        {"interfaces": [{"sandbox": "/n/c1"}], "ips": []},
        {"interfaces": [{"sandbox": "/n/c1"}] * 2, "ips": [{"address": "10.64.0.10/24"}]},
        {"interfaces": [{"name": "eth0"}], "ips": [{"address": "10.64.0.10/24"}]},
    ],
)
def test_result_that_gives_nothing_is_a_failure_that_quotes_it(world: Any, play: Play, result: Any) -> None:
    world.answers = [lambda _: (0, result)]
    assert play(world, ADD).failure.message == (
        f"the result has no addresses, or not one interface in /n/c1: {result!r}"
    )


@pytest.mark.parametrize("mac", ["02:00:00:00:00:99", None])
def test_nic_that_the_cloud_does_not_list_fails_the_add_and_not_the_runner(world: Any, play: Play, mac: Any) -> None:
    interface = {"sandbox": "/n/c1", **({} if mac is None else {"mac": mac})}
    world.answers = [lambda _: (0, {"interfaces": [interface], "ips": [{"address": "10.64.0.10/24"}]})]
    played = play(world, ADD + "finally:\n  - echo: {container: c1}\n")
    assert "but the cloud lists no ENI with this MAC" in played.failure.message


# --- what always runs


def test_finally_runs_after_a_failure_also_what_names_a_container_that_was_not_made(world: Any, play: Play) -> None:
    world.answers = [lambda _: (1, {"code": 11, "msg": "no"})]
    verbs = ("del: {container: c2}", "netns.delete: c2", "echo: {container: c2}", "del: {container: c1}")
    played = play(world, ADD + ADD2 + "finally:\n" + "".join(f"  - {verb}\n" for verb in verbs))
    assert (played.failure.step, played.failure.message) == (
        "add c1 for default/web-0",
        "failed: exclusive-device: code 11: no",
    )
    assert [step for step, _ in played.steps] == ["set-up", "finally del c1"]


def test_failure_of_finally_alone_fails_the_run_and_nothing_is_settled_then(world: Any, play: Play) -> None:
    failed = play(world, ADD + "finally:\n  - expect: {enis: {free: 9}}\n").failure
    assert (failed.step, failed.line) == ("finally expect", 8)


def test_settling_goes_past_every_timer_and_restarts_the_agent(world: Any, play: Play) -> None:
    assert play(world, ADD + "  - add: {pod: default/web-0, container: c2}\n").failed is None
    verbs = [one for one in world.done if one[0] in ("advance_clock", "kill_agent", "start_agent")]
    at_the_end = ("advance_clock", 60_000)
    assert verbs == [("advance_clock", 60_000), ("kill_agent", None), ("start_agent", 0), at_the_end]


def test_settling_fails_if_a_restart_changes_a_record(world: Any, play: Play) -> None:
    mac = world.enis[0].mac
    world.on_restart = lambda: world.records.update({mac: world.records[world.enis[1].mac]})
    failed = play(world, ADD).failure
    assert (failed.step, failed.line) == ("settle", 6)
    assert failed.message == (
        "restart-neutral: eni-1: before the restart the agent says in_use of podnet/c1/eth0, owner 'default/web-0'; "
        "but now gone"
    )


def test_settling_fails_if_something_stays_on_its_way(world: Any, play: Play) -> None:
    def stuck(call: Any) -> tuple[int, object]:
        eni = world.enis[0]
        world.records[eni.mac] = type(world.records[eni.mac])(eni, "returning")
        return 0, None

    world.answers = [world.honest, stuck]
    failed = play(world, ADD + "  - del: {container: c1}\n").failure
    assert (failed.step, failed.message) == ("settle", "0 ENIs must be returning, but 1 are")


def test_settling_starts_an_agent_that_the_scenario_left_dead(world: Any, play: Play) -> None:
    assert play(world, "  - agent.kill: true\n").failed is None
    assert [one for one, _ in world.done].count("start_agent") == 2


def test_settling_waits_for_an_agent_that_is_on_its_way(world: Any, play: Play) -> None:
    def come_back() -> None:
        world.is_running = world.now_ms >= 300

    world.on_pause = come_back
    assert play(world, "  - agent.kill: true\n  - agent.start: {after: 300ms}\n").failed is None
    assert [argument for one, argument in world.done if one == "start_agent"] == [300, 0]


# --- what the runtime sends


def test_values_of_earlier_steps_go_into_arguments_capabilities_and_expectations(world: Any, play: Play) -> None:
    add = (
        "  - add: {pod: default/web-1, container: c2, args: {IP: '${c1.ipv4}'}, capabilities: {x: ['${c1.ipv6}', 1]}}\n"
        "    expect: {eni: {not: '${c1.eni}'}, result: {interfaces: [{sandbox: '${c2.netns}', mac: '${c2.mac}'}]}}\n"
    )
    assert play(world, ADD + add).failed is None
    assert world.calls[1].environment["CNI_ARGS"].endswith(";IP=10.64.0.10")
    assert b'"runtimeConfig": {"x": ["fd64::a", 1]}' in world.calls[1].stdin


def test_del_is_sent_with_the_netns_on_record_or_an_empty_one_or_for_a_container_out_of_the_blue(
    world: Any, play: Play
) -> None:
    steps = (
        '  - del: {container: c1, netns: ""}\n  - del: {container: c1, ifname: net1}\n'
        "  - del: {container: ghost, pod: default/ghost}\n"
    )
    assert play(world, ADD + steps).failed is None
    sent = [
        (call.environment["CNI_CONTAINERID"], call.environment["CNI_NETNS"], call.environment["CNI_IFNAME"])
        for call in world.calls[1:]
    ]
    assert sent == [("c1", "", "eth0"), ("c1", "/n/c1", "net1"), ("ghost", "/run/netns/ghost", "eth0")]
    assert "K8S_POD_NAME=ghost" in world.calls[-1].environment["CNI_ARGS"]


def test_container_has_one_namespace_however_often_it_is_added(world: Any, play: Play) -> None:
    again = "  - add: {pod: default/web-0, container: c1, ifname: net1}\n    expect: {error: {code: 100}}\n"
    world.answers = [world.honest, lambda _: (1, {"code": 100, "msg": "already"})]
    assert play(world, ADD + again).failed is None
    assert [one for one, _ in world.done].count("create_netns") == 1


def test_eventually_waits_as_long_as_it_says(world: Any, play: Play) -> None:
    failed = play(world, "  - eventually: {enis: {free: 1}, within: 5s}\n").failure
    assert (failed.step, failed.message, world.now_ms) == ("eventually", "1 ENIs must be free, but 2 are", 5_000)


def test_device_plugin_goes_on_with_what_it_knew_while_the_agent_is_down(world: Any, play: Play) -> None:
    def work(call: Any) -> tuple[int, object]:
        world.is_running = True
        return honest(call)

    honest, world.honest = world.honest, work
    assert play(world, "  - agent.kill: true\n" + ADD, chain="host-device").failed is None
    assert b'"device": "eni1"' in world.calls[0].stdin


def test_device_plugin_without_a_free_nic_fails_the_step(make_world: Any, play: Play) -> None:
    failed = play(make_world(1), ADD + ADD2, chain="host-device").failure
    assert (failed.line, failed.message) == (7, "the device plugin has no free ENI to give")
    assert len(failed.views) == 3


def test_echo_of_a_pod_without_an_answer_names_the_gateway(world: Any, play: Play) -> None:
    failed = play(world, ADD + "  - netns.delete: c1\n  - echo: {container: c1}\n").failure
    assert (failed.line, failed.message) == (8, "no answer from the gateway 10.64.0.1")


def test_echo_of_a_pod_that_got_nothing_fails(world: Any, play: Play) -> None:
    world.answers = [lambda _: (1, {"code": 11, "msg": "no"})]
    steps = ADD + "    expect: {error: {code: 11}}\n  - echo: {container: c1}\n"
    assert play(world, steps).failure.message == "c1 has no address to send an echo request from"
