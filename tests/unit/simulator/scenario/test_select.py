"""Which runs `-k` chooses."""

import contextlib

import hypothesis
import pytest
from hypothesis import strategies

from simulator.errors import ScenarioError
from simulator.scenario import select

RUN = "add-without-del exclusive-device"


@pytest.mark.parametrize(
    ("expression", "matches"),
    [
        ("", True),
        ("WITHOUT", True),
        ("host", False),
        ("not host", True),
        ("not not without", True),
        ("without and host", False),
        ("without and exclusive", True),
        ("host or exclusive", True),
        ("host and nothing or exclusive", True),
        ("host and (nothing or exclusive)", False),
        ("'del exclusive'", True),
        ("add-without-del", True),
        ("((without) and (not (host)))", True),
        ("not(host)and(del)", True),
        ("'and'", False),
        ("\"not\" or 'WITHOUT'", True),
        ("'(' or del", True),
        ("''", True),
    ],
)
def test_expression_matches_texts_in_the_name(expression: str, matches: bool) -> None:
    assert select.parse(expression)(RUN) == matches


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        ("and", "a text is missing"),
        ("a or", "a text is missing"),
        ("not", "a text is missing"),
        ("(a", "a `)` is missing"),
        ("a)", "`)` is not expected here"),
        ("a b", "`b` is not expected here"),
        ("'a", "a closing ' is missing"),
        ('a and "b', 'a closing " is missing'),
    ],
)
def test_what_is_no_expression_is_an_error_that_quotes_it(expression: str, said: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        select.parse(expression)
    assert str(caught.value) == f"-k: {expression!r}: {said}"


@pytest.mark.parametrize("word", ["not ", "(", "a or "])
def test_expression_of_very_many_words_is_refused(word: str) -> None:
    with pytest.raises(ScenarioError, match=r"^-k: more than 100 words$"):
        select.parse(word * 5_000)


@pytest.mark.parametrize("expression", ["without) and (host", "()", "a and", "or a", "not)"])
def test_parentheses_and_operators_need_something_between_them(expression: str) -> None:
    with pytest.raises(ScenarioError):
        select.parse(expression)


@hypothesis.settings(max_examples=200, derandomize=True, deadline=None)
@hypothesis.given(
    strategies.lists(strategies.sampled_from(["and", "or", "not", "(", ")", "a", "'", '"', " ", "\\", "#", ";"]))
)
def test_any_text_is_an_expression_or_a_scenario_error(words: list[str]) -> None:
    with contextlib.suppress(ScenarioError):
        assert select.parse(" ".join(words))(RUN) in (True, False)
