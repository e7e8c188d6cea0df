"""Expectations against what was seen: silence when it holds, a sentence for each thing that does not."""

from dataclasses import replace
from typing import Any

import pytest

from simulator import topology
from simulator.chain import plan
from simulator.model import Attachment, EniRecord, Lease, Link, Snapshot
from simulator.scenario import expect, schema

ENIS = topology.enis(2)
C1 = Attachment("podnet", "c1", "eth0")
NETNS = {"c1": "/n/c1"}
FAILED = plan.Answer(failure=plan.Failure("enim", 11, "no available ENI", "HTTP status 500"))


def resolve(text: str) -> str:
    return text.replace("${c1.eni}", "eni-1")


def answer(expected: dict[str, Any] | None, got: plan.Answer, eni: str = "eni-1") -> list[str]:
    checked = None if expected is None else schema.Expect.model_validate(expected)
    return expect.answer(checked, got, eni, resolve)


def state(expected: dict[str, Any], now: Snapshot) -> list[str]:
    macs = {str(eni.id): eni.mac for eni in ENIS}
    return expect.state(schema.Expect.model_validate(expected), now, macs, NETNS, resolve)


def snapshot() -> Snapshot:
    """eni-1 is c1's, in its namespace; eni-2 is free at home."""
    first, second = ENIS
    records = (EniRecord(first, "in_use", C1, "default/web-0", "/n/c1"), EniRecord(second, "free"))
    inside = Link(2, "eth0", first.mac, 1500, alias="eni1", up=True, netns="/n/c1")
    links = {"": (Link(3, "eni2", second.mac, 1500),), "/n/c1": (inside,)}
    return Snapshot(records, agent_running=True, clock_ms=0, links=links)


def test_verb_must_succeed_unless_an_error_is_expected() -> None:
    assert answer(None, plan.Answer()) == []
    assert answer(None, FAILED) == ["failed: enim: code 11: no available ENI (HTTP status 500)"]
    assert answer({"enis": {"free": 1}}, FAILED) != []


@pytest.mark.parametrize(
    ("error", "count"),
    [
        ({"code": 11}, 0),
        ({"text": "available"}, 0),
        ({"text": "500"}, 0),
        ({"code": 7}, 1),
        ({"text": "x", "code": 7}, 2),
    ],
)
def test_error_is_compared_by_code_and_by_text_in_message_or_details(error: dict[str, Any], count: int) -> None:
    assert len(answer({"error": error}, FAILED)) == count


def test_success_where_an_error_is_expected_is_a_problem() -> None:
    assert answer({"error": {"code": 11}}, plan.Answer()) == ["succeeded, but must fail with {'code': 11}"]


@pytest.mark.parametrize(
    ("eni", "problems"),
    [
        ({"is": "${c1.eni}"}, []),
        ({"not": "eni-2"}, []),
        ({"is": "eni-2"}, ["must get eni-2, but got eni-1"]),
        ({"not": "${c1.eni}"}, ["must not get eni-1, but did"]),
    ],
)
def test_eni_is_compared_after_its_reference_is_resolved(eni: dict[str, str], problems: list[str]) -> None:
    assert answer({"eni": eni}, plan.Answer()) == problems


@pytest.mark.parametrize(
    ("expected", "problems"),
    [
        ({"ips": [{"address": "192.0.2.1/24"}]}, []),
        (
            {"ips": [{"address": "192.0.2.2/24"}]},
            ["result.ips[0].address must be '192.0.2.2/24', but is '192.0.2.1/24'"],
        ),
        ({"ips": []}, ["result.ips must be a list of 0, but is [{'address': '192.0.2.1/24', 'gateway': 'g'}]"]),
        ({"dns": {}}, ["result has no dns; it is {'ips': [{'address': '192.0.2.1/24', 'gateway': 'g'}]}"]),
        ({"ips": {"a": 1}}, ["result.ips must be a mapping, but is [{'address': '192.0.2.1/24', 'gateway': 'g'}]"]),
    ],
)
def test_result_is_compared_as_a_subset(expected: dict[str, Any], problems: list[str]) -> None:
    got = plan.Answer({"ips": [{"address": "192.0.2.1/24", "gateway": "g"}]})
    assert answer({"result": expected}, got) == problems


@pytest.mark.parametrize(
    ("expected", "problems"),
    [
        ({"enis": {"free": 1, "in_use": 1, "returning": 0}}, []),
        ({"enis": {"free": 2}}, ["2 ENIs must be free, but 1 are"]),
        ({"owner": {"default/web-0": "c1", "default/web-1": None}}, []),
        ({"owner": {"default/web-0": None}}, ["default/web-0 must be held by nobody, but is by c1"]),
        ({"owner": {"default/web-1": "c1"}}, ["default/web-1 must be held by c1, but is by nobody"]),
        ({"links": {"${c1.eni}": {"in": "c1", "name": "eth0", "up": True}, "eni-2": {"in": "home"}}}, []),
        (
            {"links": {"eni-2": {"in": "home", "alias": "x"}}},
            ["the kernel must show eni-2 with alias 'x', but shows ''"],
        ),
        ({"links": {"eni-1": {"in": "home"}}}, ["the kernel must show eni-1 with netns '', but shows '/n/c1'"]),
        ({"links": {"eni-9": {"in": "home"}}}, ["the kernel must show eni-9 once, but shows it 0 times"]),
    ],
)
def test_state_is_compared_with_agent_and_kernel(expected: dict[str, Any], problems: list[str]) -> None:
    assert state(expected, snapshot()) == problems


def test_nothing_is_known_of_enis_while_the_agent_is_down_but_the_kernel_can_be_asked() -> None:
    down = replace(snapshot(), records=(), agent_running=False)
    unknown = "the agent does not run, so nothing is known of its ENIs"
    wrong = {"eni-1": {"in": "home"}}
    assert state({"enis": {"free": 0}}, down) == [unknown]
    assert state({"owner": {"default/web-0": None}, "links": wrong}, down) == [
        unknown,
        "the kernel must show eni-1 with netns '', but shows '/n/c1'",
    ]
    assert state({"links": {"eni-1": {"in": "c1", "alias": "eni1"}}}, down) == []


def test_link_must_be_shown_once() -> None:
    twice = replace(snapshot(), links={"": snapshot().links[""] * 2})
    assert state({"links": {"eni-2": {"in": "home"}}}, twice) == [
        "the kernel must show eni-2 once, but shows it 2 times"
    ]


def test_link_in_a_container_that_no_step_has_made_is_a_problem() -> None:
    assert state({"links": {"eni-1": {"in": "c9"}}}, snapshot()) == [
        "eni-1 must be in c9, but no step has made that container"
    ]


def test_every_text_of_an_expectation_may_have_references() -> None:
    links = {"eni-1": {"in": "c1", "alias": "x-${c1.eni}"}}
    assert state({"links": links}, snapshot()) == ["the kernel must show eni-1 with alias 'x-eni-1', but shows 'eni1'"]
    said = plan.Answer(failure=plan.Failure("enim", 100, "web-0 already holds eni-1"))
    assert answer({"error": {"text": "holds ${c1.eni}"}}, said) == []


def test_text_of_an_error_does_not_run_from_message_into_details() -> None:
    assert answer({"error": {"text": "ENI HTTP"}}, FAILED) == [
        "must fail with a text that has 'ENI HTTP', but failed: enim: code 11: no available ENI (HTTP status 500)"
    ]


def test_superseded_eni_does_not_count_as_its_owners() -> None:
    first, second = snapshot().records
    now = replace(snapshot(), records=(replace(first, state="superseded"), second))
    assert state({"owner": {"default/web-0": None}}, now) == []


def test_numbers_and_truths_of_a_result_are_told_apart() -> None:
    got = plan.Answer({"mtu": 1, "up": True})
    assert answer({"result": {"up": 1}}, got) == ["result.up must be 1, but is True"]
    assert answer({"result": {"mtu": 1, "up": True}}, got) == []


def test_leases_are_counted_and_shown() -> None:
    now = replace(snapshot(), leases=(Lease("bridgenet", "10.88.0.2", "c1", "eth0"),))
    assert state({"leases": 1}, now) == []
    assert state({"leases": 0}, now) == [
        "0 addresses must be on host-local's record, but these are: 10.88.0.2 of bridgenet/c1/eth0"
    ]
    assert state({"leases": 1}, snapshot()) == ["1 addresses must be on host-local's record, but these are: none"]
