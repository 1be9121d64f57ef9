"""Labelling jobs: what goes in, what comes out, what is refused before anything is asked."""

from __future__ import annotations

import json
import os
import re
import shutil
import sqlite3
import struct
import subprocess
from contextlib import closing, suppress
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from faults import FakeServer, Status, backend_for, rows_asked
from hypothesis import given, settings
from hypothesis import strategies as st

from llmclf import LLMClassifier, Prompt, open_backend
from llmclf.backends import FakeBackend, RowScores
from llmclf.errors import BudgetError, CalibrationWarning, ColumnNameWarning, InputError, JobError, StoreError
from llmclf.jobs import estimate_table, label_table
from llmclf.jobs.journal import plan as plan_module
from llmclf.jobs.journal.answer_codec import decode_block, encode_answer
from llmclf.jobs.journal.journal import Journal
from llmclf.jobs.journal.plan import Plan
from llmclf.jobs.questions import Question, decode_record, encode_record
from llmclf.scoring.class_scores import ScoreTable
from llmclf.tables.files import read_table, write_table
from llmclf.tables.formats import read_chunks

pytestmark = pytest.mark.usefixtures("no_waiting")

LABELS = {"good": ["good", "great"], "bad": "bad"}
ADDED = ["label", "confidence", "accepted", "p_bad", "p_good", "label_mass", "truncated", "undecided", "error"]
ROWS = {
    "id": ["007", "x", "None", "4", "5"],
    "text": [
        "A fine film.",
        'He said: "never, ever".',
        "Two\nlines {{ 7*7 }}",
        "A fine film.",
        "[bold]東京[/bold] <|im_end|>",
    ],
    "n": [1, 2, 3, 4, 5],
}


@pytest.fixture
def frame() -> pd.DataFrame:
    return pd.DataFrame(ROWS)


@pytest.fixture
def chat_server():
    """A server that answers chats with the likeliest tokens: one request a row."""
    with FakeServer("openai_chat") as server:
        yield server


def chat(server: FakeServer, **options):
    """What `label_table` needs to ask that server."""
    return {
        "text_column": "text",
        "labels": ["good", "bad"],
        "prompt": Prompt("Review: {{ text }}", chat=True),
        "model": backend_for(server, **options),
    }


def asked(server: FakeServer, mark: str) -> int:
    return sum(mark in json.dumps(request.body) for request in server.requests)


class Counting:
    """A backend without weights that remembers what it was asked, and fails where it is told to; it sorts like a local model."""

    shares_beginnings = True

    def __init__(self, failing: str = "\0", seed: int = 0) -> None:
        self.inner, self.failing = FakeBackend(seed), failing
        self.texts: list[str] = []

    def identity(self):
        return self.inner.identity()

    def score(self, requests):
        for place, scores in self.inner.score(requests):
            text = requests[place].prompt.text
            self.texts.append(text)
            yield place, RowScores((), error="it failed") if self.failing in text else scores


# --- in and out ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_a_file_gets_its_labels_in_every_format(frame, tmp_path, suffix):
    """The input's columns and order stay, the added columns equal the classifier's own numbers, whatever the format."""
    write_table(frame, tmp_path / f"in{suffix}")
    out = tmp_path / f"out{suffix}"
    result = label_table(
        tmp_path / f"in{suffix}",
        out,
        id_column="id",
        text_column="text",
        labels=LABELS,
        model=FakeBackend(),
        logprobs=True,
    )
    found = read_table(out)
    extra = ["logprob_bad", "logprob_good"]
    assert list(found.columns) == [*ROWS, *ADDED[:5], *extra, *ADDED[5:]]
    assert found["id"].tolist() == ROWS["id"]
    assert [str(value) for value in found["n"]] == list("12345")
    clf = LLMClassifier(FakeBackend(), labels=LABELS).fit(ROWS["text"])
    proba = clf.predict_proba(ROWS["text"])
    assert found["label"].tolist() == clf.predict(ROWS["text"]).tolist()
    np.testing.assert_allclose(found[["p_bad", "p_good"]].astype(float), proba, rtol=1e-12)
    np.testing.assert_allclose(found["confidence"].astype(float), proba.max(axis=1), rtol=1e-12)
    np.testing.assert_allclose(found[extra].astype(float), clf.score_labels(ROWS["text"]), rtol=1e-12)
    np.testing.assert_allclose(found["label_mass"].astype(float), clf.label_mass(ROWS["text"]), rtol=1e-12)
    assert (result.summary.rows, result.summary.labelled, result.summary.questions) == (5, 5, 4)
    assert sum(result.summary.classes.values()) == 5
    assert os.stat(result.summary.journal).st_mode & 0o777 == 0o600


def test_parquet_keeps_types_and_says_where_the_labels_come_from(tmp_path):
    """Integers of 16 bits, times, lists and decimals leave as they came; the metadata name model, prompt and fingerprint."""
    table = pa.table(
        {
            "id": pa.array([1, 2], pa.int16()),
            "text": ["a", None],
            "when": pa.array([0, 1], pa.timestamp("ns", "UTC")),
            "tags": pa.array([["x"], None], pa.list_(pa.string())),
            "price": pa.array([1, 2], pa.decimal128(9, 2)),
        }
    )
    pq.write_table(table, tmp_path / "in.parquet")
    result = label_table(
        tmp_path / "in.parquet",
        tmp_path / "out.parquet",
        text_column="text",
        labels=LABELS,
        model=FakeBackend(3),
        threshold=0.9,
    )
    found = pq.read_table(tmp_path / "out.parquet")
    assert found.select(table.column_names).equals(table)
    assert [str(found.schema.field(name).type) for name in ("label", "confidence", "accepted", "error")] == [
        "string", "double", "bool", "string",
    ]  # fmt: skip
    assert found["label"].to_pylist()[1] is None
    assert found["accepted"].to_pylist()[1] is False
    assert found["error"].to_pylist() == [None, "field 'text' is missing"]
    said = json.loads(found.schema.metadata[b"llmclf"])
    assert said["model"] == {"backend": "fake", "seed": 3}
    assert said["fingerprint"] == result.summary.fingerprint
    assert "prompt template" in said["job"]


def test_frames_come_back_in_their_own_library(frame):
    """pandas (index kept), polars and pyarrow tables return as what they were, labelled alike."""
    options = {"text_column": "text", "labels": LABELS, "model": FakeBackend(), "id_column": "id"}
    frame.index = list("abcde")
    pandas = label_table(frame, **options).table
    assert list(pandas.index) == list("abcde")
    polars = label_table(pl.DataFrame(ROWS), **options).table
    arrow = label_table(pa.table(ROWS), **options).table
    assert isinstance(polars, pl.DataFrame)
    assert isinstance(arrow, pa.Table)
    for found in (polars["label"].to_list(), arrow["label"].to_pylist()):
        assert found == pandas["label"].tolist()
    assert list(polars.columns) == list(pandas.columns) == list(arrow.column_names)


def test_an_arrow_stream_is_read_once_and_written_in_order(frame, tmp_path):
    """A stream gives its rows away once; they are put aside for the second pass and removed afterwards."""
    table = pa.table(ROWS)
    stream = pa.RecordBatchReader.from_batches(table.schema, iter(table.to_batches(max_chunksize=2)))
    label_table(stream, tmp_path / "out.jsonl", text_column="text", labels=LABELS, model=FakeBackend())
    assert read_table(tmp_path / "out.jsonl")["n"].tolist() == [1, 2, 3, 4, 5]
    assert sorted(file.name for file in tmp_path.iterdir()) == ["out.jsonl", "out.jsonl.journal"]


def test_a_folder_becomes_a_folder_with_a_file_per_part(frame, tmp_path):
    """Parts keep their names and formats; a pattern picks files; many files may become one."""
    (tmp_path / "in").mkdir()
    write_table(frame[:2], tmp_path / "in" / "b.csv")
    write_table(frame[2:], tmp_path / "in" / "a.csv")
    (tmp_path / "in" / "_SUCCESS").touch()
    options = {"text_column": "text", "labels": LABELS, "model": FakeBackend(), "id_column": "id"}
    result = label_table(tmp_path / "in", tmp_path / "out", **options)
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == ["a.csv", "b.csv"]
    assert result.summary.journal == str(tmp_path / "out.journal")
    assert read_table(tmp_path / "out" / "b.csv")["id"].tolist() == ROWS["id"][:2]
    label_table(str(tmp_path / "in" / "?.csv"), tmp_path / "one.jsonl", **options)
    assert read_table(tmp_path / "one.jsonl")["id"].tolist() == [*ROWS["id"][2:], *ROWS["id"][:2]]
    shutil.copy(tmp_path / "in" / "a.csv", tmp_path / "out" / "other.csv")
    with pytest.raises(InputError, match="holds 'other.csv', which is not one of this job's files"):
        label_table(tmp_path / "in", tmp_path / "out", resume=True, **options)


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
@pytest.mark.parametrize("empty", ["a", "b", "c"])
def test_a_file_without_rows_stays_one_in_its_folder(frame, empty, suffix, tmp_path):
    """Wherever it stands among the others; where the format has columns, it gets those of the labels, too."""
    (tmp_path / "in").mkdir()
    rows = {name: frame[:0] if name == empty else frame.assign(id=frame["id"] + name) for name in "abc"}
    for name, own in rows.items():
        write_table(own, tmp_path / "in" / f"{name}{suffix}")
    options = {"text_column": "text", "labels": LABELS, "model": FakeBackend(), "id_column": "id"}
    label_table(tmp_path / "in", tmp_path / "out", **options)
    for name, own in rows.items():
        pieces = list(read_chunks(tmp_path / "out" / f"{name}{suffix}", suffix))
        assert sum(map(len, pieces)) == len(own)
        if suffix == ".csv":
            assert (tmp_path / "out" / f"{name}{suffix}").read_text().startswith("id,text,")
        elif pieces:
            assert {"id", "text", "label", "confidence"} <= set(pieces[0].columns)


def test_a_fitted_classifier_labels_with_its_calibrator(frame, tmp_path):
    """A saved folder gives the probabilities of the loaded classifier; further arguments must agree with it."""
    texts = [f"text {i}" for i in range(60)]
    y = LLMClassifier(FakeBackend(), labels=LABELS).fit(texts).predict(texts)
    y[::5] = "good"
    clf = LLMClassifier(FakeBackend(), labels=LABELS, calibrator="temperature", bias="batch", random_state=0)
    clf.fit(texts, y)
    result = label_table(frame, text_column="text", classifier=clf, threshold=0.5)
    np.testing.assert_allclose(result.table[["p_bad", "p_good"]], clf.predict_proba(ROWS["text"]), rtol=1e-10)
    assert result.table["accepted"].tolist() == [True] * 5
    assert result.summary.accepted == 5
    assert label_table(frame, text_column="text", classifier=clf, labels=LABELS).summary.accepted is None
    with pytest.raises(InputError, match="labels=.* is not the classifier's"):
        label_table(frame, text_column="text", classifier=clf, labels=["x", "y"])
    with pytest.raises(InputError, match="fitted on texts; name the column"):
        label_table(frame, classifier=clf)


def test_a_classifier_brings_its_threshold(tmp_path):
    """Accepted are the rows that the classifier's own threshold accepts, after save and load, too; infinity accepts none."""
    texts = [f"text {i}" for i in range(400)]
    plain = LLMClassifier(FakeBackend(), labels=LABELS).fit(texts)
    is_odd = (plain.predict_proba(texts).max(axis=1) < 0.85) & (np.arange(400) % 2 == 0)
    y = np.where(is_odd, "good", plain.predict(texts))
    clf = LLMClassifier(FakeBackend(), labels=LABELS, calibrator="isotonic").fit(texts[:200], y[:200])
    clf.fit_threshold(texts[200:], y[200:], max_error=0.1, confidence=0.9)
    expected = clf.predict_proba(texts).max(axis=1) >= clf.threshold_.threshold
    assert 0 < expected.sum() < 400
    found = label_table(pd.DataFrame({"text": texts}), text_column="text", classifier=clf)
    assert found.table["accepted"].tolist() == expected.tolist()
    assert found.summary.accepted == expected.sum()
    with pytest.warns(CalibrationWarning, match="threshold"):
        clf.fit_threshold(texts[200:], np.roll(y[200:], 1), max_error=0.05)
    assert label_table(pd.DataFrame({"text": texts}), text_column="text", classifier=clf).summary.accepted == 0


def test_tables_with_several_fields_and_choices_of_their_own(tmp_path):
    """A template names columns; dates reach it as dates; rows bring their own choices, in pmi, too."""
    rows = pd.DataFrame(
        {
            "day": pd.to_datetime(["2026-01-02", "2027-03-04"]),
            "event": ["The car got dented.", "I tossed a coin."],
            "options": [["it rained", "a pole"], ["it sank", "it broke"]],
        }
    )
    prompt = Prompt("{{ day.year }}: {{ event }} Most likely:", choices="options", unconditional="Most likely:")
    clf = LLMClassifier(FakeBackend(), labels=[0, 1], prompt=prompt, scoring="pmi").fit(rows)
    found = label_table(rows, labels=[0, 1], prompt=prompt, model=FakeBackend(), scoring="pmi").table
    np.testing.assert_allclose(found[["p_0", "p_1"]], clf.predict_proba(rows), rtol=1e-12)
    for scoring in ("bytes", "mean"):
        clf = LLMClassifier(FakeBackend(), labels=[0, 1], prompt=prompt, scoring=scoring).fit(rows)
        found = label_table(rows, labels=[0, 1], prompt=prompt, model=FakeBackend(), scoring=scoring).table
        np.testing.assert_allclose(found[["p_0", "p_1"]], clf.predict_proba(rows), rtol=1e-12)
    assert found["label"].tolist() == clf.predict(rows).tolist()


def test_pmi_asks_the_prompt_without_a_row_once():
    """With the same labels in all rows, one question serves all."""
    backend = Counting()
    table = pd.DataFrame({"text": [f"t{i}" for i in range(7)]})
    found = label_table(table, text_column="text", labels=LABELS, model=backend, scoring="pmi").table
    assert len(backend.texts) == 8
    clf = LLMClassifier(FakeBackend(), labels=LABELS, scoring="pmi").fit(table["text"])
    np.testing.assert_allclose(found[["p_bad", "p_good"]], clf.predict_proba(table["text"]), rtol=1e-12)


def test_json_lines_whose_fields_come_and_go(tmp_path):
    """A field that only later rows have is a column; its absence is null, and a text's absence an error of that row."""
    lines = [{"text": "a"}] * 5000 + [{"text": "b", "extra": 1}, {"extra": 2}]
    (tmp_path / "in.jsonl").write_text("\n".join(map(json.dumps, lines)))
    result = label_table(
        tmp_path / "in.jsonl", tmp_path / "out.parquet", text_column="text", labels=LABELS, model=FakeBackend()
    )
    found = pq.read_table(tmp_path / "out.parquet")
    assert found["extra"].to_pylist() == [None] * 5000 + [1, 2]
    assert found["error"].to_pylist()[-1] == "field 'text' is missing"
    assert (result.summary.failed, result.summary.questions) == (1, 2)


# --- asking --------------------------------------------------------------------------------------------------------------


def test_equal_rows_are_asked_once(chat_server):
    """Five rows with one text between two of them cost four requests; the answers stand in all five."""
    result = label_table(pd.DataFrame(ROWS), **chat(chat_server))
    assert asked(chat_server, "Review: ") == 4
    assert result.table["confidence"].iloc[0] == result.table["confidence"].iloc[3]
    assert (result.summary.asked, result.summary.labelled) == (4, 5)


def test_a_local_model_gets_rows_that_begin_alike_together():
    """Whatever the order of the table, rows with the same first field come one after the other; the output keeps the order."""
    backend = Counting()
    rows = pd.DataFrame({"story": ["b", "a", "b", "a"], "question": ["1", "2", "3", "4"]})
    found = label_table(rows, labels=LABELS, prompt="{{ story }} {{ question }}:", model=backend).table
    assert [text.split()[-2:] for text in backend.texts] == [["a", "2:"], ["a", "4:"], ["b", "1:"], ["b", "3:"]]
    assert found["question"].tolist() == ["1", "2", "3", "4"]
    backend = Counting()
    found = label_table(
        rows.agg(" ".join, axis=1).to_frame("text"), text_column="text", labels=LABELS, model=backend
    ).table
    assert [text.split()[-3:-1] for text in backend.texts] == [["a", "2"], ["a", "4"], ["b", "1"], ["b", "3"]]
    assert found["text"].tolist() == ["b 1", "a 2", "b 3", "a 4"]


def test_rows_are_sorted_for_local_models_alone(tiny_bpe):
    """A local model says that it gains by it; whoever else is asked is asked in the order of the table."""
    assert open_backend(tiny_bpe.name).shares_beginnings
    backend = Counting()
    backend.shares_beginnings = False
    label_table(
        pd.DataFrame({"text": ["b", "a", "b", "c"]}),
        text_column="text",
        labels=LABELS,
        prompt="{{ text }}",
        model=backend,
    )
    assert backend.texts == ["b", "a", "c"]


def test_a_row_that_fails_keeps_its_error_and_can_be_asked_again(chat_server, tmp_path):
    """The job goes on; resume leaves failures as they are; retry_failed asks them alone."""
    table = pd.DataFrame({"id": range(20), "text": [f"t{i}." for i in range(19)] + ["  "]})
    out = tmp_path / "out.parquet"
    is_ill = True
    fault = lambda request: Status(400) if is_ill and "t7." in json.dumps(request.body) else None  # noqa: E731
    with FakeServer("openai_chat", fault) as server:
        first = label_table(table, out, **chat(server))
        assert (first.summary.labelled, first.summary.failed) == (18, 2)
        found = read_table(out)
        assert found["label"].isna().tolist() == [i in (7, 19) for i in range(20)]
        assert "400" in found["error"][7]
        assert found["error"][19] == "field 'text' is blank"
        assert np.isnan(found["confidence"].astype(float)[7])
        is_ill = False
        server.requests.clear()
        assert label_table(table, out, resume=True, **chat(server)).summary.failed == 2
        assert asked(server, "Review: ") == 0
        again = label_table(table, out, retry_failed=True, **chat(server))
        assert (asked(server, "Review: "), asked(server, "t7.")) == (1, 1)
        assert (again.summary.asked, again.summary.failed) == (1, 1)
    assert read_table(out)["label"].notna().sum() == 19


def test_max_errors_stops_a_hopeless_job(chat_server, tmp_path):
    """The error says how many failed and where the rest is; what had an answer keeps it."""
    table = pd.DataFrame({"text": [f"t{i}." for i in range(200)]})
    fault = lambda request: Status(400) if "Review: t" in json.dumps(request.body) else None  # noqa: E731
    with FakeServer("openai_chat", fault) as server:
        with pytest.raises(JobError, match=r"questions have failed, more than max_errors=5; the last: .*resume"):
            label_table(table, tmp_path / "out.csv", max_errors=5, **chat(server, concurrency=4))
        assert asked(server, "Review: t") < 50
    assert not (tmp_path / "out.csv").exists()
    with pytest.raises(InputError, match="max_errors=-1"):
        label_table(table, max_errors=-1, **chat(chat_server))


def test_limits_hold_at_the_server(monkeypatch):
    """Never more requests under way than concurrency, and in no window of time more than rpm: by the server's clock."""
    from llmclf.backends.http import rate_limits as limits

    monkeypatch.setattr(limits, "_WINDOW", 1.05)
    table = pd.DataFrame({"text": [f"t{i}." for i in range(45)]})
    with FakeServer("openai_chat", latency=0.01) as server:
        label_table(table, **chat(server, concurrency=3, rpm=20))
        times = sorted(request.time for request in server.requests)
        assert 1 < server.peak() <= 3
    assert max(sum(start <= other < start + 1.0 for other in times) for start in times) <= 20


def test_the_budget_is_that_of_the_job_over_all_its_runs(tmp_path):
    """max_cost stops before it is passed, a resumed run starts from what was spent, and a higher limit finishes the job."""
    table = pd.DataFrame({"text": [f"a text with some words, number {i}" for i in range(160)]})
    out, price = tmp_path / "out.csv", {"input": 1000.0, "output": 1000.0}

    def spent(server):
        counts = [server.personality.reply(r)[1].get("usage", {}) for r in list(server.requests) if r.method == "POST"]
        return sum(c.get("prompt_tokens", 0) + c.get("completion_tokens", 0) for c in counts) / 1000

    with FakeServer("openai_chat") as server:
        options = {"concurrency": 2, "price": price}
        accounts, limit = [], 2.0
        for resume in (False, True):
            with pytest.raises(JobError, match=f"max_cost={limit:g} is reached.*continue with resume") as caught:
                label_table(table, out, resume=resume, **chat(server, max_cost=limit, **options))
            # Whatever run it is, the numbers are those of the job.
            said = re.search(r"all runs of this job have spent (\S+), and (\S+) is left", str(caught.value))
            accounts.append(float(said[1]))
            assert float(said[1]) + float(said[2]) == pytest.approx(limit)
            limit = round(float(said[1]) + 1.2, 3)  # enough for what a run begins with, and some rows
        assert 0.5 < accounts[0] < accounts[1] < limit
        before = asked(server, "number ")
        with pytest.raises((JobError, BudgetError), match="max_cost=.* is reached"):
            label_table(table, out, resume=True, **chat(server, max_cost=2.0, **options))
        assert spent(server) <= 5.0  # what the questions cost with which each run begins is not in the account
        result = label_table(table, out, resume=True, **chat(server, max_cost=100.0, **options))
        assert before < 160 == result.summary.labelled
        assert asked(server, "number ") == 160
        assert result.summary.total_cost == pytest.approx(spent(server), rel=0.2)
        spent_and_left = (
            f"{result.summary.total_cost:.6g} of max_cost=100 spent, {100 - result.summary.total_cost:.6g} left"
        )
        assert spent_and_left in result.summary.line


def test_a_wrong_key_stops_at_once_and_keeps_nothing_behind(tmp_path, monkeypatch):
    """A final refusal ends the job; a journal that holds nothing is no journal, so that the next run needs no resume."""
    monkeypatch.setenv("TINY_KEY", "wrong-key-4711")
    table = pd.DataFrame({"text": ["a", "b"]})
    with FakeServer("openai_chat", key="right") as server:
        with pytest.raises(Exception, match="401") as caught:
            label_table(table, tmp_path / "out.csv", **chat(server, api_key_env="TINY_KEY"))
        assert "4711" not in str(caught.value)
        monkeypatch.setenv("TINY_KEY", "right")
        label_table(table, tmp_path / "out.csv", **chat(server, api_key_env="TINY_KEY"))
    assert b"right" not in (tmp_path / "out.csv.journal").read_bytes()


def test_the_same_job_over_an_exact_route(tmp_path):
    """vLLM's routes, several rows in a request: the same scores as the classifier's."""
    table = pd.DataFrame({"text": [f"t{i}." for i in range(150)]})
    with FakeServer("vllm") as server:
        backend = backend_for(server, concurrency=4)
        found = label_table(table, text_column="text", labels=LABELS, model=backend).table
        clf = LLMClassifier(backend, labels=LABELS).fit(table["text"])
        np.testing.assert_allclose(found[["p_bad", "p_good"]], clf.predict_proba(table["text"]), rtol=1e-9)
        assert server.peak() <= 4


# --- refusals ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"id": ["a", "b", "a", "c", "d"]}, r"the id 'a' stands in 2 rows \(rows 0 and 2"),
        ({"id": ["a", None, "b", "c", "d"]}, r"the id in column 'id' is missing in row 1"),
        ({"id": ["a", " ", "b", "c", "d"]}, r"the id in column 'id' is missing in row 1"),
        ({"id": None}, r"the table has no column 'id' \(--id-column\)"),
        ({"text": None}, r"the table has no column 'text'"),
        (
            {"p_bad": ["x"] * 5},
            r"already has a column 'p_.*', which would be added; name the new columns with prefix=",
        ),
        ({"text": [""] * 5}, r"none of the 5 rows can be asked about; row 0: field 'text' is blank"),
        (
            {"text": [1, 2, 3, 4, 5]},
            r"none of the 5 rows can be asked about; row 0: the text is an int; expected a str",
        ),
    ],
)
def test_tables_are_refused_before_anything_is_asked(chat_server, tmp_path, change, message):
    """Ids that are missing or twice there, absent columns, taken names: named, and the server saw nothing."""
    table = pd.DataFrame({**ROWS, **{name: values for name, values in change.items() if values is not None}})
    table = table.drop(columns=[name for name, values in change.items() if values is None])
    with pytest.raises(InputError, match=message):
        label_table(table, tmp_path / "out.csv", id_column="id", **chat(chat_server))
    assert chat_server.requests == []
    assert list(tmp_path.iterdir()) == []


def test_a_table_keeps_its_own_columns(tmp_path):
    """Columns called label and error stay; the new ones are called otherwise, in a file, a frame and after a resume."""
    table = pd.DataFrame({"text": ["a", "b"], "label": [1, 2], "error": ["x", "y"]})
    job = partial(label_table, table, text_column="text", labels=LABELS, model=FakeBackend())
    with pytest.warns(
        ColumnNameWarning, match="'label' is called 'predicted_label', 'error' is called 'predicted_error'"
    ):
        result = job()
    added = ["predicted_label", "confidence", "accepted", "p_bad", "p_good"]
    added += ["label_mass", "truncated", "undecided", "predicted_error"]
    assert list(result.table.columns) == [*table.columns, *added]
    assert result.table[list(table.columns)].equals(table)
    assert repr(result).startswith("<JobResult: labelled 2 of 2 rows; asked 2 questions")
    assert repr(result).endswith("table: 2 rows, 12 columns>")
    for suffix in (".csv", ".jsonl", ".parquet"):
        for resume in (False, True):
            with pytest.warns(ColumnNameWarning):
                again = job(tmp_path / f"out{suffix}", resume=resume)
            assert again.summary.asked == (0 if resume else 2)
            assert list(read_table(tmp_path / f"out{suffix}").columns) == list(result.table.columns)
    named = job(prefix="new_").table
    assert [name for name in named.columns if name.startswith("new_")] == list(named.columns[3:])
    assert named["new_label"].tolist() == result.table["predicted_label"].tolist()
    with pytest.raises(InputError, match="already has a column 'new_label'"):
        label_table(named, text_column="text", labels=LABELS, model=FakeBackend(), prefix="new_")


def test_bad_rows_of_a_job_have_their_reasons():
    """Half a surrogate pair, a blank, a number and a template that fails: each row has its reason, the others their labels."""
    table = pd.DataFrame({"text": ["a", "\ud800", " ", None, 5, "b"]}, dtype=object)
    result = label_table(table, text_column="text", labels=LABELS, model=FakeBackend()).table
    assert [isinstance(label, str) for label in result["label"]] == [True, False, False, False, False, True]
    reasons = ["half of a surrogate pair", "is blank", "is missing", "expected a str"]
    assert all(reason in error for reason, error in zip(reasons, result["error"][1:5], strict=True))
    numbers = pd.DataFrame({"n": [1, 0, 2]})
    divided = label_table(numbers, labels=LABELS, prompt="{{ 6 / n }}:", model=FakeBackend()).table
    assert divided["label"].isna().tolist() == [False, True, False]
    assert "division by zero" in divided["error"][1]


def test_outputs_are_refused_before_anything_is_asked(frame, chat_server, tmp_path):
    """A path below a file, an unknown suffix, the input itself: named, and the server saw nothing."""
    write_table(frame, tmp_path / "in.csv")
    journal = tmp_path / "j"
    for output, message in (
        (tmp_path / "in.csv" / "out.csv", "cannot be written"),
        (tmp_path / "out.xlsx", "is a spreadsheet"),
        (tmp_path / "in.csv", "is read and would be written over"),
    ):
        with pytest.raises((InputError, StoreError), match=message):
            label_table(tmp_path / "in.csv", output, journal=journal, **chat(chat_server))
    assert chat_server.requests == []
    assert [file.name for file in tmp_path.iterdir()] == ["in.csv"]


@pytest.fixture
def small_disk(tmp_path):
    """A disk of three megabytes, which root can make."""
    place = tmp_path / "disk"
    place.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", place], capture_output=True, text=True)
    if made.returncode:
        pytest.skip(f"this user may mount no disk: {made.stderr.strip()}")
    yield place
    subprocess.run(["umount", place], check=True)


@pytest.mark.slow
def test_a_disk_that_fills_up_loses_nothing(small_disk):
    """The job stops with the journal's name, and once there is room goes on with what it had; a table too large is not begun."""

    class Filling(Counting):
        def score(self, requests):
            for answer in super().score(requests):
                if len(self.texts) == 2500:
                    with suppress(OSError), (small_disk / "filler").open("wb", buffering=0) as filler:
                        while True:
                            filler.write(bytes(4096))
                yield answer

    table = pd.DataFrame({"text": [f"row {i}" for i in range(5000)]})
    job = partial(label_table, table, text_column="text", labels=LABELS, journal=small_disk / "j")
    with pytest.raises(StoreError, match=r"journal '.*/j' cannot be written: .*full"):
        job(model=Filling())
    (small_disk / "filler").unlink()
    backend = Counting()
    assert job(model=backend, resume=True).summary.labelled == 5000
    assert 2500 <= len(backend.texts) < 4000
    backend = Counting()
    long = pd.DataFrame({"text": [f"row {i} " * 30 for i in range(20_000)]})
    with pytest.raises(StoreError, match="full|MB free"):
        label_table(long, small_disk / "out.csv", text_column="text", labels=LABELS, model=backend)
    assert backend.texts == []


def test_a_disk_that_is_too_small_is_refused_before_anything_is_asked(chat_server, tmp_path, monkeypatch):
    """Journal and output are compared with what is free where they go."""
    usage = shutil.disk_usage(tmp_path)
    table = pd.DataFrame({"text": [f"t{i}" for i in range(20_000)]})
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=3_000_000))
    with pytest.raises(StoreError, match=r"has 3 MB free, and journal, plan and output need about \d+ MB; make room"):
        label_table(table, tmp_path / "out.csv", **chat(chat_server))
    # The log of a journal that a server's answers go into is larger than the answers of a few rows.
    with pytest.raises(StoreError, match=r"has 3 MB free, and journal, plan and output need about [45] MB"):
        label_table(table[:400], tmp_path / "out.csv", **chat(chat_server))
    assert chat_server.requests == []


@pytest.mark.parametrize(
    "template",
    ["Hi:", "{{ label_words[0] }}", "{{ 'text' }}", "{% set text = 1 %}{{ text }}", "{{ fields | length }}", "{{ review }}",
     "{{ fields['review'] }}", "{{ fields.review }}", "{{ self }}", "{{ loop }}"],
)  # fmt: skip
@pytest.mark.parametrize("entry", [label_table, estimate_table])
def test_a_template_that_never_names_the_text_is_refused(entry, template):
    """Whatever it names in its place, it is an error of ours, before anything is asked."""
    backend = Counting()
    table = pd.DataFrame({"review": ["Fine.", "Long."]})
    with pytest.raises(InputError, match="template"):
        entry(table, text_column="review", labels=LABELS, prompt=template, model=backend)
    assert backend.texts == []


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"prompt": Prompt("Film: {{ text }}", chat=True)}, "prompt template"),
        ({"prompt": Prompt("Review: {{ text }}", chat=True, instruction="Judge.")}, "prompt instruction"),
        ({"labels": ["good", "poor"]}, "labels"),
        ({"labels": {"good": "great", "bad": "bad"}}, "labels"),
        ({"base_url": True}, "base_url"),
        ({"top_calls": 3}, "top_calls"),
        ({"extra": {"seed": 1}}, "extra"),
        ({"name": "openai:other"}, "model"),
    ],
)
def test_a_journal_belongs_to_one_job(chat_server, tmp_path, change, name):
    """Another prompt, label, model, address or option is refused by name, and nothing is asked."""
    from llmclf import open_backend

    frame = pd.DataFrame(ROWS)
    label_table(frame, tmp_path / "out.csv", **chat(chat_server))
    n_requests = len(chat_server.requests)
    options = {name: change[name] for name in ("top_calls", "extra") if name in change}
    url = "http://127.0.0.1:1/v1" if "base_url" in change else chat_server.url
    changed = {**chat(chat_server), **{name: change[name] for name in ("prompt", "labels") if name in change}}
    changed["model"] = open_backend(change.get("name", "openai:tiny"), base_url=url, **options)
    with pytest.raises(InputError, match=f"belongs to another job: its {name} is .*, and this job's is"):
        label_table(frame, tmp_path / "out.csv", resume=True, **changed)
    assert len(chat_server.requests) == n_requests
    # What no score depends on may change: limits, threshold, and the table itself.
    more = pd.concat([frame, pd.DataFrame({"id": ["new"], "text": ["A new text."], "n": [6]})])
    kept = label_table(more, tmp_path / "out.csv", resume=True, threshold=0.5, **chat(chat_server, concurrency=2))
    assert (kept.summary.asked, kept.summary.rows) == (1, 6)


def test_another_score_version_is_refused(frame, tmp_path, monkeypatch):
    """A journal of a version whose scores may differ is named."""
    options = {"text_column": "text", "labels": LABELS, "model": FakeBackend()}
    label_table(frame, tmp_path / "out.csv", **options)
    monkeypatch.setattr("llmclf.pipeline.SCORE_VERSION", 999)
    with pytest.raises(InputError, match="its score version is 2, and this job's is 999"):
        label_table(frame, tmp_path / "out.csv", resume=True, **options)


def test_a_model_that_changed_behind_its_name_is_refused(tmp_path):
    """The server answers as another model than before: named, and no row is asked."""
    with FakeServer("openai_chat") as server:
        label_table(pd.DataFrame({"text": ["a"]}), tmp_path / "out.csv", **chat(server))
        server.personality.name = "tiny-2"
        server.requests.clear()
        with pytest.raises(InputError, match="its answered_by is 'tiny', and the model's is 'tiny-2'"):
            label_table(pd.DataFrame({"text": ["a", "b"]}), tmp_path / "out.csv", resume=True, **chat(server))
        assert asked(server, "Review: ") == 0


def test_an_earlier_journal_is_not_gone_on_with_unasked(frame, tmp_path):
    """Without resume a journal is refused; a file that is none, too."""
    options = {"text_column": "text", "labels": LABELS, "model": FakeBackend()}
    label_table(frame, tmp_path / "out.csv", **options)
    with pytest.raises(InputError, match="is the journal of an earlier run; continue it with resume"):
        label_table(frame, tmp_path / "out.csv", **options)
    (tmp_path / "text").write_text("no journal at all, but long enough to be looked at " * 20)
    with pytest.raises(StoreError, match="is not a journal"):
        label_table(frame, tmp_path / "out.csv", journal=tmp_path / "text", resume=True, **options)
    sqlite3.connect(tmp_path / "other.db").execute("CREATE TABLE mine (x)").connection.close()
    with pytest.raises(StoreError, match="is a database of another program"):
        label_table(frame, tmp_path / "out.csv", journal=tmp_path / "other.db", resume=True, **options)


def test_a_table_that_changes_meanwhile_is_noticed(tmp_path):
    """Rows that are no longer those that were asked get no labels; resume asks only what changed."""
    source = tmp_path / "in.csv"
    write_table(pd.DataFrame({"text": ["a", "b", "c"]}), source)

    class Meddling(Counting):
        def score(self, requests):
            yield from super().score(requests)
            write_table(pd.DataFrame({"text": ["a", "changed", "c"]}), source)

    options = {"text_column": "text", "labels": LABELS}
    with pytest.raises(InputError, match="has changed while it was labelled .* only rows that have changed are asked"):
        label_table(source, tmp_path / "out.csv", model=Meddling(), **options)
    assert not (tmp_path / "out.csv").exists()
    backend = Counting()
    label_table(source, tmp_path / "out.csv", model=backend, resume=True, **options)
    assert len(backend.texts) == 1


def test_a_damaged_answer_is_an_error_and_can_be_asked_again(frame, tmp_path):
    """A flipped bit is seen, costs one row, and retry_failed heals it."""
    options = {"text_column": "text", "labels": LABELS}
    label_table(frame, tmp_path / "out.csv", model=FakeBackend(), **options)
    whole = (tmp_path / "out.csv").read_bytes()
    journal = sqlite3.connect(tmp_path / "out.csv.journal")
    (value,) = journal.execute("SELECT value FROM answers WHERE n = 2").fetchone()
    flipped = value[:20] + bytes([value[20] ^ 1]) + value[21:]
    journal.execute("UPDATE answers SET value = ? WHERE n = 2", (flipped,))
    journal.commit()
    journal.close()
    found = label_table(frame, tmp_path / "out.csv", model=FakeBackend(), resume=True, **options)
    assert found.summary.failed == 1
    assert "damaged" in " ".join(read_table(tmp_path / "out.csv")["error"])
    backend = Counting()
    label_table(frame, tmp_path / "out.csv", model=backend, retry_failed=True, **options)
    assert len(backend.texts) == 1
    assert (tmp_path / "out.csv").read_bytes() == whole


# --- estimates -----------------------------------------------------------------------------------------------------------


def test_an_estimate_asks_nothing_and_counts_what_is_left(chat_server, tmp_path):
    """Rows, different questions, tokens, cost and time; with a journal, of what it does not answer."""
    table = pd.DataFrame({"text": [f"a text, number {i // 2}" for i in range(20)] + [""]})
    options = chat(chat_server, price={"input": 1.0, "output": 2.0}, rpm=5)
    found = estimate_table(table, **options)
    assert (found.rows, found.unaskable, found.questions, found.todo, found.requests) == (21, 1, 10, 10, 10)
    assert found.cost > 0
    assert found.seconds == pytest.approx(120)
    assert "rpm=5" in found.assumption
    assert chat_server.requests == []
    options = chat(chat_server, price={"input": 1.0, "output": 2.0})
    label_table(table[:10], tmp_path / "out.csv", **options)
    left = estimate_table(table, journal=tmp_path / "out.csv.journal", **options)
    assert (left.todo, left.questions) == (5, 10)
    # By now the route is known, which changes the tokens.
    assert left.cost == pytest.approx(estimate_table(table, **options).cost / 2, rel=0.1)


def test_an_estimate_for_a_local_model_tries_a_few_rows(tiny_bpe):
    """Tokens are counted with the model's tokenizer, and the time rests on rows that were tried."""
    table = pd.DataFrame({"text": [f"a text, number {i}" for i in range(100)]})
    found = estimate_table(table, text_column="text", labels=LABELS, model=tiny_bpe)
    assert (found.todo, found.requests, found.is_counted) == (100, None, True)
    assert found.tokens_in > 100
    assert found.seconds > 0


def test_a_real_local_model_labels_and_a_long_text_costs_only_its_row(tiny_bpe):
    """A row that does not fit the context at all is an error; one that is shortened is marked."""
    table = pd.DataFrame({"text": ["a fine film", "so " * 2000, "bad"], "topic": ["x", "y", "z" * 3000]})
    prompt = Prompt("{{ topic }}: {{ text }}\nSentiment:", text_field="text")
    found = label_table(table, labels=LABELS, prompt=prompt, model=tiny_bpe).table
    assert found["truncated"].tolist() == [False, True, False]
    assert found["label"].isna().tolist() == [False, False, True]
    assert "context" in found["error"][2] or "reads" in found["error"][2]
    clf = LLMClassifier(tiny_bpe, labels=LABELS, prompt=prompt).fit(table[:1])
    np.testing.assert_allclose(found[["p_bad", "p_good"]][:1], clf.predict_proba(table[:1]), rtol=1e-5)


# --- the parts -----------------------------------------------------------------------------------------------------------

LOGPROB = st.floats(-1e6, 0.0)


def by_the_format(data: bytes) -> RowScores:
    """An answer read by the format's definition: flags, lengths, characters cut, log-probabilities and bounds, a checksum."""
    flags, n = data[0], int.from_bytes(data[1:3], "little")
    lengths = struct.unpack_from(f"<{n}H", data, 3)
    start = 3 + 2 * n
    (cut,) = struct.unpack_from("<I", data, start)
    values = list(struct.unpack(f"<{(len(data) - start - 8) // 8}d", data[start + 4 : -4]))
    tokens = tuple(tuple(values.pop(0) for _ in range(length)) for length in lengths)
    return RowScores(tokens, tuple(values[:n]), tuple(values[n:]), cut, bool(flags & 1), bool(flags & 2))


@given(
    tokens=st.lists(st.lists(LOGPROB, min_size=1, max_size=4), min_size=1, max_size=5),
    width=st.one_of(st.none(), st.floats(0.0, 3.0)),
    cut=st.integers(0, 2**31),
    healed=st.booleans(),
    terminated=st.booleans(),
)
def test_answers_are_read_as_they_were_written(tokens, width, cut, healed, terminated):
    """In the bytes that the format says, and in blocks; any flipped byte is seen."""
    exact = RowScores(tuple(map(tuple, tokens)))
    bounds = (
        ((), ())
        if width is None
        else (tuple(s - width for s in exact.sums), tuple(min(0.0, s + width) for s in exact.sums))
    )
    answer = RowScores(exact.token_logprobs, *bounds, cut, healed, terminated)
    data = encode_answer(b"k", answer)
    assert by_the_format(data) == answer
    block = decode_block([b"k", None, b"k"], [data, None, data[:-1]], [None, "no", None], len(tokens), "damaged")
    expected = ScoreTable.of([answer, RowScores((), error="no")], len(tokens))
    for name in ("sums", "lower", "upper", "n_tokens"):
        np.testing.assert_allclose(getattr(block.scores, name)[:2], getattr(expected, name), rtol=1e-12)
    assert block.errors == [None, "no", "damaged"]
    assert block.truncated.tolist() == [cut > 0, False, False]
    for i in range(0, len(data), 7):
        flipped = data[:i] + bytes([data[i] ^ 64]) + data[i + 1 :]
        assert decode_block([b"k"], [flipped], [None], len(tokens), "damaged").errors == ["damaged"]
    assert decode_block([b"other"], [data], [None], len(tokens), "damaged").errors == ["damaged"]


VALUE = st.recursive(
    st.one_of(
        st.text(), st.integers(), st.booleans(), st.floats(allow_nan=False, allow_infinity=False), st.dates(), st.times(),
        st.datetimes(), st.decimals(allow_nan=False, allow_infinity=False), st.binary(),
        st.timedeltas(),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(), inner, max_size=3)),
    max_leaves=6,
)  # fmt: skip


@given(st.lists(VALUE, max_size=4))
@settings(max_examples=200)
def test_records_are_read_as_they_were_written(values):
    """Every value of a table comes back with its type, lone surrogates included."""
    found = decode_record(encode_record(values))
    assert found == values
    assert list(map(type, found)) == list(map(type, values))
    assert encode_record(["\ud800", *values]) != encode_record(["\ud801", *values])


def test_no_answer_is_kept_that_is_no_probability(tmp_path):
    """NaN, infinity and positive numbers are refused, and the transaction leaves nothing behind."""
    with Journal(tmp_path / "j") as journal:
        journal.begin({"a": 1})
        for value in (float("nan"), float("-inf"), 0.1):
            with pytest.raises(InputError, match="cannot be kept"):
                journal.add([(b"k", RowScores(((-1.0,),))), (b"l", RowScores(((value,),)))])
        assert journal.connection.execute("SELECT count(*) FROM answers").fetchone() == (0,)
    assert not Path(tmp_path / "j").exists()


def test_answers_are_kept_while_questions_are_read(tmp_path):
    """The next questions come from another thread, or another process, which may be in the middle of a page."""
    questions = [Question(bytes([i]) * 16, b"{}") for i in range(3)]
    with Journal(tmp_path / "j") as journal:
        journal.begin({"a": 1})
        with Plan(journal, 1) as plan:
            plan.add(questions, None, b"digest")
            plan.finish(has_ids=False, finds_ids=False, retry_failed=False, in_order=True)
            with closing(sqlite3.connect(plan.path)) as reader:
                page = reader.execute("SELECT n FROM todo")
                assert page.fetchone() == (1,)
                journal.add([(questions[0].key, RowScores(((-1.0,),)))], {"requests": 1})
                with journal.transaction():
                    journal.connection.execute("UPDATE runs SET usage = '{}'")
                    assert page.fetchall() == [(2,), (3,)]
                    assert reader.execute("SELECT count(*) FROM todo").fetchone() == (3,)
            plan.learn()
            errors = plan.block(0, 3)[1].errors
            assert [error is None for error in errors] == [True, False, False]


def test_a_job_over_many_chunks_of_questions(chat_server, tmp_path, monkeypatch):
    """Each answer is kept at once though the next question is looked up at any instant; none is asked or kept twice."""
    monkeypatch.setattr(plan_module, "_CHUNK", 1)
    table = pd.DataFrame({"text": [f"<review {i}>" for i in range(400)]})
    summary = label_table(table, tmp_path / "out.csv", **chat(chat_server, concurrency=6)).summary
    assert (summary.labelled, summary.failed, summary.asked) == (400, 0, 400)
    assert rows_asked(chat_server) == {str(i): 1 for i in range(400)}


def test_what_cannot_be_committed_does_not_stand_in_the_way(tmp_path):
    """The error says why, not that a transaction is open, and what comes next is kept."""
    with Journal(tmp_path / "j") as journal:
        journal.begin({"a": 1})
        journal.connection.execute("PRAGMA foreign_keys = ON")
        # A promise that is looked at when it is committed.
        journal.connection.execute("CREATE TABLE notes (n REFERENCES answers (n) DEFERRABLE INITIALLY DEFERRED)")
        with (
            pytest.raises(StoreError, match="cannot be read or written: FOREIGN KEY constraint failed"),
            journal.transaction(),
        ):
            journal.connection.execute("INSERT INTO notes VALUES (7)")
        journal.add([(b"k" * 16, RowScores(((-1.0,),)))])
        assert journal.connection.execute("SELECT count(*) FROM notes").fetchone() == (0,)
    with Journal(tmp_path / "j", resume=True) as journal:
        assert journal.connection.execute("SELECT count(*) FROM answers").fetchone() == (1,)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("value", "refusing", "message"),
    [
        ("half \ud83d", {".csv", ".parquet"}, "half a surrogate pair"),
        ([{"a": "\ud83d"}], {".csv", ".parquet"}, "half a surrogate pair"),
        (2**70, {".parquet"}, "an integer of more than 64 bits"),
        ({"a": 2**70}, {".parquet"}, "int too large"),
        ({"a": object()}, {".csv", ".jsonl", ".parquet"}, "no JSON form|no common type in Parquet"),
    ],
)
@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_values_that_a_format_cannot_hold_are_refused_before_anything_is_asked(
    value, refusing, message, suffix, tmp_path
):
    """Wherever in the table they stand, with their row and column; what a format does hold is written."""
    table = pd.DataFrame(
        {"text": [f"row {i}" for i in range(5000)], "odd": pd.Series([None] * 4999 + [value], dtype=object)}
    )
    backend, out = Counting(), tmp_path / f"out{suffix}"
    job = partial(label_table, table, out, text_column="text", labels=LABELS, model=backend)
    if suffix in refusing:
        with pytest.raises(InputError, match=f"'odd'.*{message}"):
            job()
        assert backend.texts == []
        assert list(tmp_path.iterdir()) == []
    else:
        assert job().summary.labelled == 5000
        found = read_table(out)["odd"].iloc[-1]
        assert found == value if suffix == ".jsonl" else json.loads(found) == value


# --- batches -------------------------------------------------------------------------------------------------------------


def test_a_job_through_batches_equals_a_live_one_and_goes_on_where_it_stopped(tmp_path):
    """Labels are those of the live route; a job whose second batch fails keeps the first, and nothing is paid for twice."""
    from batch_server import BatchServer
    from batch_server import Plan as Fate

    from llmclf.jobs.asking.batches import BatchAsking

    table = pd.DataFrame({"id": range(40), "text": [f"<review {i // 2}>" for i in range(40)]})
    out = tmp_path / "out.csv"
    refused = Fate(errors=[{"code": "invalid", "message": "no more today", "line": 1}])
    with BatchServer("openai_chat", [Fate(looks=2), refused]) as server:
        asking = BatchAsking(poll_seconds=0.01, max_requests=8, parallel=1)
        with pytest.raises(JobError, match="no more today.*continue with resume"):
            label_table(table, out, id_column="id", asking=asking, **chat(server))
        assert sum(server.batches.paid.values()) == 8
        result = label_table(table, out, id_column="id", asking=asking, resume=True, **chat(server))
        assert result.summary.labelled == 40
        assert set(server.batches.paid.values()) == {1}
        assert len(server.batches.paid) == 20
        live = label_table(table, tmp_path / "live.csv", id_column="id", **chat(server))
        assert live.summary.labelled == 40
    assert out.read_bytes() == (tmp_path / "live.csv").read_bytes()
    with pytest.raises(InputError, match="does not take batches"):
        label_table(table, text_column="text", labels=LABELS, model=FakeBackend(), asking=asking)
