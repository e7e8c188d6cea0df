"""The shipped flows of the plugins and of the agent on one heap: the incidents that the agent is built against."""

import json
from dataclasses import replace
from typing import Any

import pytest

from enim import wire
from simulator import errors
from simulator.model import PluginCall
from simulator.virtual import plugins

MS = 1_000_000
HOUR_MS = 3_600_000


def test_pod_gets_an_eni_with_addresses_and_gives_it_back(make_lab: Any) -> None:
    lab = make_lab(2)

    assert lab.add("c1") == "eni-1"
    assert (lab.place(1), lab.states(), lab.violations()) == ("/run/netns/c1:eth0", ["in_use", "free"], [])
    assert lab.node.echo("/run/netns/c1", "10.64.0.1", 100)
    assert lab.node.echo("/run/netns/c1", "fd00:64::1", 100)
    assert not lab.node.echo("/run/netns/c1", "192.0.2.1", 100)

    assert lab.delete("c1") == ""
    lab.node.pause(1)
    assert (lab.place(1), lab.states(), lab.violations()) == (":ens1", ["free", "free"], [])


def test_add_without_del_is_superseded_and_comes_home_after_exactly_2_s(make_lab: Any) -> None:  # INC-A08, INC-B05
    lab = make_lab(2)
    lab.add("c1")
    lab.node.pause(50)
    committed_ns = lab.node.driver.now_ns
    assert lab.add("c2") == "eni-2"
    assert lab.node.driver.now_ns == committed_ns
    assert lab.holders() == ["c1", "c2"]

    lab.node.driver.run(committed_ns + 2_000 * MS - 1)
    assert (lab.states(), lab.place(1)) == (["superseded", "in_use"], "/run/netns/c1:eth0")
    lab.node.driver.run(committed_ns + 2_000 * MS)
    assert (lab.states(), lab.place(1)) == (["free", "in_use"], ":ens1")
    assert lab.violations() == []


@pytest.mark.parametrize("when_ms", [0, 1_000, 3_000, HOUR_MS])
def test_late_del_leaves_the_newer_container_alone(make_lab: Any, when_ms: int) -> None:  # INC-A01, INC-A03
    lab = make_lab(2)
    lab.add("c1")
    lab.add("c2")
    lab.node.pause(when_ms)

    for _ in range(3):
        assert lab.delete("c1", netns="") == ""
    lab.node.pause(5_000)

    assert (lab.holders(), lab.place(2), lab.states()) == (["", "c2"], "/run/netns/c2:eth0", ["free", "in_use"])


def test_netns_that_dies_without_del_gives_its_eni_back_by_evidence(make_lab: Any) -> None:  # INC-D05
    lab = make_lab(1)
    lab.add("c1")
    lab.node.delete_netns("/run/netns/c1")

    lab.node.pause(29_999)
    assert (lab.states(), lab.place(1)) == (["in_use"], ":eth0")
    assert lab.add("c2") == "the agent has no ENI to give: no available ENI to be allocated"
    lab.node.pause(1)

    assert (lab.states(), lab.place(1)) == (["free"], ":ens1")
    assert lab.add("c2") == "eni-1"


def test_netns_that_is_pinned_keeps_its_eni_until_it_dies(make_lab: Any) -> None:  # INC-D07, INC-D08
    lab = make_lab(1)
    lab.add("c1")
    let_go = lab.node.kernel.pin("/run/netns/c1")
    lab.node.delete_netns("/run/netns/c1")
    lab.node.pause(HOUR_MS)
    assert lab.states() == ["in_use"]

    let_go()
    lab.node.pause(30_000)
    assert (lab.states(), lab.place(1)) == (["free"], ":ens1")


def test_eni_that_comes_home_to_a_taken_name_is_restored_once_the_name_is_free(make_lab: Any) -> None:  # INC-E07
    lab = make_lab(1)
    lab.add("c1")
    lab.node.kernel.add_link("ens1", "02:00:00:00:00:01")
    lab.delete("c1")
    lab.node.pause(10_000)
    assert (lab.states(), lab.place(1)) == (["returning"], ":dev0")

    lab.node.kernel.remove_link("ens1")
    lab.node.pause(60_000)
    assert (lab.states(), lab.place(1)) == (["free"], ":ens1")


def test_add_again_is_answered_with_the_eni_it_has(make_lab: Any) -> None:  # INC-B06
    lab = make_lab(2)
    lab.add("c1", plugin="enim")

    assert lab.add("c1", plugin="enim") == "eni-1"
    assert lab.states() == ["in_use", "free"]


def test_lost_answers_leak_nothing(make_lab: Any) -> None:  # contract C5
    lab = make_lab(3)
    for number in range(20):
        lab.node.network.answers_to_lose = 1 + number % 2  # the roll-back's answer too
        lab.add(f"c{number}", pod=f"default/web-{number}")
        lab.node.pause(100)
        assert lab.holders() == ["", "", ""]

    assert (lab.states(), lab.violations()) == (["free"] * 3, [])


def test_client_that_gives_up_withdraws_what_the_agent_went_on_to_commit(make_lab: Any) -> None:  # INC-C05
    lab = make_lab(1, sync_ns=40_000 * MS)  # a disk that takes 40 s: the whole ADD takes longer than its client waits
    lab.node.pause(200_000)
    assert lab.states() == ["free"]

    assert lab.add("c1", plugin="enim") == "the agent gave no whole answer"
    lab.node.pause(400_000)

    assert (lab.states(), lab.holders()) == (["free"], [""])


def test_thirty_pods_take_turns_on_four_enis(make_lab: Any) -> None:
    lab = make_lab(4, sync_ns=MS // 5, delay_ns=MS // 10)
    waiting = [f"c{number}" for number in range(30)]
    served: list[str] = []
    attempts = 0
    while waiting:
        attempts += 1
        assert attempts < 50
        runs = [(name, lab.begin_add(name, pod=f"default/{name}")) for name in waiting]
        lab.node.finish(*(run for _, run in runs))
        won = [name for name, run in runs if run.exit_code == 0]
        enis = [lab.answer(run) for _, run in runs if run.exit_code == 0]
        assert len(set(enis)) == len(enis) <= 4
        lab.node.pause(1_000)
        assert sorted(filter(None, lab.holders())) == sorted(won)
        ending = [lab.begin_delete(name, pod=f"default/{name}") for name in won]
        lab.node.finish(*ending)
        assert [run.exit_code for run in ending] == [0] * len(won)
        served += won
        waiting = [name for name in waiting if name not in served]
        lab.node.pause(1_000)

    assert (len(served), lab.states(), lab.violations()) == (30, ["free"] * 4, [])


def test_same_program_gives_the_same_bytes(make_lab: Any) -> None:
    def run_once() -> str:
        lab = make_lab(4, sync_ns=MS // 5, delay_ns=MS // 10)
        runs = [lab.begin_add(f"c{number}", pod=f"default/p{number % 5}") for number in range(12)]
        lab.node.finish(*runs)
        lab.node.pause(10_000)
        return json.dumps(lab.node.store.read())

    assert run_once() == run_once()


# --- an agent that is killed


def persist_times(make_lab: Any, work: Any) -> int:
    """How many writes the journal sees in some work."""
    lab = make_lab(2, sync_ns=MS)
    before = lab.node.store.persist_count
    work(lab)
    return int(lab.node.store.persist_count - before)


def restart_at(lab: Any, count: int, kept_count: int) -> None:
    """Kill the agent while its ``count``-th write from now is under way, and start it again."""
    target = lab.node.store.persist_count + count
    lab.node.driver.run_while(lambda: lab.node.store.persist_count < target, lab.node.driver.now_ns + 600_000 * MS)
    assert lab.node.store.persist_count == target
    lab.node.crash_agent(kept_count)
    lab.node.start_agent()
    lab.assert_recovery_is_neutral()


@pytest.mark.parametrize("kept_count", [0, 1], ids=["the write is lost", "the write is found"])
@pytest.mark.parametrize("has_older", [False, True], ids=["first container", "second container"])
def test_agent_killed_at_every_write_of_an_add_leaks_nothing(make_lab: Any, has_older: bool, kept_count: int) -> None:
    count = persist_times(make_lab, lambda lab: lab.add("c2"))
    assert count >= 2
    for stop in range(1, count + 1):
        lab = make_lab(2, sync_ns=MS)
        if has_older:
            lab.add("c1")
        run = lab.begin_add("c2")
        restart_at(lab, stop, kept_count)
        lab.node.finish(run)
        lab.node.pause(100)

        assert run.exit_code == 1  # the answer was lost with the agent, whatever it had written
        assert "c2" not in lab.holders(), f"it failed and holds an ENI (write {stop})"
        for name in ("c1", "c2"):
            assert lab.delete(name) == ""
        lab.node.pause(5_000)
        assert (lab.states(), lab.violations()) == (["free", "free"], [])


@pytest.mark.parametrize("kept_count", [0, 1], ids=["the write is lost", "the write is found"])
def test_agent_killed_at_every_write_of_a_del_finishes_it_at_the_next(make_lab: Any, kept_count: int) -> None:
    def work(lab: Any) -> None:
        lab.add("c1")
        lab.delete("c1")

    count = persist_times(make_lab, work)
    for stop in range(1, count - 1):
        lab = make_lab(2, sync_ns=MS)
        lab.add("c1")
        ending = lab.begin_delete("c1")
        restart_at(lab, stop, kept_count)
        lab.node.finish(ending)
        if ending.exit_code != 0:
            assert lab.delete("c1") == ""
        lab.node.pause(5_000)

        assert (lab.states(), lab.holders(), lab.violations()) == (["free", "free"], ["", ""], [])


def test_agent_killed_between_any_two_steps_recovers_what_it_said(make_lab: Any) -> None:
    lab = make_lab(3, sync_ns=MS // 5, delay_ns=MS // 10)
    steps = 0
    runs = [lab.begin_add(f"c{number}", pod=f"default/p{number % 2}") for number in range(4)]
    while any(run.is_alive for run in runs):
        steps += 1
        target_ns = lab.node.driver.now_ns + MS // 7
        lab.node.driver.run(target_ns)
        if steps % 3 == 0 and lab.node.is_agent_running:
            lab.node.crash_agent(steps % 2)
        elif not lab.node.is_agent_running:
            lab.node.start_agent()
            lab.assert_recovery_is_neutral()
        assert steps < 10_000
    if not lab.node.is_agent_running:
        lab.node.start_agent()
    for number in range(4):
        assert lab.delete(f"c{number}", pod=f"default/p{number % 2}") == ""
    lab.node.pause(10_000)

    assert (lab.states(), lab.violations()) == (["free"] * 3, [])


def test_del_waits_for_an_agent_that_restarts(make_lab: Any) -> None:  # design D13
    lab = make_lab(1)
    lab.add("c1")
    lab.node.kill_agent()
    ending = lab.begin_delete("c1")
    lab.node.pause(10_000)
    assert ending.is_alive
    lab.node.start_agent()
    lab.node.finish(ending)
    lab.node.pause(10)

    assert (ending.exit_code, lab.states()) == (0, ["free"])


def test_netns_that_dies_while_the_agent_is_down_is_noticed_at_its_start(make_lab: Any) -> None:  # INC-G12
    lab = make_lab(1)
    lab.add("c1")
    lab.node.kill_agent()
    lab.node.delete_netns("/run/netns/c1")
    lab.node.pause(HOUR_MS)
    lab.node.start_agent()
    lab.node.pause(29_999)
    assert lab.states() == ["in_use"]

    lab.node.pause(1)
    assert lab.states() == ["free"]


# --- plugins that are killed


@pytest.mark.parametrize("victim", ["exclusive-device", "enim"])
def test_plugin_killed_at_every_effect_of_an_add_leaks_nothing_after_its_del(make_lab: Any, victim: str) -> None:  # C
    reference = make_lab(2, delay_ns=MS)
    run = reference.begin_add("c1")
    moments = 0
    while run.is_alive:
        reference.node.driver.run(reference.node.driver.now_ns + MS // 2)
        moments += 1
    assert moments >= 4

    for moment in range(moments + 1):
        lab = make_lab(2, delay_ns=MS)
        run = lab.begin_add("c1", plugin=victim)
        lab.node.driver.run(lab.node.driver.now_ns + moment * MS // 2)
        run.kill()
        lab.node.pause(200)  # the delegate lives on, and finds nobody to read its result

        assert lab.delete("c1", plugin=victim) == ""
        lab.node.pause(5_000)
        assert (lab.states(), lab.violations()) == (["free", "free"], [])


def test_plugin_killed_and_never_followed_by_a_del_is_superseded_by_the_next_add(make_lab: Any) -> None:  # INC-C03
    lab = make_lab(2, delay_ns=MS)
    run = lab.begin_add("c1")
    lab.node.finish(run)
    lab.node.delete_netns("/run/netns/c1")

    assert lab.add("c2") == "eni-2"
    lab.node.pause(3_000)

    assert (lab.holders(), lab.place(1)) == (["", "c2"], ":ens1")


# --- the node as a World


def test_execute_kills_the_direct_child_at_its_timeout(make_lab: Any) -> None:
    lab = make_lab(1)
    lab.node.kill_agent()
    lab.node.create_netns("c1")
    call = lab.call("ADD", "c1")
    began_ms = lab.node.elapsed_ms()

    outcome = lab.node.execute(PluginCall(call.plugin, call.environment, call.stdin, timeout_ms=500))

    assert (outcome.timed_out, outcome.exit_code, outcome.stdout) == (True, -9, b"")
    assert lab.node.elapsed_ms() - began_ms == 500
    lab.node.start_agent()
    lab.node.pause(2_000)
    assert lab.states() == ["free"]  # its delegate went on, and gave back what it got


def test_execute_of_a_plugin_that_is_not_there_fails_as_a_runtime_would(make_lab: Any) -> None:
    lab = make_lab(1)

    outcome = lab.node.execute(lab.call("ADD", "c1", plugin="bridge"))

    assert (outcome.exit_code, outcome.stdout) == (plugins.NOT_FOUND, b"")
    assert b'failed to find plugin "bridge"' in outcome.stderr


def test_agent_cannot_be_started_twice_or_killed_dead(make_lab: Any) -> None:
    lab = make_lab(1)
    with pytest.raises(errors.WorldFault, match="runs already"):
        lab.node.start_agent()
    lab.node.kill_agent()
    for call in (lab.node.kill_agent, lambda: lab.node.advance_clock(1)):
        with pytest.raises(errors.WorldFault, match="does not run"):
            call()
    with pytest.raises(errors.InvariantBroken, match="does not run"):
        lab.node.ask(wire.Request("GET", "/v1/healthz"))

    assert (lab.node.snapshot().records, lab.node.snapshot().agent_running) == ((), False)


def test_processes_that_start_at_once_end_each_at_its_own_time_or_timeout(make_lab: Any) -> None:
    lab = make_lab(2)
    slow, fast = lab.call("DEL", "c1"), lab.call("VERSION", "c2", plugin="no-such-one")
    lab.node.kill_agent()  # a DEL tries again for 25 s

    ended = lab.node.execute_all([replace(slow, timeout_ms=1_000), fast, replace(slow, timeout_ms=60_000)])

    assert [one.timed_out for one in ended] == [True, False, False]
    assert [one.exit_code for one in ended] == [plugins.KILLED, plugins.NOT_FOUND, 1]
    assert (ended[0].duration_ms, ended[1].duration_ms) == (1_000, 0)
    assert 1_000 < ended[2].duration_ms < 26_000


def test_agent_tells_once_how_long_each_request_worked_and_waited_for_another(make_lab: Any) -> None:
    lab = make_lab(2, sync_ns=5 * MS)
    for container_id in ("c1", "c2"):
        lab.node.create_netns(container_id)
    calls = [lab.call("ADD", one, pod="default/web-0") for one in ("c1", "c2")]

    lab.node.execute_all(calls)

    first, second = lab.node.served()
    assert (first.method, first.queue_ms, first.work_ms) == ("POST", 0, 10)
    assert (second.method, second.queue_ms > 0) == ("POST", True)
    assert lab.node.served() == []
