"""PURE: the plugins' package compiled into one file, as the interpreter makes it that runs this file.

Rules: standard library only, and no syntax that the plugins' oldest Python lacks: ``interpreter`` runs this file by
path, with another interpreter than this one. What no call looks at, docstrings and annotations, is left out: reading
them took a tenth of a plugin's start.

Source: PEP 3147 (what an interpreter's compiled files are named by).
"""

from __future__ import annotations

import ast
import json
import marshal
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import CodeType

COMPILED = "plugins"
HEAD_BYTES = 4096  # as ``enim.loading`` has it
LOADING = "loading"
START = b"\nstart(file, home + '/enim', first)\n"  # what a launcher has made of it


def compiled(sources: Mapping[str, bytes]) -> dict[str, bytes]:
    """Compile a package, ``loading`` among it.

    Args:
        sources: path of each module, the package's folder included → its content.

    Returns:
        the compiled file's name, ``plugins.`` and the tag of this interpreter → its content, all of it marshalled: the
        code of ``loading``; the table of all modules, name → offset, length; at these places the modules' code.
    """
    codes = {path.rpartition("/")[2][: -len(".py")]: _code(path, content) for path, content in sources.items()}
    starting = next(
        _code(path, content + START) for path, content in sources.items() if path.endswith(f"/{LOADING}.py")
    )
    body = b""
    places: dict[str, tuple[int, int]] = {}
    for name, code in codes.items():
        marshalled = marshal.dumps(code)
        places[name] = (2 * HEAD_BYTES + len(body), len(marshalled))
        body += marshalled
    heads = [marshal.dumps(starting), marshal.dumps(places)]
    assert all(len(head) <= HEAD_BYTES for head in heads), "there is room for either"
    content = b"".join([head.ljust(HEAD_BYTES, b"\0") for head in heads]) + body
    return {f"{COMPILED}.{sys.implementation.cache_tag}": content}


class _Bare(ast.NodeTransformer):
    """Takes docstrings and annotations away."""

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


def main() -> None:
    """Compile what stdin holds, both ways as JSON: path → bytes in hexadecimal."""
    sources = {path: bytes.fromhex(content) for path, content in json.load(sys.stdin).items()}
    json.dump({path: content.hex() for path, content in compiled(sources).items()}, sys.stdout)


if __name__ == "__main__":
    main()
