"""Tests of shares that a classifier estimates, and of the rows that its fit has seen."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from llmclf import LLMClassifier, load
from llmclf.backends import FakeBackend
from llmclf.errors import CalibrationWarning, InputError
from llmclf.estimation import estimate_shares

TEXTS = [f"text {i}" for i in range(300)]
Y = np.array(["a", "b", "b"] * 100)
ROWS = np.random.default_rng(0).permutation(300)[:60]


def classifier(**params) -> LLMClassifier:
    return LLMClassifier(FakeBackend(), labels=["a", "b"], random_state=0, **params)


def test_rows_that_nobody_saw_are_estimated_from_predict_proba():
    """Without a warning, from places and from truth values alike."""
    clf = classifier().fit(TEXTS[:1])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = clf.estimate_shares(TEXTS, Y[ROWS], ROWS, confidence_level=0.9)
        is_labelled = np.isin(np.arange(300), ROWS)
        again = clf.estimate_shares(TEXTS, Y[is_labelled], is_labelled, confidence_level=0.9)
    expected = estimate_shares(clf.predict_proba(TEXTS), Y[ROWS], ROWS, classes=["a", "b"], confidence_level=0.9)
    assert found.to_dict() == expected.to_dict()
    assert again.to_frame()["share"].to_numpy() == pytest.approx(expected.to_frame()["share"].to_numpy())


@pytest.mark.filterwarnings("ignore:.*(scores say nothing|contradict):llmclf.errors.CalibrationWarning")
def test_rows_that_the_calibrator_saw_are_cross_fitted():
    """With the probabilities of calibration_proba_, and a warning."""
    clf = classifier(calibrator="isotonic").fit([TEXTS[row] for row in ROWS], Y[ROWS])
    with pytest.warns(CalibrationWarning, match="calibrators that did not see them"):
        found = clf.estimate_shares(TEXTS, Y[ROWS], ROWS)
    proba = clf.predict_proba(TEXTS)
    proba[ROWS] = clf.calibration_proba_
    assert found.to_dict() == estimate_shares(proba, Y[ROWS], ROWS, classes=["a", "b"]).to_dict()


@pytest.mark.filterwarnings("ignore:.*(scores say nothing|contradict):llmclf.errors.CalibrationWarning")
def test_rows_that_cannot_be_cross_fitted_are_refused(tiny_bpe, tmp_path):
    """By a classifier that was loaded; rows that it has not seen are estimated from."""
    texts, y = TEXTS[:80], Y[:80]
    LLMClassifier(tiny_bpe, labels=["a", "b"], calibrator="temperature").fit(texts[:40], y[:40]).save(tmp_path / "clf")
    loaded = load(tmp_path / "clf")
    with pytest.raises(InputError, match="fitted on 10 of the 30 labelled rows, and its rows are no longer at hand"):
        loaded.estimate_shares(texts, y[30:60], range(30, 60))
    assert loaded.estimate_shares(texts, y[50:70], range(50, 70)).overall.n_labelled == 20


def test_shots_are_refused():
    """Their answers stand in the prompt."""
    clf = classifier(n_shots=2).fit(TEXTS[:20], Y[:20])
    with pytest.raises(InputError, match="2 of the 40 labelled rows stand in the prompt as examples"):
        clf.estimate_shares(TEXTS, Y[:40], range(40))


@pytest.mark.parametrize("rows", [["x"] * 20, [None] * 20, [[1] * 20], [0.5] * 20])
def test_rows_that_are_no_places_are_refused(rows):
    """Before the model is asked."""
    with pytest.raises(InputError, match="rows"):
        classifier().fit(TEXTS[:1]).estimate_shares(TEXTS, ["a", "b"] * 10, rows)


def test_classes_are_those_of_the_classifier():
    """Others cannot be given."""
    with pytest.raises(InputError, match=r"classes=\['a', 'b'\] is given"):
        classifier().fit(TEXTS[:1]).estimate_shares(TEXTS, Y[ROWS], ROWS, classes=["a", "b"])
