from collections.abc import Generator
from typing import Any

import pytest

from enim import effects as plugin_effects
from enim import errors as plugin_errors
from enim import wire
from simulator.effects import ListLinks
from simulator.virtual import driver, network

SOCKET = "/run/agent.sock"
REQUEST = wire.Request("POST", "/v1/eni", (("owner", "ns/p"),), (("x-enim-network", "n"),), b"{}")


class Ends:
    """A client, and an agent that takes 100 ns; the socket takes 10 ns each way."""

    def __init__(self) -> None:
        self.agent_ns = 100
        self.heap = driver.Driver()
        self.socket = network.Network(self.heap, SOCKET, delay_ns=10)
        self.served: list[wire.Request] = []
        self.agents: list[driver.Process] = []
        self.socket.listen(self.serve)

    def serve(self, request: wire.Request) -> driver.Process:
        def flow() -> Generator[Any, Any, wire.Reply]:
            yield ListLinks()
            self.served.append(request)
            return wire.Reply(200, b"{}", "application/json")

        handlers = {ListLinks: lambda _, pending: pending.succeed((), after_ns=self.agent_ns)}
        self.agents.append(self.heap.start("agent", flow(), handlers))
        return self.agents[-1]

    def ask(self, path: str = SOCKET, timeout_ms: int = 1) -> driver.Process:
        def flow() -> Generator[Any, Any, object]:
            try:
                return (yield plugin_effects.Request(path, REQUEST, timeout_ms))
            except (plugin_errors.Unreachable, plugin_errors.Interrupted) as failure:
                return failure

        return self.heap.start("client", flow(), {plugin_effects.Request: self.socket.request})


@pytest.fixture
def ends() -> Ends:
    return Ends()


def test_request_and_answer_go_over_the_wire_with_their_delay(ends: Ends) -> None:
    client = ends.ask()
    ends.heap.run(119)
    assert client.is_alive
    ends.heap.run(120)

    assert client.result() == wire.Reply(200, b"{}", "application/json")
    assert [(one.query, one.header("x-enim-network"), one.body) for one in ends.served] == [
        ((("owner", "ns/p"),), "n", b"{}")
    ]


@pytest.mark.parametrize(("path", "code"), [(SOCKET, 111), ("/run/other.sock", 2)])
def test_no_listener_is_unreachable(ends: Ends, path: str, code: int) -> None:
    if path == SOCKET:
        ends.socket.close()
    client = ends.ask(path)
    ends.heap.run(100)

    assert isinstance(client.result(), plugin_errors.Unreachable)
    assert (client.result().errno, ends.socket.request_count) == (code, 0)


def test_lost_answer_is_interrupted_though_the_request_was_served(ends: Ends) -> None:
    ends.socket.answers_to_lose = 1
    first = ends.ask()
    ends.heap.run(200)
    second = ends.ask()
    ends.heap.run(400)

    assert isinstance(first.result(), plugin_errors.Interrupted)
    assert isinstance(second.result(), wire.Reply)
    assert len(ends.served) == 2


def test_client_that_gives_up_is_not_noticed_by_the_agent(ends: Ends) -> None:
    ends.agent_ns = 2_000_000
    client = ends.ask(timeout_ms=1)
    ends.heap.run(1_000_000)
    assert isinstance(client.result(), plugin_errors.Interrupted)
    assert ends.served == []

    ends.heap.run(3_000_000)
    assert len(ends.served) == 1


def test_agent_that_dies_interrupts_who_waits_for_its_answer(ends: Ends) -> None:
    client = ends.ask()
    ends.heap.run(50)
    ends.agents[0].kill()
    ends.socket.close()
    ends.heap.run(60)

    assert isinstance(client.result(), plugin_errors.Interrupted)
    assert ends.served == []
