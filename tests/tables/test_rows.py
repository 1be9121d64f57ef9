"""Rows from everything that holds texts or tables, and every bad row refused by its number."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmclf.errors import InputError
from llmclf.tables.rows import check_fields, read_rows
from llmclf.tables.values import is_missing

TEXTS = ["A fine film.", "", "None", " NaN ", "東京 🙂\n"]
TABLE = {"title": ["Jaws", "Ran"], "year": [1975, 1985], "seen": [True, False]}
RECORDS = [{"title": "Jaws", "year": 1975, "seen": True}, {"title": "Ran", "year": 1985, "seen": False}]

TEXT_KINDS = {
    "list": list,
    "tuple": tuple,
    "array of str": np.array,
    "array of objects": lambda texts: np.array(texts, dtype=object),
    "array of numpy strings": lambda texts: np.array(texts, dtype=np.dtypes.StringDType()),
    "list of numpy str": lambda texts: [np.str_(text) for text in texts],
    "pandas": pd.Series,
    "pandas objects": lambda texts: pd.Series(texts, dtype=object, index=[9, 9, 1, 0, 5][: len(texts)]),
    "pandas category": lambda texts: pd.Series(texts, dtype="category"),
    "pandas arrow": lambda texts: pd.Series(texts, dtype=pd.ArrowDtype(pa.string())),
    "polars": pl.Series,
    "polars category": lambda texts: pl.Series(texts, dtype=pl.Categorical),
    "pyarrow": lambda texts: pa.chunked_array([texts[:2], texts[2:]]),
}
TABLE_KINDS = {
    "pandas": pd.DataFrame,
    "pandas objects": lambda table: pd.DataFrame(table, dtype=object, index=[7, 7]),
    "polars": pl.DataFrame,
    "pyarrow": pa.table,
    "dicts": lambda table: RECORDS,
    "tuple of dicts": lambda table: tuple(RECORDS),
}


def kinds(table: dict):
    return pytest.mark.parametrize("make", table.values(), ids=table.keys())


@kinds(TEXT_KINDS)
def test_texts(make):
    """Texts of every kind become rows with the one field text, character by character."""
    rows = read_rows(make(TEXTS))
    assert rows.records == [{"text": text} for text in TEXTS]
    assert (rows.field_names, rows.is_table, len(rows)) == (("text",), False, 5)
    assert all(type(record["text"]) is str for record in rows.records)


@kinds(TABLE_KINDS)
def test_tables(make):
    """Tables of every kind become the same rows, with values of the same types, in the columns' order."""
    rows = read_rows(make(TABLE))
    assert rows.records == RECORDS
    assert (rows.field_names, rows.is_table, len(rows)) == (("title", "year", "seen"), True, 2)
    assert [type(value) for value in rows.records[0].values()] == [str, int, bool]


@pytest.mark.parametrize(
    "X",
    [np.array([["a", "b"], ["c", "d"]]), np.array([["a", "b"], ["c", "d"]], dtype=object), [["a", "b"], ("c", "d")]],
)
def test_arrays_of_two_dimensions(X):
    """The columns of a 2-D array or a list of lists are called x0, x1, ..."""
    rows = read_rows(X)
    assert rows.records == [{"x0": "a", "x1": "b"}, {"x0": "c", "x1": "d"}]
    assert rows.is_table


def test_numbered_columns_are_named_like_an_arrays():
    """A DataFrame made of an array has columns 0, 1, ...; templates know them as x0, x1, ..."""
    assert read_rows(pd.DataFrame([["a", "b"]])).records == [{"x0": "a", "x1": "b"}]


def test_a_column_called_text_is_still_a_table():
    """Whether the input is a table is its form's business, not its columns' names."""
    assert read_rows(pd.DataFrame({"text": ["a"]})).is_table
    assert read_rows([{"text": "a"}]).is_table


def test_dicts_may_differ_in_the_order_of_their_keys():
    """Fields are found by name."""
    rows = read_rows([{"a": 1, "b": 2}, {"b": 4, "a": 3}])
    assert [record["a"] for record in rows.records] == [1, 3]


def test_take():
    """take gives the rows at some places in the order asked for."""
    rows = read_rows(["a", "b", "c"]).take([2, 0])
    assert [record["text"] for record in rows.records] == ["c", "a"]
    assert (rows.field_names, rows.is_table) == (("text",), False)


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=1, max_size=5))
def test_no_text_is_changed_on_the_way(texts):
    """Any text comes out of a list, an array, a Series and a DataFrame as it went in."""
    expected = [{"text": text} for text in texts]
    for make in (list, pd.Series, pl.Series, lambda values: np.array(values, dtype=object)):
        assert read_rows(make(texts)).records == expected
    for frame in (pd.DataFrame, pl.DataFrame):
        assert read_rows(frame({"text": texts})).records == expected


@pytest.mark.parametrize(
    ("X", "message"),
    [
        ("one text", r"single text 'one text'.*write \[text\]"),
        (b"bytes", r"single text b'bytes'"),
        ({"text": ["a"]}, "one dict; expected a list of dicts"),
        ({"a", "b"}, "X is a set; expected texts"),
        ((text for text in "ab"), "X is a generator; expected texts"),
        (None, "X is a NoneType; expected texts"),
        (5, "X is an int; expected texts"),
        (pl.LazyFrame({"a": ["x"]}), "X is a LazyFrame; expected texts"),
        ([], r"empty: found 0 sample\(s\)"),
        ((), r"empty: found 0 sample\(s\)"),
        (np.array([]), r"empty: found 0 sample\(s\)"),
        (pd.Series([], dtype=str), r"empty: found 0 sample\(s\)"),
        (pd.DataFrame({"a": []}), r"empty: found 0 sample\(s\)"),
        (pl.DataFrame(), r"empty: found 0 sample\(s\)"),
        (pd.DataFrame(index=[0, 1]), r"found 0 feature\(s\) \(shape=\(2, 0\)\)"),
        ([{}], r"found 0 feature\(s\)"),
        (np.zeros((2, 2, 2)), "array of 3 dimensions; expected 1 .* or 2"),
        ([[["a"]]], "array of 3 dimensions"),
        (np.array("a"), "array of 0 dimensions"),
        (["a", None], r"missing value \(row 1: None\); drop these rows or fill them in"),
        (["a", math.nan], r"missing value \(row 1: NaN\)"),
        (["a", np.float32("nan")], r"missing value \(row 1: NaN\)"),
        (["a", pd.NA], r"missing value \(row 1: <NA>\)"),
        (pd.Series(["a", None]), r"missing value \(row 1: NaN\)"),
        (pd.Series(["a", None], dtype="string"), r"missing value \(row 1: <NA>\)"),
        (pl.Series(["a", None]), r"missing value \(row 1: None\)"),
        (np.array(["a", None], dtype=object), r"missing value \(row 1: None\)"),
        (["a", 5], "row 1 of X is 5, an int; expected a str"),
        (["a", b"b"], "row 1 of X is b'b', a bytes; expected a str"),
        (np.array([b"a"]), "row 0 of X is b'a', a bytes"),
        (pd.Series([1, 2]), "row 0 of X is 1, an int"),
        (["a", {"text": "b"}], "row 1 of X is {'text': 'b'}, a dict"),
        ([["a"], ["b", "c"]], r"row 0 of X is \['a'\], a list"),
        ([{"a": "x"}, "y"], "row 1 of X is a str; expected a dict like the first row"),
        ([{"a": 1}, {"a": 1, "b": 2}], "row 1 of X has other fields than row 0: 'b' is in only one of them"),
        ([{"a": 1, "b": 2}, {"a": 1}], "row 1 of X has other fields than row 0: 'b'"),
        ([{"a": "x", 1: "y"}], "column name 1 is an int; expected str, so rename"),
        (pd.DataFrame([["x", "y"]], columns=["a", 1]), "column name 1 is an int"),
        (pd.DataFrame([["x", "y"]], columns=["a", "a"]), "two columns of the same name; rename"),
    ],
)
def test_bad_input_is_named(X, message):
    """Every input that cannot be read is refused with its row, its value and the cure."""
    with pytest.raises(InputError, match=message):
        read_rows(X)


def test_a_huge_bad_value_does_not_flood_the_message():
    """A value of a megabyte is shown by its beginning and end."""
    with pytest.raises(InputError) as caught:
        read_rows([["x" * 1_000_000], "a"])
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    "value", [None, math.nan, np.float64("nan"), pd.NA, pd.NaT, pl.Series([None]).to_list()[0]], ids=repr
)
def test_missing_values_of_every_library(value):
    """None, NaN, NA and NaT all stand for no value."""
    assert is_missing(value)


@pytest.mark.parametrize("value", ["", "nan", "None", 0, False, 0.0, math.inf, [], {}, np.str_("NA")], ids=repr)
def test_falsy_and_odd_values_are_not_missing(value):
    """Empty is not missing, and neither is a text that spells a missing value."""
    assert not is_missing(value)


@pytest.mark.parametrize("make", [pd.DataFrame, pl.DataFrame, pa.table])
def test_used_fields_must_be_filled(make):
    """A missing value counts only in a field that the prompt uses, and is named with its row and field."""
    rows = read_rows(make({"a": ["x", "y"], "b": ["z", None]}))
    check_fields(rows, ["a"], "a")
    with pytest.raises(InputError, match=r"missing value \(row 1, field 'b': (None|NaN)\); drop these rows or fill"):
        check_fields(rows, ["a", "b"], "a")


@pytest.mark.parametrize("blank", ["", "  ", "\n\t", "\u3000"])
def test_blank_texts_are_refused(blank):
    """A text of white space has no answer; other fields may be blank."""
    with pytest.raises(InputError, match=r"blank text \(row 1: .*drop these rows or fill them in"):
        check_fields(read_rows(["a", blank]), ["text"], "text")
    table = read_rows([{"a": "x", "b": blank}])
    check_fields(table, ["a", "b"], "a")
    with pytest.raises(InputError, match=r"blank text \(row 0, field 'b'"):
        check_fields(table, ["a", "b"], "b")
