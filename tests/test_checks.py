"""Checks that every room shares: what counts as a number, and how a value out of range is refused."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmclf.checks import check_open_share, check_whole_number, is_finite_number, is_number, is_whole_number
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
