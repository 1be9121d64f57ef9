"""Tables in files: nothing is guessed on the way in, nothing is lost on the way out, and no file is ever half written."""

from __future__ import annotations

import csv
import datetime
import json
import math
import os
import stat
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from llmclf.errors import InputError, StoreError
from llmclf.tables.endings import check_suffix
from llmclf.tables.files import check_writable, read_table, write_table

SUFFIXES = [".csv", ".tsv", ".jsonl", ".parquet", ".csv.gz", ".jsonl.zst"]
ODD = [
    "NA",
    "None",
    "nan",
    "007",
    "1e5",
    "",
    " a ",
    'say "so"',
    "a, b",
    "x\ny",
    "x\r\ny",
    "\r",
    "东京 🙂",
    "=1+1",
    "\ufeff",
    "a\0b",
]
CELL = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


def given_file(folder: Path, content: str | bytes, suffix: str) -> Path:
    file = folder / f"table{suffix}"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return file


def round_trip(frame: pd.DataFrame, suffix: str) -> pd.DataFrame:
    with tempfile.TemporaryDirectory() as folder:
        write_table(frame, Path(folder) / f"table{suffix}")
        return read_table(Path(folder) / f"table{suffix}")


# Reading and writing


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_odd_texts_survive(suffix):
    """Texts that look like missing values or numbers, quotes, line ends and marks come back as they were."""
    frame = pd.DataFrame({"text": ODD, "order": [str(i) for i in range(len(ODD))]})
    again = round_trip(frame, suffix)
    assert list(again.columns) == ["text", "order"]
    assert again["text"].tolist() == ODD
    assert again["order"].tolist() == frame["order"].tolist()


@pytest.mark.slow
@given(st.lists(st.tuples(CELL, CELL), min_size=1, max_size=4))
@example([("\r", '"'), ("", "")])
def test_any_text_survives(rows):
    """Whatever the text, every kind of file gives it back, and writing it twice changes nothing."""
    frame = pd.DataFrame(rows, columns=["a", "b, or\n'c'"], dtype=str)
    for suffix in SUFFIXES:
        again = round_trip(frame, suffix)
        assert list(again.itertuples(index=False, name=None)) == rows
        assert list(again.columns) == list(frame.columns)
        assert round_trip(again, suffix).equals(again)


@pytest.mark.slow
@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=5))
def test_numbers_are_written_exactly(numbers):
    """A probability loses no digit in any kind of file."""
    frame = pd.DataFrame({"p": numbers})
    assert [float(cell) for cell in round_trip(frame, ".csv")["p"]] == numbers
    assert round_trip(frame, ".jsonl")["p"].tolist() == numbers
    assert round_trip(frame, ".parquet")["p"].tolist() == numbers


VALUE = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), CELL),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(CELL, inner, max_size=3)),
    max_leaves=6,
)


@given(st.lists(st.tuples(VALUE, VALUE), min_size=1, max_size=4))
@example([(1, None), (None, True)])
def test_jsonl_keeps_every_type(rows):
    """Whole numbers stay whole beside a null, and booleans, nulls, lists and objects stay what they are."""
    records = [{"a": a, "b": b} for a, b in rows]
    with tempfile.TemporaryDirectory() as folder:
        source = given_file(Path(folder), "".join(json.dumps(record) + "\n" for record in records), ".jsonl")
        target = Path(folder) / "again.jsonl"
        write_table(read_table(source), target)
        again = [json.loads(line) for line in target.read_text(encoding="utf-8").split("\n")[:-1]]
    assert repr(again) == repr(records)


def test_jsonl_with_other_keys_in_some_rows(tmp_path):
    """A key that a row lacks is a missing value there, and null when written."""
    frame = read_table(given_file(tmp_path, '{"a": 1}\n\n{"b": "x"}\n', ".jsonl"))
    assert list(frame.columns) == ["a", "b"]
    assert frame["a"][0] == 1
    assert type(frame["a"][0]) is int
    assert math.isnan(frame["b"][0])
    write_table(frame, tmp_path / "out.jsonl")
    assert (tmp_path / "out.jsonl").read_text() == '{"a": 1, "b": null}\n{"a": null, "b": "x"}\n'


def test_parquet_keeps_every_type(tmp_path):
    """Whole numbers with gaps, lists, times and booleans have the same type in the file that is written."""
    table = pa.table(
        {
            "id": pa.array([1, None], pa.int64()),
            "choices": pa.array([["a", "b"], []], pa.list_(pa.string())),
            "time": pa.array([datetime.datetime(2020, 1, 2), None], pa.timestamp("us")),
            "flag": [True, None],
            "text": ["NA", None],
            "small": pa.array([1.5, None], pa.float32()),
        }
    )
    pq.write_table(table, tmp_path / "in.parquet")
    write_table(read_table(tmp_path / "in.parquet"), tmp_path / "out.parquet")
    again = pq.read_table(tmp_path / "out.parquet")
    assert again.to_pylist() == table.to_pylist()
    assert [field.type for field in again.schema] == [field.type for field in table.schema]


def test_named_index_of_parquet_is_a_column(tmp_path):
    """pandas hides an index in the file; one that has a name is a column like the others, one without is not."""
    frame = pd.DataFrame({"text": ["x", "y"]}, index=pd.Index(["u", "v"], name="id"))
    frame.to_parquet(tmp_path / "named.parquet")
    assert read_table(tmp_path / "named.parquet").to_dict("list") == {"id": ["u", "v"], "text": ["x", "y"]}
    frame.rename_axis(None).to_parquet(tmp_path / "unnamed.parquet")
    assert read_table(tmp_path / "unnamed.parquet").to_dict("list") == {"text": ["x", "y"]}


def test_other_values_in_jsonl_and_csv(tmp_path):
    """Times, numpy's numbers and arrays have a JSON form; missing values are null, and nothing in a CSV."""
    values = [datetime.date(2020, 1, 2), np.float32(0.5), np.array([1, 2]), pd.NA, math.nan, pd.Timestamp("2020-01-02")]
    frame = pd.DataFrame({"value": values}, dtype=object)
    write_table(frame, tmp_path / "out.jsonl")
    read = read_table(tmp_path / "out.jsonl")["value"].tolist()
    assert read == ["2020-01-02", 0.5, [1, 2], None, None, "2020-01-02T00:00:00"]
    write_table(frame.iloc[3:5], tmp_path / "out.csv")
    assert (tmp_path / "out.csv").read_text() == 'value\n""\n""\n'


def test_half_a_surrogate_pair_survives_in_jsonl(tmp_path):
    """JSON can say what UTF-8 cannot."""
    file = given_file(tmp_path, '{"text": "a\\ud800", "more": "é"}\n', ".jsonl")
    write_table(read_table(file), tmp_path / "out.jsonl")
    assert read_table(tmp_path / "out.jsonl")["text"][0] == "a\ud800"


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_byte_order_mark_is_no_part_of_the_first_name(tmp_path, suffix):
    """Files from Excel begin with a mark; the first column is found by its name all the same."""
    content = {".csv": "text,n\nx,1\n", ".jsonl": '{"text": "x", "n": "1"}\n'}[suffix]
    assert read_table(given_file(tmp_path, "\ufeff" + content, suffix)).to_dict("list") == {"text": ["x"], "n": ["1"]}


def test_csv_is_plain(tmp_path):
    """A CSV has Unix line ends, quotes only where they are needed, and no column of row numbers."""
    write_table(pd.DataFrame({"a": ["x", "y, z", "u\rv"], "p": [0.5, 1.0, 0.1]}), tmp_path / "out.csv")
    assert (tmp_path / "out.csv").read_bytes() == b'a,p\nx,0.5\n"y, z",1.0\n"u\rv",0.1\n'


def test_csv_of_windows_and_of_long_texts(tmp_path):
    """Windows line ends, blank lines and a text of a megabyte are read; the csv module's limit is as before."""
    limit = csv.field_size_limit()
    frame = read_table(given_file(tmp_path, "a,b\r\n1,x\r\n\r\n2," + "y" * 1_000_000 + "\r\n\r\n", ".csv"))
    assert frame["a"].tolist() == ["1", "2"]
    assert len(frame["b"][1]) == 1_000_000
    assert csv.field_size_limit() == limit


# What is refused


@pytest.mark.parametrize(
    ("content", "suffix", "message"),
    [
        ("a,b\n1,2\n3\n", ".csv", "line 3 of .* has 1 cells and the first line has 2; a cell that holds commas"),
        ("a,b\n1,2,3\n", ".csv", "line 2 of .* has 3 cells and the first line has 2"),
        ("a,b,a\n1,2,3\n", ".csv", "two columns named 'a'; rename one"),
        ('a,b\n1,"x\n', ".csv", "line 2 of .* is not valid CSV: unexpected end of data"),
        ('a,b\n1,"x"y\n', ".csv", "line 2 of .* is not valid CSV"),
        ("a,b\n", ".csv", "has no rows"),
        ("", ".csv", "has no rows"),
        ("text\nGröße\n".encode("latin1"), ".csv", "is not UTF-8 text .*save it with the encoding UTF-8"),
        ('{"a": 1}\n{"a":\n', ".jsonl", r"line 2 of .* is not valid JSON: Expecting value \(character 6\)"),
        ('{"a": 1}\n\n[1]\n', ".jsonl", "line 3 of .* is a list; expected a JSON object"),
        ('[{"a": 1}]\n', ".jsonl", "line 1 of .* is a list; expected a JSON object"),
        ("[" * 100_000, ".jsonl", "line 1 of .* nested too deeply"),
        ("\n \n", ".jsonl", "has no rows"),
        ('{"a": "é"}\n'.encode("latin1"), ".jsonl", "is not UTF-8 text"),
        ("a,b\n1,2\n", ".parquet", "cannot be read as PARQUET"),
        ("", ".parquet", "cannot be read as PARQUET"),
    ],
)
def test_broken_files_are_named(tmp_path, content, suffix, message):
    """A file that is not what its suffix says is refused with its path, the line and what is wrong there."""
    file = given_file(tmp_path, content, suffix)
    with pytest.raises(InputError, match=message) as caught:
        read_table(file)
    assert repr(str(file)) in str(caught.value)


def test_parquet_without_rows_is_refused(tmp_path):
    """A table without rows is refused whatever its kind."""
    pd.DataFrame({"a": []}).to_parquet(tmp_path / "x.parquet")
    with pytest.raises(InputError, match="has no rows"):
        read_table(tmp_path / "x.parquet")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("table.txt", r"ends with '\.txt'; expected \.csv, \.tsv, \.jsonl, \.parquet, or the first three with \.gz, "),
        ("table", "ends with ''; expected "),
        (".csv", "ends with ''; expected "),
        ("table.gz", r"ends with '\.gz'; expected "),
        ("table.csv.lz4", r"ends with '\.lz4'; expected "),
        ("table.parquet.zst", "Parquet files are compressed within; unpack it"),
        ("table.XLSX", "is a spreadsheet, .*; save its sheet as CSV"),
        ("table.ods", "is a spreadsheet"),
        ("table.csv.zip", "is an archive, .*; unpack it"),
        ("table.tar.gz", "is an archive"),
        ("table.json", "write one object a line, and call it .jsonl"),
    ],
)
def test_other_suffixes_are_refused(tmp_path, name, message):
    """Reading and writing name the suffix and the cure."""
    for call in (check_suffix, read_table, lambda path: write_table(pd.DataFrame({"a": [1]}), path)):
        with pytest.raises(InputError, match=message):
            call(tmp_path / name)
    assert check_suffix("TABLE.CSV") == ".csv"
    assert check_suffix("table.Tsv.GZ") == ".tsv.gz"
    assert os.listdir(tmp_path) == []


def test_missing_files_and_folders_are_refused(tmp_path):
    """A path that is not a file is named."""
    (tmp_path / "folder.csv").mkdir()
    for name in ("nothing.csv", "folder.csv", "no/where.jsonl"):
        with pytest.raises(InputError, match=f"{name}' (does not exist|is a folder, not a file|is not a regular file)"):
            read_table(tmp_path / name)


@pytest.mark.parametrize("write", [write_table, check_writable])
@pytest.mark.parametrize(
    ("values", "name", "message"),
    [
        (["x", 1], "out.parquet", "out.parquet' cannot be written"),
        ([{1, 2}], "out.jsonl", r"{1, 2} is a set and has no JSON form; choose another suffix"),
        (["a\ud800"], "out.csv", "row 0 of the column 'a' holds half of a surrogate pair"),
        (["x"], "folder.csv", "it is a folder"),
        (["x"], "file.txt/out.csv", "cannot be written"),
    ],
)
def test_what_cannot_be_written_is_named_and_leaves_nothing(tmp_path, write, values, name, message):
    """A value or a place that cannot be written is a StoreError; old files stay, and no temporary file is left."""
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "file.txt").write_text("mine")
    for suffix in SUFFIXES:
        (tmp_path / f"out{suffix}").write_text("old")
    before = sorted(os.listdir(tmp_path))
    with pytest.raises(StoreError, match=message):
        write(pd.DataFrame({"a": values}, dtype=object), tmp_path / name)
    assert sorted(os.listdir(tmp_path)) == before
    assert {(tmp_path / f"out{suffix}").read_text() for suffix in SUFFIXES} == {"old"}
    assert os.listdir(tmp_path / "folder.csv") == []


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError, RuntimeError])
def test_interrupted_write_leaves_the_old_file(tmp_path, monkeypatch, suffix, error):
    """Whatever stops the writer in the last moment, the old file is whole and alone."""
    file = tmp_path / f"out{suffix}"
    write_table(pd.DataFrame({"a": ["old"]}), file)

    def stop(descriptor: int) -> None:
        raise error

    monkeypatch.setattr(os, "fsync", stop)
    with pytest.raises(StoreError if error is OSError else error):
        write_table(pd.DataFrame({"a": ["new"]}), file)
    assert os.listdir(tmp_path) == [file.name]
    assert read_table(file)["a"].tolist() == ["old"]


def test_trial_leaves_nothing(tmp_path):
    """check_writable leaves an old file as it was and makes no new one."""
    (tmp_path / "old.csv").write_text("old")
    check_writable(pd.DataFrame({"a": ["x"]}), tmp_path / "old.csv")
    check_writable(pd.DataFrame({"a": ["x"]}), tmp_path / "new.csv")
    assert os.listdir(tmp_path) == ["old.csv"]
    assert (tmp_path / "old.csv").read_text() == "old"


# What the file is like


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_a_new_file_has_the_users_permissions(tmp_path, umask):
    """A new file may be read by whom the user's umask allows, like any other new file."""
    before = os.umask(umask)
    try:
        write_table(pd.DataFrame({"a": ["x"]}), tmp_path / "out.csv")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "out.csv").stat().st_mode) == 0o666 & ~umask


def test_a_replaced_file_keeps_its_permissions(tmp_path):
    """A file that others may not read does not become readable by being written again."""
    file = given_file(tmp_path, "a\nx\n", ".csv")
    file.chmod(0o600)
    write_table(pd.DataFrame({"a": ["y"]}), file)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_link_stays_a_link(tmp_path):
    """Writing to a link writes the file that it points to."""
    (tmp_path / "elsewhere").mkdir()
    link = tmp_path / "out.csv"
    link.symlink_to(tmp_path / "elsewhere" / "real.csv")
    write_table(pd.DataFrame({"a": ["x"]}), link)
    assert link.is_symlink()
    assert (tmp_path / "elsewhere" / "real.csv").read_text() == "a\nx\n"
    assert os.listdir(tmp_path / "elsewhere") == ["real.csv"]


def test_folders_are_made_and_long_names_allowed(tmp_path):
    """A folder that is missing is made; a file name may be as long as the file system allows."""
    file = tmp_path / "new" / "folder" / f"{'n' * 250}.csv"
    write_table(pd.DataFrame({"a": ["x"]}), file)
    assert read_table(file)["a"].tolist() == ["x"]
