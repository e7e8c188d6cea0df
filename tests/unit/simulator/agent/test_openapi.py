"""The agent's OpenAPI document is right in itself, and says what the agent does: routes, answers, bodies."""

import json
from collections.abc import Callable
from typing import Any

import jsonschema
import openapi_spec_validator
import pytest

from enim import wire
from simulator.agent import api, openapi
from simulator.effects import Persist
from simulator.errors import StoreFault

DOCUMENT = json.loads(json.dumps(openapi.document()))
OPERATIONS = {(method.upper(), path): one for path, item in DOCUMENT["paths"].items() for method, one in item.items()}
WISHES = DOCUMENT["paths"][api.ENI]["post"]["requestBody"]["content"]["application/json"]
CENSUS = DOCUMENT["paths"][api.COLLECT]["post"]["requestBody"]["content"]["application/json"]
OMITTING = {"network": "podlink", "valid": [{"containerID": "c9", "ifname": "eth0"}]}

AssertDocumented = Callable[..., None]


def request(
    method: str, path: str, body: Any = b"", content_type: str = "application/json", **more: str
) -> wire.Request:
    """``more``: headers."""
    sent = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers = (*more.items(), *((("content-type", content_type),) if sent else ()))
    return wire.Request(method, path, (), headers, sent)


def ask_without_disk(hands: Any, one: wire.Request) -> wire.Reply:
    hands.faults[Persist] = StoreFault("append 1 events", 28, "No space left on device")
    reply: wire.Reply = hands.ask(one)
    return reply


# What brings each answer, but those of a bug and of broken HTTP: tests/lab/simulator/real/test_connection.py has them.
# eni-1 is held by c1, and its NIC is in c1's netns.
ANSWERS: dict[tuple[str, str, int], Callable[[Any], wire.Reply]] = {
    ("POST", api.ENI, 200): lambda hands: hands.add("c2"),
    ("POST", api.ENI, 400): lambda hands: hands.add("c2", body=b"{"),
    ("POST", api.ENI, 409): lambda hands: hands.add("c1", ifname="net1"),
    ("POST", api.ENI, 415): lambda hands: hands.ask(request("POST", api.ENI, {}, "text/plain")),
    ("POST", api.ENI, 500): lambda hands: hands.add("c2", owner=""),
    ("DELETE", api.ENI, 200): lambda hands: hands.delete("c1"),
    ("DELETE", api.ENI, 409): lambda hands: hands.delete("c1", owner="default/web-9"),
    ("DELETE", api.ENI, 500): lambda hands: ask_without_disk(hands, hands.request("DELETE", "c1")),
    ("GET", api.HEALTH, 200): lambda hands: hands.ask(request("GET", api.HEALTH)),
    ("GET", api.HEALTH, 500): lambda hands: type(hands)(0).ask(request("GET", api.HEALTH)),
    ("GET", api.ATTACHMENTS, 200): lambda hands: hands.ask(request("GET", api.ATTACHMENTS)),
    ("POST", api.COLLECT, 200): lambda hands: hands.ask(request("POST", api.COLLECT, OMITTING)),
    ("POST", api.COLLECT, 400): lambda hands: hands.ask(request("POST", api.COLLECT)),
    ("POST", api.COLLECT, 415): lambda hands: hands.ask(request("POST", api.COLLECT, OMITTING, "text/plain")),
    ("POST", api.COLLECT, 500): lambda hands: ask_without_disk(hands, request("POST", api.COLLECT, OMITTING)),
    ("GET", api.METRICS, 200): lambda hands: hands.ask(request("GET", api.METRICS)),
    ("GET", api.OPENAPI, 200): lambda hands: hands.ask(request("GET", api.OPENAPI)),
    **{
        (method, path, 406): lambda hands, method=method, path=path: hands.ask(
            request(method, path, accept="image/png")
        )
        for method, path in OPERATIONS
    },
}


def test_document_is_right_in_itself() -> None:
    openapi_spec_validator.validate(DOCUMENT)


def test_document_has_the_routes_of_the_agent_and_no_other(hands: Any) -> None:
    assert {path: sorted(item) for path, item in DOCUMENT["paths"].items()} == {
        path: sorted(method.lower() for method in methods) for path, methods in api.METHODS.items()
    }
    assert set(hands.agent._routes) == set(OPERATIONS)


def test_answer_is_the_document(hands: Any) -> None:
    reply = hands.ask(request("GET", api.OPENAPI))
    assert (json.loads(reply.body), reply.content_type) == (DOCUMENT, "application/json")


def test_every_answer_of_the_document_is_shown_here() -> None:
    documented = {
        (*operation, int(status))
        for operation, one in OPERATIONS.items()
        for status, answer in one["responses"].items()
        if status != "default" and answer.get("$ref") != "#/components/responses/Bug"
    }
    assert documented == set(ANSWERS)


@pytest.mark.parametrize(("method", "path", "status"), ANSWERS, ids=lambda value: str(value).rpartition("/")[2])
def test_answer_is_as_documented(
    hands: Any, assert_documented: AssertDocumented, method: str, path: str, status: int
) -> None:
    hands.occupy()
    reply = ANSWERS[method, path, status](hands)
    assert reply.status == status
    assert_documented(method, path, reply)


@pytest.mark.parametrize("valid", [[], [{"containerID": "c1", "ifname": "eth0"}]])
def test_garbage_collection_that_keeps_is_as_documented(
    hands: Any, assert_documented: AssertDocumented, valid: list[Any]
) -> None:
    hands.occupy()
    reply = hands.ask(request("POST", api.COLLECT, {"network": "podlink", "valid": valid}))
    assert len(json.loads(reply.body)["kept"]) == (0 if valid else 1)
    assert_documented("POST", api.COLLECT, reply)


def allows(media_type: dict[str, Any], body: Any) -> bool:
    schema = {**media_type["schema"], "components": DOCUMENT["components"]}
    return jsonschema.Draft202012Validator(schema).is_valid(body)


@pytest.mark.parametrize("name", WISHES["examples"])
def test_example_of_an_add_is_allowed_and_understood(hands: Any, name: str) -> None:
    body = WISHES["examples"][name]["value"]
    assert allows(WISHES, body)
    assert hands.add(body=json.dumps(body).encode()).status != 400


@pytest.mark.parametrize("name", CENSUS["examples"])
def test_example_of_a_garbage_collection_is_allowed_and_understood(hands: Any, name: str) -> None:
    body = CENSUS["examples"][name]["value"]
    assert allows(CENSUS, body)
    assert hands.ask(request("POST", api.COLLECT, body)).status == 200


@pytest.mark.parametrize(
    ("wanted", "is_right"),
    [
        ({}, True),
        ({"ips": ["10.64.0.11/24", "fd00:64::1"], "mac": "FA:26:00:00:00:01", "device": "ens1"}, True),
        ({"ipRanges": [{"subnet": "10.64.0.0/24"}]}, True),
        ({"ipRanges": [[{"rangeStart": "10.64.0.9", "rangeEnd": "10.64.0.20"}, {"subnet": "10.0.0.0/8"}]]}, True),
        ({"unknown": 1}, True),
        ({"ips": "10.64.0.11"}, False),
        ({"ips": [7]}, False),
        ({"ips": [""]}, False),
        ({"ipRanges": [[]]}, False),
        ({"ipRanges": [[{"rangeStart": "10.64.0.9"}]]}, False),
        ({"ipRanges": ["10.64.0.0/24"]}, False),
        ({"mac": 7}, False),
        ({"device": ["ens1"]}, False),
        ([], False),
    ],
)
def test_document_allows_the_wishes_that_the_agent_understands(hands: Any, wanted: Any, *, is_right: bool) -> None:
    body = {"x-enim": wanted}
    understood = hands.add(body=json.dumps(body).encode()).status != 400
    assert (allows(WISHES, body), understood) == (is_right, is_right)


@pytest.mark.parametrize(
    ("body", "is_right"),
    [
        ({"network": "podlink", "valid": []}, True),
        (OMITTING, True),
        ({"network": "podlink", "valid": [{"containerID": "c1", "ifname": "eth0", "netns": "/n"}], "more": 1}, True),
        ({"network": "podlink"}, False),
        ({"network": "", "valid": []}, False),
        ({"network": "podlink", "valid": None}, False),
        ({"network": "podlink", "valid": {}}, False),
        ({"network": "podlink", "valid": [{"containerID": "c1"}]}, False),
        ({"network": "podlink", "valid": [{"containerID": "c1", "ifname": ""}]}, False),
        ([], False),
    ],
)
def test_document_allows_the_lists_that_the_agent_understands(hands: Any, body: Any, *, is_right: bool) -> None:
    understood = hands.ask(request("POST", api.COLLECT, body)).status != 400
    assert (allows(CENSUS, body), understood) == (is_right, is_right)


@pytest.mark.parametrize("name", ["owner", "containerID"])
def test_parameter_that_an_add_must_have_is_the_one_that_it_is_refused_without(hands: Any, name: str) -> None:
    parameters = {one["name"]: one for one in OPERATIONS["POST", api.ENI]["parameters"]}
    assert parameters[name]["required"]
    one = hands.request("POST")
    without = wire.Request("POST", one.path, tuple(pair for pair in one.query if pair[0] != name), one.headers)
    assert hands.ask(without).status >= 400


def test_parameters_that_a_request_may_lack_are_not_required(hands: Any) -> None:
    query = (("owner", "default/web-0"), ("containerID", "c1"))
    assert hands.ask(wire.Request("POST", api.ENI, query)).status == 200
    assert hands.ask(wire.Request("DELETE", api.ENI)).status == 200
    required = [
        one["name"] for operation in OPERATIONS.values() for one in operation.get("parameters", ()) if one["required"]
    ]
    assert required == ["owner", "containerID"]
