"""A classifier fitted, judged and given a threshold on rows that were drawn with unequal probabilities."""

from __future__ import annotations

import importlib
import inspect

import numpy as np
import pytest

from llmclf import LLMClassifier
from llmclf.backends import FakeBackend
from llmclf.calibration import ConformalClassifier, risk_coverage_curve
from llmclf.display import ReliabilityDisplay, RiskCoverageDisplay
from llmclf.errors import InputError
from llmclf.metrics import accuracy, aurc, calibration_interval, inclusion_weights
from llmclf.report import CalibrationReport

TEXTS = [f"text {i}" for i in range(400)]
Y = [("a", "b")[i % 3 == 0] for i in range(400)]
INCLUSION = np.where(np.arange(400) % 2, 0.5, 0.1)
PACKAGES = ("llmclf", "calibration", "display", "estimation", "metrics", "race", "report")
ELSEWHERE = {
    "BiasCorrector.fit": "reads no labels",
    "Embeddings.fit": "reads no labels",
    "Embeddings.fit_transform": "reads no labels",
    "LLMClassifier.fit_task": "has the weights that fit makes of them",
    "checked_event": "checks predictions for metrics",
    "checked_predictions": "the same",
    "label_columns": "labels as numbers",
    "from_estimator": "hands its options on to from_predictions",
    "LLMScores.fit": "reads no labels",
    "NextRows.sample": "has the probabilities itself",
}
"""Public functions with labelled rows that need no inclusion probabilities, and why."""


def takers():
    """Every public function or method that takes labelled rows, by name."""
    for package in PACKAGES:
        module = importlib.import_module("llmclf" if package == "llmclf" else f"llmclf.{package}")
        for name in module.__all__:
            value = getattr(module, name)
            methods = inspect.getmembers(value, inspect.isroutine) if inspect.isclass(value) else [("", value)]
            for method, function in methods:
                if method.startswith("_") or not callable(function):
                    continue
                home = getattr(function, "__module__", None) or ""
                if not home.startswith("llmclf"):
                    continue
                if "y" in inspect.signature(function).parameters:
                    yield f"{name}.{method}".rstrip("."), function


def test_whatever_takes_labelled_rows_takes_inclusion_or_says_what_to_do() -> None:
    """A public function with labelled rows has inclusion=, or its docstring says what stands for it."""
    silent = [
        name
        for name, function in takers()
        if name not in ELSEWHERE
        and name.split(".")[-1] not in ELSEWHERE
        and "inclusion" not in inspect.signature(function).parameters
        and "inclusion" not in (inspect.getdoc(function) or "")
    ]
    assert not silent


def drawn(n_rows: int, seed: int):
    """Labels, probabilities and inclusion of rows of which sure ones were seldom drawn."""
    rng = np.random.default_rng(seed)
    p = rng.random(n_rows)
    y = (rng.random(n_rows) < 0.3 + 0.4 * p).astype(int)
    inclusion = np.where(np.abs(p - 0.5) < 0.25, 0.8, 0.1)
    kept = rng.random(n_rows) < inclusion
    return y[kept], np.column_stack([1 - p, p])[kept], inclusion[kept]


@pytest.mark.parametrize("kind", ["corp", "mass", "uniform", "smooth"])
def test_reliability_display(kind: str) -> None:
    """Curve and box are those of the metrics with these probabilities, and equal ones change nothing."""
    y, proba, inclusion = drawn(2000, 0)
    options = {"kind": kind, "n_resamples": 20, "classwise": True}
    display = ReliabilityDisplay.from_predictions(y, proba, inclusion=inclusion, **options)
    assert display.summary.accuracy == pytest.approx(accuracy(y, proba, inclusion=inclusion))
    interval = calibration_interval(y, proba, inclusion=inclusion, random_state=0)
    assert display.summary.measure_error() == interval
    assert display.frame()["accuracy_lower"].isna().all()
    even = ReliabilityDisplay.from_predictions(y, proba, inclusion=np.full(len(y), 0.25), **options)
    plain = ReliabilityDisplay.from_predictions(y, proba, **options)
    np.testing.assert_array_equal(even.summary.band, plain.summary.band)
    assert even.frame().equals(plain.frame())
    with pytest.raises(InputError, match="both given"):
        ReliabilityDisplay.from_predictions(y, proba, inclusion=inclusion, sample_weight=np.ones(len(y)))


def test_the_band_is_as_wide_as_these_rows_make_it() -> None:
    """Of calibrated rows drawn unequally, the consistency band holds the curve of 95 % of the samples at a point."""
    rng = np.random.default_rng(0)
    inside = []
    for seed in range(60):
        p = rng.random(1500)
        y = (rng.random(1500) < p).astype(int)
        inclusion = np.where(rng.random(1500) < 0.5, 0.9, 0.05)
        kept = rng.random(1500) < inclusion
        proba = np.column_stack([1 - p, p])[kept]
        summary = ReliabilityDisplay.from_predictions(
            y[kept],
            proba,
            inclusion=inclusion[kept],
            kind="mass",
            n_bins=5,
            n_resamples=100,
            pos_label=1,
            random_state=seed,
        ).summary
        inside.append((summary.band[1] <= summary.line[1]) & (summary.line[1] <= summary.band[2]))
    assert 0.9 < np.mean(inside) < 0.99


def test_risk_coverage_display() -> None:
    """The curve and the area are those of the functions with these probabilities."""
    y, proba, inclusion = drawn(2000, 1)
    display = RiskCoverageDisplay.from_predictions(
        y, proba, proba_before=proba**2 / (proba**2).sum(1, keepdims=True), inclusion=inclusion
    )
    np.testing.assert_array_equal(display.curve.risk, risk_coverage_curve(y, proba, inclusion=inclusion).risk)
    assert display.area == aurc(y, proba, inclusion=inclusion)


def test_conformal_sets_cover_the_table() -> None:
    """Of rows drawn where the model is unsure, the sets cover the whole table as requested, and not only such rows."""
    covered, blind = [], []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        hard = rng.random(6000) < 0.2
        proba = np.where(hard, 0.55, 0.9) + rng.uniform(-0.05, 0.05, 6000)
        y = (rng.random(6000) >= np.where(hard, 0.5, 0.98)).astype(int)
        table = np.column_stack([proba, 1 - proba])
        inclusion = np.where(hard, 0.3, 0.05)
        kept = rng.random(6000) < inclusion
        for options, found in (({"inclusion": inclusion[kept]}, covered), ({}, blind)):
            sets = ConformalClassifier(confidence_level=0.9, random_state=seed).fit(table[kept], y[kept], **options)
            found.append(sets.predict_set(table)[np.arange(6000), y].mean())
    assert 0.89 < np.mean(covered) < 0.92
    assert np.mean(blind) > 0.94
    with pytest.raises(InputError, match="above 0"):
        ConformalClassifier().fit(table, y, inclusion=np.zeros(6000))


def test_a_race_is_about_the_table() -> None:
    """Rows race that all had the same probability, and the result says how many others were left out."""
    X = [f"text {i} {'ab'[i % 2]}" for i in range(160)]
    y = ["a", "b"] * 80
    inclusion = np.where(np.arange(160) % 4 < 2, 0.5, 0.1)
    race = LLMClassifier(FakeBackend(), labels=["a", "b"]).race(X, y, inclusion=inclusion)
    rows = race.to_dict()["rows"]
    assert 80 < rows["n"] < 120
    assert rows["n"] + rows["n_thinned"] == 160
    assert f"{rows['n_thinned']} more were drawn with higher probabilities" in race.to_markdown()
    even = LLMClassifier(FakeBackend(), labels=["a", "b"]).race(X[:60], y[:60], inclusion=np.full(60, 0.2))
    assert "n_thinned" not in even.to_dict()["rows"]
    with pytest.raises(InputError, match="inclusion has shape"):
        LLMClassifier(FakeBackend(), labels=["a", "b"]).race(X, y, inclusion=inclusion[:3])


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
