"""EDGE: scenario files → checked scenarios. Everything wrong with a file is found before anything runs.

The only file that knows YAML. It works on YAML's node tree, not on Python objects: every value keeps its line and
column, a key given twice is seen, and an alias cannot blow up (an anchor bomb is refused by counting).
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import pydantic
import yaml

from simulator.errors import ScenarioError
from simulator.scenario import schema

FILE_BYTES_MAX = 1 << 20
VALUES_MAX = 20_000

REFERENCE = re.compile(r"\$\{([^}]*)\}")
OUTPUTS = ("eni", "mac", "netns", "ipv4", "ipv6")

Place: TypeAlias = tuple[str | int, ...]

# YAML 1.1 would read `no`, `on` or `12:30` as something else than what stands there; here YAML 1.2's core schema holds.
_SCALARS: tuple[tuple[re.Pattern[str], Any], ...] = (
    (re.compile(r"~|null|"), lambda _: None),
    (re.compile(r"true|false"), lambda text: text == "true"),
    (re.compile(r"[-+]?\d+"), int),
    (re.compile(r"[-+]?\d+\.\d+"), float),
)

_WORDS = {
    re.compile(r"valid dictionary( or instance of \w+)?"): "mapping",
    re.compile(r"valid tuple"): "list",
    re.compile(r"valid string"): "text (put it in quotes)",
    re.compile(r"^Input should be"): "should be",
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
        root = yaml.compose(data.decode(), Loader=yaml.SafeLoader)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ScenarioError(file, line, 0, f"not UTF-8: byte 0x{data[error.start]:02x}") from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (0, 0)
        raise ScenarioError(file, line, column, f"not YAML: {error.problem or error.context}") from error
    except (yaml.YAMLError, RecursionError) as error:
        raise ScenarioError(file, 0, 0, f"not YAML: {str(error)[:256]}") from error
    if root is None:
        raise ScenarioError(file, 1, 1, "the file is empty; a scenario needs name, summary, chain and steps")
    document = _Document(file)
    value = document.value(root, ())
    if not isinstance(value, dict):
        raise document.error((), f"a scenario is a mapping, this is {_kind(value)}")
    try:
        scenario = schema.Scenario.model_validate(value)
    except pydantic.ValidationError as error:
        raise document.invalid(error) from error
    document.check_references(scenario, value)
    lines = tuple(document.line(("steps", index)) for index in range(len(scenario.steps)))
    finally_lines = tuple(document.line(("finally", index)) for index in range(len(scenario.finally_)))
    return LoadedScenario(file, scenario, lines, finally_lines)


class _Document:
    """One file's values with their marks."""

    def __init__(self, file: str) -> None:
        self._file = file
        self._marks: dict[Place, yaml.Mark] = {}
        self._keys: dict[Place, yaml.Mark] = {}
        self._count = 0
        self._texts: dict[Place, str] = {}

    def value(self, node: yaml.Node, place: Place) -> Any:
        """The Python value of a node; remembers where everything stands."""
        self._marks[place] = node.start_mark
        self._count += 1
        if self._count > VALUES_MAX:
            raise self.error(place, f"more than {VALUES_MAX} values (do aliases multiply them?)")
        if len(place) > 50:
            raise self.error(place, "nested deeper than 50 levels")
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, place)
        if isinstance(node, yaml.SequenceNode):
            return tuple(self.value(child, (*place, index)) for index, child in enumerate(node.value))
        self._texts[place] = str(node.value)
        return self._scalar(node, place)

    def _mapping(self, node: yaml.MappingNode, place: Place) -> dict[str, Any]:
        mapping: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise self._error_at(key_node.start_mark, "a key must be a plain text")
            key = str(key_node.value)
            if key in mapping:
                first = self._keys[*place, key].line + 1
                raise self._error_at(key_node.start_mark, f"key `{key}` is given twice (first in line {first})")
            self._keys[*place, key] = key_node.start_mark
            mapping[key] = self.value(value_node, (*place, key))
        return mapping

    def _scalar(self, node: yaml.Node, place: Place) -> Any:
        if node.tag.startswith("!") or "python" in node.tag:
            raise self.error(place, f"tags such as {node.tag} are not part of the scenario language")
        text = str(node.value)
        if getattr(node, "style", None) in ("'", '"', "|", ">"):
            return text
        for pattern, convert in _SCALARS:
            if pattern.fullmatch(text) and len(text) <= 30:
                return convert(text)
        return text

    def line(self, place: Place) -> int:
        """1-based line of a place."""
        return int(self._marks[place].line) + 1

    def error(self, place: Place, message: str) -> ScenarioError:
        """An error at a place, or at the nearest place around it that the file has."""
        while place and place not in self._marks:
            place = place[:-1]
        return self._error_at(self._marks[place], message)

    def _error_at(self, mark: yaml.Mark, message: str) -> ScenarioError:
        return ScenarioError(self._file, mark.line + 1, mark.column + 1, message)

    def invalid(self, error: pydantic.ValidationError) -> ScenarioError:
        """The first thing that is wrong with the file, in its words."""
        problems = error.errors(include_url=False)
        problem = min(problems, key=lambda problem: self._order(self._place(problem["loc"])))
        place = self._place(problem["loc"])
        if problem["type"] == "extra_forbidden":
            return self._unknown_key(place)
        message = problem["msg"].removeprefix("Value error, ")
        for theirs, ours in _WORDS.items():
            message = theirs.sub(ours, message)
        if problem["type"] == "missing":
            missing = str(problem["loc"][-1])
            return self.error(place[:-1], f"`{missing}` is missing{self._in(place[:-1])}")
        text = str(place[-2]) if place[-1:] == ("[key]",) else self._texts.get(place)
        shown = f"`{text}`: " if text is not None and repr(text) not in message else ""
        message = f"{shown}{message}{self._in(place)}{_suggestion(text, problem)}"
        if place[-1:] == ("[key]",) and place[:-1] in self._keys:
            return self._error_at(self._keys[place[:-1]], message)
        return self.error(place, message)

    def _unknown_key(self, place: Place) -> ScenarioError:
        key = str(place[-1])
        known = list(_known_keys(place[:-1]))
        close = difflib.get_close_matches(key, known, n=1)
        hint = f"; did you mean `{close[0]}`?" if close else f"; known are {', '.join(known)}"
        return self._error_at(
            self._keys.get(place, self._marks[()]), f"unknown key `{key}`{self._in(place[:-1])}{hint}"
        )

    def _place(self, location: tuple[int | str, ...]) -> Place:
        """A pydantic location without the parts that name a branch of a union or a function."""
        place: Place = ()
        for part in location:
            if (*place, part) in self._marks or part == location[-1]:
                place = (*place, part)
        return place

    def _order(self, place: Place) -> tuple[int, int]:
        mark = self._keys.get(place) or self._marks.get(place) or self._marks[()]
        return mark.line, mark.column

    def _in(self, place: Place) -> str:
        texts = [part for part in place if isinstance(part, str) and part != "[key]"]
        return f" in `{'.'.join(texts)}`" if texts else ""

    def check_references(self, scenario: schema.Scenario, value: Mapping[str, Any]) -> None:
        """Every container that a step names, and every ``${container.output}``, was made by an earlier add."""
        made: list[str] = []
        steps = [(("steps", index), step) for index, step in enumerate(scenario.steps)]
        steps += [(("finally", index), step) for index, step in enumerate(scenario.finally_)]
        for place, step in steps:
            for where, container in _containers(step):
                if container not in made:
                    raise self.error((*place, *where), _no_such(container, made))
            new = step.add.container if step.add is not None else _out_of_the_blue(step)
            if new is not None and new not in made:
                made.append(new)
            for where, text in _texts(value[str(place[0])][place[1]], place):
                for reference in REFERENCE.findall(text):
                    self._check_reference(where, reference, made)

    def _check_reference(self, place: Place, reference: str, made: list[str]) -> None:
        container, _, output = reference.partition(".")
        if container not in made:
            raise self.error(place, f"`${{{reference}}}`: {_no_such(container, made)}")
        if output not in OUTPUTS:
            close = difflib.get_close_matches(output, OUTPUTS, n=1)
            hint = f"did you mean `{close[0]}`?" if close else f"known are {', '.join(OUTPUTS)}"
            raise self.error(place, f"`${{{reference}}}`: a container has no `{output}`; {hint}")


def _containers(step: schema.Step) -> Iterator[tuple[Place, str]]:
    if step.delete is not None and step.delete.pod is None:
        yield ("del", "container"), step.delete.container
    if step.netns_delete is not None:
        yield ("netns.delete",), step.netns_delete
    if step.echo is not None:
        yield ("echo", "container"), step.echo.container
    for key, expected in (("expect", step.expect), ("eventually", step.eventually)):
        for pod, container in ((expected.owner if expected else None) or {}).items():
            if container is not None:
                yield (key, "owner", pod), container
        for eni, link in ((expected.links if expected else None) or {}).items():
            if link.in_ != "home":
                yield (key, "links", eni, "in"), link.in_


def _out_of_the_blue(step: schema.Step) -> str | None:
    return None if step.delete is None or step.delete.pod is None else step.delete.container


def _texts(value: Any, place: Place) -> Iterator[tuple[Place, str]]:
    if isinstance(value, str):
        yield place, value
    elif isinstance(value, dict):
        for key, child in value.items():
            yield from _texts(child, (*place, key))
    elif isinstance(value, tuple):
        for index, child in enumerate(value):
            yield from _texts(child, (*place, index))


def _no_such(container: str, made: list[str]) -> str:
    close = difflib.get_close_matches(container, made, n=1)
    hint = f"; did you mean `{close[0]}`?" if close else f"; made so far: {', '.join(made)}" if made else ""
    return f"no earlier step made a container `{container}`{hint}"


def _known_keys(place: Place) -> Iterator[str]:
    """The keys that the model knows at a place."""
    model: Any = schema.Scenario
    for part in place:
        if isinstance(part, int):
            continue
        field = next((field for name, field in model.model_fields.items() if part in (name, field.alias)), None)
        model = None if field is None else _model_of(field.annotation)
        if model is None:
            return
    yield from (field.alias or name for name, field in model.model_fields.items())


def _model_of(annotation: Any) -> type[pydantic.BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, pydantic.BaseModel):
        return annotation
    for argument in getattr(annotation, "__args__", ()):
        found = _model_of(argument)
        if found is not None:
            return found
    return None


def _suggestion(text: str | None, problem: Any) -> str:
    expected = problem.get("ctx", {}).get("expected")
    if text is None or not isinstance(expected, str):
        return ""
    close = difflib.get_close_matches(text, re.findall(r"'([^']*)'", expected), n=1)
    return f"; did you mean `{close[0]}`?" if close else ""


def _kind(value: object) -> str:
    return {dict: "a mapping", tuple: "a list", str: "a text", type(None): "empty"}.get(type(value), "a single value")
