"""What a trial says of a backend, against what this kernel and its links can do."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from simulator import topology
from simulator.errors import CloudFault, KernelFault
from simulator.model import BACKENDS, ECHOED, MADE, MOVED, RETURNED, TRAITS, Backend
from simulator.real import cloud, echo, hardware, kernel, trial

InLab = Callable[[Callable[[Path], Any]], Any]


def test_veth_does_all_that_is_tried(in_lab: InLab) -> None:
    assert in_lab(lambda scratch: trial.attempt("veth", scratch)) == dict.fromkeys(TRAITS, "")


@pytest.mark.parametrize("backend", BACKENDS)
def test_backend_is_made_or_the_kernel_says_why_not(in_lab: InLab, backend: Backend) -> None:
    found = in_lab(lambda scratch: trial.attempt(backend, scratch))
    if found[MADE]:
        assert (list(found), "Operation not supported" in found[MADE]) == ([MADE], True)
    else:
        assert list(found) == list(TRAITS)
        assert bool(found.pop(ECHOED)) == (backend == "dummy")
        assert set(found.values()) == {""}


def test_silent_gateway_is_named(in_lab: InLab, monkeypatch: pytest.MonkeyPatch) -> None:
    gateway = topology.enis(1)[0].subnet.gateway6
    monkeypatch.setattr(echo, "echo", lambda _netns, destination, _timeout_ms: destination != gateway)
    found = in_lab(lambda scratch: trial.attempt("veth", scratch))
    assert found == {**dict.fromkeys(TRAITS, ""), ECHOED: f"none from {gateway}"}


def test_nic_that_cannot_be_made_is_all_there_is_to_say(in_lab: InLab, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_count: int, _backend: str) -> None:
        raise CloudFault("make eni-1", 95, "Operation not supported")

    monkeypatch.setattr(cloud, "attach", refuse)
    found = in_lab(lambda scratch: trial.attempt("dummy", scratch))
    assert found == {MADE: "make eni-1: Operation not supported"}


def test_error_on_the_way_is_told_of_what_was_tried_and_ends_the_trial(in_lab: InLab) -> None:
    def attempt(scratch: Path) -> tuple[dict[str, str], str]:
        (scratch / "first").touch()
        return trial.attempt("veth", scratch), str(scratch)

    found, scratch = in_lab(attempt)
    assert list(found.items()) == [
        (MADE, ""),
        (MOVED, f"create the network namespace {scratch}/first: File exists"),
    ]


def test_nic_that_does_not_come_back_from_a_move_ends_the_trial(in_lab: InLab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel.Kernel, "move_home", lambda *_: None)
    assert in_lab(lambda scratch: trial.attempt("veth", scratch)) == {MADE: "", MOVED: "it did not come back"}


def test_echo_that_cannot_be_sent_does_not_end_the_trial(in_lab: InLab, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(netns: str, _destination: str, _timeout_ms: int) -> bool:
        raise KernelFault("open a raw socket", 1, "Operation not permitted")

    monkeypatch.setattr(echo, "echo", refuse)
    found = in_lab(lambda scratch: trial.attempt("veth", scratch))
    assert found == {**dict.fromkeys(TRAITS, ""), ECHOED: "open a raw socket: Operation not permitted"}


def test_nic_that_does_not_come_home_is_told_last(in_lab: InLab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "_PATIENCE_S", 0.2)
    monkeypatch.setattr(hardware.Hardware, "bring_back_the_lost", lambda *_, **__: None)
    found = in_lab(lambda scratch: trial.attempt("veth", scratch))
    assert list(found) == list(TRAITS)
    assert found[RETURNED] == "it was not back after 0 s"
