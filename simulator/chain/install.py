"""EDGE: what an installation puts into a CNI bin directory: two launchers, and a package compiled into one file.

Rules: a launcher names its interpreter absolutely, because a runtime need not set PATH, and starts it without site,
user paths and PYTHON* variables (``-ISE``). The package lies in a folder named for its content: an upgrade replaces
nothing that a running plugin may still load, and becomes effective with the rename of a launcher. The
compiled file is for interpreters of this one's version; another one that has taken its place runs the sources beside
it. Nothing is checked against the sources at run time, and no plugin writes a file.

Source: execve(2) "Interpreter scripts" (one argument, 127 bytes before Linux 5.1).
"""

from __future__ import annotations

import ast
import hashlib
import marshal
import os
import shlex
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import CodeType

import enim
from enim import loading

PACKAGES = ".enim"
FLAGS = "-ISE"
SHEBANG_BYTES_MAX = 127
BARE = "bare-python"
COMPILED = "plugins"

_LAUNCHERS = {"enim": "__main__", "exclusive-device": "exclusive_main"}


def bundle(interpreter: str = sys.executable) -> dict[str, bytes]:
    """Make the files of an installation.

    Args:
        interpreter: path of a CPython of this one's version; a virtual environment's is replaced by the one behind it.

    Returns:
        path relative to the CNI bin directory → content; only the launchers have no ``/`` in their path.
    """
    python = os.path.realpath(interpreter)
    sources = {file.name: file.read_bytes() for file in sorted(Path(next(iter(enim.__path__))).glob("*.py"))}
    content = b"".join(f"enim/{name}".encode() + b"\0" + source for name, source in sources.items())
    home = f"{PACKAGES}/{sys.implementation.cache_tag}-{hashlib.sha256(content).hexdigest()[:12]}"
    files = {f"{home}/enim/{name}": source for name, source in sources.items()}
    files[f"{home}/{COMPILED}"] = _compiled(sources)
    for name, module in _LAUNCHERS.items():
        files |= _launcher(name, module, python, home)
    return files


def bare(interpreter: str = sys.executable) -> dict[str, bytes]:
    """A program beside the plugins that starts as they do, and does nothing: what any of them costs at the least."""
    return _start("", BARE, os.path.realpath(interpreter), PACKAGES)


def write(directory: Path, files: Mapping[str, bytes]) -> None:
    """Write the files of ``bundle``, each whole or not at all, launchers last and executable.

    Raises:
        OSError: the directory cannot be written.
    """
    for path in sorted(files, key=lambda path: ("/" not in path, path)):
        target = directory / path
        target.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=target.parent, prefix=".writing-")
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(files[path])
                os.fchmod(file.fileno(), 0o644 if "/" in path else 0o755)
            Path(temporary).replace(target)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise


def _compiled(sources: Mapping[str, bytes]) -> bytes:
    """All modules in one file: ``loading``, the table of the others (name → offset, length), the others; marshalled."""
    codes = {name.removesuffix(".py"): _code(f"enim/{name}", source) for name, source in sources.items()}
    starting = marshal.dumps(
        _code("enim/loading.py", sources["loading.py"] + b"\nstart(file, home + '/enim', first)\n")
    )
    body = b""
    places: dict[str, tuple[int, int]] = {}
    for name, code in codes.items():
        marshalled = marshal.dumps(code)
        places[name] = (2 * loading.HEAD_BYTES + len(body), len(marshalled))
        body += marshalled
    heads = starting, marshal.dumps(places)
    assert all(len(head) <= loading.HEAD_BYTES for head in heads), "there is room for either"
    return b"".join(head.ljust(loading.HEAD_BYTES, b"\0") for head in heads) + body


class _Bare(ast.NodeTransformer):
    """Takes away what a plugin never looks at, and what takes a tenth of its start: docstrings and annotations."""

    def visit_Module(self, node: ast.Module) -> ast.AST:
        return self._without_docstring(node)

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        return self._without_docstring(node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.returns = None
        return self._without_docstring(node)

    def visit_arg(self, node: ast.arg) -> ast.AST:
        node.annotation = None
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST | None:
        if node.value is None:
            return None
        return ast.copy_location(ast.Assign([node.target], node.value), node)

    def _without_docstring(self, node: ast.Module | ast.ClassDef | ast.FunctionDef) -> ast.AST:
        if ast.get_docstring(node, clean=False) is not None:
            node.body[:1] = [] if len(node.body) > 1 else [ast.copy_location(ast.Pass(), node.body[0])]
        return self.generic_visit(node)


def _code(path: str, source: bytes) -> CodeType:
    return compile(_Bare().visit(ast.parse(source, path)), path, "exec", dont_inherit=True, optimize=0)


def _launcher(name: str, module: str, python: str, home: str) -> dict[str, bytes]:
    """The files that start one plugin: a script, and one for sh before it where no shebang can name the interpreter."""
    script = (
        "import marshal, posix, sys\n"
        f'home, first = __file__.rpartition("/")[0] + {{folder!r}}, "{module}"\n'
        f"if sys.hexversion >> 16 == {sys.hexversion >> 16:#x}:\n"
        f'    file = posix.open(home + "/{COMPILED}", posix.O_RDONLY)\n'
        f"    exec(marshal.loads(posix.read(file, {loading.HEAD_BYTES})))\n"
        "sys.dont_write_bytecode = True\n"
        "sys.path.insert(0, home)\n"
        'getattr(__import__("enim." + first), first).main()\n'
    )
    return _start(script, name, python, home)


def _start(script: str, name: str, python: str, home: str) -> dict[str, bytes]:
    """A program of these lines; ``{folder}`` in them: from the script's own folder to ``home``."""
    shebang = f"#!{python} {FLAGS}\n"
    if len(os.fsencode(shebang)) <= SHEBANG_BYTES_MAX and not any(character.isspace() for character in python):
        return {name: os.fsencode(shebang) + script.format(folder=f"/{home}").encode()}
    inner = f"{home}/start-{name}.py"
    wrapper = f'#!/bin/sh\nexec {shlex.quote(python)} {FLAGS} "${{0%/*}}/{inner}" "$@"\n'
    return {name: os.fsencode(wrapper), inner: script.format(folder="").encode()}
