"""Every refusal has a reason that can be counted, and an answer that a plugin understands."""

from typing import get_args

import pytest

from enim import wire
from simulator.agent import refusal


def test_every_reason_is_explained() -> None:
    assert list(get_args(refusal.Reason)) == list(refusal.REASONS)


@pytest.mark.parametrize(
    ("status", "body"),
    [(400, b'{"code":400,"message":"no"}'), (409, b'"no"\n'), (500, b'"no"\n')],
)
def test_only_what_can_never_be_granted_is_answered_as_the_framework_does(status: int, body: bytes) -> None:
    assert refusal.Refused("malformed", "no", status).reply == wire.Reply(status, body, "application/json")


def test_its_text_is_what_the_client_is_told() -> None:
    assert str(refusal.Refused("fault", "the disk is full")) == "the disk is full"
