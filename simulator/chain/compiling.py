"""PURE: the plugins' package, compiled into one file by the interpreter that runs this one.

The file holds the code of ``enim.loading`` and the table of all that follows, each filled up to a fixed length; then
the modules and their parts, and for some calls all that they run once more, in pieces. All of it is marshalled.

    table    (place of the modules, {call: [place of a piece]})
    place    (offset, length)
    modules  {module: (place of its core, place of its {name: place of the part that defines it})}
    piece    {"module" or "module.part": code}

A part is a function or a class that only other modules ask for, with what it alone mentions; the core is the rest.

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
    from collections.abc import Mapping, Sequence
    from types import CodeType
    from typing import Any, TypeAlias

    Definition: TypeAlias = ast.FunctionDef | ast.ClassDef

_FOR_TYPES = "TYPE_CHECKING"
STARTS = b"\nstart(file, first)\n"  # what a launcher has set, given to ``loading.start``


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


def compiled(sources: Mapping[str, bytes], head_bytes: int, calls: Mapping[str, Sequence[Sequence[str]]]) -> Compiled:
    """Compile a package.

    Args:
        sources: name of a module → its source; ``loading`` is one of them.
        head_bytes: the length of either part before the modules.
        calls: a call (see ``loading.load``) → what it runs, ``module`` or ``module.part``, in pieces; what there is
            not is left out.

    Raises:
        ValueError: one of these parts is longer.
    """
    starting = marshal.dumps(_code("loading", _bare("loading", sources["loading"] + STARTS)))
    body = b""

    def put(value: Any) -> tuple[int, int]:
        nonlocal body
        marshalled = marshal.dumps(value)
        body += marshalled
        return 2 * head_bytes + len(body) - len(marshalled), len(marshalled)

    codes: dict[str, CodeType] = {}
    places: dict[str, tuple[tuple[int, int], tuple[int, int]]] = {}
    trees = {name: _bare(name, source) for name, source in sources.items()}
    asked = _asked(trees)
    for name, tree in trees.items():
        core, parts = _split(tree, asked[name])
        codes[name] = _code(name, core)
        found: dict[str, tuple[int, int]] = {}
        for first, part in parts.items():
            code = codes[f"{name}.{first}"] = _code(name, part).replace(co_name=first)
            found |= dict.fromkeys([one.name for one in part], put(code))
        places[name] = put(codes[name]), put(found)
    modules = put(places)
    at_hand = {
        call: [put({one: codes[one] for one in piece if one in codes}) for piece in pieces]
        for call, pieces in calls.items()
    }
    heads = starting, marshal.dumps((modules, at_hand))
    if max(map(len, heads)) > head_bytes:
        raise ValueError(f"a part of {max(map(len, heads))} bytes does not fit into {head_bytes}")
    file = b"".join(head.ljust(head_bytes, b"\0") for head in heads) + body
    return Compiled(str(sys.implementation.cache_tag), sys.hexversion >> 16, file)


class _Bare(ast.NodeTransformer):
    """Takes away what a plugin never looks at, and what takes a tenth of its start: docstrings and all about types."""

    def visit_Module(self, node: ast.Module) -> ast.AST:
        return self._without_docstring(node)

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        return self._without_docstring(node)

    def visit_Assign(self, node: ast.Assign) -> ast.AST | None:
        is_for_types = isinstance(node.targets[0], ast.Name) and node.targets[0].id == _FOR_TYPES
        return None if is_for_types else self.generic_visit(node)

    def visit_If(self, node: ast.If) -> ast.AST | list[ast.stmt]:
        if isinstance(node.test, ast.Name) and node.test.id == _FOR_TYPES:
            return [self.visit(one) for one in node.orelse]
        return self.generic_visit(node)

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


def _bare(name: str, source: bytes) -> list[ast.stmt]:
    tree: ast.Module = _Bare().visit(ast.parse(source, _path(name)))
    return tree.body


def _code(name: str, statements: Sequence[ast.stmt]) -> CodeType:
    tree = ast.Module(list(statements), [])
    code: CodeType = compile(tree, _path(name), "exec", dont_inherit=True, optimize=0)
    return code


def _path(name: str) -> str:
    return f"enim/{name}.py"


def _asked(trees: Mapping[str, list[ast.stmt]]) -> dict[str, set[str]]:
    """What other modules ask of each: ``module.name``."""
    found: dict[str, set[str]] = {name: set() for name in trees}
    for name, tree in trees.items():
        for one in ast.walk(ast.Module(tree, [])):
            if isinstance(one, ast.Attribute) and isinstance(one.value, ast.Name) and one.value.id != name:
                found.get(one.value.id, set()).add(one.attr)
    return found


def _split(statements: list[ast.stmt], asked: set[str]) -> tuple[list[ast.stmt], dict[str, list[Definition]]]:
    """The core of a module, and its parts by name.

    A part has its name from a definition that others ask for, or nobody mentions. What only one part mentions belongs
    to it, what several do to the core.
    """
    definitions = {one.name: one for one in statements if isinstance(one, (ast.FunctionDef, ast.ClassDef))}
    mentions = {name: _mentioned(one) & definitions.keys() - {name} for name, one in definitions.items()}
    others = [one for one in statements if one not in definitions.values()]
    in_core = _reachable(set().union(*map(_mentioned, others)) & definitions.keys(), mentions)
    firsts = definitions.keys() - in_core - (set().union(*mentions.values()) - asked)
    owned = {name: _reachable({name}, mentions) for name in firsts}
    owners = {name: [first for first in firsts if name in owned[first]] for name in definitions}
    in_core |= _reachable({name for name, those in owners.items() if len(those) != 1}, mentions)
    firsts -= in_core
    parts = {first: [one for name, one in definitions.items() if name in owned[first] - in_core] for first in firsts}
    moved = {one for part in parts.values() for one in part}
    return [one for one in statements if one not in moved], {first: parts[first] for first in sorted(firsts)}


def _mentioned(node: ast.AST) -> set[str]:
    return {one.id for one in ast.walk(node) if isinstance(one, ast.Name)}


def _reachable(names: set[str], mentions: Mapping[str, set[str]]) -> set[str]:
    found: set[str] = set()
    waiting = set(names)
    while waiting:
        name = waiting.pop()
        found.add(name)
        waiting |= mentions[name] - found
    return found


def main() -> None:
    """Compile what stdin holds, ``{"head_bytes", "sources", "calls"}``, and print ``{"tag", "version", "file"}``.

    Both are JSON; contents are in hexadecimal.
    """
    asked = json.load(sys.stdin)
    sources = {name: bytes.fromhex(content) for name, content in asked["sources"].items()}
    made = compiled(sources, asked["head_bytes"], asked["calls"])
    json.dump({"tag": made.tag, "version": made.version, "file": made.file.hex()}, sys.stdout)


if __name__ == "__main__":
    main()
