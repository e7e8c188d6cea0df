"""PURE: the bodies of the agent's API, as JSON Schemas: the ``components`` of its OpenAPI document.

Requests are described as a client should write them; what the agent forgives beside (``null`` for nothing, keys of a
range in another case) is for clients that are there already. Answers are described to the last member.

Source: contract C2 to C4, C6; design D10; ``wishes`` and ``collect`` (who reads them), ``api`` (who writes them).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

from simulator.agent import pool

Schema: TypeAlias = Mapping[str, Any]

TEXT: Schema = {"type": "string"}
_NAMED: Schema = {"type": "string", "minLength": 1}
_MAC: Schema = {"type": "string", "pattern": "^[0-9a-f]{2}(:[0-9a-f]{2}){5}$"}


def reference(name: str) -> Schema:
    """A schema that stands among the components."""
    return {"$ref": f"#/components/schemas/{name}"}


def _answer(properties: Mapping[str, Schema], optional: tuple[str, ...] = (), **more: Any) -> Schema:
    """An object that the agent writes: it has these members and no other."""
    required = [name for name in properties if name not in optional]
    return {"type": "object", "required": required, "additionalProperties": False, "properties": properties, **more}


def _list(of: Schema, **more: Any) -> Schema:
    return {"type": "array", "items": of, **more}


def _family(family: int) -> Schema:
    return _answer(
        {
            "ip": {"type": "string", "format": f"ipv{family}"},
            "gateway": {"type": "string", "format": f"ipv{family}"},
            "cidrs": _list(TEXT, minItems=1, description="The ENI's subnet."),
            "master-mac": {**_MAC, "description": "The ENI's; both families have the same."},
            "interface-number": {
                "type": "string",
                "pattern": "^[1-9][0-9]*$",
                "description": "ifindex of the ENI in the initial netns, decimal.",
            },
        }
    )


SCHEMAS: Mapping[str, Schema] = {
    "Allocation": _answer(
        {
            "address": _answer(
                {"ipv4": {"type": "string", "format": "ipv4"}, "ipv6": {"type": "string", "format": "ipv6"}},
                optional=("ipv4", "ipv6"),
            ),
            "host-addressing": _answer({}, description="Empty; the real agent's schema requires it."),
            "ipv4": _family(4),
            "ipv6": _family(6),
        },
        optional=("ipv4", "ipv6"),
        description="The ENI that an attachment has now. A family is left out that the ENI lacks.",
    ),
    "Attachment": _answer(
        {
            "network": TEXT,
            "containerID": TEXT,
            "ifname": TEXT,
            "owner": {"type": "string", "description": "namespace/name of the pod."},
            "netns": {"type": "string", "description": "The path that its ADD named, empty if it named none."},
            "state": {"enum": [pool.IN_USE, pool.SUPERSEDED]},
            "mac": _MAC,
            "ips": _list(TEXT, description="Addresses of the ENI with their prefix lengths."),
        }
    ),
    "Attachments": _answer({"attachments": _list(reference("Attachment"))}),
    "Collected": _answer(
        {
            "reclaimed": _list(TEXT, description="Ids of the ENIs that were taken back."),
            "kept": _list(_answer({"eni": TEXT, "reason": TEXT})),
        }
    ),
    "ErrorText": {"type": "string", "description": "What is wrong, for people: a bare JSON string."},
    "Fault": _answer(
        {"code": {"type": "integer", "description": "The status."}, "message": TEXT},
        description="What is refused before the agent's own work begins.",
    ),
    "Spec": {
        "type": "object",
        "description": "The real agent's ENI spec, of which all but x-enim is ignored.",
        "properties": {"x-enim": reference("Wishes")},
    },
    "Wishes": {
        "type": "object",
        "description": "What the ENI must have. Where none has it, nothing is allocated.",
        "properties": {
            "ips": _list(_NAMED, description="The ENI has all of these; a prefix length may follow, and says nothing."),
            "ipRanges": _list(
                {"oneOf": [reference("Range"), _list(reference("Range"), minItems=1)]},
                description="The ENI has an address in a range of each of these sets.",
            ),
            "mac": {"type": "string", "description": "The ENI's."},
            "device": {
                "type": "string",
                "description": "Name at home, or MAC, of an ENI that may have been moved into the pod's netns already.",
            },
        },
    },
    "Range": {
        "type": "object",
        "description": "A range as in the CNI convention ipRanges; its gateway is not looked at.",
        "properties": {"subnet": _NAMED, "rangeStart": _NAMED, "rangeEnd": _NAMED},
        "anyOf": [{"required": ["subnet"]}, {"required": ["rangeStart", "rangeEnd"]}],
    },
    "ValidAttachments": {
        "type": "object",
        "description": "What a runtime's garbage collection says is valid (CNI_COMMAND=GC).",
        "required": ["network", "valid"],
        "properties": {
            "network": _NAMED,
            "valid": _list(
                {
                    "type": "object",
                    "required": ["containerID", "ifname"],
                    "properties": {"containerID": _NAMED, "ifname": _NAMED},
                },
            ),
        },
    },
}
