"""Micro-benchmarks of what decides: a result's encoding, the flow of a request, a step of the simulation.

Figures, not verdicts: `tox -e bench` prints them. Each benchmark checks what its code gives, once.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

pytest.importorskip("pytest_benchmark", reason="the micro-benchmarks need pytest-benchmark: run `tox -e bench`")

from enim import commands, config, effects, process, result, wire
from simulator import topology
from simulator.bench import load, networks
from simulator.virtual.driver import Driver
from simulator.virtual.node import Node

Benchmark = Callable[..., Any]

ENI = topology.enis(1)[0]
ALLOCATION = wire.Allocation(
    ENI.mac, 7, (wire.Address(4, ENI.ipv4, 24, ENI.subnet.gateway4), wire.Address(6, ENI.ipv6, 64, ENI.subnet.gateway6))
)
FAMILY = {"cidrs": [ENI.subnet.cidr4], "gateway": ENI.subnet.gateway4, "master-mac": ENI.mac, "interface-number": "7"}
ANSWER = {"address": {"ipv4": ENI.ipv4}, "ipv4": {"ip": ENI.ipv4, **FAMILY}}
GRANTED = wire.Reply(200, json.dumps(ANSWER).encode(), "application/json")
NETCONF = {"cniVersion": "1.0.0", "name": "n", "type": "exclusive-device", "ipam": {"type": "enim", "socket": "/run/a"}}
ENVIRONMENT = {
    "CNI_COMMAND": "ADD",
    "CNI_CONTAINERID": "c1",
    "CNI_NETNS": "/run/netns/c1",
    "CNI_IFNAME": "eth0",
    "CNI_PATH": "/opt/cni/bin",
    "CNI_ARGS": "K8S_POD_NAMESPACE=default;K8S_POD_NAME=web-0",
}


@pytest.mark.parametrize("version", ["0.3.1", "1.1.0"])
def test_encoding_of_a_result(benchmark: Benchmark, version: str) -> None:
    made = result.of_allocation(ALLOCATION, ENI.name, 7, ())
    shape = config.shape_of(version)
    assert json.loads(benchmark(result.encode, made, version, shape))["cniVersion"] == version


def test_request_there_and_back_on_the_wire(benchmark: Benchmark) -> None:
    request = wire.Request("POST", "/v1/eni", (("owner", "default/web-0"), ("containerID", "c1")))

    def there_and_back() -> wire.Reply | None:
        assert wire.decode_request(wire.encode_request(request)) is not None
        return wire.decode_reply(wire.encode_reply(GRANTED), closed=True)

    assert benchmark(there_and_back).status == 200


def test_flow_of_an_add_in_the_plugin(benchmark: Benchmark) -> None:
    stdin = json.dumps(NETCONF).encode()
    printed: list[bytes] = []
    handlers = {
        effects.Now: lambda _: 0,
        effects.OwnNetns: lambda _: False,
        effects.Request: lambda _: GRANTED,
        effects.FindLink: lambda _: effects.Link(7, ENI.name, ENI.mac),
        effects.Print: lambda one: printed.append(one.data),
    }

    def add() -> None:
        process.drive(commands.add(config.read(ENVIRONMENT, stdin, commands=("ADD", "DEL"))), handlers)

    benchmark(add)
    assert json.loads(printed[-1])["ips"][0]["address"] == f"{ENI.ipv4}/24"


def test_flow_of_a_request_in_the_agent(benchmark: Benchmark) -> None:
    """An ADD that is repeated and so changes nothing: look, choose, journal, answer."""
    node = Node(topology.enis(8))
    node.pause(100)
    node.create_netns("c1")
    query = (("owner", "default/web-0"), ("containerID", "c1"), ("netns", "/run/netns/c1"), ("ifname", "eth0"))
    request = wire.Request("POST", "/v1/eni", query)

    def ask() -> int:
        asked = node.ask(request)
        node.driver.run(node.driver.now_ns)
        return int(asked.result().status)

    assert benchmark.pedantic(ask, rounds=200, iterations=1) == 200


def test_step_of_the_simulation(benchmark: Benchmark) -> None:
    """A thousand things that are due, each of which asks for the next."""

    def thousand_steps() -> int:
        driver = Driver()
        left = 1_000

        def step() -> None:
            nonlocal left
            left -= 1
            if left:
                driver.after(1, step)

        driver.after(0, step)
        driver.run(1_000)
        return left

    assert benchmark(thousand_steps) == 0


@pytest.mark.parametrize("subject", networks.CHAINS, ids=lambda one: one.name)
def test_pair_of_add_and_del_in_the_simulation(benchmark: Benchmark, subject: networks.Subject) -> None:
    one = load.Series(Node(topology.enis(2)), subject, load.WARM, 1)
    one.prepare()
    measured = benchmark.pedantic(one.round, rounds=100, iterations=1).measured
    assert [run.result for run in measured] == ["ok", "ok"]
