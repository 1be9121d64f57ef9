"""Tests of llmclf.calibration.corrections: what prior= divides by, and what a bias aims at."""

from __future__ import annotations

import numpy as np
import pytest

from llmclf.calibration import BiasCorrector, Corrections, make_calibrator
from llmclf.calibration.corrections import assumed_prior, class_frequencies
from llmclf.logits import log_softmax, softmax

NAMES = [
    "temperature",
    "bias_temperature",
    "vector",
    "matrix",
    "platt",
    "beta",
    "isotonic",
    "venn_abers",
    "auto",
    "identity",
]


def world(seed, n, frequencies, believed, confidence=1.5, distance=2.0):
    """Scores of a model that believes in other frequencies and is over-confident, true columns, and the ideal answer."""
    rng = np.random.default_rng(seed)
    y = rng.choice(len(frequencies), size=n, p=frequencies)
    evidence = distance * rng.normal(size=(n, len(frequencies))) + distance**2 * np.eye(len(frequencies))[y]
    return confidence * log_softmax(evidence + np.log(believed)), y, log_softmax(evidence + np.log(frequencies))


def loss(log_proba, y):
    return -log_proba[np.arange(len(y)), y].mean()


@pytest.mark.filterwarnings("ignore::llmclf.errors.CalibrationWarning")
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("labelled", "used"), [([0.9, 0.1], [0.5, 0.5]), ([0.5, 0.5], [0.95, 0.05]), ([0.8, 0.2], [0.8, 0.2])], ids=str
)
def test_a_prior_comes_near_the_ideal(name, labelled, used):
    """Whatever the calibrator and the frequencies of the labelled rows, the answers are near those of the distribution itself."""
    scores, y, _ = world(1, 600, labelled, [0.4, 0.6])
    test, truth, ideal = world(2, 10_000, used, [0.4, 0.6])
    fitted = Corrections(calibrator=make_calibrator(name), log_prior=np.log(used)).fit(scores, y)
    best = loss(ideal, truth)
    # Curves of any shape need more rows, and over-confident scores stay so without a calibrator.
    slack = {"isotonic": 0.06, "venn_abers": 0.06, "identity": 0.06}.get(name, 0.02)
    assert loss(log_softmax(fitted.apply(test)), truth) < best + slack


class TestAssumedPrior:
    def test_it_is_that_of_the_model(self):
        """Probabilities that are right for one set of frequencies assume these, whatever those of the labelled rows."""
        scores, y, _ = world(0, 20_000, [0.9, 0.1], [0.3, 0.7], confidence=1.0)
        assert assumed_prior(scores, y) == pytest.approx([0.3, 0.7], abs=0.02)

    def test_calibrated_for_the_labelled_rows(self):
        """Probabilities whose mean is the labels' frequencies assume these."""
        _, y, ideal = world(0, 20_000, [0.9, 0.1], [0.3, 0.7])
        assert assumed_prior(ideal, y) == pytest.approx([0.9, 0.1], abs=0.01)

    def test_no_row_says_little(self):
        """One row for each class speaks for the mean of the probabilities, so a single row does not say much."""
        assert assumed_prior(np.log([[0.5, 0.5]]), np.array([0])) == pytest.approx([0.5, 0.5])

    def test_weights_have_no_unit(self):
        """Weights that sum to 1 say what weights of 1 say."""
        scores, y, _ = world(0, 50, [0.9, 0.1], [0.3, 0.7])
        ones, shares = np.ones(50), np.full(50, 1 / 50)
        assert assumed_prior(scores, y, shares) == pytest.approx(assumed_prior(scores, y, ones), abs=1e-12)

    @pytest.mark.filterwarnings("error")
    def test_probabilities_of_0_and_1(self):
        """Scores that leave no doubt have an answer, too, without a warning."""
        scores = np.where(np.arange(40)[:, None] % 2 == [0, 1], 0.0, -900.0)
        assert np.isfinite(assumed_prior(scores, np.arange(40) % 2)).all()


class TestBias:
    def test_shots_are_missing_from_the_rows(self):
        """The mean of the fitted rows meets their own frequencies, and the bias is then moved to those of all rows."""
        scores, y, _ = world(0, 300, [0.7, 0.3], [0.5, 0.5])
        frequencies = np.array([0.6, 0.4])
        fitted = Corrections(BiasCorrector("ucpa")).fit(scores, y, frequencies=frequencies)
        own = class_frequencies(y, None, 2)
        back = fitted.apply(scores) + np.log(own / frequencies)
        assert softmax(back).mean(axis=0) == pytest.approx(own, abs=1e-9)
        assert fitted.bias.prior_ == pytest.approx(frequencies)

    def test_weights_reach_it(self):
        """A weight of 0 is no row."""
        scores, y, _ = world(0, 300, [0.7, 0.3], [0.5, 0.5])
        weights = np.r_[np.ones(200), np.zeros(100)]
        weighted = Corrections(BiasCorrector("ucpa")).fit(scores, y, weights)
        fewer = Corrections(BiasCorrector("ucpa")).fit(scores[:200], y[:200])
        assert weighted.bias.bias_ == pytest.approx(fewer.bias.bias_, abs=1e-9)

    @pytest.mark.parametrize("method", ["batch_logmean", "batch_meanlog", "ucpa"])
    def test_unbalanced_classes(self, method):
        """The frequencies of y are the better target for unbalanced classes; with a mean of probabilities nothing is lost."""
        scores, y, _ = world(1, 400, [0.9, 0.1], [0.5, 0.5])
        test, truth, _ = world(2, 5000, [0.9, 0.1], [0.5, 0.5])
        raw = (test.argmax(axis=1) == truth).mean()
        aimed = Corrections(BiasCorrector(method)).fit(scores, y).apply(test)
        even = Corrections(BiasCorrector(method)).fit(scores).apply(test)
        assert (even.argmax(axis=1) == truth).mean() < min(raw, (aimed.argmax(axis=1) == truth).mean())
        if method != "batch_meanlog":  # the mean of log-probabilities exaggerates what a confident model says
            assert (aimed.argmax(axis=1) == truth).mean() >= raw
