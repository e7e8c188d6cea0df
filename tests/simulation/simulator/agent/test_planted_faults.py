"""A check that nothing can fail is not a check: each fault here switches off one defence of the shipped code, and names
the scenario that then fails, and the words it fails with.

Words are an invariant's name, what an unmet expectation says, or what the pool's table says of an event that must not
happen. Where a defence has a second one behind it, so that its loss alone changes nothing, the fault switches off both,
and says so.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from enim import commands, effects, exclusive, settings, wire
from simulator import topology
from simulator.agent import api, audit, flows, ledger, pool, reclaim
from simulator.effects import Flow, ListLinks, MoveHome, Now
from simulator.errors import InvariantBroken
from simulator.model import Eni
from simulator.scenario import load, run
from simulator.virtual.node import Node

SCENARIOS = Path(__file__).parents[4] / "scenarios"

JOURNAL_NS = 1_000_000  # a journal that takes its time: others may come between

EXCLUSIVE_DEVICE, HOST_DEVICE = "exclusive-device", "host-device"

Plant = Callable[[pytest.MonkeyPatch], None]


def instead(place: Any, name: str, fault: Any) -> Plant:
    """One function or table of the shipped code is another one."""
    return lambda patch: patch.setattr(place, name, fault)


def both(*plants: Plant) -> Plant:
    def plant(patch: pytest.MonkeyPatch) -> None:
        for one in plants:
            one(patch)

    return plant


def row(state: str, sight: str, action: str, after_ms: int = 0, event: str = "") -> Plant:
    """One row of the evidence table is another one."""
    other = {(state, sight): reclaim.Row(state, sight, action, after_ms, event)}
    return lambda patch: patch.setattr(reclaim, "TABLE", {**reclaim.TABLE, **other})


def transition(state: str, kind: str, became: str) -> Plant:
    """One transition of the pool's table leads elsewhere, or one more is allowed."""
    return lambda patch: patch.setattr(pool, "TRANSITIONS", {**pool.TRANSITIONS, (state, kind): became})


def no_transition(state: str, kind: str) -> Plant:
    def plant(patch: pytest.MonkeyPatch) -> None:
        patch.setattr(pool, "TRANSITIONS", {key: to for key, to in pool.TRANSITIONS.items() if key != (state, kind)})

    return plant


def does_nothing(*_: object) -> Any:
    yield from ()


# --- faults of the agent


def holds_nothing(_self: ledger.Ledger, _eni: str) -> bool:
    return False


def supersedes_nobody(_self: ledger.Ledger, _owner: str) -> tuple[pool.Entry, ...]:
    return ()


def supersedes_everybody(self: ledger.Ledger, _owner: str) -> tuple[pool.Entry, ...]:
    return tuple(entry for entry in self.pool.entries() if entry.state == pool.IN_USE)


_delete = flows.Agent._delete


def deletes_by_owner(self: flows.Agent, request: wire.Request) -> Flow[wire.Reply]:
    """DEL ends what the pod has now, whatever container it names."""
    for entry in self._ledger.held_by(request.parameter("owner")):
        assert entry.attachment is not None
        named = (("owner", entry.owner), ("containerID", entry.attachment.container_id))
        rest = tuple(pair for pair in request.query if pair[0] not in dict(named))
        request = wire.Request(request.method, request.path, (*named, *rest), request.headers)
    return (yield from _delete(self, request))


def deletes_nothing(_self: flows.Agent, _request: wire.Request) -> Flow[wire.Reply]:
    yield from ()
    return api.done()


def refuses(_self: flows.Agent, _request: wire.Request) -> Flow[wire.Reply]:
    yield from ()
    return api.error(500, "no")


def frees_as_it_is(self: reclaim.Reclaimer, rows: list[tuple[reclaim.Row, reclaim._Sight]]) -> Flow[None]:
    """What is seen at home is free, restored or not."""
    now_ns = yield Now()
    seen = [(sight.entry.eni.id, sight.link) for _, sight in rows if self._is_current(sight)]
    events = [pool.event("freed", eni, now_ns, ifindex=link.ifindex) for eni, link in seen if link is not None]
    yield from self._commit_all([(one, sight.entry) for one, sight in rows], events)


_choose = flows.Agent._choose


def chooses_what_returns(self: flows.Agent, add: ledger.Add, wanted: Any) -> Flow[Any]:
    """Rather than refuse, an ADD brings home by itself what nobody has seen there, and takes it."""
    for entry in self._ledger.pool.entries():
        if entry.state == pool.RETURNING and entry.netns:
            yield MoveHome(entry.netns, entry.eni.mac, entry.eni.name)
            return entry, ledger.only((yield ListLinks()), entry.eni.mac)
    return (yield from _choose(self, add, wanted))


_allocation = api.allocation


def answers_with_a_neighbours_addresses(eni: Eni, ifindex: int) -> wire.Reply:
    other = next(one for one in topology.enis(2) if one.id != eni.id)
    return _allocation(replace(eni, ipv4=other.ipv4, ipv6=other.ipv6), ifindex)


def answers_with_the_next_index(eni: Eni, ifindex: int) -> wire.Reply:
    return _allocation(eni, ifindex + 1)


def answers_with_the_first_eni(_eni: Eni, ifindex: int) -> wire.Reply:
    return _allocation(topology.enis(1)[0], ifindex)


# --- faults of the plugins


def believes_the_index(allocation: wire.Allocation) -> Any:
    link = yield effects.FindLink(ifindex=allocation.ifindex)
    return link.name, link.ifindex


def takes_the_index(granted: Any) -> Any:
    return (yield effects.FindLink(ifindex=granted.addresses[0].interface or 0))


def believes_the_answer(checked: Any, allocation: wire.Allocation) -> Any:
    yield from ()
    return checked.ifname, allocation.ifindex


def rolls_nothing_back(_checked: Any, failure: Exception) -> Any:
    yield from ()
    return commands._coded(failure)


_undo = exclusive._undo


def undoes_all_but_the_move(checked: Any, plugin: str, _home_name: str, failure: Exception) -> Any:
    return (yield from _undo(checked, plugin, "", failure))


def asks_once(checked: Any, request: wire.Request, budget: tuple[int, int, int]) -> Any:
    return (yield effects.Request(settings.socket(checked), request, budget[1]))


@dataclass(frozen=True)
class Fault:
    """A defence that is off, where that is seen, and the words of the failure: an invariant, or an expectation."""

    name: str
    plant: Plant
    scenario: str
    words: str
    chain: str = EXCLUSIVE_DEVICE


STALE_HARM = audit.NO_STALE_HARM
RECORDED_FREE = transition(pool.IN_USE, "released", pool.FREE)
RECORDED_RETURNING = transition(pool.IN_USE, "restarted", pool.RETURNING)
NEVER_UNTANGLED = instead(reclaim.Reclaimer, "_untangle", does_nothing)
NEXT_INDEX = instead(api, "allocation", answers_with_the_next_index)
INDEX_BELIEVED = instead(commands, "_find_at_home", believes_the_index)

WAIT_FOR_EVER = both(
    instead(settings, "connect_ms", lambda _checked, _longest_ms: 10**9),
    instead(commands, "ADD_BUDGET", (10**9, 10**9, 10**10)),
    instead(commands, "DEL_BUDGET", (10**9, 10**9, 10**10)),
)
RESERVED_KEPT = both(
    no_transition(pool.RESERVED, "restarted"),
    *(row(pool.RESERVED, sight, reclaim.KEEP) for sight in (reclaim.AWAY, reclaim.HOME)),
)

FAULTS = (
    Fault(
        "what an owner had is never superseded",
        instead(ledger.Ledger, "held_by", supersedes_nobody),
        "leak/late-del",
        audit.EXCLUSIVE,
        HOST_DEVICE,
    ),
    Fault(
        "answer has the addresses of another ENI",
        instead(api, "allocation", answers_with_a_neighbours_addresses),
        "leak/late-del",
        audit.EXCLUSIVE,
    ),
    Fault(
        "index is stale, and neither plugin compares the MAC",
        both(NEXT_INDEX, INDEX_BELIEVED, instead(exclusive, "_nic", takes_the_index)),
        "leak/late-del",
        audit.EXCLUSIVE,
    ),
    Fault("index is stale, enim believes it", both(NEXT_INDEX, INDEX_BELIEVED), "leak/late-del", "code 104"),
    Fault(
        "answer names what another pod has, and enim does not look what host-device has moved",
        both(
            instead(api, "allocation", answers_with_the_first_eni),
            instead(commands, "_check_moved", believes_the_answer),
        ),
        "leak/late-del",
        audit.EXCLUSIVE,
        HOST_DEVICE,
    ),
    Fault(
        "an ADD takes what nobody has seen at home",
        both(
            instead(flows.Agent, "_choose", chooses_what_returns),
            transition(pool.RETURNING, "reserved", pool.RESERVED),
        ),
        "leak/not-home-yet",
        audit.RETURN_BEFORE_REUSE,
    ),
    Fault("DEL frees without a look", RECORDED_FREE, "everyday/del-empty-netns", "1 ENIs must be returning"),
    Fault(
        "DEL frees without a look, and what is free is not missed",
        both(RECORDED_FREE, row(pool.FREE, reclaim.AWAY, reclaim.KEEP)),
        "everyday/del-empty-netns",
        audit.CONSERVED,
    ),
    Fault(
        "ADD is answered before it is durable",
        instead(ledger.Ledger, "_write", does_nothing),
        "everyday/agent-restart",
        audit.CONSERVED,
        HOST_DEVICE,
    ),
    Fault(
        "what is in use is taken back without evidence",
        row(pool.IN_USE, reclaim.AWAY, reclaim.RECORD, 30_000, "reclaimed"),
        "leak/forgotten",
        audit.FAIL_CLOSED,
    ),
    Fault("DEL is refused for ever", instead(flows.Agent, "_delete", refuses), "leak/timer", audit.DEL_CONVERGES),
    Fault("plugins wait for ever", WAIT_FOR_EVER, "crash/agent-stays-down", audit.BOUNDED),
    Fault("restart forgets what is in use", RECORDED_RETURNING, "everyday/agent-restart", audit.CONSERVED),
    Fault("restart forgets, seen at settle", RECORDED_RETURNING, "leak/timer", audit.RESTART_NEUTRAL),
    Fault("restart keeps what was only reserved", RESERVED_KEPT, "crash/agent-during-add", audit.CONSERVED),
    Fault(
        "restart offers what was free without a look",
        no_transition(pool.FREE, "restarted"),
        "crash/agent-restart-host-device",
        "succeeded, but must fail",
        HOST_DEVICE,
    ),
    Fault(
        "what is in use is taken home without evidence",
        row(pool.IN_USE, reclaim.AWAY, reclaim.FETCH, event="reclaimed"),
        "everyday/happy-path",
        audit.CONSERVED,
    ),
    Fault("DEL ends what the pod has", instead(flows.Agent, "_delete", deletes_by_owner), "leak/late-del", STALE_HARM),
    Fault(
        "an ADD supersedes what other pods have",
        instead(ledger.Ledger, "held_by", supersedes_everybody),
        "everyday/requested-address",
        audit.NO_STALE_HARM,
    ),
    Fault(
        "what is at home is free without being restored",
        instead(reclaim.Reclaimer, "_restore", frees_as_it_is),
        "leak/netns-deleted",
        audit.IDENTITY_RESTORED,
    ),
    Fault(
        "two NICs have each other's name, and whether they could be restored is not looked at",
        both(NEVER_UNTANGLED, instead(reclaim, "is_restored", lambda _link, _eni: True)),
        "leak/names-collide",
        audit.IDENTITY_RESTORED,
    ),
    Fault("two NICs have each other's name", NEVER_UNTANGLED, "leak/names-collide", "2 ENIs must be free, but 0 are"),
    Fault(
        "nobody holds what a request is at work on",
        instead(ledger.Ledger, "is_held", holds_nothing),
        "everyday/happy-path",
        "must not happen in state",
    ),
    Fault(
        "DEL is acknowledged and nothing is released",
        instead(flows.Agent, "_delete", deletes_nothing),
        "everyday/del-again",
        "2 ENIs must be free, but 1 are",
    ),
    Fault(
        "a container gets an ENI for each of its interfaces",
        instead(flows.Agent, "_refuse_clash", lambda *_: None),
        "everyday/add-again",
        "succeeded, but must fail",
    ),
    Fault(
        "what was superseded is never taken back",
        row(pool.SUPERSEDED, reclaim.AWAY, reclaim.KEEP),
        "leak/timer",
        "1 ENIs must be free, but 0 are",
        HOST_DEVICE,
    ),
    Fault(
        "what DEL left in the pod is never fetched",
        row(pool.RETURNING, reclaim.AWAY, reclaim.KEEP),
        "everyday/del-empty-netns",
        "1 ENIs must be free, but 0 are",
    ),
    Fault(
        "one look at a dead netns is enough",
        row(pool.IN_USE, reclaim.NETNS_GONE, reclaim.RECORD, event="reclaimed"),
        "leak/netns-deleted",
        "1 ENIs must be in_use, but 0 are",
        HOST_DEVICE,
    ),
    Fault(
        "end of a netns is never believed",
        row(pool.IN_USE, reclaim.NETNS_GONE, reclaim.KEEP),
        "leak/netns-deleted",
        "2 ENIs must be free, but 1 are",
    ),
    Fault(
        "enim sends no DELETE after an ADD whose outcome is unknown",
        instead(commands, "roll_back", rolls_nothing_back),
        "crash/agent-during-add",
        "1 ENIs must be free, but 0 are",
    ),
    Fault("enim does not wait for an agent", instead(commands, "RETRIED", ()), "crash/agent-down", "cannot be reached"),
    Fault(
        "enim sends a DELETE once", instead(commands, "_ask", asks_once), "crash/agent-during-del", "no whole answer"
    ),
    Fault(
        "exclusive-device leaves the NIC in the pod at DEL",
        instead(exclusive, "_bring_home", does_nothing),
        "everyday/del-again",
        "the kernel must show eni-1 with netns ''",
    ),
    Fault(
        "exclusive-device does not undo its move",
        instead(exclusive, "_undo", undoes_all_but_the_move),
        "everyday/add-undone",
        "the kernel must show eni-1 with netns ''",
    ),
    Fault(
        "exclusive-device does not look whether the pod has the interface",
        instead(exclusive, "_check_netns", does_nothing),
        "everyday/add-again",
        "must fail with code 105",
    ),
)


def outcome(scenario: str, chain: str) -> str:
    """Why a scenario fails in the sim lab, "" if it passes."""
    loaded = load.load(SCENARIOS / f"{scenario}.yaml")
    node = Node(topology.enis(loaded.scenario.node.enis), sync_ns=JOURNAL_NS)
    try:
        failed = run.ScenarioRun(loaded, chain, node, lambda _: None).run()
    except InvariantBroken as broken:  # the pool's own table
        return str(broken)
    return "" if failed is None else failed.message


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_planted_fault_is_caught(fault: Fault, monkeypatch: pytest.MonkeyPatch) -> None:
    assert outcome(fault.scenario, fault.chain) == ""
    fault.plant(monkeypatch)
    words = f"{fault.words}: " if fault.words in audit.INVARIANTS else fault.words  # not of "exclusive-device"
    assert words in outcome(fault.scenario, fault.chain)


def test_every_invariant_of_the_auditor_catches_a_fault() -> None:
    assert {fault.words for fault in FAULTS} >= set(audit.INVARIANTS)
