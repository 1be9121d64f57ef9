"""The command line as a stranger uses it: real files, a real (tiny) model, real exit codes."""

from __future__ import annotations

import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import Result
from typer.testing import CliRunner

import llmclf.cli
from llmclf import LLMClassifier, Prompt, load
from llmclf.features.vector_cache import NamedVector, VectorCache
from llmclf.scoring.score_cache import ScoreCache
from llmclf.tables.files import read_table, write_table

PROGRAM = str(Path(sys.executable).with_name("llmclf"))
PROMPT = r"Review: {{ text }}\nSentiment:"
ROWS = {
    "id": ["007", "NA", "None", "4"],
    "text": ["A fine film.", 'He said: "never, ever".', "Two\nlines {{ 7*7 }}", "[bold]東京[/bold] :smile:"],
    "mood": ["pos", "neg", "neg", "pos"],
}


@pytest.fixture
def model(model_folder) -> str:
    return f"hf:{model_folder('byte_bpe')}"


@pytest.fixture
def data(tmp_path) -> Path:
    write_table(pd.DataFrame(ROWS), tmp_path / "data.csv")
    return tmp_path / "data.csv"


def assert_labelled(frame: pd.DataFrame, classes: list[str]) -> np.ndarray:
    """The added columns agree with one another; the input's columns are as they were. Returns the probabilities."""
    names = ["label", "confidence", *(f"p_{label}" for label in classes)]
    assert list(frame.columns) == [*ROWS, *names]
    assert {name: frame[name].tolist() for name in ROWS} == ROWS
    proba = frame[names[2:]].astype(float).to_numpy()
    np.testing.assert_allclose(proba.sum(axis=1), 1.0)
    np.testing.assert_array_equal(frame["confidence"].astype(float), proba.max(axis=1))
    assert frame["label"].tolist() == [classes[k] for k in proba.argmax(axis=1)]
    return proba


# Work


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_predict_adds_labels_to_every_kind_of_table(run, model, tmp_path, suffix):
    """Label, confidence and probabilities are added, equal to the estimator's own, and the input's columns stay."""
    source, target = tmp_path / f"in{suffix}", tmp_path / "new" / f"out{suffix}"
    write_table(pd.DataFrame(ROWS), source)
    result = run(
        "predict", source, target, "--text-column", "text", "--labels", "pos, neg", "--prompt", PROMPT, "--model", model
    )
    assert result == (0, f"labelled 4 rows; written to {target}\n", "")
    proba = assert_labelled(read_table(target), ["neg", "pos"])
    clf = LLMClassifier(model, labels=["pos", "neg"], prompt="Review: {{ text }}\nSentiment:").fit(ROWS["text"])
    np.testing.assert_allclose(proba, clf.predict_proba(ROWS["text"]), rtol=1e-5)
    assert read_table(source).to_dict("list") == ROWS


def test_fit_saves_what_predict_uses(run, model, data, tmp_path):
    """fit saves a classifier with shots and calibrator; predict --classifier gives the probabilities of the loaded one."""
    folder, target = tmp_path / "saved", tmp_path / "out.jsonl"
    train = pd.concat([pd.DataFrame(ROWS)] * 6)
    write_table(train.assign(text=[f"{text} {i}" for i, text in enumerate(train["text"])]), data)
    result = run("fit", data, "--text-column", "text", "--label-column", "mood", "-o", folder, "--prompt", PROMPT,
                 "--shots", 2, "--seed", 3, "--model", model)  # fmt: skip
    fitted, chosen = result.out.splitlines()
    assert (result.code, fitted, result.err) == (0, f"fitted on 24 rows of the classes neg, pos; saved in {folder}", "")
    assert chosen == f"calibrator: auto {load(folder).calibrator_.choice_}"
    assert os.listdir(folder) == ["classifier.json"]
    (tmp_path / "plain").touch()
    assert (folder / "classifier.json").stat().st_mode == (tmp_path / "plain").stat().st_mode
    saved = load(folder)
    assert len(saved.shots_) == 2
    assert saved.calibrator_ is not None
    write_table(pd.DataFrame(ROWS), data)
    assert run("predict", data, target, "--text-column", "text", "--classifier", folder).code == 0
    np.testing.assert_allclose(
        assert_labelled(read_table(target), ["neg", "pos"]), saved.predict_proba(ROWS["text"]), rtol=1e-5
    )
    # An earlier classifier may be replaced, here by one with words, another scoring and no calibrator.
    again = run("fit", data, "--text-column", "text", "--label-column", "mood", "-o", folder, "--model", model,
                "--labels", "pos = good | great ,neg=bad", "--calibrator", "none", "--bias", "batch",
                "--scoring", "mean", "--chat")  # fmt: skip
    assert again.code == 0, again.err
    saved = load(folder)
    assert saved.label_words_ == [["bad"], ["good", "great"]]
    assert (saved.calibrator_, saved.scoring, saved.prompt.chat) == (None, "mean", True)
    assert saved.bias_.method == "batch_meanlog"


@pytest.mark.filterwarnings("default::llmclf.errors.CalibrationWarning")
@pytest.mark.parametrize("max_error", [0.2, 0.01])
def test_fit_chooses_a_threshold_that_predict_heeds(run, model, tmp_path, max_error):
    """--max-error says in a line from which confidence on rows are accepted; predict adds accepted after confidence."""
    folder, target = tmp_path / "saved", tmp_path / "out.jsonl"
    texts = [f"text number {i}" for i in range(400)]
    proba = LLMClassifier(model, labels=["neg", "pos"]).fit(texts).predict_proba(texts)
    unsure = np.argsort(proba.max(axis=1))[:200:2]
    proba[unsure] = proba[unsure, ::-1]
    labels = np.array(["neg", "pos"])[proba.argmax(axis=1)]
    write_table(pd.DataFrame({"text": texts, "mood": labels}), tmp_path / "train.csv")
    write_table(pd.DataFrame({"text": texts[:40]}), tmp_path / "in.csv")
    result = run("fit", tmp_path / "train.csv", "--text-column", "text", "--label-column", "mood", "-o", folder,
                 "--model", model, "--max-error", max_error, "--confidence", 0.9, "--calibrator", "temperature")  # fmt: skip
    assert result.code == 0, result.err
    first, promise = result.out.splitlines()
    assert first == f"fitted on 400 rows of the classes neg, pos; saved in {folder}"
    chosen = load(folder).threshold_
    assert (chosen.max_error, chosen.confidence, chosen.n_rows) == (max_error, 0.9, 400)
    if max_error == 0.2:
        assert promise == (
            f"accepts rows from confidence {chosen.threshold:.4g} on: {100 * chosen.coverage:.3g} % of 400, at most 20 % of "
            "them wrong (90 % confidence, approximately, as cross-fitted)"
        )
    else:
        assert promise == "accepts no rows: at no confidence are at most 1 % of them wrong (90 % confidence)"
        assert result.err.startswith("warning: no threshold keeps the error at or below 0.01")
    assert run("predict", tmp_path / "in.csv", target, "--text-column", "text", "--classifier", folder).code == 0
    frame = read_table(target)
    assert list(frame.columns) == ["text", "label", "confidence", "accepted", "p_neg", "p_pos"]
    assert frame["accepted"].tolist() == (frame["confidence"] >= chosen.threshold).tolist()
    assert (0 < frame["accepted"].sum() < 40) if max_error == 0.2 else not frame["accepted"].any()
    again = run("predict", target, tmp_path / "b.csv", "--text-column", "text", "--classifier", folder)
    assert (again.code, "already has a column 'p_neg'" in again.err) == (2, True)


@pytest.mark.filterwarnings("default::llmclf.errors.ColumnNameWarning")
def test_predict_leaves_a_column_of_the_same_name(run, model, tmp_path):
    """A table with columns label and confidence keeps them; the new ones are called otherwise, and one line says so."""
    frame = pd.DataFrame({"text": ROWS["text"], "label": ROWS["mood"], "confidence": [1, 2, 3, 4]}).astype(str)
    write_table(frame, tmp_path / "in.csv")
    words = ("--text-column", "text", "--labels", "pos,neg", "--model", model)
    result = run("predict", tmp_path / "in.csv", tmp_path / "out.csv", *words)
    assert (result.code, result.err.count("\n")) == (0, 1)
    assert "'label' is called 'predicted_label', 'confidence' is called 'predicted_confidence'" in result.err
    out = read_table(tmp_path / "out.csv")
    names = ["label", "confidence", "p_neg", "p_pos"]
    assert list(out.columns) == [*frame.columns, "predicted_label", "predicted_confidence", "p_neg", "p_pos"]
    assert out[list(frame.columns)].equals(frame)
    report = run("report", tmp_path / "out.csv", "--label-column", "label", "-o", tmp_path / "r.html")
    assert report.out.startswith("On 4 labelled rows")
    # What predict wrote is labelled again under a prefix, and report reads either.
    again = run("predict", tmp_path / "out.csv", tmp_path / "b.jsonl", *words, "--prefix", "new_")
    assert (again.code, again.err) == (0, "")
    assert list(read_table(tmp_path / "b.jsonl").columns) == [*out.columns, *(f"new_{name}" for name in names)]
    second = run(
        "report", tmp_path / "b.jsonl", "--label-column", "label", "-o", tmp_path / "r.html", "--prefix", "new_"
    )
    assert second.out.splitlines()[0] == report.out.splitlines()[0]
    taken = run("predict", tmp_path / "b.jsonl", tmp_path / "c.csv", *words, "--prefix", "new_")
    assert (taken.code, "already has a column 'new_label'" in taken.err) == (2, True)


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_predict_goes_on_without_bad_rows(run, model, tmp_path, suffix):
    """With --on-error missing, bad rows have no label and a reason; without it all of them are named and nothing is written."""
    texts = ["A fine film.", " ", "A waste.", *([] if suffix == ".csv" else [None])]
    write_table(pd.DataFrame({"text": texts, "id": range(len(texts))}), tmp_path / f"in{suffix}")
    words = ("predict", tmp_path / f"in{suffix}", tmp_path / f"out{suffix}", "--text-column", "text", "--labels", "a,b")
    stopped = run(*words, "--model", model)
    assert (stopped.code, (tmp_path / f"out{suffix}").exists()) == (2, False)
    assert re.search(r"row 1.*on_error='missing'", stopped.err)
    result = run(*words, "--model", model, "--on-error", "missing")
    n = len(texts)
    assert (result.code, result.out) == (0, f"labelled 2 of {n} rows; written to {tmp_path / f'out{suffix}'}\n")
    assert f"{n - 2} of {n} rows could not be scored (row 1: field 'text' is blank" in result.err
    out = read_table(tmp_path / f"out{suffix}")
    assert list(out.columns) == ["text", "id", "label", "confidence", "p_a", "p_b", "error"]
    is_bad = [not text or not text.strip() for text in texts]
    for name in ("label", "confidence", "p_a", "p_b"):
        assert [pd.isna(value) or value == "" for value in out[name]] == is_bad
    assert [not pd.isna(value) and value != "" for value in out["error"]] == is_bad
    write_table(out.assign(truth=out["label"]), tmp_path / f"truth{suffix}")
    report = run("report", tmp_path / f"truth{suffix}", "--label-column", "truth", "-o", tmp_path / "r.html")
    assert report.code == 0, report.err


def test_whole_rows_are_fields_of_the_prompt(run, model, tmp_path):
    """Without --text-column the prompt, also one in a file, may use every column by its name."""
    write_table(pd.DataFrame({"title": ["Jaws", "Ran"], "body": ["sharks", "war"]}), tmp_path / "in.csv")
    (tmp_path / "prompt.txt").write_text("{{ title }}\\n: {{ body }}\nIs it good?\n")
    target = tmp_path / "out.csv"
    result = run("predict", tmp_path / "in.csv", target, "--labels", "yes=good|great,no=bad", "--model", model,
                 "--prompt", f"@{tmp_path / 'prompt.txt'}")  # fmt: skip
    assert result.code == 0, result.err
    template = "{{ title }}\\n: {{ body }}\nIs it good?"
    clf = LLMClassifier(model, labels={"yes": ["good", "great"], "no": "bad"}, prompt=Prompt(template))
    expected = clf.fit(read_table(tmp_path / "in.csv")).predict_proba(read_table(tmp_path / "in.csv"))
    np.testing.assert_allclose(read_table(target)[["p_no", "p_yes"]].astype(float), expected, rtol=1e-5)


def test_labels_of_a_typed_table_keep_their_type(run, model, tmp_path):
    """Classes that are numbers or booleans in a JSONL file come back as numbers, also where --labels names their words."""
    source, target, folder = tmp_path / "in.jsonl", tmp_path / "out.jsonl", tmp_path / "saved"
    source.write_text('{"text": "a fine film", "y": 1}\n{"text": "a waste", "y": 0}\n')
    fitted = run("fit", source, "--text-column", "text", "--label-column", "y", "-o", folder, "--labels", "1=good,0=bad",
                 "--calibrator", "none", "--model", model)  # fmt: skip
    assert fitted.code == 0, fitted.err
    assert run("predict", source, target, "--text-column", "text", "--classifier", folder).code == 0
    rows = [json.loads(line) for line in target.read_text().splitlines()]
    assert [list(row) for row in rows] == [["text", "y", "label", "confidence", "p_0", "p_1"]] * 2
    assert {type(row["label"]) for row in rows} == {int}
    assert [row["y"] for row in rows] == [1, 0]


def test_words_of_users_are_no_markup(run, model, data, tmp_path):
    """Labels, paths and messages with brackets or colons are shown and written literally."""
    folder = tmp_path / "[red]saved[/red]"
    frame = pd.DataFrame({**ROWS, "mood": ["[bold]", ":smile:", ":smile:", "[bold]"]})
    write_table(frame, data)
    result = run("fit", data, "--text-column", "text", "--label-column", "mood", "-o", folder, "--calibrator", "none",
                 "--model", model)  # fmt: skip
    assert result.out == f"fitted on 4 rows of the classes :smile:, [bold]; saved in {folder}\n"
    assert run("fit", data, "--label-column", "[/x]", "-o", folder).err.startswith("error: --label-column '[/x]' is no")
    cache = tmp_path / "[b].sqlite"
    target = tmp_path / "out.csv"
    assert run("predict", data, target, "--text-column", "text", "--classifier", folder, "--cache", cache).code == 0
    assert set(read_table(target)["label"]) <= {"[bold]", ":smile:"}
    assert run("cache", "info", cache).out.startswith(f"{cache}: 4 rows of scores")
    assert run("cache", "clear", cache).out == f"removed 4 rows of scores from {cache}\n"


def predictions(folder: Path, n: int = 200) -> Path:
    rng = np.random.default_rng(0)
    p = rng.random(n)
    frame = pd.DataFrame(
        {
            "text": [f"review {i}" for i in range(n)],
            "mood": np.where(rng.random(n) < p, "good", "bad"),
            "site": np.where(np.arange(n) % 2, "a", "b"),
            "p_bad": 1 - p,
            "p_good": p,
        }
    )
    frame.loc[:4, "mood"] = ""
    frame.loc[5:6, ["p_bad", "p_good"]] = np.nan
    write_table(frame, folder / "labelled.csv")
    write_table(frame.assign(p_bad=(1 - p).round(), p_good=p.round()), folder / "before.csv")
    return folder / "labelled.csv"


@pytest.mark.slow
def test_report_writes_every_form(run, tmp_path):
    """A report of predictions in a file: page, JSON, Markdown and figures; rows without a label are left out and counted."""
    source = predictions(tmp_path)
    output = tmp_path / "out" / "moods.html"
    result = run(
        *("report", source, "--label-column", "mood", "--text-column", "text", "--group-column", "site"),
        *("--before", tmp_path / "before.csv", "--max-error", "0.2", "--title", "Moods <b>"),
        *("--json", "--md", "--png", tmp_path / "figures", "-o", output),
    )
    assert (result.code, result.err) == (0, "")
    data = json.loads(output.with_suffix(".json").read_text())
    assert " ".join(result.out.split()).startswith(data["verdict"]["text"])
    assert data["rows"] == {"n": 193, "n_unlabelled": 5, "n_unscored": 2, "n_classes": 2}
    assert data["selection"]["max_error"] == 0.2
    assert "before" in data["metrics"]["ece"]
    assert {own["slice"] for own in data["slices"]} == {"a", "b"}
    frame = read_table(source)
    kept = frame[(frame["mood"] != "") & (frame["p_good"] != "")]
    right = (kept["p_good"].astype(float) > 0.5) == (kept["mood"] == "good")
    assert data["metrics"]["accuracy"]["after"]["value"] == pytest.approx(right.mean())
    first = data["examples"]["mistakes"][0]
    assert first["text"] == f"review {first['row']}"
    assert "Moods &lt;b&gt;" in output.read_text()
    assert output.with_suffix(".md").read_text().startswith("## Moods &#60;b&#62;")
    assert sorted(path.name for path in (tmp_path / "figures").iterdir()) == [
        "classes.png",
        "reliability.png",
        "risk_coverage.png",
    ]


def test_report_of_what_predict_wrote(run, model, data, tmp_path):
    """What predict writes is what report reads."""
    labelled = tmp_path / "labelled.parquet"
    assert run("predict", data, labelled, "--text-column", "text", "--labels", "pos,neg", "--model", model).code == 0
    result = run("report", labelled, "--label-column", "mood", "-o", tmp_path / "r.html")
    assert result.code == 0
    assert result.out.startswith("On 4 labelled rows")


@pytest.mark.filterwarnings("ignore:these scores say nothing")
def test_report_of_an_audit_counts_rows_by_their_probabilities(run, tmp_path):
    """Rows that label --audit marked and people labelled: the report is about the table, and says how many rows it uses."""
    rng = np.random.default_rng(0)
    p = rng.random(3000)
    chance = np.where(np.abs(p - 0.5) < 0.3, 0.6, 0.2)
    is_drawn = rng.random(3000) < chance
    truth = np.where(rng.random(3000) < p, "yes", "no")
    frame = pd.DataFrame({"p_no": 1 - p, "p_yes": p, "audit_inclusion": chance, "chance": chance})
    frame["truth"] = np.where(is_drawn, truth, None)
    write_table(frame, tmp_path / "labelled.parquet")
    page = tmp_path / "r.html"
    made = run("report", tmp_path / "labelled.parquet", "--label-column", "truth", "-o", page, "--json")
    assert made.code == 0, made.err
    assert "labelled rows are used, so that each row of the table had the same probability, 0.2" in page.read_text()
    numbers = (tmp_path / "r.json").read_text()
    write_table(frame.drop(columns="audit_inclusion"), tmp_path / "other.parquet")
    named = (
        "--inclusion-column",
        "chance",
        "--label-column",
        "truth",
        "-o",
        page,
        "--json",
        "--title",
        "Calibration of labelled.parquet",
    )
    assert run("report", tmp_path / "other.parquet", *named).code == 0
    assert json.loads((tmp_path / "r.json").read_text())["metrics"] == json.loads(numbers)["metrics"]
    frame.loc[np.flatnonzero(is_drawn)[0], "audit_inclusion"] = np.nan
    write_table(frame, tmp_path / "gap.parquet")
    gap = run("report", tmp_path / "gap.parquet", "--label-column", "truth", "-o", page)
    assert gap.code == 2
    assert "inclusion[" in gap.err


@pytest.mark.filterwarnings("ignore:these scores say nothing")
@pytest.mark.parametrize("chances", [(), ("--inclusion-column", "chance")])
def test_report_estimates_shares_by_strata(run, tmp_path, chances):
    """As estimate-share does with the same columns; strata that nothing would heed are refused."""
    rng = np.random.default_rng(0)
    p = rng.random(2000)
    stratum = np.where(p < 0.5, "low", "high")
    chance = np.where(p < 0.5, 0.3, 0.1)
    truth = np.where(rng.random(2000) < chance, np.where(rng.random(2000) < p, "yes", "no"), None)
    path = tmp_path / "rows.parquet"
    write_table(pd.DataFrame({"p_no": 1 - p, "p_yes": p, "truth": truth, "part": stratum, "chance": chance}), path)
    strata = ("--strata-column", "part", *chances)
    made = run("report", path, "--label-column", "truth", "-o", tmp_path / "r.html", "--json", "--shares", *strata)
    assert made.code == 0, made.err
    lines = json.loads((tmp_path / "r.json").read_text())["shares"]["lines"]
    shown = [line["share"][end] for line in lines for end in ("value", "low")]
    wanted = json.loads(run("estimate-share", path, "--truth", "truth", "--json", *strata).out)["shares"]
    assert shown == pytest.approx([row[end] for row in wanted for end in ("share", "low")])
    without = json.loads(run("estimate-share", path, "--truth", "truth", "--json", *chances).out)["shares"]
    assert shown != pytest.approx([row[end] for row in without for end in ("share", "low")])
    alone = run("report", path, "--label-column", "truth", "-o", tmp_path / "r.html", *strata)
    assert (alone.code, "give --shares, too" in " ".join(alone.err.split())) == (2, True)


@pytest.mark.filterwarnings("ignore:these scores say nothing")  # of a random model, as chance will have it
def test_rows_that_belong_together(run, model, tmp_path):
    """fit keeps the rows of a group together, and report counts clusters; copies of a text are found in both."""
    train, labelled, folder = tmp_path / "train.csv", tmp_path / "labelled.parquet", tmp_path / "saved"
    frame = pd.DataFrame(
        {"text": [f"text number {i // 2}" for i in range(80)], "mood": ["pos", "pos", "neg", "neg"] * 20}
    )
    write_table(frame.assign(author=np.arange(80) // 8), train)
    options = ("--text-column", "text", "--label-column", "mood", "-o", folder, "--model", model)
    result = run("fit", train, *options, "--group-column", "author", "--max-error", 0.1, "--calibrator", "temperature")
    assert result.code == 2
    assert "80 labelled rows in 10 groups cannot show" in " ".join(result.err.split())
    assert "--group-column 'writer' is not a column" in run("fit", train, *options, "--group-column", "writer").err
    assert run("predict", train, labelled, "--text-column", "text", "--labels", "pos,neg", "--model", model).code == 0
    shown = ("report", labelled, "--label-column", "mood", "-o", tmp_path / "r.html")
    for more, words in (
        ((), "On 80 labelled rows, the most"),
        (("--text-column", "text"), "On 80 labelled rows in 40 clusters, the most"),
        (("--cluster-column", "author"), "On 80 labelled rows in 10 clusters, the most"),
    ):
        assert words in " ".join(run(*shown, *more).out.split())


def test_cache_info_and_clear(run, tmp_path):
    """info tells rows, size and dates; clear empties the cache; on an empty one both still work."""
    cache = ScoreCache(tmp_path / "scores.sqlite")
    cache.put([(str(i), llmclf.backends.RowScores(((-1.0,),))) for i in range(3)])
    result = run("cache", "info", cache.path)
    assert result.code == 0
    assert re.fullmatch(
        rf"{re.escape(str(cache.path))}: 3 rows of scores, \d+\.\d MB\n"
        r"from \d{4}-\d\d-\d\d \d\d:\d\d to \d{4}-\d\d-\d\d \d\d:\d\d\nmodels and data are kept in .+\n",
        result.out,
    )
    assert run("cache", "clear", cache.path) == (0, f"removed 3 rows of scores from {cache.path}\n", "")
    assert run("cache", "clear", cache.path).out.startswith("removed 0 rows")
    vectors = VectorCache(cache.path)
    vectors.put([(str(i), NamedVector(np.ones(3, dtype=np.float32), None)) for i in range(2)])
    assert run("cache", "info", cache.path).out.startswith(
        f"{cache.path}: 0 rows of scores and 2 embeddings, 0.0 MB\nfrom"
    )
    assert run("cache", "clear", cache.path).out == f"removed 0 rows of scores and 2 embeddings from {cache.path}\n"
    assert run("cache", "info", cache.path).out.startswith(f"{cache.path}: 0 rows of scores, 0.0 MB\nmodels")


# Errors

BATCH = """
import io, json, sys
from contextlib import redirect_stderr, redirect_stdout
from llmclf.cli import main

results = []
for arguments in json.load(sys.stdin):
    sys.argv = ["llmclf", *arguments]
    code, out, err = 0, io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        try:
            main()
        except SystemExit as stop:
            code = stop.code
    results.append([code, out.getvalue(), err.getvalue(), "torch" in sys.modules])
print(json.dumps(results))
"""
TEXTS = "--text-column text "
ERRORS = [
    ("predict data.csv out.txt --labels a,b", 2, r"'out.txt' ends with '.txt'; expected .csv, .tsv, .jsonl, .parquet"),
    ("predict nope.csv out.csv --labels a,b", 2, "'nope.csv' does not exist"),
    ("predict notes.txt out.csv --labels a,b", 2, "'notes.txt' ends with '.txt'"),
    ("predict broken.jsonl out.csv --labels a,b", 2, "line 2 of 'broken.jsonl' is not valid JSON"),
    ("predict short.csv out.csv --labels a,b", 2, "line 3 of 'short.csv' has 1 cells"),
    ("predict data.csv out.csv", 2, "give --labels a,b,c or --classifier FOLDER"),
    (f"predict data.csv out.csv {TEXTS}--labels a", 2, r"labels has 1 class \(\['a'\]\); a classifier needs at least two"),
    (f"predict data.csv out.csv {TEXTS}--labels a,,b", 2, "--labels 'a,,b' has an empty class"),
    (f"predict data.csv out.csv {TEXTS}--labels a,b,a", 2, "--labels names 'a' twice"),
    (f"predict data.csv out.csv {TEXTS}--labels a=,b", 2, "label 'a' has the empty word ''"),
    (f"predict data.csv out.csv {TEXTS}--labels a=x|y,b=y", 2, "the word 'y' stands for 'a' and for 'b'"),
    ("predict data.csv out.csv --text-column nope --labels a,b", 2,
     "--text-column 'nope' is not a column of the table; its columns: 'id', 'text', 'mood'"),
    ("predict data.csv out.csv --labels a,b --prompt {{nope}}:", 2, "uses 'nope', which the rows do not have; .*'id', 'text'"),
    (f"predict data.csv out.csv {TEXTS}--labels a,b --prompt {{{{text}}", 2, "not a valid jinja2 template"),
    (f"predict data.csv out.csv {TEXTS}--labels a,b --prompt @nope.txt", 2, "the prompt file 'nope.txt' cannot be read"),
    (f"predict data.csv out.csv {TEXTS}--labels a,b --model nosuch", 2, "model='nosuch' does not name a model .*'smollm2'"),
    (f"predict data.csv out.csv {TEXTS}--labels a,b --scoring best", 2, "scoring='best': expected one of 'sum', 'mean'"),
    (f"predict blank.csv out.csv {TEXTS}--labels a,b", 2, r"blank text \(row 1: '  '\)"),
    (f"predict taken.csv out.csv {TEXTS}--labels a,b", 2, "'taken.csv' already has a column 'p_b', which would be added"),
    ("predict data.csv out.csv --classifier nope", 1, "'nope' holds no saved classifier"),
    ("predict data.csv out.csv --classifier full", 1, "'full' holds no saved classifier"),
    ("predict data.csv out.csv --classifier full --labels a,b", 2, "--labels belongs to a new classifier"),
    ("predict data.csv out.csv --classifier full --model smollm2", 2, "--model belongs to a new classifier"),
    ("predict data.csv out.csv --classifier full --scoring sum", 2, "--scoring belongs to a new classifier"),
    (f"predict data.csv out.csv {TEXTS}--labels a,b --cache notes.txt", 1, "'notes.txt' is not a score cache"),
    (f"predict data.csv notes.txt/out.csv {TEXTS}--labels a,b", 1, "'notes.txt/out.csv' cannot be written"),
    (f"predict mixed.jsonl out.parquet {TEXTS}--labels a,b", 1, "'out.parquet' cannot be written"),
    ("fit data.csv --label-column nope -o out", 2, "--label-column 'nope' is not a column of the table; its columns: 'id'"),
    ("fit blank.csv --label-column text -o out", 2, "--label-column 'text' is empty in row 1; drop the rows without a label"),
    (f"fit data.csv {TEXTS}--label-column mood -o full", 1, "'full' exists and is not a saved classifier; give another folder"),
    (f"fit data.csv {TEXTS}--label-column mood -o out --calibrator magic", 2, "calibrator='magic'"),
    (f"fit data.csv {TEXTS}--label-column mood -o out --bias magic", 2, "bias='magic'"),
    (f"fit data.csv {TEXTS}--label-column mood -o out --shots 99", 2, "n_shots=99, but there are only 4 training rows"),
    (f"fit data.csv {TEXTS}--label-column mood -o out --labels pos,bad", 2, "y has the value 'neg' .*not one of the labels"),
    (f"fit data.csv {TEXTS}--label-column mood -o out --cache full", 1, "the score cache 'full' cannot be opened"),
    (f"fit data.csv {TEXTS}--label-column mood -o out --max-error 5", 2, "max_error=5.0; expected a number between 0 and 1"),
    (f"fit data.csv {TEXTS}--label-column mood -o out --max-error 0.5 --shots 1", 2, "3 labelled rows cannot show .* at least 5"),
    (f"fit data.csv {TEXTS}--label-column mood -o out --max-error 0.5 --calibrator none", 2, "--max-error needs a calibrator"),
    (f"fit data.csv {TEXTS}--label-column mood -o out --confidence 0.9", 2, "--confidence 0.9 says how sure --max-error is"),
    ("report data.csv --label-column mood", 2, "'data.csv' has no columns p_CLASS with the probabilities of at least two"),
    ("report scored.csv --label-column nope", 2, "--label-column 'nope' is not a column"),
    ("report scored.csv --label-column empty", 2, "--label-column 'empty' is empty in all rows"),
    ("report scored.csv --label-column text", 2, "is not one of the classes"),
    ("report scored.csv --label-column mood --text-column nope", 2, "--text-column 'nope' is not a column"),
    ("report scored.csv --label-column mood --group-column nope", 2, "--group-column 'nope' is not a column"),
    ("report scored.csv --label-column mood --max-error 5", 2, "max_error=5.0; expected a number between 0 and 1"),
    ("report scored.csv --label-column mood --before data.csv", 2, "'data.csv' has no columns p_CLASS"),
    ("report scored.csv --label-column mood --before other.csv", 2, "'other.csv' has 1 rows of the classes"),
    ("report wrong.csv --label-column mood", 2, "column 'p_neg', row 0: 'much' is not a number"),
    ("report scored.csv --label-column mood -o full", 1, "'full' cannot be written"),
    ("cache info nope.sqlite", 2, "'nope.sqlite' is not a file; give the path that was given as --cache"),
    ("cache clear notes.txt", 1, "'notes.txt' is not a score cache"),
]  # fmt: skip


def listing(folder: Path) -> dict[str, bytes | None]:
    return {str(file.relative_to(folder)): file.read_bytes() if file.is_file() else None for file in folder.rglob("*")}


@pytest.mark.slow
def test_errors_are_one_line_and_early(data, tmp_path):
    """Each mistake ends with its exit code and one line that names it: no traceback, no file, and before torch is loaded."""
    (tmp_path / "notes.txt").write_text("my notes")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    (tmp_path / "blank.csv").write_text("id,text\n1,fine\n2,  \n")
    (tmp_path / "taken.csv").write_text("p_b,text\n1,fine\n")
    (tmp_path / "short.csv").write_text("id,text\n1,fine\n2\n")
    (tmp_path / "broken.jsonl").write_text('{"text": "a"}\n{"text":\n')
    (tmp_path / "mixed.jsonl").write_text('{"text": "a", "x": 1}\n{"text": "b", "x": "y"}\n')
    (tmp_path / "scored.csv").write_text("text,mood,empty,p_pos,p_neg\nx,pos,,0.5,0.5\ny,neg,,0.5,0.5\n")
    (tmp_path / "other.csv").write_text("p_pos,p_neg\n0.5,0.5\n")
    (tmp_path / "wrong.csv").write_text("mood,p_pos,p_neg\npos,0.5,much\n")
    before = listing(tmp_path)
    process = subprocess.run(
        [sys.executable, "-c", BATCH],
        input=json.dumps([arguments.split(" ") for arguments, _, _ in ERRORS]),
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=True,
    )
    assert process.stderr == ""
    for (arguments, code, message), (given, out, err, loaded) in zip(ERRORS, json.loads(process.stdout), strict=True):
        assert (given, out) == (code, ""), (arguments, err)
        assert re.fullmatch(rf"error: .*{message}.*\n", err), (arguments, err)
        assert not loaded, arguments
    assert listing(tmp_path) == before


def test_models_that_cannot_be_opened(run, data, tmp_path):
    """A folder, file or name without a model is one line and exit code 2, and nothing is written."""
    (tmp_path / "bad.gguf").write_text("Not Found")
    (tmp_path / "empty").mkdir()
    before = listing(tmp_path)
    for model, message in [
        (f"gguf:{tmp_path}/bad.gguf", "is not a GGUF file: it begins with b'Not '"),
        (f"gguf:{tmp_path}/nope.gguf", "does not exist; check the path"),
        (f"hf:{tmp_path}/nope", "names neither a folder that exists nor a model"),
        (f"hf:{tmp_path}/empty", "does not hold a config.json"),
    ]:
        result = run(
            "predict", data, tmp_path / "out.csv", "--text-column", "text", "--labels", "a,b", "--model", model
        )
        assert (result.code, result.out) == (2, "")
        assert re.fullmatch(rf"error: .*{message}.*\n", result.err), result.err
    assert listing(tmp_path) == before


def test_messages_of_several_lines_become_one(run, monkeypatch, tmp_path):
    """A line break inside a message (another library's, or a file's name) does not break the line."""
    result = run("predict", tmp_path / "no\nsuch.csv", tmp_path / "out.csv", "--labels", "a,b")
    assert (result.code, result.err.count("\n")) == (2, 1)
    monkeypatch.setattr(
        llmclf.cli.cache, "_existing_cache", lambda path: (_ for _ in ()).throw(llmclf.errors.StoreError("a\nb"))
    )
    assert run("cache", "info", "x") == (1, "", "error: a b\n")


# Real processes


def test_program_exit_codes_and_warnings(model, data, tmp_path):
    """The installed program succeeds with 0 and warns in one line, a mistake is 2, a failure 1, wrong usage 2."""

    def program(*arguments) -> Result:
        done = subprocess.run([PROGRAM, *map(str, arguments)], capture_output=True, text=True, cwd=tmp_path)
        return Result(done.returncode, done.stdout, done.stderr)

    good = program("predict", data, "out.csv", "--text-column", "text", "--labels", "not,not sure", "--model", model)
    assert (good.code, good.out) == (0, "labelled 4 rows; written to out.csv\n")
    assert re.fullmatch(r"warning: the label word 'not' begins 'not sure': .*\n", good.err)
    assert_labelled(read_table(tmp_path / "out.csv"), ["not", "not sure"])
    mistake = program("predict", "nope.csv", "new.csv", "--labels", "a,b")
    assert (mistake.code, mistake.err[:17]) == (2, "error: 'nope.csv'")
    failure = program("cache", "info", data)
    assert (failure.code, failure.err.count("\n")) == (1, 1)
    usage = program("fit", data)
    assert usage.code == 2
    assert "Missing option '--label-column'" in usage.err
    assert "Traceback" not in good.err + mistake.err + failure.err + usage.err
    assert sorted(os.listdir(tmp_path)) == ["data.csv", "out.csv"]


def n_kept(cache: Path, before: float = float("inf")) -> int:
    if not cache.exists():
        return 0
    try:
        with closing(sqlite3.connect(cache, timeout=10)) as connection:
            return connection.execute("SELECT count(*) FROM scores WHERE created < ?", (before,)).fetchone()[0]
    except sqlite3.OperationalError:  # the table is not there yet
        return 0


def test_interrupted_work_goes_on(run, model, tmp_path):
    """Ctrl-C ends with 130 and one line, without OUT; the cache keeps what was scored, and a second run asks the rest."""
    n_rows = 800
    source, target, cache = tmp_path / "in.csv", tmp_path / "out.csv", tmp_path / "scores.sqlite"
    texts = [f"{i} what a waste of time, neither funny nor sad and far too long, {i * i}" for i in range(n_rows)]
    write_table(pd.DataFrame({"text": texts}), source)
    arguments = [
        "predict",
        source,
        target,
        "--text-column",
        "text",
        "--labels",
        "a,b",
        "--model",
        model,
        "--cache",
        cache,
    ]
    process = subprocess.Popen(
        [PROGRAM, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 60
    while not (seen := n_kept(cache)) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, "")
    assert err == "interrupted; with --cache, what was scored so far is kept\n"
    assert not target.exists()
    kept = n_kept(cache)
    assert 0 < seen <= kept < n_rows
    interrupted = time.time()
    assert run(*arguments).code == 0
    assert n_kept(cache) == n_rows
    assert n_kept(cache, interrupted) == kept
    assert read_table(target)["text"].tolist() == texts


# Help

OPTIONS = {
    "": ["demo", "fit", "predict", "report", "cache"],
    "demo": ["--output", "-o", "--model", "--calibration-rows", "--test-rows", "reliability.png",
             "--report", "report.html"],
    "fit": ["TRAIN", "--label-column", "--output", "-o", "--text-column", "--labels", "--prompt", "--chat", "--shots",
            "--calibrator", "--bias", "--scoring", "--model", "--cache", "--seed", "auto, temperature, bias_temperature,",
            "pos=good|great,neg=bad", "--max-error", "--confidence", "--group-column"],
    "predict": ["IN", "OUT", "--text-column", "--labels", "--prompt", "--chat", "--scoring", "--model", "--classifier",
                "--cache", "p_CLASS", "hf:org/name[@revision]", "gguf:FILE", r"'Review: {{ text }}\nSentiment:'", "@FILE",
                "llmclf predict in.csv out.csv --text-column review --labels good,bad"],
    "report": ["PREDICTIONS", "--label-column", "--output", "-o", "--text-column", "--group-column", "--before", "--max-error",
               "--confidence", "--cost-error", "--cost-review", "--title", "--json", "--md", "--png", "--seed", "p_CLASS",
               "--cluster-column"],
    "cache": ["info", "clear"],
    "cache info": ["FILE"],
    "cache clear": ["FILE", "without asking"],
}  # fmt: skip


@pytest.mark.parametrize("command", OPTIONS)
def test_help_names_every_option(command):
    """The help of every command shows its arguments, options, defaults and examples literally."""
    result = CliRunner().invoke(llmclf.cli.app, [*command.split(), "--help"], terminal_width=130)
    assert result.exit_code == 0
    text = " ".join(result.output.split())
    assert [name for name in OPTIONS[command] if name not in text] == []
    assert "..." not in text.replace("A,B,...", "").replace("[OPTIONS]", "").replace("[ARGS]...", "")


@pytest.mark.slow
def test_help_needs_no_heavy_package():
    """Help comes at once: neither torch nor pandas nor scikit-learn is loaded for it."""
    script = (
        "import sys; from llmclf.cli import app; print({'torch', 'pandas', 'sklearn', 'transformers'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


LABELLED = {
    "csv": 'text,y\na fine film,{1}\na waste,{0}\n"fine, fine",{1}\n',
    "jsonl": '{{"text": "a fine film", "y": {1}}}\n{{"text": "a waste", "y": {0}}}\n{{"text": "fine, fine", "y": {1}}}\n',
}


def write_labelled(folder, name, values):
    """Three labelled rows; `values` are what the file has for the two classes."""
    file = folder / name
    if file.suffix == ".parquet":
        pd.DataFrame(
            {"text": ["a fine film", "a waste", "fine, fine"], "y": [values[1], values[0], values[1]]}
        ).to_parquet(file)
    else:
        file.write_text(LABELLED[file.suffix[1:]].format(*map(str, values)))
    return file


@pytest.mark.parametrize(
    ("suffix", "values"),
    [
        ("csv", (0, 1)),
        ("csv", ("0.0", "1.0")),
        ("jsonl", (0, 1)),
        ("jsonl", (0.0, 1.0)),
        ("jsonl", ('"0"', '"1"')),
        ("parquet", (0, 1)),
        ("parquet", (0.0, 1.0)),
        ("parquet", ("0", "1")),
    ],
)
def test_labels_whose_type_changed_are_the_same_classes(run, model, tmp_path, suffix, values):
    """What fit, predict and report read and write may be text, numbers or floats; 1 is 1."""
    train, folder = write_labelled(tmp_path, f"train.{suffix}", values), tmp_path / "saved"
    options = ("--text-column", "text", "--label-column", "y")
    fitted = run("fit", train, *options, "-o", folder, "--labels", "1=good,0=bad", "--calibrator", "none", "--shots", "2",
                 "--model", model)  # fmt: skip
    assert fitted.code == 0, fitted.err
    saved = load(folder)
    assert {row["text"][:6]: word for row, word in saved.shots_}["a wast"] == "bad"


@pytest.mark.slow
@pytest.mark.parametrize("labels", ["1=good,0=bad", "True=good,False=bad"])
def test_a_report_finds_the_classes_of_a_label_column_whose_type_changed(run, model, tmp_path, labels):
    """1 is "1" and 1.0; True is "True" and, where a column had gaps, 1.0."""
    values = (0, 1) if labels[0] == "1" else ("false", "true")
    train, folder = write_labelled(tmp_path, "train.jsonl", values), tmp_path / "saved"
    fitted = run("fit", train, "--text-column", "text", "--label-column", "y", "-o", folder, "--labels", labels,
                 "--calibrator", "none", "--model", model)  # fmt: skip
    assert fitted.code == 0, fitted.err
    files = [("csv", (0, 1)), ("parquet", (0.0, 1.0))]
    files.append(("jsonl", ('"0"', '"1.0"')) if labels[0] == "1" else ("csv", ("False", "True")))
    for form, other in files:
        test, target = write_labelled(tmp_path, f"test.{form}", other), tmp_path / f"out.{form}"
        assert run("predict", test, target, "--text-column", "text", "--classifier", folder).code == 0
        made = run("report", target, "--label-column", "y", "-o", tmp_path / "r.html", "--json")
        assert made.code == 0, made.err
        accuracy = json.loads((tmp_path / "r.json").read_text())["metrics"]["accuracy"]["after"]["value"]
        proba = read_table(target)[f"p_{labels.split('=')[0]}"].astype(float).to_numpy()
        assert accuracy == pytest.approx(np.mean((proba > 0.5) == np.array([True, False, True])))


@pytest.mark.parametrize(
    ("suffix", "values", "labels", "message"),
    [
        ("csv", (0, 1), None, "y holds the numbers '0' and '1', and no words for them"),
        ("jsonl", (0, 1), None, "y holds the numbers 0 and 1, and no words for them"),
        ("jsonl", ("false", "true"), None, "y holds the truth values False and True"),
        (
            "jsonl",
            (0, 1),
            "positive,negative",
            "y holds the numbers 0 and 1, and the labels are words in the order 'positive'",
        ),
        ("jsonl", ("false", "true"), "negative,positive", "y has the value True (row 0)"),
        ("csv", (0, 1), "negative,positive", "y has the value '1' (row 0)"),
        ("csv", ("", 1), "0,1", "--label-column 'y' is empty in row 1; drop the rows without a label"),
        ("csv", (0, ""), "0,1", "--label-column 'y' is empty in row 0, row 2: 2 rows; drop the rows without a label"),
    ],
)
def test_numbers_that_could_mean_another_class_stop_a_fit(run, model, tmp_path, suffix, values, labels, message):
    """Before anything is scored, with the cure for a command line."""
    train = write_labelled(tmp_path, f"train.{suffix}", values)
    named = () if labels is None else ("--labels", labels)
    result = run(
        "fit", train, "--text-column", "text", "--label-column", "y", "-o", tmp_path / "saved", *named, "--model", model
    )
    assert result.code == 2
    assert message in " ".join(result.err.split())
    assert labels is not None or "--labels '" in result.err


def test_a_job_may_name_the_classes_as_a_command_line_does(run, model, tmp_path):
    """label and estimate take the labels of a classifier whose classes are numbers."""
    train, folder = write_labelled(tmp_path, "train.jsonl", (0, 1)), tmp_path / "saved"
    fit = (
        "fit",
        train,
        "--text-column",
        "text",
        "--label-column",
        "y",
        "-o",
        folder,
        "--calibrator",
        "none",
        "--model",
        model,
    )
    assert run(*fit, "--labels", "1=good,0=bad").code == 0
    job = (train, "--text-column", "text", "--classifier", folder)
    for labels in ("0=bad,1=good", "1=good,0=bad", "1.0=good,0.0=bad"):
        assert run("estimate", *job, "--labels", labels).code == 0
        assert run("label", train, tmp_path / f"{labels}.csv", *job[1:], "--labels", labels, "--quiet").code == 0
    for labels in ("0=good,1=bad", "0=bad,2=good", "0=bad,1=good,2=x"):
        assert "is not the classifier's" in " ".join(run("estimate", *job, "--labels", labels).err.split())
