"""PURE: which scenario runs ``-k`` chooses: texts joined by ``and``, ``or``, ``not`` and parentheses, as pytest's
``-k`` does.

A text matches if it occurs in the run's name, in any case. Only in quotes may it hold spaces or parentheses, or be one
of those words.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TypeAlias

from simulator.errors import ScenarioError

WORDS_MAX = 100  # each may be a level of recursion

# A parenthesis, a text in quotes, a text without; or a quote that nothing closes.
_WORD = re.compile(r"""[()]|(?P<quote>["'])(?P<quoted>.*?)(?P=quote)|[^\s()"']+|(?P<rest>["'].*)""", re.DOTALL)

Matches: TypeAlias = Callable[[str], bool]


def parse(expression: str) -> Matches:
    """A predicate on the names of runs, ``"<scenario> <chain>"``. An empty expression matches all.

    Raises:
        ScenarioError: the expression is no expression.
    """
    words = []
    for word in _WORD.finditer(expression):
        if word["rest"]:
            raise ScenarioError("-k", 0, 0, f"{expression!r}: a closing {word['rest'][0]} is missing")
        words.append(word)
    if not words:
        return lambda _: True
    if len(words) > WORDS_MAX:
        raise ScenarioError("-k", 0, 0, f"more than {WORDS_MAX} words")
    reader = _Reader(expression, words)
    matches = reader.alternatives()
    reader.end()
    return matches


class _Reader:
    """Recursive descent over the words; ``or`` binds weakest, ``not`` strongest."""

    def __init__(self, expression: str, words: list[re.Match[str]]) -> None:
        self._expression = expression
        self._words = words

    def alternatives(self) -> Matches:
        parts = [self._conjunction()]
        while self._take("or"):
            parts.append(self._conjunction())
        return lambda name: any(part(name) for part in parts)

    def end(self) -> None:
        if self._words:
            raise self._error(f"`{self._words[0][0]}` is not expected here")

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
        if not self._words or self._words[0][0] in ("and", "or", ")"):
            raise self._error("a text is missing")
        word = self._words.pop(0)
        text = (word["quoted"] if word["quote"] else word[0]).lower()
        return lambda name: text in name.lower()

    def _take(self, word: str) -> bool:
        """Whether the next word is this operator; what stands in quotes is none."""
        if self._words and self._words[0][0] == word:
            self._words.pop(0)
            return True
        return False

    def _error(self, message: str) -> ScenarioError:
        return ScenarioError("-k", 0, 0, f"{self._expression!r}: {message}")
