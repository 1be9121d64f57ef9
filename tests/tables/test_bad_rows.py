"""One error names all bad rows: the first ten, and how many there are."""

from __future__ import annotations

import pytest

from llmclf.errors import InputError
from llmclf.tables.bad_rows import check_problems, named_rows, text_problem, value_problem


def refusal(problems: dict) -> str:
    with pytest.raises(InputError) as caught:
        check_problems(problems)
    return str(caught.value)


def test_good_rows_pass():
    """Without problems nothing is refused, and neither is a value that only looks odd."""
    check_problems({})
    for value in ("x", "NaN", "\0", "🙂", 0, [], {"a": None}):
        assert value_problem(value, "f", is_text=True) is None


def test_ten_rows_are_named_and_the_rest_is_counted():
    """However many rows are bad, the message stays short and says how many there are."""
    message = refusal({n: text_problem(None) for n in range(5, 5000, 2)})
    assert "X contains a missing value (row 5, row 7," in message
    assert "row 23, ...: 2498 rows: None); drop these rows" in message
    assert len(message) < 500


def test_each_kind_has_its_own_part_and_cure():
    """Missing, blank, broken and mistyped rows are named by kind in one error."""
    message = refusal(
        {
            0: value_problem(" ", "t", is_text=True),
            1: value_problem("a\ud800b", "t", is_text=True),
            3: text_problem(5),
            4: text_problem(b"x"),
            9: text_problem(float("nan")),
        }
    )
    assert "a blank text (row 0, field 't': ' '); drop these rows or fill them in" in message
    assert r"half of a surrogate pair, which is not a character (row 1, field 't': 'a\ud800b'); clean them" in message
    assert "row 3 of X is 5, a" in message
    assert "(no texts are row 3, row 4: 2 rows)" in message
    assert "missing value (row 9: NaN)" in message
    assert message.endswith("on_error='missing'")


def test_reasons_of_rows():
    """Reasons stand behind their rows' numbers, ten of them."""
    assert named_rows({2: "too long"}) == "row 2: too long"
    assert named_rows(dict.fromkeys(range(12), "x")).endswith("row 9: x; and 2 more")
