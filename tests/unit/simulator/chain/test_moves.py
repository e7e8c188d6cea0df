"""The moves of host-device where a link is not where it was a moment ago: somebody else moved it."""

from __future__ import annotations

import errno
from typing import Any

import pytest

from enim import effects, errors
from simulator.chain import moves
from simulator.model import Link

LINK = Link(2, "eni1", "02:e1:00:00:00:01", 1500)
IN_POD = Link(5, "eth0", LINK.mac, 1500, alias="eni1")
DOES_EXIST = errors.KernelError("", errno.EEXIST, "File exists")


def run(flow: moves.Steps, answers: dict[effects.Effect, Any]) -> tuple[str, list[effects.Effect]]:
    """The text of the error that the flow ends with, "" for none, and what it did, besides looking."""
    seen: list[effects.Effect] = []
    outcome: Any = None
    try:
        effect = next(flow)
        while True:
            if not isinstance(effect, moves.Look):
                seen.append(effect)
            outcome = answers.get(effect, "#way" if isinstance(effect, moves.OpenTemporary) else None)
            effect = flow.throw(outcome) if isinstance(outcome, Exception) else flow.send(outcome)
    except StopIteration:
        return "", seen
    except errors.CniError as error:
        return error.msg, seen


def test_move_in_fails_when_the_link_has_not_arrived() -> None:
    assert run(moves.move_in(LINK, "#pod", "eth0"), {}) == (
        'failed to find "eni1": Link not found',
        [moves.Move(2, "", "#pod")],
    )


def test_move_in_takes_the_index_that_the_link_has_in_the_pod() -> None:
    answers = {moves.Look("#pod", "eni1"): IN_POD, moves.Look("#pod", "eth0"): IN_POD}

    text, seen = run(moves.move_in(LINK, "#pod", "eth0"), answers)

    assert text == ""
    assert seen[1:] == [
        moves.Change(5, "#pod", "up", value=False),
        moves.Change(5, "#pod", "alias", "eni1"),
        moves.Change(5, "#pod", "name", "eth0"),
        moves.Change(5, "#pod", "up", value=True),
    ]


def test_move_in_by_way_fails_when_the_link_has_left_the_way() -> None:
    text, seen = run(moves.move_in_by_way(LINK, "#pod", "eth0"), {})

    assert text == 'failed to find "eni1" in tempNS: Link not found'
    assert seen == [moves.OpenTemporary(), moves.Move(2, "", "#way"), moves.Close("#way")]


def test_move_in_by_way_cannot_bring_back_what_has_left_the_pod() -> None:
    text, seen = run(moves.move_in_by_way(LINK, "#pod", "eth0"), {moves.Look("#way", "eni1"): LINK})

    assert text == 'failed to find "eth0" in container NS: Link not found'
    assert seen[-2:] == [moves.Move(2, "#way", "#pod"), moves.Close("#way")]


def test_move_in_by_way_goes_on_undoing_when_undoing_fails() -> None:
    answers = {
        moves.Look("#way", "eni1"): LINK,
        moves.Move(2, "#way", "#pod"): DOES_EXIST,
        moves.Change(2, "#way", "alias", ""): DOES_EXIST,
        moves.Change(2, "#way", "name", "eni1"): DOES_EXIST,
    }

    text, seen = run(moves.move_in_by_way(LINK, "#pod", "eth0"), answers)

    assert text == 'failed to move "eth0" (host: "eni1") to container NS: file exists'
    assert seen[-2:] == [moves.Move(2, "#way", ""), moves.Close("#way")]


@pytest.mark.parametrize("move_out", [moves.move_out, moves.move_out_by_way])
def test_move_out_of_a_link_that_was_down_leaves_it_down_when_it_fails(move_out: Any) -> None:
    answers = {
        moves.Look("#pod", "eth0"): IN_POD,
        moves.Look("#way", "eth0"): IN_POD,
        moves.Move(5, "#pod", ""): DOES_EXIST,
        moves.Move(5, "#way", ""): DOES_EXIST,
    }

    text, seen = run(move_out("#pod", "eth0"), answers)

    assert text.startswith('failed to move "eni1" to host')
    assert not any(isinstance(effect, moves.Change) and effect.value is True for effect in seen)
