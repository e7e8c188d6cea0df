"""What a trial says of a backend, against what this kernel and its links can do."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from simulator import topology
from simulator.errors import CloudFault
from simulator.model import BACKENDS, Backend
from simulator.real import cloud, echo, trial

InLab = Callable[[Callable[[Path], Any]], Any]


def test_veth_does_all_that_is_tried(in_lab: InLab) -> None:
    assert in_lab(lambda scratch: trial.attempt("veth", scratch)) == dict.fromkeys(trial.TRAITS, "")


@pytest.mark.parametrize("backend", BACKENDS)
def test_backend_is_made_or_the_kernel_says_why_not(in_lab: InLab, backend: Backend) -> None:
    found = in_lab(lambda scratch: trial.attempt(backend, scratch))
    if found[trial.MADE]:
        assert (list(found), "Operation not supported" in found[trial.MADE]) == ([trial.MADE], True)
    else:
        assert list(found) == list(trial.TRAITS)
        assert bool(found.pop(trial.ECHOES)) == (backend == "dummy")
        assert set(found.values()) == {""}


def test_silent_gateway_is_named(in_lab: InLab, monkeypatch: pytest.MonkeyPatch) -> None:
    gateway = topology.enis(1)[0].subnet.gateway6
    monkeypatch.setattr(echo, "echo", lambda _netns, destination, _timeout_ms: destination != gateway)
    found = in_lab(lambda scratch: trial.attempt("veth", scratch))
    assert found == {**dict.fromkeys(trial.TRAITS, ""), trial.ECHOES: f"none from {gateway}"}


def test_nic_that_cannot_be_made_is_all_there_is_to_say(in_lab: InLab, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_count: int, _backend: str) -> None:
        raise CloudFault("make eni-1", 95, "Operation not supported")

    monkeypatch.setattr(cloud, "attach", refuse)
    found = in_lab(lambda scratch: trial.attempt("dummy", scratch))
    assert found == {trial.MADE: "make eni-1: Operation not supported"}


def test_error_on_the_way_is_told_of_what_was_tried_and_ends_the_trial(in_lab: InLab) -> None:
    def attempt(scratch: Path) -> dict[str, str]:
        (scratch / "second").touch()
        return trial.attempt("veth", scratch)

    assert list(in_lab(attempt).items()) == [
        (trial.MADE, ""),
        (trial.MOVED, in_lab(lambda scratch: f"create the network namespace {scratch}/second: File exists")),
    ]
