"""Tests of what a report says of all rows: shares of classes, and regressions."""

from __future__ import annotations

import json
import re
from pathlib import Path

import jsonschema
import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import llmclf.report
from llmclf import LLMClassifier
from llmclf.backends import FakeBackend
from llmclf.cli import app
from llmclf.errors import CalibrationWarning, InputError
from llmclf.estimation import estimate_regression, estimate_shares
from llmclf.report import CalibrationReport

SCHEMA = json.loads((Path(llmclf.report.__file__).parent / "report.schema.json").read_text(encoding="utf-8"))
CLASSES = ["bill", "praise", "other"]


def table(n_rows: int = 2000, n_labelled: int = 200, seed: int = 0):
    """Probabilities of a model that favours the first class, labels of some rows, and all true classes."""
    rng = np.random.default_rng(seed)
    true = rng.dirichlet([2.0, 1.2, 0.6], n_rows)
    classes = np.array([rng.choice(3, p=q) for q in true])
    proba = true**1.5 * [1.6, 1.0, 0.7]
    proba /= proba.sum(axis=1, keepdims=True)
    y = np.full(n_rows, None, dtype=object)
    rows = rng.choice(n_rows, n_labelled, replace=False)
    y[rows] = np.array(CLASSES)[classes[rows]]
    return y, proba, rows, classes


def regression(confidence_level=0.95):
    """Of a label on a covariate whose name is no HTML."""
    y, proba, rows, _ = table()
    years = pd.DataFrame({"year <b>": np.random.default_rng(0).normal(size=2000)})
    return estimate_regression(
        proba,
        y[rows].tolist(),
        rows,
        years,
        model="logistic",
        event="praise",
        label="praise",
        classes=CLASSES,
        confidence_level=confidence_level,
    )


@pytest.fixture(scope="module")
def report():
    y, proba, _, _ = table()
    return CalibrationReport(y, proba, classes=CLASSES, shares=True, regressions=regression(0.9), confidence=0.9)


def test_the_shares_are_those_of_estimate_shares(report):
    """The report estimates them from its labelled rows among all, at its own confidence."""
    y, proba, _, _ = table()
    rows = np.flatnonzero([one is not None for one in y])
    frame = estimate_shares(proba, y[rows], rows, classes=CLASSES, confidence_level=0.9).to_frame()
    shares = report.to_dict()["shares"]
    assert (shares["n_rows"], shares["n_labelled"], shares["confidence"]) == (2000, 200, 0.9)
    assert [line["class"] for line in shares["lines"]] == CLASSES
    for line, wanted in zip(shares["lines"], frame.to_dict("records"), strict=True):
        assert list(line["share"].values()) == pytest.approx([wanted["share"], wanted["low"], wanted["high"]])
        assert line["by_hand"]["low"] == pytest.approx(wanted["by_hand_low"])
        assert line["naive"] == {"value": pytest.approx(wanted["naive"]), "low": None, "high": None}
        assert line["labels_worth"] == pytest.approx(wanted["worth"])


def test_the_dictionary_follows_the_schema(report):
    """With shares and regressions, and without: then both are null."""
    jsonschema.validate(report.to_dict(), SCHEMA)
    y, proba, rows, _ = table()
    plain = CalibrationReport(y[rows], proba[rows], classes=CLASSES).to_dict()
    jsonschema.validate(plain, SCHEMA)
    assert plain["shares"] is plain["regressions"] is None


def test_page_and_markdown_show_both(report):
    """The picture, the sentence, the tables; what names hold is text, not markup."""
    page, text = report.to_html(), report.to_markdown()
    for shown in (page, text):
        assert "What share is it?" in shown
        assert "Such counts lie outside of the intervals of" in shown
        assert "2,000 rows, 200 of them labelled by hand" in shown
    assert 'aria-labelledby="shares-title"' in page
    assert "year &lt;b&gt;" in page
    assert "year <b>" not in page + text
    assert re.search(r"\| bill \| [\d.]+ % \([\d.]+ % to [\d.]+ %\) \|", text)
    y, proba, rows, _ = table()
    plain = CalibrationReport(y[rows], proba[rows], classes=CLASSES)
    assert "What share is it?" not in plain.to_html() + plain.to_markdown()


def test_the_page_says_which_rows_it_left_out():
    """With unequal inclusion probabilities: beside the number of rows, and in the section that uses all of them."""
    y, proba, rows, _ = table()
    inclusion = np.full(2000, np.nan)
    inclusion[rows] = np.where(np.arange(200) % 2, 0.2, 0.1)
    report = CalibrationReport(y, proba, classes=CLASSES, shares=True, inclusion=inclusion)
    data = report.to_dict()
    jsonschema.validate(data, SCHEMA)
    n, n_thinned = data["rows"]["n"], data["rows"]["n_thinned"]
    assert n + n_thinned == 200
    assert 30 < n_thinned < 70
    told = (
        f"These shares weigh all 200 labelled rows by how they were drawn. The rest of the report is about {n} of them"
    )
    page = " ".join(report.to_html().split())
    assert f"Left out at random: {n_thinned} labelled rows that were drawn with higher probabilities" in page
    for shown in (page, report.to_markdown()):
        assert told in shown
    inclusion[rows] = 0.1
    even = CalibrationReport(y, proba, classes=CLASSES, shares=True, inclusion=inclusion)
    assert "n_thinned" not in even.to_dict()["rows"]
    assert "Left out at random" not in even.to_html()
    assert "These shares weigh" not in even.to_html() + even.to_markdown()


def test_a_result_with_groups_is_shown_with_them(tmp_path):
    """Estimates that were made elsewhere have their groups in the tables, and the figure its file."""
    y, proba, rows, _ = table()
    groups = np.where(np.arange(2000) % 2, "odd", "even")
    estimates = estimate_shares(proba, y[rows], rows, classes=CLASSES, groups=groups)
    shown = CalibrationReport(y[rows], proba[rows], classes=CLASSES, shares=estimates)
    shares = shown.to_dict()["shares"]
    jsonschema.validate(shown.to_dict(), SCHEMA)
    assert shares["n_rows"] is None
    assert {line["group"] for line in shares["groups"]} == {"even", "odd"}
    assert len(shares["groups"]) == 6
    counts = {name: int((groups[rows] == name).sum()) for name in ("even", "odd")}
    assert all(line["n_labelled"] == counts[line["group"]] for line in shares["groups"])
    assert "By group" in shown.to_html()
    assert re.search(rf"\| even \| bill \|.*\| {counts['even']} \|", shown.to_markdown())
    assert tmp_path / "shares.png" in shown.to_png(tmp_path)


def test_rows_without_probabilities_are_left_out_of_the_shares():
    """The places of the labelled rows stay right."""
    y, proba, *_ = table()
    unlabelled = np.flatnonzero([one is None for one in y])[:50]
    proba = proba.copy()
    proba[unlabelled] = np.nan
    kept = np.setdiff1d(np.arange(2000), unlabelled)
    places = np.flatnonzero([one is not None for one in y[kept]])
    wanted = estimate_shares(proba[kept], y[kept][places], places, classes=CLASSES).to_frame()["share"].tolist()
    shares = CalibrationReport(y, proba, classes=CLASSES, shares=True).to_dict()["shares"]
    assert shares["n_rows"] == 1950
    assert [line["share"]["value"] for line in shares["lines"]] == pytest.approx(wanted)


def test_shares_of_rows_drawn_unevenly_weigh_every_label():
    """The report keeps as many rows as make all probabilities equal; its shares use all of them, and their probabilities."""
    y, proba, rows, _ = table()
    inclusion = np.full(2000, np.nan)
    inclusion[rows] = np.where(np.arange(len(rows)) % 2, 0.05, 0.2)
    made = CalibrationReport(y, proba, classes=CLASSES, shares=True, inclusion=inclusion).to_dict()
    wanted = estimate_shares(proba, y[rows], rows, classes=CLASSES, inclusion=inclusion[rows]).to_frame()
    assert made["shares"]["n_labelled"] == len(rows) > made["rows"]["n"]
    assert [line["share"]["value"] for line in made["shares"]["lines"]] == pytest.approx(wanted["share"].tolist())


def test_what_cannot_be_shown_is_refused():
    """Shares without unlabelled rows, and results of another kind."""
    y, proba, rows, _ = table()
    with pytest.raises(InputError, match="needs rows without a label"):
        CalibrationReport(y[rows], proba[rows], classes=CLASSES, shares=True)
    with pytest.raises(InputError, match="shares is a float"):
        CalibrationReport(y, proba, classes=CLASSES, shares=0.3)
    with pytest.raises(InputError, match="regressions hold a str"):
        CalibrationReport(y, proba, classes=CLASSES, regressions={"first": "y ~ x"})


def classified(calibrator=None, **options):
    texts = [f"text {i}" for i in range(300)]
    rng = np.random.default_rng(0)
    y: list = [None] * 300
    for place in rng.choice(300, 80, replace=False):
        y[place] = ["a", "b"][rng.integers(2)]
    known = [place for place in range(300) if y[place] is not None]
    clf = LLMClassifier(FakeBackend(), labels=["a", "b"], calibrator=calibrator, **options)
    return clf.fit([texts[i] for i in known], [y[i] for i in known]), texts, y


def test_a_classifier_reports_on_rows_of_which_some_have_a_class():
    """All rows are scored, the labelled ones judged, by cross-fitted probabilities where the calibrator saw them."""
    clf, texts, y = classified()
    data = clf.report(texts, y, shares=True).to_dict()
    assert (data["rows"]["n"], data["rows"]["n_unlabelled"], data["shares"]["n_rows"]) == (80, 220, 300)
    clf, texts, y = classified("prior")
    with pytest.warns(CalibrationWarning, match="calibrators that did not see them"):
        data = clf.report(texts, pd.Series(y), shares=True).to_dict()
    assert data["shares"]["n_labelled"] == 80
    with pytest.raises(InputError, match="y has 3 entries for 300 rows"):
        clf.report(texts, y[:3], shares=True)
    with pytest.raises(InputError, match="no row has a class"):
        clf.report(texts, [None] * 300, shares=True)


def test_shares_by_labels_that_the_calibrator_saw_are_refused():
    """Where no cross-fitted probabilities take the place of its own, its own labels are no evidence."""
    clf, texts, y = classified("prior", prior="uniform")
    with pytest.raises(InputError, match="the calibrator was fitted on 80 of these 300 rows"):
        clf.report(texts, y, shares=True)


def test_the_command_line_estimates_shares(tmp_path):
    """`llmclf report --shares` takes the rows without a class for those whose shares are wanted."""
    y, proba, _, _ = table(400, 100)
    frame = pd.DataFrame(proba, columns=[f"p_{name}" for name in CLASSES]).assign(truth=y)
    frame.to_csv(tmp_path / "rows.csv", index=False)
    arguments = [
        "report",
        str(tmp_path / "rows.csv"),
        "--label-column",
        "truth",
        "-o",
        str(tmp_path / "r.html"),
        "--json",
    ]
    ran = CliRunner().invoke(app, [*arguments, "--shares"], catch_exceptions=False)
    assert ran.exit_code == 0, ran.output
    data = json.loads((tmp_path / "r.json").read_text(encoding="utf-8"))
    assert data["shares"]["n_rows"] == 400
    assert "What share is it?" in (tmp_path / "r.html").read_text(encoding="utf-8")
