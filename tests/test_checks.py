"""Checks that every room shares: what counts as a number, and how a value out of range is refused."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmclf.checks import (
    check_keys,
    check_open_share,
    check_whole_number,
    checked_names,
    checked_numbers,
    checked_pairs,
    is_finite_number,
    is_number,
    is_whole_number,
)
from llmclf.errors import InputError

NOT_NUMBERS = [True, np.True_, "1", None, [1], 1j, np.array([1.0, 2.0])]


@pytest.mark.parametrize("value", NOT_NUMBERS, ids=repr)
def test_what_is_not_a_number_is_never_taken_for_one(value):
    """Booleans, texts, missing values, lists and complex numbers are refused by every check."""
    assert not is_number(value)
    assert not is_finite_number(value)
    assert not is_whole_number(value)
    with pytest.raises(InputError, match="n_bins"):
        check_whole_number("n_bins", value, 1)
    with pytest.raises(InputError, match="confidence"):
        check_open_share("confidence", value, "0.95")


@given(st.integers() | st.floats() | st.fractions())
def test_numbers_are_numbers_whatever_their_type(value):
    """Every real number counts, infinity and NaN included; finite ones are told apart."""
    assert is_number(value)
    if isinstance(value, float):
        assert is_finite_number(value) == math.isfinite(value)


@given(st.integers(-(2**62), 2**62), st.integers(-5, 5))
def test_whole_numbers_are_held_against_the_least(value, least):
    """numpy's integers count like Python's; floats that happen to be whole do not."""
    assert is_whole_number(value, least) == is_whole_number(np.int64(value), least) == (value >= least)
    assert not is_whole_number(float(value))
    if value >= least:
        assert check_whole_number("n", np.int64(value), least) == value


@pytest.mark.parametrize("value", [0, 1, -0.5, 2, math.nan, math.inf])
def test_a_share_lies_strictly_between_0_and_1(value):
    """The ends are refused, and the message names the value and an example."""
    with pytest.raises(InputError, match=rf"share={value!r}; expected a number between 0 and 1, such as 0\.9"):
        check_open_share("share", value, "0.9")


def test_a_share_comes_back_as_a_float():
    """numpy's floats and fractions become Python's floats."""
    assert type(check_open_share("share", np.float32(0.5), "0.9")) is float
    assert check_open_share("share", Fraction(1, 4), "0.9") == 0.25


@pytest.mark.parametrize(
    ("values", "shape"),
    [
        ([1.0, True], (2,)),
        ([1.0, "2"], (2,)),
        ([1.0, None], (2,)),
        ([1.0, math.nan], (2,)),
        ([1.0, 10**400], (2,)),
        ([1.0], (2,)),
        ([], (None,)),
        ([[1.0], [1.0, 2.0]], (2, 1)),
        ([1.0, 2.0], (2, 1)),
        ("12", (2,)),
        ({"a": 1.0}, (1,)),
        (None, (1,)),
        (np.array([1.0, np.inf]), (2,)),
        (np.array([1, 2]), (2,)),
        (np.array([True, False]), (2,)),
        (np.array(["1", "2"]), (2,)),
        (np.array(1.0), (1,)),
        (np.ones((2, 2)), (2,)),
        (np.ones(0), (None,)),
    ],
    ids=repr,
)
def test_only_finite_numbers_of_the_shape_are_read(values, shape):
    """Nothing is converted, and the error says what was expected without showing thousands of numbers."""
    with pytest.raises(InputError, match=r"^weights=.*; expected a list of .*finite numbers$"):
        checked_numbers(values, shape, "weights")


def test_arrays_and_lists_are_read_alike():
    """As 64-bit floats of their own."""
    array = np.arange(6.0).reshape(3, 2)
    for values in (array, array.tolist(), array.astype(np.float32)):
        found = checked_numbers(values, (None, 2), "weights")
        assert found.dtype == np.float64
        assert found is not values
        np.testing.assert_array_equal(found, array)
    with pytest.raises(InputError) as caught:
        checked_numbers(np.zeros(5000).tolist(), (3,), "weights")
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("values", ["ab", ["a", "a"], ["a", 1], [["a"]], None, {"a": 1}, 3], ids=repr)
def test_names_are_different_texts(values):
    """In a list, and a text is no list of its letters."""
    with pytest.raises(InputError, match="names=.*expected a list of different texts"):
        checked_names(values, "names")


@pytest.mark.parametrize("values", ["ab", [["a"]], [["a", 1, 2]], ["ab"], None, {"ab": 1}], ids=repr)
def test_pairs_are_lists_of_two(values):
    """And a text of two letters is no pair."""
    with pytest.raises(InputError, match="numbers=.*expected a list of pairs"):
        checked_pairs(values, "numbers")


@pytest.mark.parametrize("values", [{}, {"a": 1, "b": 2}, {"b": 1}, ["a"], "a", None], ids=repr)
def test_keys_are_those_expected(values):
    """None is absent, and none is unknown."""
    with pytest.raises(InputError, match=r"it holds .*; expected exactly the entries \['a'\]"):
        check_keys(values, ["a"], "it")
