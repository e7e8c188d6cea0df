"""PURE: which scenario runs ``-k`` chooses: texts joined by ``and``, ``or``, ``not`` and parentheses, as pytest's
``-k`` does.

A text may hold spaces only in quotes; it matches if it occurs in the run's name, in any case.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable
from typing import TypeAlias

from simulator.errors import ScenarioError

Matches: TypeAlias = Callable[[str], bool]


def parse(expression: str) -> Matches:
    """A predicate on the names of runs, ``"<scenario> <chain>"``. An empty expression matches all.

    Raises:
        ScenarioError: the expression is no expression.
    """
    lexer = shlex.shlex(expression, posix=True, punctuation_chars="()")
    lexer.whitespace_split = True
    lexer.commenters = ""
    try:
        words = list(lexer)
    except ValueError as error:
        raise ScenarioError("-k", 0, 0, f"{expression!r}: {error}") from error
    if not words:
        return lambda _: True
    reader = _Reader(expression, words)
    matches = reader.alternatives()
    reader.end()
    return matches


class _Reader:
    """Recursive descent over the words; ``or`` binds weakest, ``not`` strongest."""

    def __init__(self, expression: str, words: list[str]) -> None:
        self._expression = expression
        self._words = words

    def alternatives(self) -> Matches:
        parts = [self._conjunction()]
        while self._take("or"):
            parts.append(self._conjunction())
        return lambda name: any(part(name) for part in parts)

    def end(self) -> None:
        if self._words:
            raise self._error(f"`{self._words[0]}` is not expected here")

    def _conjunction(self) -> Matches:
        parts = [self._negation()]
        while self._take("and"):
            parts.append(self._negation())
        return lambda name: all(part(name) for part in parts)

    def _negation(self) -> Matches:
        if self._take("not"):
            inner = self._negation()
            return lambda name: not inner(name)
        if self._take("("):
            inner = self.alternatives()
            if not self._take(")"):
                raise self._error("a `)` is missing")
            return inner
        if not self._words or self._words[0] in ("and", "or", ")"):
            raise self._error("a text is missing")
        text = self._words.pop(0).lower()
        return lambda name: text in name.lower()

    def _take(self, word: str) -> bool:
        if self._words[:1] == [word]:
            self._words.pop(0)
            return True
        return False

    def _error(self, message: str) -> ScenarioError:
        return ScenarioError("-k", 0, 0, f"{self._expression!r}: {message}")
