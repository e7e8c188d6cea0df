"""Which runs `-k` chooses."""

import pytest

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
        ("'a", "No closing quotation"),
    ],
)
def test_what_is_no_expression_is_an_error_that_quotes_it(expression: str, said: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        select.parse(expression)
    assert str(caught.value) == f"-k: {expression!r}: {said}"
