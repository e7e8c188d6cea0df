"""EDGE: scenario files → checked scenarios. Everything wrong with a file is found before anything runs.

The only file that knows YAML. It works on YAML's node tree, not on Python objects: every value keeps its line and
column, a key given twice is seen, and an alias cannot blow up (an anchor bomb is refused by counting).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pydantic
import yaml

from simulator.errors import ScenarioError
from simulator.scenario import references, schema
from simulator.scenario.document import Document, Mark, Place, kind

FILE_BYTES_MAX = 1 << 20
VALUES_MAX = 20_000
DEPTH_MAX = 50

# YAML 1.1 would read `no`, `on` or `12:30` as something else than what stands there; here YAML 1.2's core schema holds.
_SCALARS: tuple[tuple[re.Pattern[str], Any], ...] = (
    (re.compile(r"~|null|"), lambda _: None),
    (re.compile(r"true|false"), lambda text: text == "true"),
    (re.compile(r"[-+]?[0-9]{1,30}"), int),
    (re.compile(r"[-+]?[0-9]{1,30}\.[0-9]{1,30}"), float),
)

# How PyYAML begins to say what is wrong → what the author can do about it.
_KINDER = {
    "found character '\\t'": "a tab cannot indent or separate; use spaces",
    "expected <block end>": "the indentation of this line does not fit the lines above it",
    "mapping values are not allowed here": "a `:` cannot stand here; put a text that has `: ` in quotes",
    "could not find expected ':'": "a `:` is missing after this key",
    "expected ',' or ']'": "a `]` or a `,` is missing",
    "expected ',' or '}'": "a `}` or a `,` is missing",
    "expected the node content": "a value is expected here",
    "found unexpected end of stream": "this quote is never closed",
    "but found another document": "a second document begins here; a file holds one scenario",
}


@dataclass(frozen=True, slots=True)
class LoadedScenario:
    """A checked scenario with the places of its steps.

    Args:
        file: the path as it was given.
        scenario: the model.
        step_lines: 1-based line of each step.
        finally_lines: the same for the steps of ``finally``.
    """

    file: str
    scenario: schema.Scenario
    step_lines: tuple[int, ...]
    finally_lines: tuple[int, ...] = ()


def find(paths: tuple[Path, ...]) -> list[Path]:
    """The scenario files among paths: files as they are, folders searched for ``*.yaml`` and ``*.yml``, in order of
    name.

    Raises:
        ScenarioError: a path does not exist, or a folder holds no scenario.
    """
    found: list[Path] = []
    for path in paths:
        if not path.exists():
            raise ScenarioError(str(path), 0, 0, "no such file or folder")
        inside = (
            sorted(file for file in path.rglob("*") if file.suffix in (".yaml", ".yml")) if path.is_dir() else [path]
        )
        if not inside:
            raise ScenarioError(str(path), 0, 0, "no *.yaml file in this folder")
        found += [file for file in inside if file not in found]
    return found


def load(path: Path) -> LoadedScenario:
    """Read and check one file.

    Raises:
        ScenarioError: file, line, column, the offending text and a suggestion.
    """
    try:
        with path.open("rb") as file:
            data = file.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise ScenarioError(str(path), 0, 0, f"cannot be read: {error.strerror}") from error
    if len(data) > FILE_BYTES_MAX:
        raise ScenarioError(str(path), 0, 0, f"a scenario file has at most {FILE_BYTES_MAX} bytes")
    return parse(str(path), data)


def parse(file: str, data: bytes) -> LoadedScenario:
    """Check the text of a scenario file; see ``load``."""
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ScenarioError(file, line, 0, f"not UTF-8: byte 0x{data[error.start]:02x}") from error
    root = _compose(file, text)
    if root is None:
        raise ScenarioError(file, 1, 1, "the file is empty; a scenario needs name, summary, chain and steps")
    document = Document(file)
    value = _Reader(document).value(root, ())
    if not isinstance(value, dict):
        raise document.error((), f"a scenario is a mapping, this is {kind(value)}")
    try:
        scenario = schema.Scenario.model_validate(value)
    except pydantic.ValidationError as error:
        raise document.invalid(error) from error
    references.check(document, scenario, value)
    lines = tuple(document.line(("steps", index)) for index in range(len(scenario.steps)))
    finally_lines = tuple(document.line(("finally", index)) for index in range(len(scenario.finally_)))
    return LoadedScenario(file, scenario, lines, finally_lines)


def _compose(file: str, text: str) -> yaml.Node | None:
    loader = None
    try:
        loader = _Loader(text)
        root: yaml.Node | None = loader.get_single_node()
    except yaml.reader.ReaderError as error:
        line, column = text.count("\n", 0, error.position) + 1, error.position - text.rfind("\n", 0, error.position)
        raise ScenarioError(
            file, line, column, f"not YAML: no text has the character U+{error.character:04X}"
        ) from error
    except _Excess as error:
        raise ScenarioError(file, *_place(error.problem_mark), str(error.problem)) from error
    except yaml.MarkedYAMLError as error:
        is_at_end = error.problem_mark is not None and error.problem_mark.index >= len(text)
        mark = (error.context_mark if is_at_end else error.problem_mark) or error.problem_mark
        problem = error.problem or error.context or "unreadable"
        kinder = next((ours for theirs, ours in _KINDER.items() if problem.startswith(theirs)), problem)
        raise ScenarioError(file, *_place(mark), f"not YAML: {kinder}") from error
    except (ValueError, OverflowError) as error:  # "\U00110000"
        mark = loader.get_mark() if loader is not None else None
        raise ScenarioError(file, *_place(mark), "not YAML: an escape sequence that is no character") from error
    return root


def _place(mark: yaml.Mark | None) -> Mark:
    return (0, 0) if mark is None else (mark.line + 1, mark.column + 1)


class _Loader(yaml.SafeLoader):
    """PyYAML's composer with a bound on depth and size; a node has a tag only if the file writes one."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = 0
        self._count = 0

    def resolve(self, _kind: object, _value: object, _implicit: object) -> str:
        return ""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        self._depth += 1
        self._count += 1
        if self._depth > DEPTH_MAX + 1 or self._count > 2 * VALUES_MAX:
            what = f"nested deeper than {DEPTH_MAX} levels" if self._depth > DEPTH_MAX else _TOO_MANY
            raise _Excess(problem=what, problem_mark=self.peek_event().start_mark)  # type: ignore[no-untyped-call]
        node: yaml.Node | None = super().compose_node(parent, index)
        self._depth -= 1
        return node


class _Excess(yaml.MarkedYAMLError):
    """More than a scenario may have."""


_TOO_MANY = f"more than {VALUES_MAX} values (do aliases multiply them?)"


class _Reader:
    """Nodes → Python values; notes in the document where everything stands."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self._count = 0

    def value(self, node: yaml.Node, place: Place) -> Any:
        """The value of a node and of all below it, an alias as often as it stands there."""
        self._document.marks[place] = _place(node.start_mark)
        self._count += 1
        if self._count > VALUES_MAX:
            raise self._document.error(place, _TOO_MANY)
        if len(place) > DEPTH_MAX:
            raise self._document.error(place, f"nested deeper than {DEPTH_MAX} levels")
        if node.tag:
            tag = node.tag.replace("tag:yaml.org,2002:", "!!")
            raise self._document.error(place, f"tags such as {tag} are not part of the scenario language")
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, place)
        if isinstance(node, yaml.SequenceNode):
            return tuple(self.value(child, (*place, index)) for index, child in enumerate(node.value))
        assert isinstance(node, yaml.ScalarNode)
        text = self._document.texts[place] = self._text(node)
        if node.style in ("'", '"', "|", ">"):
            return text
        return next((convert(text) for pattern, convert in _SCALARS if pattern.fullmatch(text)), text)

    def _mapping(self, node: yaml.MappingNode, place: Place) -> dict[str, Any]:
        mapping: dict[str, Any] = {}
        for key_node, value_node in node.value:
            here = _place(key_node.start_mark)
            if not isinstance(key_node, yaml.ScalarNode) or key_node.tag:
                raise ScenarioError(self._document.file, *here, "a key must be a plain text")
            key = self._text(key_node)
            if key in mapping:
                first_line = self._document.keys[*place, key][0]
                message = f"key `{key}` is given twice (first in line {first_line})"
                raise ScenarioError(self._document.file, *here, message)
            self._document.keys[*place, key] = here
            mapping[key] = self.value(value_node, (*place, key))
        return mapping

    def _text(self, node: yaml.ScalarNode) -> str:
        text = str(node.value)
        try:
            text.encode()
        except UnicodeEncodeError as error:
            message = "half of a surrogate pair is no character; write the character itself"
            raise ScenarioError(self._document.file, *_place(node.start_mark), message) from error
        return text
