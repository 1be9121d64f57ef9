"""Compressed tables, other delimiters and encodings: read exactly, written the same every time, or refused with the cure."""

from __future__ import annotations

import bz2
import gzip
import tempfile
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from killed_journal import LABELS
from typer.testing import CliRunner

from llmclf.backends import FakeBackend
from llmclf.cli import app
from llmclf.errors import InputError
from llmclf.jobs import estimate_table, export_journal, label_table
from llmclf.tables.endings import COMPRESSIONS
from llmclf.tables.files import read_table, write_table
from llmclf.tables.text_files import TextFormat

ROWS = pd.DataFrame({"id": ["1", "2", "3"], "text": ["Größe; fein", 'a\tb "c"', "x,\n|y"]})
PACK = {
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".zst": lambda content: pa.Codec("zstd").compress(content, asbytes=True),
}
CELL = st.text(st.characters(exclude_categories=["Cs"]), max_size=10)
WAY = {"id_column": "id", "text_column": "text", "labels": LABELS, "model": FakeBackend()}


def same(frame: pd.DataFrame) -> bool:
    return frame.astype(object).equals(ROWS.astype(object))


# --- compression -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("packing", COMPRESSIONS)
@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl"])
def test_what_others_compress_is_read(suffix, packing, tmp_path):
    """Also in several members or frames, one after the other, as log tools write them."""
    write_table(ROWS, tmp_path / f"plain{suffix}")
    content = (tmp_path / f"plain{suffix}").read_bytes()
    file = tmp_path / f"t{suffix}{packing}"
    for parts in ([content], [content[:7], content[7:]], [b"", content, b""]):
        file.write_bytes(b"".join(PACK[packing](part) for part in parts))
        assert same(read_table(file))


@pytest.mark.parametrize("packing", COMPRESSIONS)
def test_the_same_rows_make_the_same_bytes(packing, tmp_path):
    """Whatever the file is called, and whenever it is written."""
    contents = set()
    for name in ("a", "b"):
        file = tmp_path / f"{name}.csv{packing}"
        write_table(ROWS, file)
        contents.add(file.read_bytes())
        assert same(read_table(file))
    assert len(contents) == 1
    assert contents.pop() != (tmp_path / f"a.csv{packing}").name.encode()


@pytest.mark.parametrize(
    ("packing", "fault"),
    # A frame of zstd need not have a checksum.
    [(p, f) for p in COMPRESSIONS for f in ("cut", "flipped", "tail", "not packed") if (p, f) != (".zst", "flipped")],
)
def test_a_damaged_file_is_refused(packing, fault, tmp_path):
    """No row of it is taken for all of them."""
    many = "id,text\n" + "".join(f"{i},text {i * i}\n" for i in range(20_000))
    packed = PACK[packing](many.encode())
    half = len(packed) // 2
    content = {
        "cut": packed[:half],
        "flipped": packed[:half] + bytes(byte ^ 255 for byte in packed[half : half + 8]) + packed[half + 8 :],
        "tail": packed + b"no such thing",
        "not packed": many.encode(),
    }[fault]
    file = tmp_path / f"t.csv{packing}"
    file.write_bytes(content)
    # Of what was flipped, the rows may be wrong before the checksum is.
    message = "" if fault == "flipped" else "cannot be read as CSV|is not UTF-8"
    with pytest.raises(InputError, match=rf"t\.csv\.\w+'.*{message}"):
        read_table(file)


def test_a_packed_file_of_a_plain_name_is_refused(tmp_path):
    """It is no table as it is."""
    (tmp_path / "t.csv").write_bytes(gzip.compress(b"a,b\n1,2\n"))
    with pytest.raises(InputError, match=r"is packed \(gzip\); unpack it"):
        read_table(tmp_path / "t.csv")


def test_a_line_without_an_end_takes_bounded_memory(tmp_path, monkeypatch):
    """A small file may unpack to any size."""
    monkeypatch.setattr("llmclf.tables.text_files.LONGEST", 1 << 20)
    monkeypatch.setattr("llmclf.tables.formats.LONGEST", 1 << 20)
    for name, content, message in (
        ("a.csv.gz", b"text\n" + b"x" * (1 << 22), "line 2 of .* has more than 1,048,576 characters"),
        ("a.jsonl.gz", b'{"text": "' + b"x" * (1 << 22), "line 1 of .* has more than 1,048,576 characters"),
        ("b.csv.gz", b'text\n"' + b"x\n" * (1 << 21), "field larger than field limit"),
    ):
        (tmp_path / name).write_bytes(gzip.compress(content))
        with pytest.raises(InputError, match=message):
            read_table(tmp_path / name)


# --- delimiters and encodings ------------------------------------------------------------------------------------------------


@given(
    rows=st.lists(st.tuples(CELL, CELL), min_size=1, max_size=5),
    delimiter=st.sampled_from([";", "|", "\t", " ", "§"]),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-be", "utf-32", "gb18030"]),
)
def test_any_delimiter_and_encoding_is_read_exactly(rows, delimiter, encoding):
    """Against what pandas writes."""
    frame = pd.DataFrame(rows, columns=["a", "b"])
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "t.csv"
        frame.to_csv(file, sep=delimiter, encoding=encoding, index=False, quoting=1)
        read = read_table(file, TextFormat(delimiter, encoding))
    assert read.values.tolist() == [list(row) for row in rows]


@pytest.mark.parametrize("encoding", ["cp1252", "latin-1", "utf-16", "UTF8", "utf_8_sig"])
def test_encodings_of_other_programs(encoding, tmp_path):
    """A byte order mark is no part of the first name."""
    for suffix, content in ((".csv", "text\nGröße\n"), (".jsonl", '{"text": "Größe"}\n')):
        file = tmp_path / f"t{suffix}"
        file.write_text(content, encoding=encoding)
        assert read_table(file, TextFormat(encoding=encoding))["text"].tolist() == ["Größe"]


@pytest.mark.parametrize(
    ("content", "text", "message"),
    [
        ("Größe".encode("latin-1"), TextFormat(), r"is not UTF-8 text .*--encoding\), as in cp1252"),
        ("Größe".encode("utf-16"), TextFormat(), r"its beginning is that of utf-16: give encoding='utf-16'"),
        (b"a\x81\n", TextFormat(encoding="cp1252"), "is not text of the encoding cp1252 .*give another encoding="),
        ("Größe".encode(), TextFormat(encoding="utf-16"), "is not text of the encoding utf-16"),
        ("Größe".encode(), TextFormat(encoding="ascii"), "is not text of the encoding ascii"),
    ],
)
def test_another_encoding_than_said_is_refused(content, text, message, tmp_path):
    """With the cure, also where the file is compressed."""
    (tmp_path / "t.csv").write_bytes(content)
    (tmp_path / "t.csv.gz").write_bytes(gzip.compress(content))
    for name in ("t.csv", "t.csv.gz"):
        with pytest.raises(InputError, match=message):
            read_table(tmp_path / name, text)


@pytest.mark.parametrize(
    ("given_value", "message"),
    [
        ({"delimiter": ""}, "delimiter='' cannot stand between cells; expected one character"),
        ({"delimiter": ",,"}, "delimiter=',,'"),
        ({"delimiter": '"'}, "delimiter='\"'"),
        ({"delimiter": "\n"}, "delimiter="),
        ({"delimiter": 7}, "delimiter=7"),
        ({"encoding": "utf-9"}, "encoding='utf-9' is not known; expected a name such as 'utf-8'"),
        ({"encoding": "base64"}, "encoding='base64' is not known"),
        ({"encoding": ""}, "encoding='' is not known"),
        ({"encoding": "a\0b"}, "is not known"),
        ({"encoding": 7}, "encoding=7 is not known"),
    ],
)
def test_what_cannot_be_one_is_refused_at_once(given_value, message, tmp_path):
    """Before any file is opened."""
    with pytest.raises(InputError, match=message):
        TextFormat(**given_value)
    with pytest.raises(InputError, match=message):
        label_table(tmp_path / "nowhere.csv", tmp_path / "out.csv", **WAY, **given_value)


def test_a_delimiter_that_was_not_said_is_guessed_at_in_the_error(tmp_path):
    """The rows are not."""
    for mark, shown in ((";", "';'"), ("\t", r"'\\t'"), ("|", r"'\|'")):
        file = tmp_path / "t.csv"
        file.write_text(f"id{mark}text\n1{mark}fine\n")
        with pytest.raises(InputError, match=f"if {shown} separates the cells, give delimiter={shown}"):
            label_table(file, **WAY)
    (tmp_path / "t.csv").write_text("id;text\n1;a, b\n")
    with pytest.raises(InputError, match="has 2 cells and the first line has 1; .*if ';' separates the cells"):
        read_table(tmp_path / "t.csv")
    (tmp_path / "t.csv").write_text("id;text\n1;a;b\n")
    with pytest.raises(InputError, match="a cell that holds the character ';' or line breaks needs quotes"):
        read_table(tmp_path / "t.csv", TextFormat(";"))


@pytest.mark.parametrize(
    ("table", "option", "message"),
    [
        (
            "t.jsonl",
            {"delimiter": ";"},
            r"delimiter=';' \(--delimiter\) is that of CSV and TSV files, and .*t.jsonl' is none",
        ),
        ("t.parquet", {"encoding": "cp1252"}, "encoding='cp1252' .*t.parquet' is none"),
        (ROWS, {"delimiter": ";"}, "'the DataFrame' is none"),
        ("sqlite:///t.db?table=t", {"encoding": "cp1252"}, "'sqlite:///t.db.table=t' is none"),
    ],
)
def test_what_is_said_of_no_text_is_refused(table, option, message, tmp_path, monkeypatch):
    """It would be followed by nobody."""
    monkeypatch.chdir(tmp_path)
    Path("t.db").touch()
    if isinstance(table, str) and "?" not in table:
        write_table(ROWS, table)
    with pytest.raises(InputError, match=message):
        label_table(table, **WAY, **option)
    if isinstance(table, str) and "?" not in table:
        with pytest.raises(InputError, match=message):
            read_table(table, TextFormat(**option))


# --- jobs and commands -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".csv.gz", ".tsv", ".tsv.bz2", ".jsonl.zst", ".jsonl.gz"])
def test_jobs_read_and_write_them(suffix, tmp_path):
    """Again, merged, and in folders."""
    (tmp_path / "in").mkdir()
    write_table(ROWS, tmp_path / "in" / f"a{suffix}")
    write_table(ROWS.assign(id=["4", "5", "6"]), tmp_path / "in" / "b.csv")
    (tmp_path / "in" / "notes.gz").write_bytes(b"no table")
    output = tmp_path / f"out{suffix}"
    contents = set()
    for _ in range(2):
        label_table(tmp_path / "in" / f"a{suffix}", output, resume=True, **WAY)
        contents.add(output.read_bytes())
    assert len(contents) == 1
    assert same(read_table(output)[["id", "text"]])
    label_table(tmp_path / "in" / "b.csv", output, journal=tmp_path / "b", if_exists="merge-on-id", **WAY)
    assert read_table(output)["id"].tolist() == ["1", "2", "3", "4", "5", "6"]
    label_table(tmp_path / "in", tmp_path / "folder", **WAY)
    assert sorted(file.name for file in (tmp_path / "folder").iterdir()) == [f"a{suffix}", "b.csv"]
    assert same(read_table(tmp_path / "folder" / f"a{suffix}")[["id", "text"]])
    with pytest.raises(InputError, match="is read and would be written over"):
        label_table(output, output, journal=tmp_path / "c", **WAY)


@pytest.mark.filterwarnings("default::llmclf.errors.CalibrationWarning")
def test_every_command_takes_delimiter_and_encoding(model_folder, tmp_path, monkeypatch):
    """And writes commas and UTF-8."""
    monkeypatch.chdir(tmp_path)
    model = f"hf:{model_folder('byte_bpe')}"
    lines = [f"{i};Größe {i};{'gut' if i % 2 else 'böse'}" for i in range(30)]
    Path("in.csv").write_text("\n".join(["id;text;mood", *lines]), encoding="cp1252")
    how = ["--delimiter", ";", "--encoding", "cp1252"]
    ask = ["--text-column", "text", "--labels", "gut,böse", "--model", model]
    commands = [
        ["label", "in.csv", "out.csv", "--id-column", "id", *ask],
        ["estimate", "in.csv", *ask],
        ["fit", "in.csv", "--label-column", "mood", "-o", "moods", *ask],
        ["predict", "in.csv", "predicted.tsv", *ask],
        ["race", "in.csv", "--label-column", "mood", *ask],
        ["journal", "export", "out.csv.journal", "-o", "scores.csv", "--rows", "in.csv", "--text-column", "text"],
    ]
    for command in commands:
        result = CliRunner().invoke(app, [*command, *how])
        assert result.exit_code == 0, (command, result.output)
    expected = [f"Größe {i}" for i in range(30)]
    assert read_table("out.csv")["text"].tolist() == expected
    predicted = read_table("predicted.tsv")
    assert predicted["text"].tolist() == expected
    predicted.to_csv("predicted.csv", sep=";", encoding="cp1252", index=False)
    result = CliRunner().invoke(app, ["report", "predicted.csv", "--label-column", "mood", "-o", "r.html", *how])
    assert result.exit_code == 0, result.output
    Path("job.toml").write_text(
        'input = "in.csv"\noutput = "again.csv"\nid_column = "id"\ntext_column = "text"\nlabels = ["gut", "böse"]\n'
        f'model = "{model}"\ndelimiter = ";"\nencoding = "cp1252"\n'
    )
    result = CliRunner().invoke(app, ["label", "--job", "job.toml"])
    assert result.exit_code == 0, result.output
    assert read_table("again.csv").equals(read_table("out.csv"))
    assert (
        estimate_table(
            "in.csv", text_column="text", labels=LABELS, model=FakeBackend(), delimiter=";", encoding="cp1252"
        ).rows
        == 30
    )
    with pytest.raises(InputError, match="give table="):
        export_journal("out.csv.journal", "scores.csv", delimiter=";")
