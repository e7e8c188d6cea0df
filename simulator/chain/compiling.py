"""PURE: the plugins' package, compiled into one file by the interpreter that runs this one.

The file holds the code of ``enim.loading``, the table of all modules (name → offset, length), and the modules; each
marshalled, the first two filled up to a fixed length.

Rules: standard library only, and no syntax that the plugins' oldest Python lacks: ``interpreter`` runs this file by
path, with another interpreter than this one.
"""

from __future__ import annotations

import ast
import json
import marshal
import sys
from typing import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import CodeType

STARTS = b"\nstart(file, home + '/enim', first)\n"  # what a launcher has set, given to ``loading.start``


class Compiled(NamedTuple):
    """A compiled package.

    Attributes:
        tag: of the interpreter, such as ``cpython-311``.
        version: of those that can load it: ``sys.hexversion >> 16``.
        file: the content.
    """

    tag: str
    version: int
    file: bytes


def compiled(sources: Mapping[str, bytes], head_bytes: int) -> Compiled:
    """Compile a package.

    Args:
        sources: name of a module → its source; ``loading`` is one of them.
        head_bytes: the length of either part before the modules.

    Raises:
        ValueError: one of these parts is longer.
    """
    starting = marshal.dumps(_code("loading", sources["loading"] + STARTS))
    body = b""
    places: dict[str, tuple[int, int]] = {}
    for name, source in sources.items():
        marshalled = marshal.dumps(_code(name, source))
        places[name] = (2 * head_bytes + len(body), len(marshalled))
        body += marshalled
    heads = starting, marshal.dumps(places)
    if max(map(len, heads)) > head_bytes:
        raise ValueError(f"a part of {max(map(len, heads))} bytes does not fit into {head_bytes}")
    file = b"".join(head.ljust(head_bytes, b"\0") for head in heads) + body
    return Compiled(str(sys.implementation.cache_tag), sys.hexversion >> 16, file)


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


def _code(name: str, source: bytes) -> CodeType:
    path = f"enim/{name}.py"
    code: CodeType = compile(_Bare().visit(ast.parse(source, path)), path, "exec", dont_inherit=True, optimize=0)
    return code


def main() -> None:
    """Compile what stdin holds: ``{"head_bytes", "sources"}``, and print ``{"tag", "version", "file"}``, as JSON.

    Contents are in hexadecimal.
    """
    asked = json.load(sys.stdin)
    sources = {name: bytes.fromhex(content) for name, content in asked["sources"].items()}
    made = compiled(sources, asked["head_bytes"])
    json.dump({"tag": made.tag, "version": made.version, "file": made.file.hex()}, sys.stdout)


if __name__ == "__main__":
    main()
