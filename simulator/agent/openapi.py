"""PURE: what the agent serves, as an OpenAPI 3.1 document: ``GET /v1/x-enim/openapi.json``.

Tests hold it against the agent's routes, and the agent's real answers against it.

Source: spec.openapis.org/oas/v3.1.0; contract C1 to C6; design D4, D10, D12 (what the parameters and bodies mean).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

from enim import framing
from simulator.agent import api, schemas
from simulator.agent.schemas import TEXT, Schema, reference

Object: TypeAlias = Mapping[str, Any]

_ABOUT = (
    "HTTP/1.1 over the agent's unix socket; any Host will do. An unknown path is answered with 404 and another method "
    "of a known one with 405, both with a Fault. Paths under /v1/x-enim are of this project's agent alone: a client of "
    "the real one does without where they answer 404."
)
_BROKEN = (
    "What breaks HTTP or its limits (400, 408, 413, 431, 501, 505): a head of more than "
    f"{framing.HEAD_BYTES_MAX // 1024} KiB, a body of more than {framing.BODY_BYTES_MAX // 1024} KiB. "
    "The connection ends then."
)


def document() -> Object:
    """The document."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "enim agent",
            "version": "1",
            "summary": "The node agent that gives pods their ENIs, profile hardened.",
            "description": _ABOUT,
            "license": {"name": "Apache License 2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "http://localhost", "description": "On the agent's unix socket."}],
        "tags": [
            {"name": "agent", "description": "What the real agent serves, too."},
            {"name": "x-enim", "description": "What only this agent serves."},
        ],
        "paths": {
            api.ENI: {"post": _add(), "delete": _delete()},
            api.HEALTH: {"get": _health()},
            api.ATTACHMENTS: {"get": _attachments()},
            api.COLLECT: {"post": _collect()},
            api.METRICS: {"get": _metrics()},
            api.OPENAPI: {"get": _openapi()},
        },
        "components": {"schemas": schemas.SCHEMAS, "responses": _SHARED},
    }


def _content(media_type: str, schema: Schema, **more: Any) -> Object:
    return {"content": {media_type: {"schema": schema, **more}}}


# Answers that several operations have.
_SHARED: Mapping[str, Object] = {
    "Broken": {"description": _BROKEN, **_content(api.JSON, reference("Fault"))},
    "Unacceptable": {
        "description": "The Accept header leaves out what this is answered with.",
        **_content(api.JSON, reference("Fault")),
    },
    "WrongType": {"description": "There is a body, and it is not JSON.", **_content(api.JSON, reference("Fault"))},
    "Malformed": {"description": "This can never be granted as it is.", **_content(api.JSON, reference("Fault"))},
    "Conflict": {
        "description": "Nothing was changed, and what the container has is untouched.",
        **_content(api.JSON, reference("ErrorText")),
    },
    "Failed": {
        "description": "Refused for now, or the kernel or the journal failed; text/plain: a bug of the agent.",
        "content": {api.JSON: {"schema": reference("ErrorText")}, api.TEXT: {"schema": TEXT}},
    },
    "Bug": {"description": "A bug of the agent.", **_content(api.TEXT, TEXT)},
}


def _shared(**statuses: str) -> Object:
    """Answers by reference: ``s409="Conflict"``. What any operation can have is among them."""
    named = {key.removeprefix("s"): name for key, name in statuses.items()}
    named = {"406": "Unacceptable", "500": "Bug", **named, "default": "Broken"}
    return {status: {"$ref": f"#/components/responses/{name}"} for status, name in named.items()}


def _query(name: str, says: str, schema: Schema = TEXT, *, required: bool = False) -> Object:
    return {"name": name, "in": "query", "description": says, "required": required, "schema": schema}


_NETNS = _query("netns", "Path of the container's network namespace.")
_IFNAME = _query("ifname", "Name of the interface in the container, CNI_IFNAME.")
_NETWORK: Object = {
    "name": "X-Enim-Network",
    "in": "header",
    "description": "Name of the network. A client of the real agent sends neither it nor ifname: then any fits.",
    "required": False,
    "schema": TEXT,
}


def _add() -> Object:
    owner = _query("owner", "namespace/name of the pod.", {"type": "string", "pattern": "^[^/]+/[^/]+$"}, required=True)
    container = _query("containerID", "CNI_CONTAINERID.", {"type": "string", "minLength": 1}, required=True)
    wanted = {"x-enim": {"ips": ["10.64.0.10"], "ipRanges": [[{"subnet": "fd64::/64"}]]}}
    body = _content(api.JSON, reference("Spec"), examples={"wishes": {"value": wanted}, "none": {"value": {}}})
    return {
        "operationId": "postEni",
        "tags": ["agent"],
        "summary": "ADD: give an attachment an ENI, or say again which it has.",
        "parameters": [owner, container, _NETNS, _IFNAME, _NETWORK],
        "requestBody": {"required": False, **body},
        "responses": {
            "200": {"description": "It is the attachment's now.", **_content(api.JSON, reference("Allocation"))},
            **_shared(s400="Malformed", s409="Conflict", s415="WrongType", s500="Failed"),
        },
    }


def _delete() -> Object:
    owner = _query("owner", "namespace/name of the pod. Another than the attachment's is a conflict.")
    container = _query("containerID", "CNI_CONTAINERID. Without it nothing is ended.")
    return {
        "operationId": "deleteEni",
        "tags": ["agent"],
        "summary": "DEL: end an attachment.",
        "parameters": [owner, container, _NETNS, _IFNAME, _NETWORK],
        "responses": {
            "200": {"description": "It has ended, or there was none."},
            **_shared(s409="Conflict", s500="Failed"),
        },
    }


def _health() -> Object:
    return {
        "operationId": "getHealthz",
        "tags": ["agent"],
        "summary": "Whether the agent can work. A pool without a free ENI is healthy.",
        "responses": {"200": {"description": "It can."}, **_shared(s500="Failed")},
    }


def _attachments() -> Object:
    names = {"network": "Name of the network.", "containerID": "CNI_CONTAINERID.", "ifname": "CNI_IFNAME."}
    return {
        "operationId": "getAttachments",
        "tags": ["x-enim"],
        "summary": "The attachments on record that have every value given, for CHECK.",
        "parameters": [_query(name, says) for name, says in names.items()],
        "responses": {
            "200": {"description": "Those that were found.", **_content(api.JSON, reference("Attachments"))},
            **_shared(),
        },
    }


def _collect() -> Object:
    valid = {"network": "podnet", "valid": [{"containerID": "c1", "ifname": "eth0"}]}
    body = _content(api.JSON, reference("ValidAttachments"), examples={"one is valid": {"value": valid}})
    return {
        "operationId": "postGc",
        "tags": ["x-enim"],
        "summary": "GC: take back what a network's list of valid attachments omits.",
        "description": "An empty list ends only attachments whose network namespace is gone, too.",
        "requestBody": {"required": True, **body},
        "responses": {
            "200": {"description": "What was omitted.", **_content(api.JSON, reference("Collected"))},
            **_shared(s400="Malformed", s415="WrongType", s500="Failed"),
        },
    }


def _metrics() -> Object:
    return {
        "operationId": "getMetrics",
        "tags": ["x-enim"],
        "summary": "Metrics in Prometheus' text format, version 0.0.4.",
        "responses": {"200": {"description": "All of one moment.", **_content(api.TEXT, TEXT)}, **_shared()},
    }


def _openapi() -> Object:
    return {
        "operationId": "getOpenapi",
        "tags": ["x-enim"],
        "summary": "This document.",
        "responses": {"200": {"description": "It.", **_content(api.JSON, {"type": "object"})}, **_shared()},
    }
