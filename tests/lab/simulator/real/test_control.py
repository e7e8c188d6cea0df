import json
from typing import Any

import pytest

from enim import wire
from simulator.effects import Flow, WaitForChange
from simulator.model import Attachment, Eni, EniId, EniRecord, Subnet
from simulator.real import clock, control, driver, served

SUBNET = Subnet("10.64.0.0/24", "10.64.0.1", "fd00:64::/64", "fd00:64::1")
ENI = Eni(EniId("eni-1"), "02:00:00:00:00:01", "eni1", 1500, "10.64.0.11", "fd00:64::11", SUBNET)
RECORDS = (
    EniRecord(ENI, "in_use", Attachment("net", "c1", "eth0"), "default/web-0", "/run/netns/n1", "ADD of net/c1/eth0"),
    EniRecord(ENI, "free"),
)


class KnowingAgent:
    """Believes ``RECORDS``."""

    adds_in_flight = 0

    def handle(self, request: wire.Request) -> Flow[wire.Reply]:
        yield WaitForChange(0)
        return wire.Reply(200)

    def reconcile(self) -> Flow[None]:
        yield WaitForChange(None)

    def records(self) -> tuple[EniRecord, ...]:
        return RECORDS


@pytest.fixture
def journal(stage: Any) -> Any:
    return stage.Journal()


@pytest.fixture
def agent(stage: Any, journal: Any) -> driver.Driver:
    return driver.Driver(KnowingAgent(), stage.Kernel(), journal, clock.Clock())


def test_state_is_the_clock_and_every_record_in_full(agent: driver.Driver) -> None:
    reply = control.handle(agent, served.Log(), wire.Request("GET", "/state"))
    state = json.loads(reply.body)
    assert (reply.status, reply.content_type) == (200, "application/json")
    assert state["clock_ms"] == pytest.approx(agent.state()[2] // 1_000_000, abs=5_000)
    first, second = state["records"]
    assert first == {
        "eni": {
            "id": "eni-1",
            "mac": "02:00:00:00:00:01",
            "name": "eni1",
            "mtu": 1500,
            "ipv4": "10.64.0.11",
            "ipv6": "fd00:64::11",
            "subnet": {
                "cidr4": "10.64.0.0/24",
                "gateway4": "10.64.0.1",
                "cidr6": "fd00:64::/64",
                "gateway6": "fd00:64::1",
            },
        },
        "state": "in_use",
        "attachment": {"network": "net", "container_id": "c1", "ifname": "eth0"},
        "owner": "default/web-0",
        "netns": "/run/netns/n1",
        "reason": "ADD of net/c1/eth0",
    }
    assert (second["state"], second["attachment"], second["owner"]) == ("free", None, "")


def test_clock_is_advanced_by_what_was_asked(agent: driver.Driver) -> None:
    before_ms = agent.state()[2] // 1_000_000
    reply = control.handle(agent, served.Log(), wire.Request("POST", "/clock", (("advance_ms", "3600000"),)))
    assert reply.status == 200
    assert 0 <= json.loads(reply.body)["clock_ms"] - before_ms - 3_600_000 < 5_000


@pytest.mark.parametrize("value", ["", "-1", "1.5", "0x10", "\u0661", "1 ", "1" * 13, "later"])
def test_advance_by_what_is_no_number_is_refused_and_the_clock_stays(agent: driver.Driver, value: str) -> None:
    before_ns = agent.state()[2]
    reply = control.handle(agent, served.Log(), wire.Request("POST", "/clock", (("advance_ms", value),)))
    assert reply.status == 400
    assert json.loads(reply.body)["code"] == 400
    assert "advance_ms" in json.loads(reply.body)["message"]
    assert agent.state()[2] - before_ns < 5_000_000_000


def test_advance_without_its_parameter_is_refused(agent: driver.Driver) -> None:
    assert control.handle(agent, served.Log(), wire.Request("POST", "/clock")).status == 400


@pytest.mark.parametrize("value", ["", "add.A9", "add"])
def test_crash_at_what_is_no_failpoint_is_refused(agent: driver.Driver, value: str) -> None:
    reply = control.handle(agent, served.Log(), wire.Request("POST", "/crash", (("at", value),)))
    assert reply.status == 400
    assert "add.A1" in json.loads(reply.body)["message"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("POST", "/state", 405), ("GET", "/clock", 405), ("GET", "/", 404), ("POST", "/v1/eni", 404)],
)
def test_anything_else_is_refused(agent: driver.Driver, method: str, path: str, status: int) -> None:
    reply = control.handle(agent, served.Log(), wire.Request(method, path))
    assert (reply.status, json.loads(reply.body)["code"]) == (status, status)


def test_advance_that_cannot_be_remembered_is_an_error(agent: driver.Driver, journal: Any) -> None:
    journal.is_full = True
    reply = control.handle(agent, served.Log(), wire.Request("POST", "/clock", (("advance_ms", "1"),)))
    assert (reply.status, json.loads(reply.body)) == (500, "save the clock: disk full")


def test_served_requests_are_told_once(agent: driver.Driver) -> None:
    log = served.Log()
    log.note(wire.Request("POST", "/v1/eni", (("containerID", "c1"),)), 200, 1.0, 2.0, 4.0)
    asked = [json.loads(control.handle(agent, log, wire.Request("GET", "/served")).body) for _ in range(2)]
    assert asked == [
        {"served": [{"method": "POST", "container_id": "c1", "queue_ms": 1.0, "work_ms": 2.0}]},
        {"served": []},
    ]
