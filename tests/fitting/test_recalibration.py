"""Recalibration: new labels put probabilities right, what was learned stays, and nothing is asked about old rows."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from llmclf import LLMClassifier, load, open_backend
from llmclf.backends import FakeBackend
from llmclf.calibration import AutoCalibrator
from llmclf.errors import CalibrationWarning, InputError, StoreError
from llmclf.metrics import log_loss

X = [f"{'lovely' if i % 3 else 'grey'} film {i}" for i in range(900)]
OLD, NEW, LATER = slice(0, 200), slice(200, 500), slice(500, 900)


def labels(seed: int, share: float) -> np.ndarray:
    """Classes that follow the model's scores, with class frequencies that differ between then and now."""
    clf = LLMClassifier(FakeBackend(), labels=["a", "b"], prompt="{{ text }}:").fit(X[:1])
    margin = np.diff(clf.score_labels(X), axis=1)[:, 0]
    noise = np.random.default_rng(seed).logistic(size=len(X))
    return np.where(2 * (margin - np.quantile(margin, 1 - share)) + noise > 0, "b", "a")


THEN, NOW = labels(0, 0.5), labels(1, 0.85)


def fitted(**options) -> LLMClassifier:
    clf = LLMClassifier(FakeBackend(), labels=["a", "b"], prompt="{{ text }}:", **{"calibrator": "vector", **options})
    return clf.fit(X[OLD], THEN[OLD])


def saved(clf: LLMClassifier, folder: Path) -> Path:
    """The folder of a classifier, as if its backend were one of this machine's models."""
    clf.pipeline_ = replace(clf.pipeline_, backend=open_backend("smollm2"))
    clf.save(folder)
    return folder


def loaded(folder: Path) -> LLMClassifier:
    """The classifier of a folder, with the backend that it was fitted with."""
    clf = load(folder)
    clf.pipeline_ = replace(clf.pipeline_, backend=FakeBackend())
    return clf


@pytest.mark.parametrize(
    "options", [{}, {"calibrator": None}, {"calibrator": "auto"}, {"features": "tfidf"}, {"prior": "uniform"}], ids=str
)
def test_probabilities_fit_the_new_rows(options):
    """On rows that neither fit has seen; whatever was fitted before."""
    clf = fitted(**options)
    before = log_loss(NOW[LATER], clf.predict_proba(X[LATER]), classes=["a", "b"])
    clf.recalibrate(X[NEW], NOW[NEW])
    after = clf.predict_proba(X[LATER])
    assert log_loss(NOW[LATER], after, classes=["a", "b"]) < before - 0.05
    assert after[:, 1].mean() == pytest.approx((NOW[LATER] == "b").mean(), abs=0.05)


def test_nothing_is_asked_about_the_rows_of_the_fit(monkeypatch):
    """Only the new ones are, each once; and the old calibrator is the very same."""
    clf, asked = fitted(), []
    score = FakeBackend.score

    def counting(self, requests):
        asked.extend(request.prompt.text for request in requests)
        return score(self, requests)

    monkeypatch.setattr(FakeBackend, "score", counting)
    calibrator = clf.calibrator_
    assert clf.recalibrate(X[NEW], NOW[NEW]) is clf
    assert sorted(asked) == sorted(f"{text}:" for text in X[NEW])
    assert clf.calibrator_ is calibrator
    assert isinstance(clf.recalibration_, AutoCalibrator)


def test_it_replaces_an_earlier_one():
    """Twice on the same rows is as good as once, and differs from once on the others."""
    once, twice = fitted(), fitted()
    once.recalibrate(X[NEW], NOW[NEW])
    twice.recalibrate(X[LATER], NOW[LATER]).recalibrate(X[NEW], NOW[NEW])
    np.testing.assert_array_equal(once.predict_proba(X[LATER]), twice.predict_proba(X[LATER]))


def test_the_threshold_goes():
    """It belonged to other probabilities; without one there is no warning."""
    clf = fitted()
    clf.fit_threshold(X[NEW], THEN[NEW], max_error=0.4)
    with pytest.warns(CalibrationWarning, match="the threshold belonged to the probabilities before"):
        clf.recalibrate(X[LATER], NOW[LATER])
    assert clf.threshold_ is None
    clf.recalibrate(X[LATER], NOW[LATER])


def test_its_rows_are_cross_fitted_and_those_of_the_fit_count_as_seen():
    """A threshold can be chosen without other rows, and a report knows all three kinds of rows."""
    clf = fitted().recalibrate(X[NEW], NOW[NEW])
    assert clf.calibration_proba_.shape == (300, 2)
    assert clf.calibration_rows_.tolist() == list(range(300))
    with pytest.warns(CalibrationWarning):
        judged = clf.report(X, NOW).to_dict()["provenance"]["judged"]
    assert judged == {"held_out": 400, "cross_fitted": 300, "seen_by_calibrator": 200, "shots": 0}
    assert clf.fit_threshold(max_error=0.45).threshold_ is not None
    with pytest.raises(InputError, match="recalibrated since"):
        clf.fit_threshold(X[100:500], NOW[100:500], max_error=0.4)


def test_a_loaded_classifier_is_recalibrated_and_saved(tmp_path):
    """Probabilities outlive save and load, and so does the knowledge of which rows were seen, and when."""
    clf = loaded(saved(fitted(features="tfidf"), tmp_path / "old")).recalibrate(X[NEW], NOW[NEW])
    probabilities = clf.predict_proba(X[LATER])
    read = loaded(saved(clf, tmp_path / "new"))
    np.testing.assert_array_equal(read.predict_proba(X[LATER]), probabilities)
    with pytest.raises(InputError, match="the calibrator was fitted on 200"):
        read.recalibrate(X[:300], NOW[:300])
    read.recalibrate(X[NEW], NOW[NEW])  # those of the recalibration that goes may come again
    values = json.loads((tmp_path / "new" / "classifier.json").read_text())
    assert values["format"] == 5
    (tmp_path / "new" / "classifier.json").write_text(json.dumps({**values, "format": 6}))
    with pytest.raises(StoreError, match="a newer version of llmclf"):
        load(tmp_path / "new")


@pytest.mark.parametrize(
    "damage",
    [
        {"name": "stacked"},
        {"name": "temperature", "parameters": {}, "classes": [0, 1, 2], "fitted": {"temperature": 1.0}},
        3,
    ],
)
def test_a_damaged_recalibration_is_refused(tmp_path, damage):
    """As an error that names the file."""
    saved(fitted().recalibrate(X[NEW], NOW[NEW]), tmp_path / "clf")
    values = json.loads((tmp_path / "clf" / "classifier.json").read_text())
    values["corrections"]["recalibration"] = damage
    (tmp_path / "clf" / "classifier.json").write_text(json.dumps(values))
    with pytest.raises(StoreError, match=r"classifier\.json"):
        load(tmp_path / "clf")


def test_rows_drawn_unevenly_count_for_the_table(monkeypatch):
    """Rows of class b were drawn four times as often; with their probabilities the frequencies are those of the table."""
    rng = np.random.default_rng(0)
    chance = np.where(NOW[LATER] == "b", 1.0, 0.25)
    drawn = np.flatnonzero(rng.random(400) < chance)
    rows, y = [X[LATER][i] for i in drawn], NOW[LATER][drawn]
    clf = fitted().recalibrate(rows, y, inclusion=chance[drawn])
    assert clf.predict_proba(X[NEW])[:, 1].mean() == pytest.approx((NOW[NEW] == "b").mean(), abs=0.06)


def test_rows_that_taught_it_are_refused(monkeypatch):
    """Before the model is asked; their probabilities are better than those of others."""
    clf = fitted(n_shots=4, random_state=0)
    monkeypatch.setattr(FakeBackend, "score", None)
    with pytest.raises(InputError, match="4 stand in the prompt as examples and the calibrator was fitted on 196"):
        clf.recalibrate(X[:300], NOW[:300])


def test_too_few_rows_are_refused(monkeypatch):
    """Before the model is asked."""
    clf = fitted()
    monkeypatch.setattr(FakeBackend, "score", None)
    with pytest.raises(InputError, match="19 labelled rows are too few"):
        clf.recalibrate(X[200:219], NOW[200:219])


def test_rows_that_cannot_be_scored_are_left_out():
    """With a warning that says why."""
    clf = fitted(on_error="missing")
    with pytest.warns(CalibrationWarning, match="1 of 301 training rows could not be scored"):
        clf.recalibrate([*X[NEW], " "], [*NOW[NEW], "a"])
    assert len(clf.calibration_rows_) == 300


def test_the_inspector_shows_the_step():
    """Numbers still add up to the probability."""
    clf = fitted().recalibrate(X[NEW], NOW[NEW])
    rows, scorer, corrections = clf.parts(X[:1])
    steps = dict(corrections.steps(scorer.class_scores(rows, clf.scoring)))
    assert list(steps) == ["calibrator", "recalibration"]
    np.testing.assert_allclose(np.exp(steps["recalibration"]), clf.predict_proba(X[:1]))
