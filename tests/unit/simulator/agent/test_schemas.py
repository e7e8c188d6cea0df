"""The components of the agent's OpenAPI document: what the API answers with is described to the last member."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import jsonschema
import pytest

from simulator.agent import api, openapi, schemas
from simulator.model import Eni

MakeEni = Callable[[int], Eni]


def references(value: Any) -> Iterator[str]:
    """The names of the schemas that something refers to."""
    if isinstance(value, dict):
        for key, one in value.items():
            yield from [one.rpartition("/")[2]] if key == "$ref" else references(one)
    elif isinstance(value, list):
        for one in value:
            yield from references(one)


def is_valid(name: str, value: Any) -> bool:
    schema = {**schemas.reference(name), "components": {"schemas": schemas.SCHEMAS}}
    return jsonschema.Draft202012Validator(json.loads(json.dumps(schema))).is_valid(value)


def test_every_schema_is_used() -> None:
    assert set(schemas.SCHEMAS) <= set(references(json.loads(json.dumps(openapi.document()))))


@pytest.mark.parametrize("missing", ["", "ipv4", "ipv6"])
def test_allocation_of_one_family_or_two_is_valid(make_eni: MakeEni, missing: str) -> None:
    eni = replace(make_eni(1), **{missing: ""}) if missing else make_eni(1)
    assert is_valid("Allocation", json.loads(api.allocation(eni, 7).body))


@pytest.mark.parametrize("family", ["ipv4", "ipv6"])
@pytest.mark.parametrize(
    "change",
    [
        {"more": 1},
        {"interface-number": 7},
        {"interface-number": "0"},
        {"cidrs": []},
        {"master-mac": "FA:26:00:00:00:01"},
    ],
)
def test_allocation_that_the_agent_would_never_write_is_not(
    make_eni: MakeEni, family: str, change: dict[str, Any]
) -> None:
    body = json.loads(api.allocation(make_eni(1), 7).body)
    body[family] |= change
    assert not is_valid("Allocation", body)
