"""Kinds of link are tried, each where it is asked for, and no more of them than needed."""

import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from simulator.lab import links

InLab = Callable[[Callable[[Path], Any]], Any]


def test_veth_that_works_is_all_that_is_tried(in_lab: InLab) -> None:
    assert in_lab(lambda _scratch: links.refusals(())) == {"veth": ""}


def test_wishes_are_tried_each_with_what_it_stands_on(in_lab: InLab) -> None:
    def attempt(_scratch: Path) -> tuple[dict[str, str], list[str]]:
        return links.refusals(("macvlan",)), [name for _, name in socket.if_nameindex()]

    refusals, names = in_lab(attempt)
    assert (list(refusals), refusals["veth"]) == (["macvlan", "veth"], "")
    assert refusals["macvlan"] in {"", "Operation not supported"}
    assert {"lo", "try-below", "try-veth"} <= set(names)


def test_next_kind_is_tried_where_one_is_refused(in_lab: InLab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(links, "BACKENDS", ("no-such", "veth", "macvlan"))
    assert in_lab(lambda _scratch: links.refusals(())) == {"no-such": "Operation not supported", "veth": ""}


def test_name_that_is_taken_is_refused(in_lab: InLab) -> None:
    def twice(_scratch: Path) -> None:
        links.make("b0", "bridge")
        links.make("b0", "bridge")

    with pytest.raises(OSError, match="File exists"):
        in_lab(twice)
