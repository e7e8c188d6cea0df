"""The fixture that the other tests of this tier stand on."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

InLab = Callable[[Callable[[Path], Any]], Any]


class Unportable(Exception):
    def __init__(self, one: int, two: int) -> None:
        super().__init__(f"{one} and {two}")


def test_in_lab_gives_back_what_the_function_returns(in_lab: InLab) -> None:
    assert in_lab(lambda scratch: (os.getpid(), scratch.is_dir(), {"key": b"x" * 1_000_000})) == (
        2,
        True,
        {"key": b"x" * 1_000_000},
    )


def test_in_lab_raises_what_the_function_raises_and_says_where(in_lab: InLab) -> None:
    def fail(_scratch: Path) -> None:
        raise KeyError("the very key")

    with pytest.raises(KeyError, match="the very key") as caught:
        in_lab(fail)
    (note,) = caught.value.__notes__
    assert note.startswith("in the lab:\nTraceback")
    assert 'raise KeyError("the very key")' in note


def test_in_lab_raises_a_failed_assertion_with_its_explanation(in_lab: InLab) -> None:
    def fail(scratch: Path) -> None:
        assert sorted(scratch.iterdir()) == ["file"]

    with pytest.raises(AssertionError, match=r"\[\] == \['file'\]"):
        in_lab(fail)


@pytest.mark.parametrize("what", [lambda: 1 // 0, lambda: Unportable(1, 2), lambda: None])
def test_in_lab_speaks_of_what_it_cannot_carry(in_lab: InLab, what: Callable[[], Any]) -> None:
    def fail(_scratch: Path) -> Any:
        value = what()
        if isinstance(value, Exception):
            raise value
        return (one for one in ())  # no generator can be pickled

    with pytest.raises((ZeroDivisionError, RuntimeError, TypeError), match=r"zero|Unportable: 1 and 2|pickle"):
        in_lab(fail)


def test_in_lab_that_dies_is_a_failure(in_lab: InLab) -> None:
    with pytest.raises(AssertionError, match="the lab ended before the function did"):
        in_lab(lambda _: os._exit(3))
