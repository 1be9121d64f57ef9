"""Cells that a spreadsheet would run: counted, written as text if that is wished, and read back as they were."""

from __future__ import annotations

import csv
import datetime
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from llmclf.backends import FakeBackend
from llmclf.errors import FormulaWarning
from llmclf.jobs import label_table
from llmclf.tables.files import read_table, write_table
from llmclf.tables.formulas import FormulaCells, escaped, is_formula, unescaped
from llmclf.tables.text_files import TextFormat

FORMULAS = [
    "=1+1",
    "+1-2",
    "-x",
    "@SUM(A1)",
    "\t=1",
    "\r=1",
    "\n=1",
    "\0=1",
    "＝1+1",
    "＠SUM",
    "-",
    "=",
    "--",
    "-1-1",
    "+49 30 1",
]
NUMBERS = ["-3.5", "+4", "-1e-5", "-.5", "+2.", "-12%", "-inf", "+1E9", "-0"]
TEXTS = ["", "a=b", "'tis", "1-2", " =1+1", "007", "''", "é@x"]
CELLS = st.text(st.sampled_from("'=+-@\t\r\n1.e\"a,＝\0"), max_size=6) | st.text(
    st.characters(codec="utf-8"), max_size=6
)
LABELS = ["good", "bad"]


def raw_cells(file: Path) -> list[list[str]]:
    """The cells of a file as any other program reads them."""
    with file.open(encoding="utf-8", newline="") as stream:
        return list(csv.reader(stream))


def test_what_a_spreadsheet_would_run():
    """Cells that begin as formulas do, in wide characters, too; numbers with a sign and all other texts are none."""
    assert [text for text in FORMULAS if not is_formula(text)] == []
    assert [text for text in NUMBERS + TEXTS if is_formula(text)] == []


@given(CELLS)
@example("'=1")
@example("''@")
@example("'")
def test_escaping_can_be_undone(text):
    """For every text, however many apostrophes it begins with; and no escaped cell is run."""
    assert unescaped(escaped(text)) == text
    assert not is_formula(escaped(text))


@given(st.data())
def test_a_file_is_read_as_the_table_that_was_written(tmp_path_factory, data):
    """Names of columns and cells come back exactly; whoever reads the file without us finds nothing to run."""
    names = data.draw(st.lists(CELLS, min_size=1, max_size=3, unique=True))
    rows = data.draw(st.lists(st.lists(CELLS, min_size=len(names), max_size=len(names)), min_size=1, max_size=3))
    frame = pd.DataFrame(rows, columns=names, dtype=str)
    file = tmp_path_factory.mktemp("round") / "t.csv"
    counted = FormulaCells(escape=True)
    write_table(frame, file, formulas=counted)
    assert counted.count == sum(is_formula(cell) for row in [names, *rows] for cell in row)
    assert not any(is_formula(cell) for row in raw_cells(file) for cell in row)
    # A line of one empty cell is an empty line, which is skipped.
    read = read_table(file, TextFormat(unescape_formulas=True)) if any("".join(row) for row in rows) else frame
    assert list(read.columns) == names
    assert [row for row in read.to_numpy().tolist() if any(row)] == [row for row in rows if any(row)]


def test_cells_that_are_no_texts(tmp_path):
    """Numbers and durations are never formulas, typed or as text; what else is written with a sign before it is."""
    frame = pd.DataFrame(
        {
            "float": [-0.5, -np.inf],
            "int": [-1, 2],
            "mixed": [-1, "-x"],
            "duration": [datetime.timedelta(seconds=-1)] * 2,
            "list": [[-1], {"a": "=1"}],
        }
    ).astype({"duration": object})
    counted = FormulaCells(escape=True)
    write_table(frame, tmp_path / "t.csv", formulas=counted)
    assert counted.count == 1
    assert counted.first == "row 1 of the column 'mixed'"
    assert raw_cells(tmp_path / "t.csv")[2][2:4] == ["'-x", "P-1DT23H59M59S"]


def job(table, output, **options):
    return label_table(table, output, text_column="text", labels=LABELS, model=FakeBackend(), **options)


def test_a_job_warns_once_with_the_count(tmp_path):
    """The warning says how many, which is the first, and the cure; with the cure there is none, and the cells are texts."""
    frame = pd.DataFrame({"text": ["fine", "=cmd|'/c calc'!A1", "@x"], "-n": ["-3", "'=1", "+1+1"]})
    with pytest.warns(FormulaWarning) as caught:
        job(frame, tmp_path / "plain.csv")
    assert len(caught) == 1
    assert "has 4 cells that a spreadsheet would run as formulas" in str(caught[0].message)
    assert "the first: the name of the column '-n'" in str(caught[0].message)
    assert "--escape-formulas" in str(caught[0].message)
    assert read_table(tmp_path / "plain.csv")["-n"].tolist() == ["-3", "'=1", "+1+1"]
    job(frame, tmp_path / "safe.csv", escape_formulas=True)
    assert not any(is_formula(cell) for row in raw_cells(tmp_path / "safe.csv") for cell in row)
    again = job(tmp_path / "safe.csv", None, unescape_formulas=True, prefix="new_").table
    assert again[["text", "-n"]].equals(frame.astype(again["text"].dtype))


def test_only_csv_files_are_meant(tmp_path):
    """Other formats keep the type of a text, which no spreadsheet runs; a folder's CSV files are counted together."""
    frame = pd.DataFrame({"text": ["=1", "@x"]})
    for name in ("o.jsonl", "o.parquet"):
        job(frame, tmp_path / name, escape_formulas=True)
        job(frame, tmp_path / f"2{name}")
        assert read_table(tmp_path / name)["text"].tolist() == ["=1", "@x"]
    for name in "ab":
        write_table(frame, tmp_path / "in" / f"{name}.csv")
    with pytest.warns(
        FormulaWarning, match=r"has 4 cells .*the first: row 0 of the column 'text' of 'a.csv'\)"
    ) as caught:
        job(tmp_path / "in", tmp_path / "out")
    assert len(caught) == 1


def test_class_names_and_errors_are_cells_too(tmp_path):
    """A class may be called like a formula; its column and its label are escaped as all others are."""
    frame = pd.DataFrame({"text": ["fine"]})
    labels = {"=a": "good", "=b": "bad"}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        label_table(
            frame, tmp_path / "o.csv", text_column="text", labels=labels, model=FakeBackend(), escape_formulas=True
        )
    assert not any(is_formula(cell) for row in raw_cells(tmp_path / "o.csv") for cell in row)
    assert read_table(tmp_path / "o.csv", TextFormat(unescape_formulas=True))["label"][0] in labels


@pytest.mark.filterwarnings("always::llmclf.errors.FormulaWarning")
def test_the_command_line(run, tmp_path, monkeypatch):
    """predict, label and job files have the flags; predict warns in one line."""
    monkeypatch.setattr("llmclf.cli.classify.open_with", lambda *_: FakeBackend())
    monkeypatch.setattr("llmclf.cli.label.open_with", lambda *_: FakeBackend())
    table, out = tmp_path / "in.csv", tmp_path / "out.csv"
    write_table(pd.DataFrame({"text": ["=1", "'=1", "b"]}), table)
    arguments = (table, out, "--labels", "good,bad", "--text-column", "text")
    result = run("predict", *arguments)
    assert result.code == 0
    assert result.err.count("warning:") == 1
    assert "a cell that a spreadsheet would run" in result.err
    assert run("predict", *arguments, "--escape-formulas").err == ""
    assert [row[0] for row in raw_cells(out)] == ["text", "'=1", "''=1", "b"]
    job_file = tmp_path / "job.toml"
    job_file.write_text(
        f"input = '{out}'\noutput = '{tmp_path / 'o2.csv'}'\nlabels = 'good,bad'\ntext_column = 'text'\nprefix = 'n_'\n"
        "escape_formulas = true\nunescape_formulas = true\n",
        encoding="utf-8",
    )
    assert run("label", "--job", job_file, "--quiet").code == 0
    assert [row[0] for row in raw_cells(tmp_path / "o2.csv")] == ["text", "'=1", "''=1", "b"]
    assert read_table(tmp_path / "o2.csv", TextFormat(unescape_formulas=True))["text"].tolist() == ["=1", "'=1", "b"]
