"""Arrays as callers give them keep their types, and what is none is named."""

from __future__ import annotations

import datetime
from decimal import Decimal

import numpy as np
import pandas as pd
import polars as pl
import pytest

from llmclf.errors import InputError
from llmclf.tables.array_arguments import as_array, as_labels, as_numbers, check_labels_present, class_list


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([[1, 2], [3]], r"w\[1\] has another length than w\[0\], 1 in place of 2"),
        ([1, [2, 3]], r"w\[1\] has another length than w\[0\], 2 in place of one value"),
        ([[[1], [2]], [[1], [2, 3]]], "w holds lists of different lengths"),
        ({1, 2}, "w is a set; expected a list or an array"),
        ({"a": 1}, "w is a dict; expected a list or an array"),
        ((i for i in range(3)), "w is a generator; expected a list or an array"),
    ],
)
def test_what_is_no_array_is_named(values, message):
    """With the first part that differs, and not with numpy's words."""
    with pytest.raises(InputError, match=message):
        as_array(values, "w")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (["a", 1], r"w\[0\]='a' is not a number"),
        ([1, [2]], r"w\[1\] has another length"),
        ([1j, 2], "w holds values of type complex128; expected numbers"),
        (np.array(["2020-01-01"], dtype="M8[D]"), "w holds values of type datetime64"),
        (pd.Series([pd.Timestamp("2020-01-01")], dtype=object), r"w\[0\]=Timestamp.* is not a number"),
        ([10**400], r"w\[0\]=1000.* is not a number"),
        (pd.Series([1, "x"], dtype=object), r"w\[1\]='x' is not a number"),
    ],
)
def test_what_is_no_number_is_named(values, message):
    """Words, dates, complex numbers and numbers beyond those of a computer."""
    with pytest.raises(InputError, match=message):
        as_numbers(values, "w")


@pytest.mark.parametrize(
    "values",
    [
        [1, None, 3],
        pd.array([1, pd.NA, 3], dtype="Int64"),
        pd.Series([1, None, 3]),
        pl.Series([1, None, 3]),
        [Decimal(1), None, Decimal(3)],
        np.array(["1", "nan", "3"]),
    ],
)
def test_missing_numbers_are_nan(values):
    """Of whatever library."""
    np.testing.assert_array_equal(as_numbers(values, "w"), [1.0, np.nan, 3.0])


def test_labels_keep_their_types():
    """A list that mixes numbers and words, dates in a column, and whole numbers in a column of objects."""
    assert as_labels([1, "b"]).tolist() == [1, "b"]
    assert as_labels(["a", float("nan")]).tolist()[0] == "a"
    assert isinstance(as_labels(["a", float("nan")]).tolist()[1], float)
    assert as_labels(pd.Series([0, 1], dtype=object)).dtype.kind == "i"
    assert as_labels(np.array([True, False], dtype=object)).dtype.kind == "b"
    assert as_labels(pd.Series(pd.to_datetime(["2020-01-02"]))).tolist() == [pd.Timestamp("2020-01-02")]
    assert as_labels([datetime.date(2020, 1, 2)]).tolist() == [datetime.date(2020, 1, 2)]
    assert as_labels(pd.Categorical(["b", "a"])).tolist() == ["b", "a"]


@pytest.mark.parametrize(
    ("labels", "place"),
    [
        ([1.0, float("nan")], 1),
        (["a", None], 1),
        (["a", float("nan")], 1),
        (["a", " ", "b"], 1),
        (["", "b"], 0),
        (np.array(["a", np.nan]), 1),
        (pd.array(["a", pd.NA], dtype="string"), 1),
        (pl.Series(["a", None]), 1),
    ],
)
def test_missing_labels_are_named(labels, place):
    """None, NaN, blank cells, and the word that numpy makes of NaN."""
    with pytest.raises(InputError, match=rf"y\[{place}\]=.* is missing"):
        check_labels_present(as_labels(labels), "y")


def test_words_that_are_classes_are_no_missing_labels():
    """A class may be called nan, if it is named."""
    check_labels_present(np.array(["a", "nan"]), "y", ["a", "nan"])
    check_labels_present(as_labels(["a", "nan"]), "y", ["a", "nan"])


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        ("ab", "classes='ab'; expected a list"),
        ({"a", "b"}, "expected a list of the classes in the order"),
        ({"a": 1, "b": 2}, "expected a list of the classes in the order"),
        (3, "classes=3; expected a list"),
        (["a", None], r"classes\[1\]=None is missing"),
        (["a", float("nan")], r"classes\[1\]=nan is missing"),
        ([["a"], ["b"]], r"classes\[0\]=\['a'\] is a list"),
        ([["a"], ["b", "c"]], r"classes\[0\]=\['a'\] is a list"),
        (np.array([["a"], ["b"]]), r"classes\[0\]=\['a'\] is a list"),
    ],
)
def test_what_cannot_be_classes_is_named(classes, message):
    """A word, what has no order, gaps, and lists within the list."""
    with pytest.raises(InputError, match=message):
        class_list(classes)


def test_classes_may_come_in_any_list():
    """Of any library, or read once."""
    for classes in (
        ["a", "b"],
        ("a", "b"),
        np.array(["a", "b"]),
        pd.Series(["a", "b"]),
        pl.Series(["a", "b"]),
        iter("ab"),
    ):
        assert class_list(classes) == ["a", "b"]
    assert class_list(range(3)) == [0, 1, 2]


def test_words_keep_null_characters_at_their_end() -> None:
    """numpy's type of text drops them."""
    assert as_labels(["a\0", "b"]).tolist() == ["a\0", "b"]
