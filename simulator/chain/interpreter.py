"""EDGE: the Python that the plugins get: whether it can be used, and the plugins' package compiled by it.

Rules: an interpreter is asked, never judged by its name. What cannot be used is refused by name, with the cure: a node
without Python is not supported.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

from enim import loading
from simulator.chain import calls, compiling, execute
from simulator.errors import LabError

OLDEST = (3, 9)

_OLDEST = ".".join(map(str, OLDEST))
_CURE = f"Name a CPython {_OLDEST} or newer with --python; a node without Python is not supported"
_QUESTION = "import sys; print(sys.implementation.name, *sys.version_info[:3])"
_FLAGS = "-IS"  # without site, user paths and PYTHON* variables
_TIMEOUT_S = 60.0


def find(python: str) -> str:
    """The path of an interpreter that the plugins can run with.

    Args:
        python: a path, or a name to look up in PATH.

    Raises:
        LabError: there is none, it does not run as Python does, it is no CPython, or older than ``OLDEST``.
    """
    path = python if "/" in python else shutil.which(python) or ""
    if not Path(path).is_file():
        raise LabError(f"there is no interpreter {python}", _CURE)
    version = _version(path)
    if version < OLDEST:
        text = f"{python} is Python {'.'.join(map(str, version))}, and the plugins need {_OLDEST} or newer"
        raise LabError(text, _CURE)
    return path


def compiled(path: str, sources: Mapping[str, bytes]) -> compiling.Compiled:
    """The package that ``compiling.compiled`` makes, made by the interpreter ``path``, which ``find`` found.

    Always in a new process: marshal writes down which strings somebody else in the process holds, too, so that the same
    sources are other bytes in one that has done other things before.

    Raises:
        LabError: it fails.
    """
    contents = {name: content.hex() for name, content in sources.items()}
    question = json.dumps({"head_bytes": loading.HEAD_BYTES, "sources": contents, "calls": calls.CALLS}).encode()
    _, stdout, said = execute.program([path, _FLAGS, compiling.__file__], question, _TIMEOUT_S)
    try:
        answer = json.loads(stdout)
        return compiling.Compiled(answer["tag"], answer["version"], bytes.fromhex(answer["file"]))
    except (ValueError, TypeError, KeyError) as error:
        raise LabError(f"{path} does not compile the plugins: {said or error}", _CURE) from error


def _version(path: str) -> tuple[int, ...]:
    """Its major, minor and micro version. Raises LabError."""
    code, stdout, said = execute.program([path, _FLAGS, "-c", _QUESTION], b"", _TIMEOUT_S)
    name, *numbers = stdout.decode(errors="replace").split() or [""]
    if code != 0 or len(numbers) != 3 or not all(number.isdecimal() for number in numbers):
        raise LabError(f"{path} does not run as Python 3 does: {said or 'it says something else'}", _CURE)
    if name != "cpython":
        raise LabError(f"{path} is {name}, and the plugins need CPython", _CURE)
    return tuple(int(number) for number in numbers)
