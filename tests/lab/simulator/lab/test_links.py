"""Kinds of link are tried, each where it is asked for, and no more of them than needed."""

import json
import socket
import subprocess
import sys
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


def test_macvlan_without_a_veth_to_stand_on_says_so(in_lab: InLab, monkeypatch: pytest.MonkeyPatch) -> None:
    make = links.make
    monkeypatch.setattr(links, "make", lambda name, kind, below="": make(name, f"no-{kind}", below))
    assert in_lab(lambda _scratch: links.refusals(("macvlan", "dummy"))) == {
        "macvlan": "the veth below it: Operation not supported",
        "dummy": "Operation not supported",
    }


def test_as_a_program_it_prints_what_was_refused(in_lab: InLab) -> None:
    def ask(_scratch: Path) -> bytes:
        command = [sys.executable, "-m", links.__name__, "no-such", "veth"]
        return subprocess.run(command, capture_output=True, check=True).stdout

    assert json.loads(in_lab(ask)) == {"no-such": "Operation not supported", "veth": ""}


def test_name_that_is_taken_is_refused(in_lab: InLab) -> None:
    def twice(_scratch: Path) -> None:
        links.make("b0", "bridge")
        links.make("b0", "bridge")

    with pytest.raises(OSError, match="File exists"):
        in_lab(twice)
