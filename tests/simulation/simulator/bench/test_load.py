"""Rounds on a node in memory: each state of the pool is what it says, for both chains."""

import pytest

from simulator import topology
from simulator.bench import load, networks, stats
from simulator.errors import LabError
from simulator.model import PluginCall
from simulator.virtual.node import Node

EXCLUSIVE, HOST = networks.CHAINS
SYNC_NS = 200_000


def series(subject: networks.Subject, state: str, concurrency: int = 2) -> tuple[Node, load.Series]:
    node = Node(topology.enis(load.enis_of(state, concurrency)), SYNC_NS)
    made = load.Series(node, subject, state, concurrency)
    made.prepare()
    return node, made


def states(node: Node) -> list[str]:
    return sorted(record.state for record in node.snapshot().records)


def ended(measured: load.Round) -> list[tuple[str, str]]:
    return [(one.verb, one.result) for one in measured.measured]


@pytest.mark.parametrize("subject", networks.CHAINS, ids=lambda one: one.name)
def test_warm_rounds_add_and_delete_every_pod_and_leave_the_pool_as_it_was(subject: networks.Subject) -> None:
    node, one = series(subject, load.WARM)
    for _ in range(3):
        assert ended(one.round()) == [("ADD", "ok")] * 2 + [("DEL", "ok")] * 2
    node.pause(100)
    assert states(node) == ["free"] * 4


@pytest.mark.parametrize(("subject", "refusal", "end"), [(EXCLUSIVE, "code 11", "ok"), (HOST, "code 999", "code 999")])
def test_exhausted_rounds_are_refused(subject: networks.Subject, refusal: str, end: str) -> None:
    node, one = series(subject, load.EXHAUSTED)
    for _ in range(2):
        assert ended(one.round()) == [("ADD", refusal)] * 2 + [("DEL", end)] * 2
        assert states(node) == ["in_use"] * 2


@pytest.mark.parametrize(("subject", "end"), [(EXCLUSIVE, "ok"), (HOST, "code 999")])
def test_reclaiming_rounds_have_no_eni_but_what_is_taken_back(subject: networks.Subject, end: str) -> None:
    node, one = series(subject, load.RECLAIMING)
    for _ in range(3):
        assert states(node) == ["in_use"] * 2 + ["superseded"] * 2
        assert ended(one.round()) == [("ADD", "ok")] * 2 + [("DEL", end)] * 2


def test_phases_are_what_the_agent_measured() -> None:
    _, one = series(EXCLUSIVE, load.WARM, 1)
    add = one.round().measured[0].phases
    assert (add.work_ms, add.total_ms) == (2 * SYNC_NS / 1e6, 2 * SYNC_NS / 1e6)
    assert sum(add.of(phase) for phase in stats.PHASES) == add.total_ms


def test_a_pool_that_does_not_come_home_is_a_sentence() -> None:
    node = Node(topology.enis(1))
    node.kill_agent()
    with pytest.raises(LabError, match="1 ENIs must be free within 5000 ms, but these are: the agent does not run"):
        load.Series(node, EXCLUSIVE, load.EXHAUSTED, 1).prepare()


def test_a_plugin_that_fails_ends_the_measurement() -> None:
    node, one = series(EXCLUSIVE, load.WARM)
    node.kill_agent()
    node.start_agent()
    node.driver.run(node.driver.now_ns)
    node.network.answers_to_lose = 100
    with pytest.raises(
        LabError, match=r"exclusive-device\+enim, warm: ADD must go well, but failed: exclusive-device: code 11: "
    ):
        one.round()


def test_plugins_that_start_at_once_end_in_the_order_of_their_calls() -> None:
    node = Node(topology.enis(2))
    outcomes = node.execute_all([PluginCall("no-such-one", {}, b""), PluginCall("enim", {}, b"{}")])
    assert [(one.call.plugin, one.exit_code) for one in outcomes] == [("no-such-one", 127), ("enim", 1)]
