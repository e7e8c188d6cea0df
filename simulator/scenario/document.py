"""PURE: the places of a scenario file's values, and what is wrong with them, in words that its author knows.

A place is the path to a value: keys and indices from the top. What the model finds wrong comes in the model's words,
with types and patterns; here it becomes a sentence about the file.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import pydantic

from simulator.errors import ScenarioError
from simulator.scenario import schema

Place: TypeAlias = tuple[str | int, ...]
Mark: TypeAlias = tuple[int, int]  # line and column, 1-based

KEY = "[key]"  # ends the location of a mapping's key, where what is wrong is not the value

# What the model calls a problem → the sentence, with the problem's own values in it.
_SENTENCES: Mapping[str, str] = {
    "string_type": "should be a text; put it in quotes",
    "int_type": "should be a whole number",
    "bool_type": "should be true or false",
    "tuple_type": "should be a list",
    "dict_type": "should be a mapping",
    "model_type": "should be a mapping",
    "too_short": "should not be empty",
    "string_too_short": "should not be empty",
    "string_too_long": "should have at most {max_length} characters",
    "greater_than_equal": "should be {ge} or more",
    "less_than_equal": "should be {le} or less",
}

# What the model writes of the literals that YAML writes otherwise.
_LITERALS = {"True": "true", "''": '""'}


class Document:
    """One file's values: where each stands, and its text.

    Args:
        file: the path as it was given.
    """

    def __init__(self, file: str) -> None:
        self.file = file
        self.marks: dict[Place, Mark] = {}
        self.keys: dict[Place, Mark] = {}
        self.texts: dict[Place, str] = {}

    def line(self, place: Place) -> int:
        """1-based line of a value."""
        return self.marks[place][0]

    def error(self, place: Place, message: str) -> ScenarioError:
        """An error at a value, or at the nearest one around it that the file has."""
        while place and place not in self.marks:
            place = place[:-1]
        return ScenarioError(self.file, *self.marks[place], message)

    def key_error(self, place: Place, message: str) -> ScenarioError:
        """An error at the key of a value."""
        return (
            ScenarioError(self.file, *self.keys[place], message) if place in self.keys else self.error(place, message)
        )

    def invalid(self, error: pydantic.ValidationError) -> ScenarioError:
        """The first thing in the file that the model refuses."""
        problems = self._telling(error.errors(include_url=False))
        first = min(problems, key=lambda problem: self._order(problem["loc"]))
        place, last = self._place(first["loc"]), str(first["loc"][-1]) if first["loc"] else ""
        match first["type"]:
            case "extra_forbidden":
                hint = did_you_mean(str(place[-1]), list(_known_keys(place[:-1])))
                return self.key_error(place, f"unknown key `{place[-1]}`{_in(place[:-1])}{hint}")
            case "missing":
                return self.error(place, f"`{last}` is missing{_in(place)}")
            case "empty":
                return self.key_error((*place, first["ctx"]["key"]), f"{first['msg']}{_in(place)}")
        if last == KEY:
            return self.key_error(place, _quoted(str(place[-1]), [first], place[:-1]))
        same = [one for one in problems if one["loc"][-1:] != (KEY,) and self._place(one["loc"]) == place]
        return self.error(place, _quoted(self.texts.get(place, ""), same, place))

    def _telling(self, problems: Sequence[Any]) -> list[Any]:
        """The problems without those that only follow from another one: a key that is missing where an unknown one
        stands, a union's literal where a mapping stands, and a list that is empty for want of a right entry.
        """
        lists = {one["loc"][:length] for one in problems for length in range(1, len(one["loc"]))}
        mistyped = [one["loc"][:-1] for one in problems if one["type"] == "extra_forbidden"]
        inner = {self._place(one["loc"][:-1]) for one in problems if one["type"] in ("extra_forbidden", "missing")}
        return [
            one
            for one in problems
            if not (one["type"] == "missing" and one["loc"][:-1] in mistyped)
            and not (one["type"] == "literal_error" and self._place(one["loc"]) in inner)
            and not (one["type"] == "too_short" and one["loc"] in lists)
        ]

    def _place(self, location: Sequence[int | str]) -> Place:
        """A location of the model's without the parts that name a branch of a union, a function or a missing key."""
        place: Place = ()
        for part in location:
            if (*place, part) in self.marks:
                place = (*place, part)
        return place

    def _order(self, location: Sequence[int | str]) -> Mark:
        place = self._place(location)
        return self.keys.get(place) or self.marks.get(place) or (0, 0)


def did_you_mean(text: str, known: Sequence[str]) -> str:
    """``; did you mean …``, or what there is instead."""
    close = difflib.get_close_matches(text, known, n=1)
    if close:
        return f"; did you mean `{close[0]}`?"
    return f"; known are {', '.join(known)}" if known else ""


def kind(value: object) -> str:
    """What a value is, for people."""
    kinds: dict[type, str] = {dict: "a mapping", tuple: "a list", str: "a text", type(None): "nothing"}
    return kinds.get(type(value), "a single value")


def _quoted(text: str, problems: Sequence[Any], place: Place) -> str:
    """What is wrong with one value, which is quoted if it is a text; a union has a problem for each branch."""
    first, *others = dict.fromkeys(map(_sentence, problems))
    said = " or ".join([first, *(other.removeprefix("should be ") for other in others)])
    where = f" ({_in(place).strip()})" if place else ""
    expected = re.findall(r"'([^']+)'", str(problems[0].get("ctx", {}).get("expected", "")))
    close = difflib.get_close_matches(text, expected, n=1)
    hint = f"; did you mean `{close[0]}`?" if close else ""
    return f"`{text}`: {said}{where}{hint}" if text else f"{said}{where}{hint}"


def _sentence(problem: Any) -> str:
    kind_of_problem, context, value = problem["type"], problem.get("ctx", {}), problem["input"]
    if kind_of_problem == "string_pattern_mismatch":
        return f"should be {schema.MEANINGS[context['pattern']]}"
    if kind_of_problem == "literal_error":
        expected = str(context["expected"])
        sentence = f"should be {_LITERALS.get(expected) or expected.replace(chr(39), '`')}"
    elif kind_of_problem in _SENTENCES:
        sentence = _SENTENCES[kind_of_problem].format(**context)
    else:
        return str(problem["msg"]).removeprefix("Value error, ").removeprefix("Input ")
    is_of_another_kind = kind_of_problem.endswith(("_type", "literal_error"))
    return f"{sentence}, this is {kind(value)}" if is_of_another_kind and _is_not_shown(value) else sentence


def _is_not_shown(value: object) -> bool:
    """Whether a value has no text of its own that could be quoted."""
    return value is None or isinstance(value, (dict, tuple))


def _in(place: Place) -> str:
    texts = [part for part in place if isinstance(part, str)]
    return f" in `{'.'.join(texts)}`" if texts else ""


def _known_keys(place: Place) -> Iterator[str]:
    """The keys that the model knows at a place."""
    model: type[pydantic.BaseModel] = schema.Scenario
    for part in place:
        fields = {field.alias or name: field for name, field in model.model_fields.items()}
        if part in fields:  # else an index, or a key that is the author's own
            model = _model_of(fields[str(part)].annotation) or model
    yield from (field.alias or name for name, field in model.model_fields.items())


def _model_of(annotation: Any) -> type[pydantic.BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, pydantic.BaseModel):
        return annotation
    for argument in getattr(annotation, "__args__", ()):
        found = _model_of(argument)
        if found is not None:
            return found
    return None
