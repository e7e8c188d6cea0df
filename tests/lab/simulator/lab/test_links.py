"""Kinds of link are tried, each where it is asked for, and no more of them than needed."""

import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from simulator.lab import links

InLab = Callable[[Callable[[Path], Any]], Any]


def test_kinds_are_tried_up_to_the_first_that_works(in_lab: InLab) -> None:
    kinds = ("no-such", "veth", "macvlan")
    assert in_lab(lambda _scratch: links.refusals(kinds)) == {"no-such": "Operation not supported", "veth": ""}


def test_macvlan_is_tried_upon_what_it_stands_on_in_a_lab(in_lab: InLab) -> None:
    def attempt(_scratch: Path) -> tuple[str, set[str]]:
        return links.refusals(("macvlan",))["macvlan"], {name for _, name in socket.if_nameindex()}

    refusal, names = in_lab(attempt)
    assert (refusal == "", "Operation not supported" in refusal) == ("try-macvlan" in names, "try-macvlan" not in names)
    assert "try-below" in names


def test_name_that_is_taken_is_refused(in_lab: InLab) -> None:
    def twice(_scratch: Path) -> None:
        links.make("b0", "bridge")
        links.make("b0", "bridge")

    with pytest.raises(OSError, match="File exists"):
        in_lab(twice)
