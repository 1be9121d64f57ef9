"""A classifier that gives one answer to everybody says so when it is fitted, and what would do better."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from llmclf import LLMClassifier
from llmclf.backends import FakeBackend
from llmclf.calibration import Corrections, make_calibrator
from llmclf.errors import CalibrationWarning
from llmclf.fitting.uninformative import warn_of_one_answer

RNG = np.random.default_rng(0)
COLUMNS = RNG.integers(2, size=200)
TELLING = [f"{'fine lovely' if k else 'dull poor'} film {i}" for i, k in enumerate(COLUMNS)]
MUTE = [f"film number {i}" for i in range(200)]


def warned(proba, columns=COLUMNS, texts=MUTE, classes=("no", "yes")) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        given = Corrections(calibrator=make_calibrator("identity")).fit(np.log(proba), columns)
        warn_of_one_answer(given, np.log(proba), columns, classes, texts)
    return [str(one.message) for one in caught if "say nothing" in str(one.message)]


def both(p):
    return np.column_stack([1 - p, p])


def test_constant_probabilities():
    """Class frequencies for everybody are said to say nothing about the labels, with what to try."""
    (message,) = warned(both(np.full(200, 0.48)))
    assert "say nothing about the labels" in message
    assert "every row gets the class frequencies" in message
    assert "another prompt" in message
    assert "TF-IDF" not in message


def test_words_that_do_better():
    """Where a bag of words tells the classes apart, the warning says how often it is right."""
    (message,) = warned(both(np.full(200, 0.48)), texts=TELLING)
    assert "TF-IDF and logistic regression are right in 100%" in message


def test_one_answer_from_noise():
    """Probabilities that differ by noise and decide alike in all rows are no better than constant ones."""
    (message,) = warned(both(0.3 + 0.1 * RNG.random(200)))
    assert "every row gets the answer 'no'" in message


def test_a_rare_class_that_is_ranked_well():
    """A rare class that is never the most probable, but ranked well, is no reason to warn."""
    columns = (np.arange(400) % 20 == 0).astype(int)
    assert warned(both(np.where(columns == 1, 0.45, 0.01)), columns, [f"row {i}" for i in range(400)]) == []


@pytest.mark.parametrize("n", [2, 19])
def test_few_rows(n):
    """On fewer than 20 rows nothing is said."""
    assert warned(both(np.full(n, 0.4)), COLUMNS[:n], MUTE[:n]) == []


def test_both_answers_occur():
    """Where the predictions differ, nothing is said here; the report tells how good they are."""
    assert warned(both(RNG.random(200))) == []


def test_one_class_only():
    """Labels of one class say nothing about scores."""
    assert warned(both(np.full(200, 0.4)), np.zeros(200, dtype=int)) == []


def test_a_fit_says_it_once():
    """A fit whose calibrator falls back on the class frequencies warns, once."""
    labels = ["dull" if k == 0 else "fine" for k in COLUMNS]
    clf = LLMClassifier(FakeBackend(), labels=["dull", "fine"], calibrator="auto")
    with pytest.warns(CalibrationWarning, match="TF-IDF and logistic regression are right in 100%") as caught:
        clf.fit(TELLING, labels)
    assert len([one for one in caught if "say nothing" in str(one.message)]) == 1


def test_answers_that_were_asked_for():
    """Whoever asks for class frequencies, or for a prior of one class, gets them without a warning."""
    labels = ["dull" if k == 0 else "fine" for k in COLUMNS]
    for options in ({"calibrator": "prior"}, {"calibrator": "identity", "prior": {"dull": 0.999, "fine": 0.001}}):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            LLMClassifier(FakeBackend(), labels=["dull", "fine"], **options).fit(MUTE, labels)
