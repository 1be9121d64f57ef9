"""Arrow types of every kind, pandas' and polars' own, through every format: written as what they are, or refused by name."""

from __future__ import annotations

import datetime
import json
import math
from decimal import Decimal

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from llmclf.jobs.tables.column_kinds import ColumnKinds
from llmclf.tables.files import read_table, write_table
from llmclf.tables.formats import arrow_frame

WORDS = ["é 東京", "b", None]
DAY = datetime.datetime(2020, 1, 2, 3, 4, 5)
INT = pa.int64()
# Name -> array, its cells in a CSV, its values in JSON; None where the format lacks a form.
TYPES = {
    "large_string": (pa.array(WORDS, pa.large_string()), ["é 東京", "b", ""], WORDS),
    "string_view": (pa.array(WORDS, pa.string_view()), ["é 東京", "b", ""], WORDS),
    "binary": (pa.array([b"\xff", None, b""]), ["/w==", "", ""], ["/w==", None, ""]),
    "binary_view": (pa.array([None, b"\xff", b""], pa.binary_view()), ["", "/w==", ""], [None, "/w==", ""]),
    "fixed binary": (pa.array([b"ab", None, b"cd"], pa.binary(2)), ["YWI=", "", "Y2Q="], ["YWI=", None, "Y2Q="]),
    "dictionary": (pa.array(WORDS).dictionary_encode(), ["é 東京", "b", ""], WORDS),
    "list": (pa.array([["a", None], [], None]), ['["a", null]', "[]", ""], [["a", None], [], None]),
    "large_list": (pa.array([[1], [], None], pa.large_list(INT)), ["[1]", "[]", ""], [[1], [], None]),
    "fixed list": (pa.array([[1, 2], [3, 4], None], pa.list_(INT, 2)), ["[1, 2]", "[3, 4]", ""], [[1, 2], [3, 4], None]),
    "list_view": (pa.array([["a"], [], None], pa.list_view(pa.string())), ['["a"]', "[]", ""], [["a"], [], None]),
    "list of views": (pa.array([["a"], [], None], pa.list_(pa.string_view())), ['["a"]', "[]", ""], [["a"], [], None]),
    "struct": (
        pa.array([{"a": 1.5, "b": None}, None, None]),
        ['{"a": 1.5, "b": null}', "", ""],
        [{"a": 1.5, "b": None}, None, None],
    ),
    "struct of views": (
        pa.array([{"a": "x"}, None, None], pa.struct([("a", pa.string_view())])),
        ['{"a": "x"}', "", ""],
        [{"a": "x"}, None, None],
    ),
    "struct of times": (
        pa.array([{"a": [DAY, None], "d": Decimal("1.50")}, None, None]),
        ['{"a": ["2020-01-02T03:04:05", null], "d": "1.50"}', "", ""],
        [{"a": ["2020-01-02T03:04:05", None], "d": "1.50"}, None, None],
    ),
    "struct of bytes": (
        pa.array([None, {"a": b"x"}, None]),
        ["", '{"a": "eA=="}', ""],
        [None, {"a": "eA=="}, None],
    ),
    "map of bytes": (
        pa.array([[(b"\xff", 1)], [], None], pa.map_(pa.binary(), INT)),
        ['[["/w==", 1]]', "[]", ""],
        [[["/w==", 1]], [], None],
    ),
    "list of lists": (pa.array([[[1], [None]], [], None]), ["[[1], [null]]", "[]", ""], [[[1], [None]], [], None]),
    "map": (pa.array([[("k", 1)], [], None], pa.map_(pa.string(), INT)), ['[["k", 1]]', "[]", ""], [[["k", 1]], [], None]),
    "decimal128": (pa.array([Decimal("1.50"), None, None]), ["1.50", "", ""], ["1.50", None, None]),
    "decimal256": (pa.array([Decimal("1.50"), None, None], pa.decimal256(50, 2)), ["1.50", "", ""], ["1.50", None, None]),
    "date32": (pa.array([DAY.date(), None, None]), ["2020-01-02", "", ""], ["2020-01-02", None, None]),
    "date64": (pa.array([DAY.date(), None, None], pa.date64()), ["2020-01-02", "", ""], ["2020-01-02", None, None]),
    "time": (pa.array([DAY.time(), None, None], pa.time64("us")), ["03:04:05", "", ""], ["03:04:05", None, None]),
    "timestamp": (
        pa.array([DAY, None, None], pa.timestamp("s")),
        ["2020-01-02 03:04:05", "", ""],
        ["2020-01-02T03:04:05", None, None],
    ),
    "zoned": (
        pa.array([DAY, None, None], pa.timestamp("us", "Europe/Berlin")),
        ["2020-01-02 04:04:05+01:00", "", ""],
        ["2020-01-02T04:04:05+01:00", None, None],
    ),
    "duration": (
        pa.array([datetime.timedelta(1, 2), None, None]),
        ["P1DT0H0M2S", "", ""],
        ["P1DT0H0M2S", None, None],
    ),
    "float16": (pa.array([1.5, None, 2.0], pa.float16()), ["1.5", "", "2.0"], [1.5, None, 2.0]),
    "infinite": (pa.array([math.inf, -math.inf, math.nan]), ["inf", "-inf", "nan"], ["Infinity", "-Infinity", None]),
    "null": (pa.nulls(3), ["", "", ""], [None, None, None]),
    "bool": (pa.array([True, None, False]), ["True", "", "False"], [True, None, False]),
    "uint64": (pa.array([2**64 - 1, None, 0], pa.uint64()), [str(2**64 - 1), "", "0"], [2**64 - 1, None, 0]),
}  # fmt: skip


def files(tmp_path, array):
    pq.write_table(pa.table({"text": ["one", "two", "three"], "c": array}), tmp_path / "in.parquet")
    return read_table(tmp_path / "in.parquet")


@pytest.mark.parametrize("name", TYPES)
def test_arrow_types_through_every_format(name, tmp_path):
    """Parquet gives the values back, JSON Lines and CSV hold them as text that says the same."""
    array, cells, values = TYPES[name]
    frame = files(tmp_path, array)
    write_table(frame, tmp_path / "out.parquet")
    again = pq.read_table(tmp_path / "out.parquet")["c"].to_pylist()
    assert repr(again) == repr(array.to_pylist())
    kinds = ColumnKinds()
    kinds.add(frame)
    for suffix, expected in ((".csv", cells), (".jsonl", values)):
        kinds.refuse("JSON", "UTF-8", where="out")
        write_table(frame, tmp_path / f"out{suffix}")
        assert read_table(tmp_path / f"out{suffix}")["c"].tolist() == expected
        # What was written is written again as it is.
        write_table(read_table(tmp_path / f"out{suffix}"), tmp_path / f"again{suffix}")
        assert (tmp_path / f"again{suffix}").read_bytes() == (tmp_path / f"out{suffix}").read_bytes()


def test_every_line_of_jsonl_is_json(tmp_path):
    """NaN and infinity, which are no JSON, are not in the file, at any depth."""
    frame = pd.DataFrame({"a": [1.0, math.nan, math.inf], "b": [[math.nan], {"c": -math.inf}, pd.NaT]})
    write_table(frame, tmp_path / "x.jsonl")

    def refuse(word: str) -> None:
        raise AssertionError(word)

    lines = [json.loads(line, parse_constant=refuse) for line in (tmp_path / "x.jsonl").read_text().splitlines()]
    assert lines == [{"a": 1.0, "b": [None]}, {"a": None, "b": {"c": "-Infinity"}}, {"a": "Infinity", "b": None}]


@pytest.mark.parametrize(
    ("column", "cells"),
    [
        (pd.Series(["x", None], dtype="string"), ["x", ""]),
        (pd.Series(["x", None], dtype="string[pyarrow]"), ["x", ""]),
        (pd.Series(["x", None], dtype="category"), ["x", ""]),
        (pd.Series([1, None], dtype="Int64"), ["1", ""]),
        (pd.Series([True, None], dtype="boolean"), ["True", ""]),
        (pd.Series(pd.to_datetime(["2020-01-02", None]).tz_localize("UTC")), ["2020-01-02 00:00:00+00:00", ""]),
        (pd.Series(pd.to_timedelta(["1s", None])), ["P0DT0H0M1S", ""]),
        (pd.Series(pd.PeriodIndex(["2020-01", None], freq="M")), ["2020-01", ""]),
        (pd.Series([(1, 2), {"a": {1: pd.NaT}}], dtype=object), ["[1, 2]", '{"a": {"1": null}}']),
    ],
    ids=lambda value: str(getattr(value, "dtype", "")),
)
def test_types_of_pandas(column, cells, tmp_path):
    """pandas' own types are written with empty cells for gaps, and JSON Lines read back without NaT or NaN."""
    for suffix in (".csv", ".jsonl"):
        write_table(pd.DataFrame({"c": column}), tmp_path / f"out{suffix}")
    assert read_table(tmp_path / "out.csv")["c"].tolist() == cells
    assert "NaT" not in (tmp_path / "out.jsonl").read_text()
    assert "NaN" not in (tmp_path / "out.jsonl").read_text()


def test_types_that_parquet_lacks_are_read_from_memory():
    """Columns of runs, and dictionaries of views, come from Arrow tables alone."""
    runs = pa.RunEndEncodedArray.from_arrays([2, 3], pa.array(["x", "y"]))
    views = pa.DictionaryArray.from_arrays(pa.array([0, 1, 0]), pa.array(["x", "y"], pa.string_view()))
    frame = arrow_frame(pa.table({"runs": runs, "views": views}))
    assert frame.to_dict("list") == {"runs": ["x", "x", "y"], "views": ["x", "y", "x"]}
