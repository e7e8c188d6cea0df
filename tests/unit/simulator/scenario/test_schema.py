"""The scenario language as a model: what each value may be."""

from typing import Any

import pydantic
import pytest

from simulator.agent import audit, failpoints, pool
from simulator.scenario import schema

STEP = {"add": {"pod": "default/web-0", "container": "c1"}}


def scenario(**changes: Any) -> schema.Scenario:
    whole = {"name": "a", "summary": "b", "chain": "host-device", "steps": (STEP,), **changes}
    return schema.Scenario.model_validate({key: value for key, value in whole.items() if value is not None})


@pytest.mark.parametrize(
    ("text", "ms"), [("1ms", 1), ("500ms", 500), ("3s", 3_000), ("1.5s", 1_500), ("2m", 120_000), ("24m", 1_440_000)]
)
def test_duration_is_a_number_with_a_unit(text: str, ms: int) -> None:
    assert schema.Step.model_validate({"clock.advance": text}).clock_advance == ms


@pytest.mark.parametrize("value", ["3", 3, "3 s", "-3s", "0s", "s", "3h", "1e3s", None, True, "100000m", "3s\n"])
def test_anything_else_is_no_duration(value: object) -> None:
    with pytest.raises(pydantic.ValidationError):
        schema.Step.model_validate({"clock.advance": value, "name": "x"})


@pytest.mark.parametrize("backend", ["veth", "macvlan", "dummy"])
def test_node_can_ask_for_a_kind_of_link(backend: str) -> None:
    assert scenario(node={"backend": backend}).node == schema.Node(enis=2, backend=backend)


@pytest.mark.parametrize("backend", ["bridge", "", 1])
def test_other_kinds_of_link_are_no_eni(backend: object) -> None:
    with pytest.raises(pydantic.ValidationError):
        scenario(node={"backend": backend})


def test_echo_is_found_wherever_it_stands() -> None:
    echo = {"echo": {"container": "c1"}}
    assert [scenario(**where).has_echo for where in ({}, {"steps": (STEP, echo)}, {"finally": (echo,)})] == [
        False,
        True,
        True,
    ]


@pytest.mark.parametrize("ifname", ["eth0", "abcdefghijklmno", "."])
def test_interface_names_are_as_in_cni(ifname: str) -> None:
    assert schema.Add.model_validate({**STEP["add"], "ifname": ifname}).ifname == ifname


@pytest.mark.parametrize("ifname", ["", "abcdefghijklmnop", "a b", "a/b", "a:b", "eth0\n", 7])
def test_interface_names_that_no_runtime_would_send_are_refused(ifname: object) -> None:
    with pytest.raises(pydantic.ValidationError):
        schema.Add.model_validate({**STEP["add"], "ifname": ifname})


def test_every_verb_is_spelt_as_in_the_file() -> None:
    spelt = [schema.verb_text(key) for key in schema.VERBS]
    assert spelt == [
        "add",
        "del",
        "netns.delete",
        "runtime.forget",
        "check",
        "gc",
        "status",
        "echo",
        "clock.advance",
        "agent.kill",
        "agent.start",
        "agent.crash",
    ]


@pytest.mark.parametrize(
    ("step", "verb"),
    [
        (STEP, "add"),
        ({"expect": {"enis": {"free": 1}}}, "expect"),
        ({"eventually": {"enis": {"free": 1}}}, "eventually"),
    ],
)
def test_step_knows_its_verb(step: dict[str, Any], verb: str) -> None:
    assert schema.Step.model_validate(step).verb == verb


def test_states_and_failpoints_are_those_of_the_agent() -> None:
    assert set(schema.State.__args__) == set(pool.STATES)
    assert set(schema.Failpoint.__args__) == set(failpoints.FAILPOINTS)


@pytest.mark.parametrize(
    ("changes", "chains"),
    [
        ({}, ("host-device",)),
        ({"chain": None, "chains": ("host-device", "exclusive-device")}, ("host-device", "exclusive-device")),
    ],
)
def test_scenario_runs_in_its_chain_or_chains(changes: dict[str, Any], chains: tuple[str, ...]) -> None:
    assert scenario(**changes).all_chains == chains


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "Not a name"},
        {"summary": ""},
        {"steps": ()},
        {"chains": ()},
        {"chain": None},
        {"node": {"enis": -1}},
        {"node": {"enis": True}},
        {"unknown": 1},
    ],
)
def test_scenario_that_lacks_something_or_has_too_much_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(pydantic.ValidationError):
        scenario(**changes)


def test_invariants_that_plugins_may_break_are_those_of_the_auditor() -> None:
    assert schema.Invariant.__args__ == audit.INVARIANTS
