"""A running agent answers as the OpenAPI document that it serves says. All of it in a lab, over its socket."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from enim import effects, transport, wire
from simulator.agent import api, openapi
from simulator.real import agent_process

JSON_BODY = (("content-type", "application/json"),)
MATCHING_NOTHING = b'{"network":"podnet","valid":[{"containerID":"c9","ifname":"eth0"}]}'


def query(container_id: str, owner: str, ifname: str = "eth0") -> tuple[tuple[str, str], ...]:
    return (("owner", owner), ("containerID", container_id), ("ifname", ifname))


C1 = query("c1", "default/web-1")
NETWORK = (("x-enim-network", "podnet"),)

# In this order, for an agent with one ENI.
REQUESTS = (
    (wire.Request("GET", api.OPENAPI), 200),
    (wire.Request("GET", api.HEALTH), 200),
    (wire.Request("POST", api.ENI, C1, (*NETWORK, *JSON_BODY), b'{"x-enim":{"ips":["192.0.2.1"]}}'), 500),
    (wire.Request("POST", api.ENI, C1, (*NETWORK, *JSON_BODY), b"{"), 400),
    (wire.Request("POST", api.ENI, C1, NETWORK), 200),
    (wire.Request("POST", api.ENI, query("c1", "default/web-1", "net1"), NETWORK), 409),
    (wire.Request("POST", api.ENI, query("c2", "default/web-2"), NETWORK), 500),
    (wire.Request("GET", api.ATTACHMENTS), 200),
    (wire.Request("DELETE", api.ENI, query("c1", "default/web-9"), NETWORK), 409),
    (wire.Request("POST", api.COLLECT, headers=JSON_BODY, body=b'{"network":"podnet","valid":[]}'), 200),
    (wire.Request("POST", api.COLLECT, headers=JSON_BODY, body=MATCHING_NOTHING), 200),
    (wire.Request("DELETE", api.ENI, C1, NETWORK), 200),
    (wire.Request("GET", api.METRICS, headers=(("accept", "text/plain"),)), 200),
)


def answers(scratch: Path) -> list[wire.Reply]:
    agent = agent_process.AgentProcess(scratch, 1)
    agent.start()
    return [transport.round_trip(effects.Request(str(agent.socket), request, 5_000)) for request, _ in REQUESTS]


def test_running_agent_answers_as_its_document_says(
    in_lab: Callable[..., Any], assert_documented: Callable[..., None]
) -> None:
    replies = in_lab(answers)
    assert json.loads(replies[0].body) == json.loads(json.dumps(openapi.document()))
    assert [reply.status for reply in replies] == [status for _, status in REQUESTS]
    for (request, _), reply in zip(REQUESTS, replies, strict=True):
        assert_documented(request.method, request.path, reply)
