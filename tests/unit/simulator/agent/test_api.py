import json
from collections.abc import Callable
from dataclasses import replace

import pytest

from enim import wire
from simulator.agent import api
from simulator.model import Eni

MakeEni = Callable[[int], Eni]
# What Prometheus 3 sends, shortened.
PROMETHEUS = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.1"
JSON_BODY = (("content-type", "application/json; charset=utf-8"),)


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (wire.Request("POST", "/v1/eni"), None),
        (wire.Request("DELETE", "/v1/eni"), None),
        (wire.Request("GET", "/v1/healthz"), None),
        (wire.Request("POST", "/v1/eni", headers=JSON_BODY, body=b"{}"), None),
        (wire.Request("POST", "/v1/eni", headers=(("accept", "text/html, */*;q=0.1"),)), None),
        (wire.Request("POST", "/v1/eni", headers=(("accept", "application/json"),)), None),
        (wire.Request("GET", "/v1/x"), 404),
        (wire.Request("GET", "/"), 404),
        (wire.Request("GET", "/v1/x-enim/attachments"), None),
        (wire.Request("GET", "/v1/x-enim/gc"), 405),
        (wire.Request("GET", "/v1/x-enim/openapi.json"), None),
        (wire.Request("GET", "/v1/x-enim/metrics", headers=(("accept", PROMETHEUS),)), None),
        (wire.Request("GET", "/v1/x-enim/metrics", headers=(("accept", "text/*"),)), None),
        (wire.Request("GET", "/v1/x-enim/metrics", headers=(("accept", "application/json"),)), 406),
        (wire.Request("GET", "/v1/x-enim/other"), 404),
        (wire.Request("PUT", "/v1/eni"), 405),
        (wire.Request("POST", "/v1/healthz"), 405),
        (wire.Request("POST", "/v1/eni", body=b"{}"), 415),
        (wire.Request("POST", "/v1/eni", headers=(("content-type", "text/plain"),), body=b"{}"), 415),
        (wire.Request("DELETE", "/v1/eni", headers=(("accept", "text/html"),)), 406),
    ],
)
def test_refuse_answers_as_the_framework_does(request_: wire.Request, status: int | None) -> None:
    refused = api.refuse(request_)

    assert (None if refused is None else refused.status) == status
    if refused is not None:
        body = json.loads(refused.body)
        assert (sorted(body), body["code"], refused.content_type) == (["code", "message"], status, "application/json")


def test_error_is_a_json_string_and_a_newline() -> None:
    assert api.error(500, 'no "ENI"') == wire.Reply(500, b'"no \\"ENI\\""\n', "application/json")


def test_done_has_neither_body_nor_content_type() -> None:
    assert api.done() == wire.Reply(200, b"", "")


def test_allocation_has_every_member_of_the_schema(make_eni: MakeEni) -> None:
    reply = api.allocation(make_eni(1), 7)

    common = {"master-mac": "fa:26:00:00:00:01", "interface-number": "7"}
    assert json.loads(reply.body) == {
        "address": {"ipv4": "10.64.0.11", "ipv6": "fd00:64::1"},
        "host-addressing": {},
        "ipv4": {"ip": "10.64.0.11", "cidrs": ["10.64.0.0/24"], "gateway": "10.64.0.1", **common},
        "ipv6": {"ip": "fd00:64::1", "cidrs": ["fd00:64::/64"], "gateway": "fd00:64::1", **common},
    }
    assert (reply.status, reply.content_type) == (200, "application/json")


@pytest.mark.parametrize("missing", ["ipv4", "ipv6"])
def test_allocation_leaves_a_family_out_that_the_eni_lacks(make_eni: MakeEni, missing: str) -> None:
    body = json.loads(api.allocation(replace(make_eni(1), **{missing: ""}), 7).body)

    assert missing not in body
    assert missing not in body["address"]


def test_allocation_is_valid_for_the_plugin(make_eni: MakeEni) -> None:
    allocation = wire.parse_allocation(api.allocation(make_eni(1), 7).body)

    assert (allocation.mac, allocation.ifindex) == ("fa:26:00:00:00:01", 7)
    assert [address.ip for address in allocation.addresses] == ["10.64.0.11", "fd00:64::1"]


@pytest.mark.parametrize(
    ("owner", "valid"),
    [("default/web-0", True), ("", False), ("/", False), ("/web-0", False), ("default/", False), ("a/b/c", False)],
)
def test_is_owner_wants_two_parts(owner: str, valid: bool) -> None:
    assert api.is_owner(owner) is valid
