"""What drives a plugin's flow by hand, for tests in several files."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

import pytest

from enim import effects, errors


def drive(flow: Generator[effects.Effect, Any, Any], *steps: tuple[effects.Effect, Any]) -> errors.CniError | None:
    """Drive a flow through ``(effect that must come, its outcome or failure)``, all of them; its error or None."""
    todo, error = list(steps), None
    try:
        effect = next(flow)
        while True:
            assert todo, f"the flow goes on with {effect}"
            expected, outcome = todo.pop(0)
            assert effect == expected
            effect = flow.throw(outcome) if isinstance(outcome, Exception) else flow.send(outcome)
    except StopIteration:
        pass
    except errors.CniError as failure:
        error = failure
    assert todo == []
    return error


@pytest.fixture
def play() -> Callable[..., errors.CniError | None]:
    """``drive``, which tests call so."""
    return drive
