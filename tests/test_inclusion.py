"""A classifier fitted, judged and given a threshold on rows that were drawn with unequal probabilities."""

from __future__ import annotations

import numpy as np
import pytest

from llmclf import LLMClassifier
from llmclf.backends import FakeBackend
from llmclf.errors import InputError
from llmclf.metrics import inclusion_weights
from llmclf.report import CalibrationReport

TEXTS = [f"text {i}" for i in range(400)]
Y = [("a", "b")[i % 3 == 0] for i in range(400)]
INCLUSION = np.where(np.arange(400) % 2, 0.5, 0.1)


@pytest.mark.filterwarnings("ignore::llmclf.errors.CalibrationWarning")
def test_fit_weighs_rows() -> None:
    """A calibrator learns from rows that count by their inclusion probabilities, never as repetitions."""
    fitted = [
        LLMClassifier(FakeBackend(), labels=["a", "b"], calibrator="bias_temperature")
        .fit(TEXTS, Y, **more)
        .predict_proba(TEXTS)
        for more in (
            {"inclusion": INCLUSION},
            {"sample_weight": inclusion_weights(INCLUSION, 400)},
            {"inclusion": np.full(400, 0.1)},
            {},
        )
    ]
    np.testing.assert_allclose(fitted[0], fitted[1])
    np.testing.assert_allclose(fitted[2], fitted[3])
    assert not np.allclose(fitted[0], fitted[3])


def test_fit_refuses() -> None:
    """Weights and probabilities both, or probabilities that are none."""
    clf = LLMClassifier(FakeBackend(), labels=["a", "b"], calibrator="temperature")
    with pytest.raises(InputError, match="both given"):
        clf.fit(TEXTS, Y, sample_weight=np.ones(400), inclusion=INCLUSION)
    with pytest.raises(InputError, match="above 0"):
        clf.fit(TEXTS, Y, inclusion=np.zeros(400))


def test_threshold() -> None:
    """fit_threshold takes them with X alone."""
    clf = LLMClassifier(FakeBackend(), labels=["a", "b"]).fit(TEXTS)
    chosen = clf.fit_threshold(TEXTS, clf.predict(TEXTS), max_error=0.1, inclusion=INCLUSION).threshold_
    assert chosen.n_accepted > 100
    with pytest.raises(InputError, match="inclusion= describes the rows of X"):
        clf.fit_threshold(max_error=0.1, inclusion=INCLUSION)
    with pytest.raises(InputError, match="inclusion has shape"):
        clf.fit_threshold(TEXTS, Y, max_error=0.1, inclusion=INCLUSION[:3])


@pytest.mark.filterwarnings("ignore::llmclf.errors.CalibrationWarning")
def test_a_fit_of_weighted_rows_chooses_no_threshold_of_its_own() -> None:
    """Without X the rows of the fit would have to be drawn evenly."""
    clf = LLMClassifier(FakeBackend(), labels=["a", "b"], calibrator="temperature").fit(TEXTS, Y, inclusion=INCLUSION)
    with pytest.raises(InputError, match="inclusion or sample_weight says"):
        clf.fit_threshold(max_error=0.1)


def test_report_takes_rows_of_equal_probability() -> None:
    """The report is right for the table, by rows that all had the same chance, and says how many."""
    rng = np.random.default_rng(0)
    p = rng.random(4000)
    right = rng.random(4000) < np.where(p > 0.5, 0.95, 0.6)
    inclusion = np.where(p > 0.5, 0.1, 0.8)
    drawn = rng.random(4000) < inclusion
    proba = np.column_stack([np.full(4000, 0.7), np.full(4000, 0.3)])[drawn]
    y = np.where(right, 0, 1)[drawn]
    report = CalibrationReport(y, proba, inclusion=inclusion[drawn]).to_dict()
    plain = CalibrationReport(y, proba).to_dict()
    shares = [str(one["metadata"]) for one in (report, plain)] if "metadata" in report else [str(report), str(plain)]
    assert "labelled rows are used" in shares[0]
    assert "labelled rows are used" not in shares[1]


def test_classifier_report() -> None:
    """LLMClassifier.report hands them on."""
    clf = LLMClassifier(FakeBackend(), labels=["a", "b"]).fit(TEXTS)
    report = clf.report(TEXTS, Y, inclusion=INCLUSION)
    assert report.evidence.n_rows < 400
