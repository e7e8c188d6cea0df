"""The folder of a test is its marker: tests/unit → ``unit``, tests/lab → ``lab`` … And a lab for those who need one."""

from __future__ import annotations

import functools
import json
import os
import pickle
import shutil
import signal
import socket
import subprocess
import sys
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest
from _pytest.mark import ParameterSet

HERE = Path(__file__).parent
PLUGINS_PYTHONS = range(9, 15)  # of Python 3
SYSTEM_PYTHON = "/usr/bin/python3"  # may be one of these versions, built by others
GET_DRIVERS = "run scripts/install-drivers"


def pytest_configure() -> None:
    """Who was started in the background of a shell ignores SIGINT, and so would all that the tests start."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        tier = item.path.relative_to(HERE).parts[0]
        item.add_marker(getattr(pytest.mark, tier))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """``each_python``: once for each Python that the plugins run on. ``python``: so too if ENIM_EVERY_PYTHON is set."""
    for name in {"each_python", "python"}.intersection(metafunc.fixturenames):
        if name == "each_python" or os.environ.get("ENIM_EVERY_PYTHON"):
            metafunc.parametrize(name, every_python(), scope="session")
        else:
            metafunc.parametrize(name, [sys.executable], ids=["own"], scope="session")


@functools.cache
def every_python() -> list[ParameterSet]:
    """Paths of the interpreters of this machine, a skip by name for each that it lacks."""
    found = {minor: found_python(minor) for minor in PLUGINS_PYTHONS}
    missing = {
        minor: [pytest.mark.skip(f"Python 3.{minor} is not on this machine (scripts/install-python gets newer ones)")]
        for minor in found
        if not found[minor]
    }
    params = [pytest.param(found[minor], marks=missing.get(minor, ()), id=f"python3.{minor}") for minor in found]
    if os.path.realpath(SYSTEM_PYTHON) not in {os.path.realpath(path) for path in found.values() if path}:
        has_none = pytest.mark.skipif(not Path(SYSTEM_PYTHON).exists(), reason=f"there is no {SYSTEM_PYTHON}")
        params.append(pytest.param(SYSTEM_PYTHON, marks=has_none, id="system"))
    return params


def found_python(minor: int) -> str:
    """A Python 3.``minor`` that runs: ENIM_PYTHONS (as PATH), system, scripts/install-python, pyenv, PATH; else ""."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    candidates = [
        *os.environ.get("ENIM_PYTHONS", "").split(os.pathsep),
        *(sys.executable, f"/usr/bin/python3.{minor}", f"/usr/local/bin/python3.{minor}"),
        str(cache / f"enim/python/3.{minor}/usr/bin/python3.{minor}"),
        *sorted(str(path) for path in pyenv.glob(f"versions/3.{minor}.*/bin/python3")),
        shutil.which(f"python3.{minor}") or "",
    ]
    question = ["-IS", "-c", "import sys; print(*sys.version_info[:2])"]
    for path in candidates:
        try:
            said = subprocess.run([path, *question], check=False, capture_output=True, text=True).stdout
        except OSError:
            continue  # it is not there, or no program of this user's
        if said.split() == ["3", str(minor)]:
            return path
    return ""


@pytest.fixture(scope="session")
def two_pythons(python: str) -> tuple[str, str]:
    """``python``, and another one that the plugins run on; the same twice if the machine has no other."""
    others = [path for minor in PLUGINS_PYTHONS if (path := found_python(minor))]
    own = os.path.realpath(python)
    return python, next((path for path in others if os.path.realpath(path) != own), python)


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


@pytest.fixture(params=["", "exec"], ids=["in-process", "exec"])
def delegate(request: pytest.FixtureRequest) -> str:
    """``delegate`` of exclusive-device's configuration: enim in its own process, and as a process of its own."""
    return str(request.param)


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


def found_driver(name: str) -> Path | None:
    """A program that scripts/install-drivers gets: in its cache, else in PATH; None if there is none."""
    cached = Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()) / "enim/drivers" / name
    found = cached if cached.is_file() else shutil.which(name)
    return Path(found) if found else None


@pytest.fixture(scope="session")
def driver() -> Callable[[str], Path]:
    """A function that finds a program which scripts/install-drivers gets. A skip by its name if there is none."""

    def find(name: str) -> Path:
        found = found_driver(name)
        if found is None:
            pytest.skip(f"there is no {name} here: {GET_DRIVERS}")
        return found

    return find


@pytest.fixture(scope="session")
def newest_if_any() -> Path | None:
    """The newest host-device, None if it is not here."""
    return found_driver("host-device")


@pytest.fixture(scope="session")
def newest(newest_if_any: Path | None) -> Path:
    """The newest host-device."""
    return newest_if_any or pytest.skip(f"there is no newest host-device here: {GET_DRIVERS}")


@pytest.fixture(scope="session")
def figures() -> Callable[[bytes], dict[str, float]]:
    """A function that reads metrics as Prometheus does: ``name{label="value"}`` → the figure."""
    from prometheus_client import parser  # noqa: PLC0415 - not every tier has it

    def read(body: bytes) -> dict[str, float]:
        found: dict[str, float] = {}
        for family in parser.text_string_to_metric_families(body.decode()):
            for sample in family.samples:
                labels = ",".join(f'{name}="{value}"' for name, value in sample.labels.items())
                key = f"{sample.name}{{{labels}}}" if labels else sample.name
                assert key not in found, f"{key} is there twice"
                found[key] = sample.value
        return found

    return read


@pytest.fixture(scope="session")
def assert_documented() -> Callable[..., None]:
    """A function that fails unless the agent's OpenAPI document describes an answer: its status, its type, its body."""
    import jsonschema  # noqa: PLC0415 - as above

    from simulator.agent import openapi  # noqa: PLC0415 - the plugins' tests do without the simulator

    document = json.loads(json.dumps(openapi.document()))

    def check(method: str, path: str, reply: Any, answer: str = "") -> None:
        """``answer``: its key among the operation's, if that is not its status."""
        described = document["paths"][path][method.lower()]["responses"][answer or str(reply.status)]
        if "$ref" in described:
            described = document["components"]["responses"][described["$ref"].rpartition("/")[2]]
        media_type = reply.content_type.partition(";")[0]
        content = described.get("content", {})
        assert (media_type in content) or (media_type, reply.body, content) == ("", b"", {}), (media_type, content)
        if content:
            value = json.loads(reply.body) if media_type == "application/json" else reply.body.decode()
            schema = {**content[media_type]["schema"], "components": document["components"]}
            checker = jsonschema.Draft202012Validator.FORMAT_CHECKER
            jsonschema.Draft202012Validator(schema, format_checker=checker).validate(value)

    return check
