"""A journal's answers as a table: what the job writes, in the words of its labels."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from killed_journal import LABELS, N_BEFORE, N_ROWS, TABLE

from llmclf import LLMClassifier
from llmclf.backends import FakeBackend, RowScores
from llmclf.errors import InputError, StoreError
from llmclf.jobs import export_journal
from llmclf.jobs.journal.journal import Journal
from llmclf.tables.files import read_table, write_table


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_rows_with_their_ids_and_scores(killed, tmp_path, suffix):
    """A line for each row of the table: those that are answered have the classifier's own scores, others say that they wait."""
    write_table(TABLE, tmp_path / f"in{suffix}")
    out = tmp_path / f"rows{suffix}"
    n = export_journal(killed, out, table=tmp_path / f"in{suffix}", id_column="id", text_column="text")
    found = read_table(out)
    assert n == N_ROWS
    assert list(found.columns) == ["id", "logprob_bad", "logprob_good", "truncated", "error"]
    assert found["id"].tolist() == TABLE["id"].tolist()
    waits = np.array([str(error) == "not answered yet" for error in found["error"]])
    assert waits.sum() == N_ROWS - N_BEFORE
    scores = LLMClassifier(FakeBackend(), labels=LABELS).fit(TABLE["text"]).score_labels(TABLE["text"])
    np.testing.assert_allclose(
        found.loc[~waits, ["logprob_bad", "logprob_good"]].astype(float), scores[~waits], rtol=1e-12
    )


def test_questions_without_a_table(killed, tmp_path):
    """A line for each question, by the hash that the journal knows it by."""
    assert export_journal(killed, tmp_path / "rows.jsonl") == N_BEFORE
    found = read_table(tmp_path / "rows.jsonl")
    assert found["question"].str.fullmatch("[0-9a-f]{32}").all()
    assert found["question"].is_unique


def test_tables_of_several_columns(tmp_path):
    """The fields that a prompt names are columns; a row that lacks one cannot have been asked."""
    from llmclf.jobs import label_table

    table = pd.DataFrame({"title": ["a", "b", None], "stars": [1, 2, 3]})
    table.to_parquet(tmp_path / "in.parquet")
    label_table(
        tmp_path / "in.parquet",
        tmp_path / "out.parquet",
        labels=["x", "y"],
        prompt="{{ title }} {{ stars }}:",
        model=FakeBackend(),
    )
    assert export_journal(tmp_path / "out.parquet.journal", tmp_path / "rows.csv", table=tmp_path / "in.parquet") == 3
    found = read_table(tmp_path / "rows.csv")
    assert found["id"].tolist() == ["0", "1", "2"]
    assert found["error"].tolist() == ["", "", "not answered yet"]


def test_bounds_and_models_where_there_are_some(tmp_path):
    """A server that shows the likeliest tokens alone bounds its scores; an accepted change of model is in the rows."""
    with Journal(tmp_path / "j") as journal:
        journal.begin({"labels": [["a", ["a"]], ["b", ["b"]]], "fields": ["text"]})
        bounded = RowScores(((-1.0,), (-2.0,)), lower=(-1.5, -2.5), upper=(-0.5, -2.0))
        journal.add([(b"k" * 16, bounded), (b"l" * 16, RowScores((), error="no"))])
    export_journal(tmp_path / "j", tmp_path / "rows.jsonl")
    found = read_table(tmp_path / "rows.jsonl")
    assert found.loc[0, ["logprob_a", "lower_a", "upper_a", "lower_b"]].tolist() == [-1.0, -1.5, -0.5, -2.5]
    assert found["error"].tolist() == [None, "no"]


def test_what_cannot_be_exported_is_named(killed, tmp_path):
    """No column, no table, no suffix, no answers, no room."""
    write_table(TABLE, tmp_path / "in.csv")
    for options, message in (
        ({"text_column": "body"}, "has no column 'body'; its columns: .'id', 'text'."),
        ({"text_column": "text", "id_column": "key"}, "has no column 'key'"),
        ({}, "name the column that holds them .--text-column"),
    ):
        with pytest.raises(InputError, match=message):
            export_journal(killed, tmp_path / "rows.csv", table=tmp_path / "in.csv", **options)
    with pytest.raises(InputError, match=r"ends with '.xml'"):
        export_journal(killed, tmp_path / "rows.xml")
    with pytest.raises(StoreError, match="cannot be written"):
        export_journal(killed, tmp_path / "in.csv" / "rows.csv")
    assert not (tmp_path / "rows.csv").exists()
    with Journal(tmp_path / "j") as journal:
        journal.begin({"a": 1})
        with journal.transaction():
            journal.connection.execute("CREATE TABLE batch_batches (n)")
            journal.connection.execute("INSERT INTO batch_batches VALUES (1)")
    with pytest.raises(InputError, match="holds no answers yet"):
        export_journal(tmp_path / "j", tmp_path / "rows.csv")
