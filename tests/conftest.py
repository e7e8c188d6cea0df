"""The folder of a test is its marker: tests/unit → ``unit``, tests/lab → ``lab`` … And a lab for those who need one."""

from __future__ import annotations

import os
import pickle
import socket
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        tier = item.path.relative_to(HERE).parts[0]
        item.add_marker(getattr(pytest.mark, tier))


@pytest.fixture(scope="session")
def verdicts() -> Callable[[str, Path], dict[tuple[str, str], list[str]]]:
    """Runs the scenarios at a path in a lab: by name and chain each step, what each plugin ended with, the verdict."""
    return run_scenarios


def run_scenarios(lab: str, path: Path) -> dict[tuple[str, str], list[str]]:
    from simulator import composition  # noqa: PLC0415 - the policy tests do without
    from simulator.report import events  # noqa: PLC0415 - the same

    seen: dict[tuple[str, str], list[str]] = {}
    steps: list[str] = []

    def take(event: events.Event) -> None:
        match event:
            case events.ScenarioStarted():
                steps.clear()
            case events.StepFinished():
                steps.append(event.step)
            case events.PluginRan():
                call = event.outcome.call
                steps.append(f"{call.plugin} {call.environment['CNI_COMMAND']} exit {event.outcome.exit_code}")
            case events.ScenarioFinished():
                verdict = "passed" if event.failed is None else f"failed: {event.failed.message}"
                seen[event.name, event.chain] = [*steps, verdict]

    composition.run_scenarios([path], lab, "", [take], jobs=os.cpu_count() or 1)
    return seen


@pytest.fixture
def in_lab() -> Callable[[Callable[[Path], Any]], Any]:
    """Runs a function, given the scratch directory, in a fresh lab. What it returns or raises comes back."""
    return run_in_lab


def run_in_lab(function: Callable[[Path], Any]) -> Any:
    from simulator.lab import namespaces  # noqa: PLC0415 - Linux only; the other tiers run anywhere

    lab = namespaces.start(lambda channel, scratch: send_outcome(channel, scratch, function))
    try:
        with Connection(lab.channel.detach()) as connection:
            returned, value, text = connection.recv()
    except EOFError:
        raise AssertionError("the lab ended before the function did") from None
    finally:
        lab.close()
    if returned:
        return value
    value.add_note(f"in the lab:\n{text}")
    raise value


def send_outcome(channel: socket.socket, scratch: Path, function: Callable[[Path], Any]) -> None:
    outcome: tuple[bool, Any, str]
    try:
        outcome = (True, function(scratch), "")
        pickle.dumps(outcome)
    except BaseException as error:  # noqa: BLE001 - the runner raises it again
        outcome = (False, portable(error), traceback.format_exc())
    with Connection(channel.detach()) as connection:
        connection.send(outcome)


def portable(error: BaseException) -> BaseException:
    """The error, or where it cannot be pickled, one that says the same."""
    try:
        copy = pickle.loads(pickle.dumps(error))
    except Exception:  # noqa: BLE001 - whatever a foreign class does
        copy = None
    return error if type(copy) is type(error) else RuntimeError(f"{type(error).__name__}: {error}")
