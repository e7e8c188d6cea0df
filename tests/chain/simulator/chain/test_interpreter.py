"""An interpreter is asked what it is; what the plugins cannot run with is refused by name, with the cure."""

import marshal
import shutil
import sys
from pathlib import Path

import pytest

from enim import loading
from simulator.chain import calls, compiling, interpreter
from simulator.errors import LabError

SOURCES = {"loading": b"", "one": b"VALUE = 6 * 7\n"}


@pytest.fixture
def pretended(tmp_path: Path):
    def make(script: str) -> str:
        path = tmp_path / "python"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        return str(path)

    return make


def test_each_python_is_found_and_compiles_for_itself(each_python):
    assert interpreter.find(each_python) == each_python
    made = interpreter.compiled(each_python, SOURCES)
    assert made.tag == f"cpython-3{made.version & 0xFF}"
    assert b"VALUE" in made.file


def test_this_python_compiles_as_it_does_when_it_is_asked(pretended):
    wrapped = pretended(f'exec {sys.executable} "$@"')
    made = interpreter.compiled(wrapped, SOURCES)
    assert made[:2] == compiling.compiled(SOURCES, loading.HEAD_BYTES, {})[:2]
    (offset, length), pieces = marshal.loads(made.file[loading.HEAD_BYTES :])
    modules = marshal.loads(made.file[offset : offset + length])
    assert (list(modules), list(pieces)) == (list(SOURCES), list(calls.CALLS))


def test_name_is_looked_up_in_path(monkeypatch):
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent))
    name = Path(sys.executable).name
    assert interpreter.find(name) == shutil.which(name)


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("echo cpython 3 8 20", "is Python 3.8.20, and the plugins need 3.9 or newer"),
        ("echo pypy 3 10 14", "is pypy, and the plugins need CPython"),
        ("echo Unknown option: -I >&2; exit 2", "does not run as Python 3 does: Unknown option: -I"),
        ("echo hello", "does not run as Python 3 does: it says something else"),
        ("kill -9 $$", "does not run as Python 3 does: exit code -9"),
    ],
)
def test_what_the_plugins_cannot_run_with_is_refused(pretended, script, said):
    with pytest.raises(LabError) as caught:
        interpreter.find(pretended(script))
    assert said in caught.value.cause
    assert caught.value.cure.endswith("with --python; a node without Python is not supported")


def test_what_is_not_there_or_no_program_is_refused(tmp_path):
    (tmp_path / "text").write_text("hello")
    for path, said in ((tmp_path / "none", "there is no"), (tmp_path, "there is no"), (tmp_path / "text", "denied")):
        with pytest.raises(LabError, match=said):
            interpreter.find(str(path))
    with pytest.raises(LabError, match="there is no interpreter no-such-python"):
        interpreter.find("no-such-python")


def test_interpreter_that_cannot_compile_is_named(pretended):
    with pytest.raises(LabError, match="does not compile the plugins: no space"):
        interpreter.compiled(pretended("echo no space >&2; exit 1"), SOURCES)
