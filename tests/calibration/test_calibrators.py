"""Tests of llmclf.calibration: golden values, laws, warnings, and scikit-learn's own checks."""

from __future__ import annotations

import copy
import datetime
import json
import pickle
import warnings

import numpy as np
import pytest
import sklearn
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.sparse import issparse
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression
from sklearn.utils.estimator_checks import parametrize_with_checks
from sklearn.utils.validation import check_is_fitted, validate_data

from llmclf.calibration import (
    AutoCalibrator,
    BetaCalibrator,
    BiasTemperatureCalibrator,
    IdentityCalibrator,
    IsotonicCalibrator,
    MatrixCalibrator,
    PlattCalibrator,
    PriorCalibrator,
    TemperatureCalibrator,
    VectorCalibrator,
    VennAbersCalibrator,
    calibrator_from_dict,
    make_calibrator,
)
from llmclf.calibration.pool.members import Observed
from llmclf.errors import CalibrationWarning, InputError
from llmclf.logits import log_softmax, softmax
from llmclf.metrics import log_loss
from llmclf.numerics.affine_fit import fit_affine
from llmclf.numerics.folds import fold_weights

BOTH = [TemperatureCalibrator(), BiasTemperatureCalibrator()]
AFFINE = [VectorCalibrator(), MatrixCalibrator()]
EVENT = [PlattCalibrator(), BetaCalibrator(), IsotonicCalibrator(), VennAbersCalibrator()]
PLAIN = [IdentityCalibrator(), PriorCalibrator()]
SOFTMAX = [*BOTH, BiasTemperatureCalibrator(ridge=0), *AFFINE]
ALL = [*SOFTMAX, *EVENT, *PLAIN, AutoCalibrator()]
unwarned = pytest.mark.filterwarnings("ignore::llmclf.errors.CalibrationWarning")
any_seed = st.integers(0, 2**32 - 1)


def true_log_probabilities(rng, n, k):
    """Random log-probabilities (n, k), and labels drawn from them."""
    truth = log_softmax(rng.normal(size=(n, k)) * 1.5 + np.array([0.4, 0.0, -0.3, 0.1])[:k])
    y = (np.exp(truth).cumsum(axis=1) < rng.random(n)[:, None]).sum(axis=1).clip(0, k - 1)
    return truth, y


def four_classes():
    """3000 rows of over-confident, biased log-probabilities of four classes; the golden values belong to them."""
    truth, y = true_log_probabilities(np.random.default_rng(20260101), 3000, 4)
    return log_softmax(truth / 0.45 + np.array([0.8, 0.0, -0.5, 0.2])), y


def two_classes():
    """2000 rows of over-confident log-probabilities of two classes."""
    rng = np.random.default_rng(7)
    t = rng.normal(0, 1.4, 2000)
    y = (rng.random(2000) < 1 / (1 + np.exp(-t))).astype(int)
    return log_softmax(np.column_stack([np.zeros(2000), 1.9 * t + 0.3])), y


def noisy(seed, n=60, k=3):
    """Scores that know something of the labels; every class has a row, and no fit ends at an end of the search."""
    rng = np.random.default_rng(seed)
    y = rng.permutation(np.arange(n) % k)
    scores = rng.normal(size=(n, k))
    scores[np.arange(n), y] += 0.8
    return scores, y


def objective(scores, y, temperature, bias, ridge, prior_rows=0.0):
    log_q = log_softmax(scores / temperature + bias)
    prior = -np.sum(softmax(scores) * log_softmax(scores / temperature))
    penalty = ridge * np.sum(np.square(bias)) + prior_rows * prior / len(y)
    return -log_q[np.arange(len(y)), y].mean() + penalty / len(y)


class TestGoldenValues:
    def test_temperature(self):
        """The temperature and its loss are those that five independent packages find."""
        scores, y = four_classes()
        calibrator = TemperatureCalibrator(prior_rows=0).fit(scores, y)
        assert calibrator.temperature_ == pytest.approx(2.2831200741346, abs=1e-9)
        assert log_loss(y, calibrator.predict_proba(scores)) == pytest.approx(0.900991663164, abs=1e-9)

    def test_binary_temperature(self):
        """With two columns the temperature is half the inverse of scikit-learn's beta, which doubles the log-odds."""
        assert TemperatureCalibrator(prior_rows=0).fit(*two_classes()).temperature_ == pytest.approx(
            1.844281945712, abs=1e-9
        )

    def test_bias_temperature_without_ridge(self):
        """Without ridge, beta, the biases and the loss are those of an independent optimiser."""
        scores, y = four_classes()
        calibrator = BiasTemperatureCalibrator(ridge=0, prior_rows=0).fit(scores, y)
        assert 1 / calibrator.temperature_ == pytest.approx(0.465315795929, abs=1e-9)
        assert calibrator.bias_ == pytest.approx([-0.29381567, 0.0802193, 0.26487953, -0.05128316], abs=1e-8)
        assert log_loss(y, calibrator.predict_proba(scores)) == pytest.approx(0.888367538770, abs=1e-9)

    def test_bias_temperature_with_ridge(self):
        """The automatic ridge is K, and beta and the objective are those of an independent optimiser."""
        scores, y = four_classes()
        calibrator = BiasTemperatureCalibrator(prior_rows=0).fit(scores, y)
        assert 1 / calibrator.temperature_ == pytest.approx(0.464734232330, abs=1e-9)
        found = objective(scores, y, calibrator.temperature_, calibrator.bias_, 4)
        assert found == pytest.approx(0.888584294576, abs=1e-9)
        assert calibrator.bias_.sum() == pytest.approx(0, abs=1e-12)

    @pytest.mark.parametrize(
        ("calibrator", "value", "tolerance"),
        [
            (VectorCalibrator(ridge=0), 0.8871125017, 1e-9),
            (MatrixCalibrator(ridge=0), 0.88589728, 1e-8),
        ],
        ids=repr,
    )
    def test_affine(self, calibrator, value, tolerance):
        """Vector scaling and multinomial regression on log-probabilities have the losses that other packages find."""
        scores, y = four_classes()
        proba = calibrator.fit(scores, y).predict_proba(scores)
        assert log_loss(y, proba) == pytest.approx(value, abs=tolerance)

    def test_the_matrix_without_ridge_is_logistic_regression(self):
        """scikit-learn's unregularised multinomial regression on the log-probabilities gives the same probabilities."""
        scores, y = four_classes()
        expected = LogisticRegression(C=np.inf, tol=1e-12, max_iter=10_000).fit(scores, y).predict_proba(scores)
        assert MatrixCalibrator(ridge=0).fit(scores, y).predict_proba(scores) == pytest.approx(expected, abs=1e-5)

    def test_event_maps(self):
        """Platt's slope and intercept are those of scikit-learn, the beta map's numbers those of its authors' package."""
        scores, y = two_classes()
        platt = PlattCalibrator().fit(scores, y)
        assert platt.maps_[0] == pytest.approx([0.547681722895, -0.190973248406], abs=1e-9)
        beta = BetaCalibrator(prior_rows=0).fit(scores, y)
        assert beta.maps_[0] == pytest.approx([0.524522152, 0.571194384, -0.239885419], abs=1e-8)

    def test_isotonic(self):
        """Isotonic regression with its floor: scikit-learn's, clipped, at the fitted rows."""
        scores, y = two_classes()
        p = np.exp(scores[:, 1])
        expected = IsotonicRegression(y_min=1 / 2001, y_max=2000 / 2001).fit(p, y).predict(p)
        found = IsotonicCalibrator().fit(scores, y).predict_proba(scores)[:, 1]
        assert found == pytest.approx(expected, abs=1e-12)

    def test_structured_vector_scaling(self):
        """From a temperature with 1/(n + 1) of the uniform distribution mixed in, the solver finds the published objective."""
        scores, y = four_classes()
        n, k = scores.shape

        def mixed(beta):
            return np.log((1 - 1 / (n + 1)) * softmax(beta * scores) + 1 / (n + 1) / k)

        found = minimize_scalar(lambda beta: -mixed(beta)[np.arange(n), y].mean(), bounds=(0.1, 2), method="bounded")
        logs = mixed(found.x)
        matrix, bias = fit_affine(logs, y, np.ones(n), ridge=k, ridge_off_diagonal=None)
        log_q = log_softmax(logs @ matrix.T + bias)
        # The package that the value comes from stops a little before the minimum.
        assert -log_q[np.arange(n), y].mean() == pytest.approx(0.887184560, abs=2e-6)


class TestLaws:
    @given(any_seed, st.floats(0.01, 100.0))
    @settings(max_examples=30, deadline=None)
    def test_temperature_keeps_the_winner_and_ignores_scale_and_shift(self, seed, factor):
        """A temperature never changes the top class; without prior its output ignores row constants and the scores' scale."""
        scores, y = noisy(seed)
        calibrator = TemperatureCalibrator(prior_rows=0).fit(scores, y)
        proba = calibrator.predict_proba(scores)
        assert (proba.argmax(axis=1) == scores.argmax(axis=1)).all()
        other = factor * scores + np.random.default_rng(seed).normal(0, 50, (len(y), 1))
        refitted = TemperatureCalibrator(prior_rows=0).fit(other, y)
        assert refitted.predict_proba(other) == pytest.approx(proba, abs=1e-8)
        assert refitted.temperature_ == pytest.approx(factor * calibrator.temperature_, rel=1e-6)

    @given(any_seed, st.floats(0.01, 100.0))
    @settings(max_examples=20, deadline=None)
    def test_bias_temperature_ignores_scale_and_shift(self, seed, factor):
        """Without prior the bias and the output of a bias and temperature ignore row constants and the scores' scale."""
        scores, y = noisy(seed)
        calibrator = BiasTemperatureCalibrator(prior_rows=0).fit(scores, y)
        other = factor * scores + np.random.default_rng(seed).normal(0, 50, (len(y), 1))
        refitted = BiasTemperatureCalibrator(prior_rows=0).fit(other, y)
        assert refitted.predict_proba(other) == pytest.approx(calibrator.predict_proba(scores), abs=1e-7)
        assert refitted.bias_ == pytest.approx(calibrator.bias_, abs=1e-7)

    @pytest.mark.parametrize("calibrator", ALL, ids=repr)
    @given(any_seed)
    @settings(max_examples=10, deadline=None)
    def test_row_constants_change_nothing(self, calibrator, seed):
        """A constant added to the scores of a row is no information, prior or not."""
        scores, y = noisy(seed)
        other = scores + np.random.default_rng(seed).normal(0, 50, (len(y), 1))
        proba = clone(calibrator).fit(scores, y).predict_proba(scores)
        assert clone(calibrator).fit(other, y).predict_proba(other) == pytest.approx(proba, abs=1e-7)

    @pytest.mark.parametrize("calibrator", ALL, ids=repr)
    @given(any_seed)
    @settings(max_examples=10, deadline=None)
    def test_equivariance(self, calibrator, seed):
        """Shuffled rows change nothing, and shuffled columns shuffle the output."""
        scores, y = noisy(seed)
        rng = np.random.default_rng(seed)
        rows, columns = rng.permutation(len(y)), rng.permutation(3)
        names = np.array(["c", "a", "b"])
        proba = clone(calibrator).fit(scores, names[y], classes=names).predict_proba(scores)
        shuffled = clone(calibrator).fit(scores[rows][:, columns], names[y[rows]], classes=names[columns])
        assert shuffled.predict_proba(scores[:, columns]) == pytest.approx(proba[:, columns], abs=1e-8)
        assert shuffled.classes_.tolist() == names[columns].tolist()

    @unwarned
    @pytest.mark.parametrize("calibrator", ALL, ids=repr)
    @given(any_seed)
    @settings(max_examples=10, deadline=None)
    def test_weights_are_repetition(self, calibrator, seed):
        """A weight of 2 is the row twice, and a weight of 0 is no row."""
        scores, y = noisy(seed, n=90)
        repeats = np.random.default_rng([seed, 1]).permutation(np.arange(90) % 3)
        weighted = clone(calibrator).fit(scores, y, sample_weight=repeats, classes=[0, 1, 2])
        repeated = clone(calibrator).fit(scores.repeat(repeats, axis=0), y.repeat(repeats), classes=[0, 1, 2])
        assert weighted.predict_proba(scores) == pytest.approx(repeated.predict_proba(scores), abs=1e-7)

    @unwarned
    @given(
        any_seed,
        st.integers(2, 5),
        st.integers(1, 40),
        st.floats(-2.0, 3.0),
        st.sampled_from([0.5, 3.0, "auto"]),
        st.sampled_from([0.0, 1.0, 8.0]),
    )
    @example(seed=2, k=4, n=1, signal=1e-5, ridge=0.5, prior_rows=1.0)
    @settings(max_examples=120, deadline=None)
    def test_no_neighbour_is_better(self, seed, k, n, signal, ridge, prior_rows):
        """Whatever the data, no other bias and no other allowed temperature has a lower objective.

        One rule comes before that: where the prior cannot keep the objective from falling down to the lowest temperature, which
        takes scores that are nearly certain, temperature 1 is kept, and the bias is the best one for it.
        """
        rng = np.random.default_rng(seed)
        y = rng.integers(0, k, n)
        scores = rng.integers(-3, 4, (n, k)) * rng.choice([0.01, 1.0, 30.0])
        scores[np.arange(n), y] += signal
        calibrator = BiasTemperatureCalibrator(ridge, prior_rows).fit(scores, y, classes=range(k))
        strength = k if ridge == "auto" else ridge

        def loss(temperature, bias, ridge=strength):
            return objective(scores, y, temperature, bias, ridge, prior_rows)

        best = loss(calibrator.temperature_, calibrator.bias_)
        alone = TemperatureCalibrator(prior_rows).fit(scores, y, classes=range(k)).temperature_
        kept = {
            name: prior_rows > 0 and fitted == pytest.approx(1.0, abs=1e-12) and at(1e-3) <= at(2e-3) <= at(1.0)
            for name, fitted, at in (
                ("with bias", calibrator.temperature_, lambda temperature: loss(temperature, calibrator.bias_)),
                ("alone", alone, lambda temperature: loss(temperature, 0, 0)),
            )
        }
        assert kept["alone"] or kept["with bias"] or best <= loss(alone, np.zeros(k)) + 1e-9
        for size in (1e-3, 1e-1, 1.0):
            temperature = np.clip(calibrator.temperature_ * np.exp(size * rng.normal()), 1e-3, 1e3)
            bias = calibrator.bias_ + size * rng.normal(size=k)
            assert best <= loss(calibrator.temperature_, bias) + 1e-9
            if not kept["with bias"]:
                assert best <= loss(temperature, calibrator.bias_) + 1e-9
                assert best <= loss(temperature, bias) + 1e-9
            if not kept["alone"]:
                assert loss(alone, 0, 0) <= loss(temperature, 0, 0) + 1e-9

    @given(any_seed)
    @settings(max_examples=20, deadline=None)
    def test_without_ridge_the_mean_is_the_class_frequencies(self, seed):
        """With ridge 0 the mean probability of every class over the fitted rows is its frequency."""
        scores, y = noisy(seed, n=61)
        proba = BiasTemperatureCalibrator(ridge=0).fit(scores, y).predict_proba(scores)
        assert proba.mean(axis=0) == pytest.approx(np.bincount(y) / 61, abs=1e-9)

    def test_a_larger_ridge_makes_smaller_biases(self):
        """The biases shrink towards 0 as the ridge grows, until only the temperature is left."""
        scores, y = four_classes()
        sizes = [np.abs(BiasTemperatureCalibrator(ridge).fit(scores, y).bias_).max() for ridge in (0, 4, 400, 1e9)]
        assert sizes == sorted(sizes, reverse=True)
        strong = BiasTemperatureCalibrator(ridge=1e9).fit(scores, y)
        assert strong.temperature_ == pytest.approx(TemperatureCalibrator().fit(scores, y).temperature_, abs=1e-4)

    @unwarned
    @pytest.mark.parametrize("calibrator", AFFINE, ids=repr)
    @given(any_seed, st.integers(2, 4), st.integers(4, 40))
    @settings(max_examples=15, deadline=None)
    def test_no_neighbouring_matrix_is_better(self, calibrator, seed, k, n):
        """Whatever the data, no other matrix and no other bias has a lower objective, given temperature and biases."""
        rng = np.random.default_rng(seed)
        y, scores = rng.integers(0, k, n), rng.normal(size=(n, k)) * 3
        fitted = clone(calibrator).fit(scores, y, classes=range(k))
        logs = log_softmax(scores) / fitted.temperature_
        middle = BiasTemperatureCalibrator(0.1).fit(scores, y, classes=range(k))
        centre = float(middle.temperature_ < 999)
        free = np.ones((k, k)) if isinstance(calibrator, MatrixCalibrator) else np.eye(k)

        def loss(matrix, bias):
            pull = np.sum((np.diag(matrix) - centre) ** 2) + np.sum((bias - middle.bias_) ** 2)
            off = k * np.sum((matrix - np.diag(np.diag(matrix))) ** 2)
            return -log_softmax(logs @ matrix.T + bias)[np.arange(n), y].mean() + (pull + off) / n

        best = loss(fitted.matrix_, fitted.bias_)
        for size in (1e-4, 1e-2, 1.0):
            matrix = fitted.matrix_ + size * free * rng.normal(size=(k, k))
            assert best <= loss(matrix, fitted.bias_) + 1e-12
            assert best <= loss(matrix, fitted.bias_ + size * rng.normal(size=k)) + 1e-12

    def test_a_matrix_learns_from_scores_that_are_always_wrong(self):
        """A model that always names the class after the true one is of no use to a temperature, and of much to a matrix."""
        rng = np.random.default_rng(0)
        y = rng.integers(0, 4, 300)
        scores = rng.normal(size=(300, 4))
        scores[np.arange(300), (y + 1) % 4] += 4.0
        with pytest.warns(CalibrationWarning, match="contradict the labels"):
            fitted = MatrixCalibrator().fit(scores, y)
        assert log_loss(y, fitted.predict_proba(scores)) < 0.4
        assert (fitted.predict(scores) == y).mean() > 0.95

    def test_a_matrix_of_many_classes(self):
        """Forty classes, fewer rows than parameters and scores that are no help: finite, and no worse than uniform."""
        rng = np.random.default_rng(0)
        y = rng.integers(0, 40, 300)
        scores = rng.normal(size=(300, 40))
        scores[np.arange(300), (y + 1) % 40] += 4.0  # the model always names the class after the true one
        with pytest.warns(CalibrationWarning, match="contradict the labels"):
            proba = MatrixCalibrator().fit(scores, y, classes=range(40)).predict_proba(scores)
        assert np.isfinite(proba).all()
        assert log_loss(y, proba, classes=range(40)) <= np.log(40)

    @pytest.mark.parametrize("calibrator", [c for c in ALL if not isinstance(c, PriorCalibrator)], ids=repr)
    def test_calibrated_scores_stay_as_they_are(self, calibrator):
        """Fitted on log-probabilities that the labels were drawn from, a calibrator is near the identity."""
        scores, y = true_log_probabilities(np.random.default_rng(5), 20_000, 4)
        proba = clone(calibrator).fit(scores, y).predict_proba(scores)
        # More parameters carry more noise: twenty of them for four classes in a full matrix, and curves of any shape.
        flexible = isinstance(calibrator, (MatrixCalibrator, IsotonicCalibrator, VennAbersCalibrator))
        assert np.abs(proba - np.exp(scores)).max() < (0.08 if flexible else 0.02)
        assert np.abs(proba - np.exp(scores)).mean() < 0.01

    @pytest.mark.parametrize("calibrator", ALL, ids=repr)
    def test_outputs_agree_with_one_another(self, calibrator):
        """Probabilities sum to 1, are the exponential of the log-probabilities, and their maximum is predicted."""
        scores, y = four_classes()
        names = np.array(["d", "b", "a", "c"])
        fitted = clone(calibrator).fit(scores, names[y], classes=names)
        proba = fitted.predict_proba(scores)
        assert proba.sum(axis=1) == pytest.approx(np.ones(3000), abs=1e-12)
        assert np.log(proba) == pytest.approx(fitted.predict_log_proba(scores), abs=1e-12)
        assert (fitted.predict(scores) == names[proba.argmax(axis=1)]).all()


class LogScores(ClassifierMixin, BaseEstimator):
    """A fitted classifier whose decision function is its input."""

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        return self

    def decision_function(self, X):
        check_is_fitted(self)
        return np.asarray(X)

    def predict(self, X):
        return self.classes_[np.asarray(X).argmax(axis=1)]


def test_parity_with_scikit_learn():
    """Temperature scaling by CalibratedClassifierCV gives the same probabilities to 1e-6."""
    scores, y = four_classes()
    frozen = FrozenEstimator(LogScores().fit(scores, y))
    theirs = CalibratedClassifierCV(frozen, method="temperature").fit(scores, y)
    ours = TemperatureCalibrator(prior_rows=0).fit(scores, y)
    assert ours.predict_proba(scores) == pytest.approx(theirs.predict_proba(scores), abs=1e-6)


class TestPrior:
    """A good model and few labels: the scores as they are count as some rows."""

    @unwarned
    @pytest.mark.parametrize("calibrator", [*BOTH, *AFFINE, *EVENT, AutoCalibrator()], ids=repr)
    @pytest.mark.parametrize("n", [20, 50])
    @pytest.mark.parametrize("margin", [2.0, 6.0, 20.0, 1000.0])
    def test_rows_that_are_all_right_make_nobody_certain(self, calibrator, n, margin):
        """Every row is right: a row that turns out wrong costs at most what raw scores cost, and some nats."""
        y = np.arange(n) % 2
        scores = np.where(y[:, None] == [0, 1], 0.0, -margin) + np.linspace(0.0, 1.0, n)[:, None] * [0.5, 0.0]
        fitted = clone(calibrator).fit(scores, y, classes=[0, 1])
        assert -fitted.predict_log_proba(scores).min() < 1.1 * (margin + 0.5) + 6.0

    @unwarned
    @pytest.mark.parametrize("calibrator", [*BOTH, AutoCalibrator()], ids=repr)
    @pytest.mark.parametrize(("k", "strength"), [(2, 0.7), (2, 5.0), (5, 2.0)])
    def test_calibrated_scores_and_few_rows(self, calibrator, k, strength):
        """Fitted on 50 rows of calibrated scores, the mean log loss stays within .03 nats of raw."""
        rng = np.random.default_rng([k, int(strength)])

        def draw(n):
            scores = log_softmax(rng.normal(size=(n, k)) * strength)
            return scores, (np.exp(scores).cumsum(axis=1) < rng.random(n)[:, None]).sum(axis=1).clip(0, k - 1)

        test, truth = draw(4000)
        raw = log_loss(truth, np.exp(test), classes=range(k))
        n_draws = 6 if isinstance(calibrator, AutoCalibrator) else 25
        losses = [
            log_loss(truth, clone(calibrator).fit(*draw(50), classes=range(k)).predict_proba(test), classes=range(k))
            for _ in range(n_draws)
        ]
        assert np.mean(losses) < raw + 0.03

    @unwarned
    @pytest.mark.parametrize("scale", [0.05, 0.2, 5.0, 20.0])
    def test_scores_of_another_scale(self, scale):
        """The prior is some rows on any scale: 100 labels undo a factor of 20 either way."""
        losses = []
        for seed in range(20):
            truth, y = true_log_probabilities(np.random.default_rng(seed), 2000, 3)
            fitted = TemperatureCalibrator().fit(scale * truth[:100], y[:100], classes=range(3))
            proba = fitted.predict_proba(scale * truth[100:])
            losses.append(log_loss(y[100:], proba) - log_loss(y[100:], np.exp(truth[100:])))
        assert np.mean(losses) < 0.03

    @pytest.mark.parametrize("calibrator", [*BOTH, BetaCalibrator()], ids=repr)
    def test_it_vanishes_where_there_are_many_rows(self, calibrator):
        """With 2000 rows the log loss is that of the fit without prior."""
        scores, y = two_classes()
        with_prior = clone(calibrator).fit(scores, y).predict_proba(scores)
        without = clone(calibrator).set_params(prior_rows=0).fit(scores, y).predict_proba(scores)
        assert 0 <= log_loss(y, with_prior) - log_loss(y, without) < 1e-4

    @unwarned
    def test_probabilities_of_0_and_1(self):
        """Scores so far apart that their probabilities are 0 and 1 stay as they are, and do not become sharper."""
        y = np.arange(40) % 2
        scores = np.where(y[:, None] == [0, 1], 0.0, -2000.0)
        assert TemperatureCalibrator().fit(scores, y).temperature_ == pytest.approx(1.0)
        assert BiasTemperatureCalibrator().fit(scores, y).temperature_ == pytest.approx(1.0)

    @pytest.mark.parametrize("calibrator", [*BOTH, *AFFINE, BetaCalibrator()], ids=repr)
    @pytest.mark.parametrize("prior_rows", [-1, float("nan"), float("inf"), "auto", None, True])
    def test_prior_rows(self, calibrator, prior_rows):
        """The strength is a finite number of at least 0."""
        with pytest.raises(InputError, match=f"prior_rows={prior_rows!r}; expected a finite number of at least 0"):
            clone(calibrator).set_params(prior_rows=prior_rows).fit(*noisy(1))

    @pytest.mark.parametrize("calibrator", [*BOTH, *AFFINE, BetaCalibrator()], ids=repr)
    def test_descriptions_of_earlier_versions_are_read(self, calibrator):
        """A description without prior_rows is that of a fit without."""
        description = clone(calibrator).fit(*noisy(3)).to_dict()
        del description["parameters"]["prior_rows"]
        assert calibrator_from_dict(description).prior_rows == 0


class TestWarnings:
    @pytest.mark.parametrize("calibrator", [*SOFTMAX, *EVENT], ids=repr)
    def test_scores_against_the_labels(self, calibrator):
        """Scores with the sign flipped warn; the highest temperature is kept, but slopes of their own turn the sign back."""
        scores, y = four_classes()
        with pytest.warns(CalibrationWarning, match="contradict the"):
            fitted = clone(calibrator).fit(-scores, y)
        if isinstance(calibrator, PlattCalibrator):
            assert (np.array(fitted.maps_)[:, 0] < 0).all()
        elif isinstance(calibrator, (BetaCalibrator, IsotonicCalibrator, VennAbersCalibrator)):
            assert np.ptp(np.percentile(fitted.predict_proba(-scores), [1, 99], axis=0), axis=0).max() < 0.02
        elif isinstance(calibrator, VectorCalibrator):
            assert (np.diag(fitted.matrix_) < 0).all()
            assert (fitted.predict(-scores) == y).mean() > 0.6
        else:
            assert fitted.temperature_ == pytest.approx(1000)

    @pytest.mark.parametrize("calibrator", EVENT, ids=repr)
    def test_separable_events(self, calibrator):
        """One class apart from the other: soft targets and the floor keep two fits finite; the third one warns."""
        scores, y = np.column_stack([np.zeros(40), np.arange(40.0) - 19.5]), np.arange(40) // 20
        if isinstance(calibrator, BetaCalibrator):
            with pytest.warns(CalibrationWarning, match=r"class 1: the scores separate the labels.*prior_rows"):
                fitted = clone(calibrator).fit(scores, y)
        else:
            fitted = clone(calibrator).fit(scores, y)
            assert fitted.predict_proba(scores).min() > 1e-3
        assert fitted.predict(scores).tolist() == y.tolist()
        assert np.isfinite(fitted.predict_log_proba(scores * 1e4)).all()

    def test_beta_needs_every_class(self):
        """An event that never happened, or always did, has no finite curve; the message names calibrators that do."""
        scores, y = noisy(1)
        with pytest.raises(InputError, match="rows of every class.*'platt'"):
            BetaCalibrator().fit(scores[y < 2], y[y < 2], classes=[0, 1, 2])

    @pytest.mark.parametrize("calibrator", SOFTMAX, ids=repr)
    def test_separable_data(self, calibrator):
        """Where every row is right, a fit warns, and without prior the lowest temperature is kept."""
        scores, _ = four_classes()
        y = scores.argmax(axis=1)
        with pytest.warns(CalibrationWarning, match="right class on top"):
            fitted = clone(calibrator).set_params(prior_rows=0).fit(scores, y)
        assert fitted.temperature_ == pytest.approx(0.001)
        assert log_loss(y, fitted.predict_proba(scores)) < 1e-2

    @pytest.mark.parametrize("calibrator", SOFTMAX, ids=repr)
    def test_separable_data_with_the_prior(self, calibrator):
        """Where every row is right, a fit warns that the temperature rests on the prior, and keeps it moderate."""
        scores, y = true_log_probabilities(np.random.default_rng(0), 3000, 4)
        y = scores.argmax(axis=1)[:50]
        with pytest.warns(CalibrationWarning, match="right class on top.*rests on prior_rows"):
            fitted = clone(calibrator).fit(scores[:50], y, classes=range(4))
        assert 0.1 < fitted.temperature_ < 1

    def test_separable_only_with_a_bias(self):
        """Without ridge and prior, rows that a bias could all put right have no finite fit, and that warns."""
        scores, _ = four_classes()
        y = (scores + np.array([2.0, 0.0, 0.0, -1.0])).argmax(axis=1)
        with pytest.warns(CalibrationWarning, match="right class on top"):
            fitted = BiasTemperatureCalibrator(ridge=0, prior_rows=0).fit(scores, y)
        assert fitted.temperature_ == pytest.approx(0.001)
        assert (fitted.predict(scores) == y).mean() > 0.999

    def test_separable_with_a_bias_by_a_wide_margin(self):
        """That holds too where the solver stops early, because the loss is flat long before the end of the search."""
        scores, y = np.array([[40.0, 0.0], [10.0, 0.0]] * 15), [0, 1] * 15
        with pytest.warns(CalibrationWarning, match="right class on top"):
            fitted = BiasTemperatureCalibrator(ridge=0, prior_rows=0).fit(scores, y)
        assert fitted.temperature_ == pytest.approx(0.001)
        assert fitted.predict(scores).tolist() == y

    @pytest.mark.parametrize("calibrator", [*SOFTMAX, *EVENT], ids=repr)
    def test_constant_scores(self, calibrator):
        """Scores that are equal within every row warn, and the probabilities are the same for every row."""
        y = np.arange(30) % 3
        with pytest.warns(CalibrationWarning, match="say nothing"):
            fitted = clone(calibrator).fit(np.arange(30)[:, None] * np.ones(3), y)
        assert fitted.predict_proba([[5.0, 5.0, 5.0]])[0] == pytest.approx([1 / 3] * 3)
        if calibrator in BOTH:
            assert fitted.temperature_ == pytest.approx(1000)

    @pytest.mark.parametrize("calibrator", ALL, ids=repr)
    def test_few_rows(self, calibrator):
        """Fewer than 20 rows warn at the line that called fit; 20 rows do not, and rows of weight 0 do not count."""
        scores, y = noisy(1, n=20)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            clone(calibrator).fit(scores, y)
        with pytest.warns(CalibrationWarning, match="19 labelled rows; 20 or more") as caught:
            clone(calibrator).fit(scores, y, sample_weight=[0.0] + [1.0] * 19)
        assert [warning.filename for warning in caught] == [__file__]

    def test_doubt_is_reported_at_the_line_that_called_fit(self):
        """A warning about the temperature names the caller's file too."""
        scores, y = four_classes()
        with pytest.warns(CalibrationWarning) as caught:
            TemperatureCalibrator().fit(-scores, y)
        assert [warning.filename for warning in caught] == [__file__]


class TestClasses:
    @pytest.mark.parametrize(
        "calibrator",
        [*BOTH, *AFFINE, PlattCalibrator(), IsotonicCalibrator(), VennAbersCalibrator(), AutoCalibrator()],
        ids=repr,
    )
    def test_an_absent_class_keeps_its_column(self, calibrator):
        """A class that no labelled row has keeps its place and a positive probability."""
        scores, y = four_classes()
        kept = y != 2
        fitted = clone(calibrator).fit(scores[kept], y[kept], classes=[0, 1, 2, 3])
        assert fitted.classes_.tolist() == [0, 1, 2, 3]
        assert (fitted.predict_proba(scores)[:, 2] > 0).all()

    def test_an_absent_class_needs_a_ridge(self):
        """Without ridge an absent class has no finite bias, and the message names it and the cure."""
        scores, y = noisy(1)
        with pytest.raises(InputError, match=r"ridge=0 gives no finite bias for class 'c'.*'auto'"):
            BiasTemperatureCalibrator(ridge=0).fit(
                scores[y < 2], np.array(["a", "b"])[y[y < 2]], classes=["a", "b", "c"]
            )

    @pytest.mark.parametrize(
        "classes",
        [["z", "a", "m"], [3, 1, 2], [True, False, "maybe"], [1, "1", 2.5]],
        ids=["text", "int", "bool", "mixed"],
    )
    def test_classes_keep_their_order_and_types(self, classes):
        """Columns belong to the classes in the order given, and predictions are the very same objects."""
        scores, y = noisy(1)
        labels = np.array([*classes, None], dtype=object)[:-1][y]
        fitted = TemperatureCalibrator().fit(scores, labels, classes=classes)
        expected = [classes[column] for column in scores.argmax(axis=1)]
        found = fitted.predict(scores).tolist()
        assert found == expected
        assert [type(label) for label in found] == [type(label) for label in expected]

    def test_without_classes_the_labels_are_sorted(self):
        """Without classes, column k belongs to the k-th label in sorted order."""
        scores, y = noisy(1)
        fitted = TemperatureCalibrator().fit(scores, np.array(["x", "y", "z"])[y])
        assert fitted.classes_.tolist() == ["x", "y", "z"]
        assert fitted.temperature_ == TemperatureCalibrator().fit(scores, y).temperature_

    def test_a_low_finite_score_does_no_harm(self):
        """A label scored far below all others leaves the fit of the rest as it is."""
        scores, y = two_classes()
        floored = np.column_stack([scores, np.full(2000, -1e4)])
        for calibrator in BOTH:
            alone, beside = clone(calibrator).fit(scores, y), clone(calibrator).fit(floored, y, classes=[0, 1, 2])
            assert beside.temperature_ == pytest.approx(alone.temperature_, rel=1e-2)
            assert (beside.predict_proba(floored)[:, 2] < 1e-300).all()


class TestVennAbers:
    def test_golden_value(self):
        """Interval and probability of one row are those of an independent package."""
        scores, y = two_classes()
        calibrator = VennAbersCalibrator().fit(scores[:1000], y[:1000])
        lower, upper = calibrator.predict_interval(scores[1000:1001])
        assert lower[0] == pytest.approx([1 - 0.587628865979, 0.577319587629], abs=1e-12)
        assert upper[0] == pytest.approx([1 - 0.577319587629, 0.587628865979], abs=1e-12)
        assert calibrator.predict_proba(scores[1000:1001])[0, 1] == pytest.approx(0.581632653061, abs=1e-12)

    @pytest.mark.slow
    @given(any_seed, st.integers(1, 30))
    @settings(max_examples=50, deadline=None)
    def test_it_is_what_two_isotonic_fits_say(self, seed, n):
        """p0 and p1 are isotonic regressions of the rows and the new one, labelled 0 and 1, whatever the ties and weights."""
        rng = np.random.default_rng(seed)
        x, y, weights = rng.integers(-4, 5, n).astype(float), rng.integers(0, 2, n), rng.integers(1, 4, n)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", CalibrationWarning)
            fitted = VennAbersCalibrator().fit(np.column_stack([0 * x, x]), y, sample_weight=weights, classes=[0, 1])
        new = np.arange(-5, 5.5, 0.5)
        lower, upper = fitted.predict_interval(np.column_stack([0 * new, new]))
        for label, found in ((0, lower), (1, upper)):
            for place, value in enumerate(new):
                reference = IsotonicRegression().fit(np.r_[x, value], np.r_[y, label], np.r_[weights, 1])
                assert found[place, 1] == pytest.approx(reference.predict([value])[0], abs=1e-9)

    @unwarned
    def test_several_classes(self):
        """Every class has its interval, the probabilities are those of the classes divided by their sum."""
        scores, y = noisy(5)
        fitted = VennAbersCalibrator().fit(scores, y)
        lower, upper = fitted.predict_interval(scores)
        assert (lower < upper).all()
        middle = upper / (1 - lower + upper)
        assert fitted.predict_proba(scores) == pytest.approx(middle / middle.sum(axis=1, keepdims=True), abs=1e-12)


class TestAuto:
    def test_scores_that_say_nothing_give_the_class_frequencies(self):
        """Where scores are noise, the frequencies weigh most, and the pool is nearly as good as they are."""
        rng = np.random.default_rng(0)
        fitted = AutoCalibrator().fit(rng.normal(size=(60, 2)) * 3, rng.random(60) < 0.2)
        assert max(fitted.weights_, key=fitted.weights_.get) == "frequencies"
        assert fitted.losses_["frequencies"] < fitted.losses_["identity"]
        test = fitted.predict_proba(rng.normal(size=(1000, 2)) * 3)
        assert np.abs(test[:, 1] - 0.2).mean() < 0.08

    def test_a_large_label_bias_is_found_on_few_rows(self):
        """A model that leans by many nats needs the weak pull, and some thirty rows show it."""
        scores, y = true_log_probabilities(np.random.default_rng(0), 30, 4)
        fitted = AutoCalibrator().fit(scores + np.array([9.0, 0.0, -3.0, 6.0]), y)
        assert fitted.weights_["weak_bias_temperature"] > fitted.weights_["bias_temperature"]
        assert fitted.losses_["weak_bias_temperature"] < fitted.losses_["bias_temperature"] - 0.05

    def test_words_of_another_class_are_found(self):
        """Where one label's words speak for another class, the matrix and the head on the scores have all the weight."""
        rng = np.random.default_rng(0)
        truth, y = true_log_probabilities(rng, 400, 3)
        fitted = AutoCalibrator().fit(truth @ np.array([[1.0, 0.0, 0.0], [0.0, 0.2, 1.0], [0.0, 1.0, 0.2]]), y)
        assert fitted.weights_["matrix"] + fitted.weights_["label scores"] > 0.9

    @pytest.mark.parametrize(("n", "k"), [(49, 3), (200, 21)])
    def test_where_a_matrix_has_too_many_parameters(self, n, k):
        """Below 50 rows and for more than 20 classes there is none, and `left_out_` says why."""
        rng = np.random.default_rng(0)
        fitted = AutoCalibrator().fit(rng.normal(size=(n, k)), rng.integers(0, k, n), classes=range(k))
        assert "matrix" not in fitted.members_
        assert ("fewer than 50" if n < 50 else "more than 20 classes") in fitted.left_out_["matrix"]
        assert np.isnan(fitted.to_frame().loc["matrix", "log_loss"])

    def test_the_pool_is_hardly_worse_than_its_best_member(self):
        """On 30 rows a choice pays for luck; the pool stays near the member that is best in hindsight."""
        excess, of_choice = [], []
        for seed in range(12):
            scores, y = true_log_probabilities(np.random.default_rng(seed), 3030, 3)
            scores = 2.0 * scores + np.array([2.0, 0.0, -1.0])
            fitted = AutoCalibrator().fit(scores[:30], y[:30], classes=range(3))
            rows, truth = scores[30:] - scores[30:].max(axis=1, keepdims=True), y[30:]
            members = {
                name: -one.log_proba(Observed(rows))[np.arange(3000), truth].mean()
                for name, one in fitted.members_.items()
            }
            loss = -fitted.predict_log_proba(rows)[np.arange(3000), truth].mean()
            best = min(members.values())
            chosen = min(fitted.members_, key=fitted.losses_.__getitem__)
            excess.append(loss - best)
            of_choice.append(members[chosen] - best)
        assert np.mean(excess) < 0.03
        assert np.mean(excess) < 0.8 * np.mean(of_choice)
        assert max(excess) < max(of_choice)

    def test_many_classes(self):
        """With 40 classes whose words speak for each other, the head on the scores beats every map that is stiffer."""
        rng = np.random.default_rng(0)
        mixing = np.eye(40)[rng.permutation(40)] * 0.8 + 0.2 * np.eye(40)
        y = rng.integers(0, 40, 600)
        truth = 2.0 * (rng.normal(size=(600, 40)) + 2.0 * np.eye(40)[y])
        fitted = AutoCalibrator().fit(truth @ mixing, y, classes=range(40))
        assert fitted.losses_["label scores"] < min(fitted.losses_[name] for name in ("temperature", "vector"))
        assert fitted.weights_["label scores"] > 0.5

    def test_fewer_than_twenty_rows(self):
        """Nothing is fitted, and that is said."""
        scores, y = noisy(1, n=19)
        with pytest.warns(CalibrationWarning, match="19 labelled rows; 20 or more"):
            fitted = AutoCalibrator().fit(scores, y)
        assert isinstance(fitted.calibrator_, IdentityCalibrator)
        assert fitted.losses_ == {}

    def test_copies_count_once(self):
        """Forty rows five times have the losses of rows that were not seen, named or not, and the default for forty rows."""
        scores, y = (part[:40] for part in four_classes())
        texts = np.arange(40).repeat(5)
        alone = AutoCalibrator().fit(scores, y, classes=range(4))
        named = AutoCalibrator().fit(scores[texts], y[texts], classes=range(4), groups=[f"text {i}" for i in texts])
        found = AutoCalibrator().fit(scores[texts], y[texts], classes=range(4))
        apart = AutoCalibrator().fit(scores[texts], y[texts], classes=range(4), groups=np.arange(200))
        assert found.losses_ == pytest.approx(named.losses_, abs=1e-9)
        assert apart.losses_["matrix"] < named.losses_["matrix"] - 0.1
        assert "matrix" in apart.members_
        assert apart.weights_["temperature"] < 0.01
        assert named.losses_["temperature"] == pytest.approx(alone.losses_["temperature"], abs=0.05)

    def test_one_group(self):
        """Nothing can be judged, the scores stay as they are, and a warning says why; a missing group is refused."""
        scores, y = noisy(1, n=50)
        with pytest.warns(CalibrationWarning, match="all rows belong to one group"):
            assert isinstance(AutoCalibrator().fit(scores, y, groups=["ann"] * 50).calibrator_, IdentityCalibrator)
        with pytest.raises(InputError, match=r"groups\[49\]=None is missing"):
            AutoCalibrator().fit(scores, y, groups=[*range(49), None])

    def test_losses_are_those_of_rows_that_were_held_out(self):
        """The loss of the temperature is that of five fits by hand."""
        scores, y = noisy(3, n=100)
        folds = fold_weights(scores - scores.max(axis=1, keepdims=True), y, np.ones(100)).argmax(axis=1)
        losses = []
        for fold in range(5):
            own = folds == fold
            fitted = TemperatureCalibrator().fit(scores[~own], y[~own])
            losses.extend(-fitted.predict_log_proba(scores[own])[np.arange(own.sum()), y[own]])
        assert AutoCalibrator().fit(scores, y).losses_["temperature"] == pytest.approx(np.mean(losses), abs=1e-12)


@pytest.mark.parametrize("calibrator", ALL, ids=repr)
def test_a_label_that_was_not_seen(calibrator):
    """-inf counts as 16 nats below the row's best, or as its lowest score, and fit and predict say so."""
    scores, y = (part[:400] for part in four_classes())
    lost, floored = scores.copy(), scores.copy()
    lost[3, 0], floored[3, 0] = -np.inf, scores[3, 1:].max() - 16
    lost[4, 1], floored[4, 1] = -np.inf, -40.0
    lost[4, 0] = floored[4, 0] = -40.0
    with pytest.warns(CalibrationWarning, match=r"2 of 400 rows \(the first: row 3\) hold -inf") as caught:
        found = clone(calibrator).fit(lost, y).predict_proba(lost)
    assert caught[0].filename == __file__
    assert len(caught) == 2
    assert found == pytest.approx(clone(calibrator).fit(floored, y).predict_proba(floored), abs=1e-12)


class TestExtremes:
    """Numbers of any size: the right answer, or an error that names them; never NaN, and no warning of numpy."""

    scores, y = noisy(1)

    @pytest.mark.parametrize("calibrator", ALL, ids=repr)
    @pytest.mark.parametrize("value", [1e300, -1e300, -1.7e308, float(np.finfo(np.float32).min), 1e7])
    def test_scores_that_are_no_log_probabilities(self, calibrator, value):
        """A mask such as -1e300, or scores of another unit, are refused with the row."""
        cell, column = self.scores.copy(), self.scores.copy()
        cell[3, 1] = column[:, 1] = value
        for scores in (cell, column, self.scores * (value / 10)):
            with pytest.raises(InputError, match=r"row \d+ of the scores goes from .* not further apart than 1e\+06"):
                clone(calibrator).fit(scores, self.y)

    def test_predict_refuses_them_too(self):
        """What cannot be fitted cannot be predicted from."""
        with pytest.raises(InputError, match=r"row 1 of the scores goes from -1e\+300 to 0;"):
            TemperatureCalibrator().fit(self.scores, self.y).predict_proba([[0.0, 0.0, 0.0], [0.0, -1e300, -1.0]])

    @unwarned
    @pytest.mark.filterwarnings("error::RuntimeWarning")
    @pytest.mark.parametrize("calibrator", ALL, ids=repr)
    @pytest.mark.parametrize("scale", [0.0, 5e-324, 1e-320, 1e-300, 1e-12, 1e4], ids=str)
    def test_scores_of_any_size(self, calibrator, scale):
        """From scores that are equal to scores that leave no doubt, every calibrator answers with probabilities."""
        scores = scale * np.round(self.scores * 8)
        proba = clone(calibrator).fit(scores, self.y).predict_proba(scores)
        assert proba.sum(axis=1) == pytest.approx(np.ones(60))

    @unwarned
    @pytest.mark.parametrize("calibrator", ALL, ids=repr)
    @pytest.mark.parametrize("kind", [np.float32, np.float16, int, object])
    def test_numbers_of_any_type(self, calibrator, kind):
        """Small floats and whole numbers are the same numbers."""
        scores = np.round(self.scores * 8)
        expected = clone(calibrator).fit(scores, self.y).predict_proba(scores)
        assert (clone(calibrator).fit(scores.astype(kind), self.y).predict_proba(scores.astype(kind)) == expected).all()

    @unwarned
    @pytest.mark.filterwarnings("error::RuntimeWarning")
    @pytest.mark.parametrize("calibrator", ALL, ids=repr)
    @pytest.mark.parametrize("unit", [1 / 60, 1e-300, 5e-324, 1e300])
    def test_weights_of_another_unit(self, calibrator, unit):
        """Weights that are no counts have no unit: equal ones, of whatever size, are as none."""
        expected = clone(calibrator).fit(self.scores, self.y).predict_proba(self.scores)
        found = clone(calibrator).fit(self.scores, self.y, sample_weight=np.full(60, unit)).predict_proba(self.scores)
        assert found == pytest.approx(expected, abs=1e-7)

    @unwarned
    @pytest.mark.parametrize("calibrator", ALL, ids=repr)
    @given(any_seed, st.floats(-250, 250))
    @settings(max_examples=10, deadline=None)
    def test_only_the_ratios_of_importance_weights_matter(self, calibrator, seed, exponent):
        """Importance weights that sum to 1, or to anything else, give the same probabilities."""
        scores, y = noisy(seed)
        weights = np.random.default_rng(seed).uniform(0.1, 3.0, 60)
        one = clone(calibrator).fit(scores, y, sample_weight=weights / weights.sum()).predict_proba(scores)
        other = clone(calibrator).fit(scores, y, sample_weight=weights * 10.0**exponent).predict_proba(scores)
        assert np.isfinite(one).all()
        assert other == pytest.approx(one, abs=1e-6)

    @unwarned
    @pytest.mark.parametrize("calibrator", [c for c in ALL if c not in (SOFTMAX[2], EVENT[1])], ids=repr)
    def test_one_row_with_all_the_weight(self, calibrator):
        """It counts as one row, so the scores stay nearly as they are; nothing becomes NaN or certain."""
        for rest in (0.0, 1e-12):
            weights = np.r_[1.0, np.full(59, rest)]
            proba = (
                clone(calibrator)
                .fit(self.scores, self.y, sample_weight=weights, classes=[0, 1, 2])
                .predict_proba(self.scores)
            )
            assert np.isfinite(proba).all()
            assert proba.max() < 1 - 1e-6

    def test_few_effective_rows(self):
        """Sixty rows of which one has nearly all weight are one row, and the warning says so."""
        weights = np.r_[1.0, np.full(59, 1e-3)]
        with pytest.warns(
            CalibrationWarning, match="fitted on 2 labelled rows; 20 or more are needed .in units of rows"
        ):
            TemperatureCalibrator().fit(self.scores, self.y, sample_weight=weights)


class TestErrors:
    scores, y = noisy(1)

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"classes": ["a", "b"]}, "3 columns for 2 classes, .*one column per class"),
            ({"scores": scores[:, :2]}, "2 columns for 3 classes"),
            ({"scores": np.where(np.arange(60)[:, None] == 7, np.nan, scores)}, "row 7 of the scores holds NaN"),
            ({"scores": np.where(np.arange(60)[:, None] == 9, np.inf, scores)}, "row 9 of the scores holds inf"),
            (
                {"scores": np.where(np.arange(60)[:, None] == 9, -np.inf, scores)},
                "row 9 of the scores is -inf throughout",
            ),
            ({"scores": softmax(scores)}, "the scores are probabilities .*expected log-scores. Give their logarithm"),
            ({"scores": scores[:, :1]}, "1 feature"),
            ({"scores": scores[:0], "y": y[:0]}, "0 sample"),
            ({"scores": scores[:50]}, "inconsistent numbers of samples"),
            ({"y": np.zeros(60)}, "one class, 0.0; expected at least two"),
            ({"classes": [0, 1, 5]}, r"=2 is not one of the classes \[0, 1, 5\]"),
            ({"classes": ["0", "1", "2"]}, "is not one of the classes"),
            ({"classes": [0, 1, 1]}, "repeats a class"),
            ({"classes": 3}, "expected a list of classes"),
            ({"classes": [{}, {}, {}]}, "expected text, numbers or booleans"),
            ({"sample_weight": [1.0]}, r"sample_weight has shape \(1,\)"),
            ({"sample_weight": -np.ones(60)}, r"sample_weight\[0\]=-1.0"),
            ({"sample_weight": np.zeros(60)}, "all sample weights are zero"),
            ({"y": np.linspace(0, 1, 60)}, "continuous"),
        ],
    )
    def test_fit_refuses(self, arguments, message):
        """What cannot be fitted is refused by an InputError that names the value."""
        with pytest.raises(InputError, match=message):
            TemperatureCalibrator().fit(**{"scores": self.scores, "y": self.y, **arguments})

    @pytest.mark.parametrize("ridge", [-1, float("nan"), float("inf"), "strong", None, True])
    def test_ridge(self, ridge):
        """A ridge is "auto" or a finite number of at least 0."""
        with pytest.raises(InputError, match=f"ridge={ridge!r}; expected 'auto' or a finite number"):
            BiasTemperatureCalibrator(ridge).fit(self.scores, self.y)

    @pytest.mark.parametrize("calibrator", ALL, ids=repr)
    def test_predict_refuses(self, calibrator):
        """Predictions want finite scores with the columns of the fit."""
        fitted = clone(calibrator).fit(self.scores, self.y)
        with pytest.raises(InputError, match="2 features, but"):
            fitted.predict_proba(self.scores[:, :2])
        with pytest.raises(InputError, match="row 1 of the scores holds NaN in column 2"):
            fitted.predict([[0.0, 0.0, 0.0], [0.0, 0.0, np.nan]])

    @pytest.mark.parametrize("method", ["predict", "predict_proba", "predict_log_proba"])
    def test_a_failed_fit_is_no_fit(self, method):
        """After a fit that was refused, a calibrator still is not fitted."""
        calibrator = TemperatureCalibrator()
        with pytest.raises(InputError):
            calibrator.fit(self.scores, self.y, classes=["a", "b"])
        with pytest.raises(NotFittedError):
            getattr(calibrator, method)(self.scores)
        calibrator = BiasTemperatureCalibrator(ridge=-1)
        with pytest.raises(InputError):
            calibrator.fit(self.scores, self.y)
        with pytest.raises(NotFittedError):
            getattr(calibrator, method)(self.scores)


class TestDictionary:
    @pytest.mark.parametrize("calibrator", [*ALL, BiasTemperatureCalibrator(ridge=np.int64(2))], ids=repr)
    @pytest.mark.parametrize("classes", [["b", "a", "ü"], [2, 0, 1], [0.5, 1.5, 2.5], [True, False, "x"]], ids=str)
    def test_json_round_trip_is_exact(self, calibrator, classes):
        """Written to JSON and read again, a calibrator predicts the very same numbers and classes."""
        scores, y = noisy(3)
        labels = np.array([*classes, None], dtype=object)[:-1][y]
        fitted = clone(calibrator).fit(scores, labels, classes=classes)
        description = json.loads(json.dumps(fitted.to_dict(), allow_nan=False))
        for restored in (calibrator_from_dict(description), type(calibrator).from_dict(description)):
            assert type(restored) is type(calibrator)
            assert restored.get_params() == fitted.get_params()
            assert restored.classes_.tolist() == classes
            assert (restored.predict_log_proba(scores) == fitted.predict_log_proba(scores)).all()
            assert restored.predict(scores).tolist() == fitted.predict(scores).tolist()
            assert restored.to_dict() == description
            with pytest.raises(InputError, match="2 features, but"):
                restored.predict(scores[:, :2])

    @pytest.mark.parametrize(
        ("path", "value", "message"),
        [
            (
                ["name"],
                "isotone",
                r"'isotone' is not a calibrator; expected one of \['auto', 'beta', ",
            ),
            (["name"], ["temperature"], "is not a calibrator"),
            (["version"], 3, "expected exactly the entries"),
            (["parameters"], None, "'parameters' holds None"),
            (["parameters", "ridge"], -1.0, "ridge=-1.0"),
            (["parameters", "shape"], 1, "'parameters' holds"),
            (["classes"], "abc", "expected a list"),
            (["classes"], ["a"], "expected a list of 1 finite|at least two classes"),
            (["classes"], ["a", "a", "b"], "repeats a class"),
            (["classes"], ["a", None, "b"], "JSON cannot keep"),
            (["classes"], ["a", "b"], "expected a list of 2 finite numbers"),
            (["fitted"], {}, "expected exactly the entries"),
            (["fitted", "temperature"], 0.0, "temperature=0.0; expected a finite number above 0"),
            (["fitted", "temperature"], True, "temperature=True"),
            (["fitted", "temperature"], float("nan"), "temperature=nan"),
            (["fitted", "bias"], [0.0, 1.0, "x"], "expected a list of 3 finite numbers"),
            (["fitted", "bias"], [0.0, 1.0, float("inf")], "expected a list of 3 finite numbers"),
            (["fitted", "bias"], 0.0, "expected a list of 3 finite numbers"),
        ],
    )
    def test_bad_descriptions_are_refused(self, path, value, message):
        """Every value is checked on the way in."""
        scores, y = noisy(3)
        description = BiasTemperatureCalibrator().fit(scores, y).to_dict()
        place = description
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = value
        with pytest.raises(InputError, match=message):
            calibrator_from_dict(description)

    def test_no_mapping_is_refused(self):
        """A description that is no mapping is an InputError, not a crash."""
        with pytest.raises(InputError, match="name=None is not a calibrator"):
            calibrator_from_dict(["temperature"])

    def test_the_wrong_kind_is_refused(self):
        """One kind of calibrator does not read another's description."""
        description = TemperatureCalibrator().fit(*noisy(3)).to_dict()
        with pytest.raises(InputError, match="name='temperature'; expected 'bias_temperature'"):
            BiasTemperatureCalibrator.from_dict(description)

    def test_classes_that_json_cannot_keep(self):
        """Dates as classes predict, but cannot be written."""
        days = [datetime.date(2024, 1, day) for day in (1, 2, 3)]
        scores, y = noisy(3)
        fitted = TemperatureCalibrator().fit(scores, y, classes=[0, 1, 2])
        fitted.classes_ = np.array(days, dtype=object)
        with pytest.raises(InputError, match="is a date, which JSON cannot keep"):
            fitted.to_dict()

    def test_unfitted(self):
        """There is nothing to write before fit."""
        with pytest.raises(NotFittedError):
            TemperatureCalibrator().to_dict()


class TestMakeCalibrator:
    def test_names_and_none(self):
        """None stays None, and a name makes an unfitted calibrator."""
        assert make_calibrator(None) is None
        assert isinstance(make_calibrator("temperature"), TemperatureCalibrator)
        assert isinstance(make_calibrator("bias_temperature"), BiasTemperatureCalibrator)
        assert type(make_calibrator("vector")) is VectorCalibrator
        assert type(make_calibrator("matrix")) is MatrixCalibrator

    def test_an_estimator_is_cloned(self):
        """An estimator's parameters are copied and the user's own stays unfitted by us."""
        mine = BiasTemperatureCalibrator(ridge=3.0).fit(*noisy(1))
        made = make_calibrator(mine)
        assert made is not mine
        assert made.ridge == 3.0
        assert not hasattr(made, "classes_")
        assert isinstance(make_calibrator(LogisticRegression()), LogisticRegression)

    @pytest.mark.parametrize(
        "spec", ["plat", 3, TemperatureCalibrator, pytest.param(object(), id="object()"), ["temperature"]], ids=repr
    )
    def test_anything_else_is_refused(self, spec):
        """The message lists the known names."""
        with pytest.raises(
            InputError,
            match=r"\['auto', 'beta', 'bias_temperature', 'identity', .*'temperature', 'vector', 'venn_abers'\]",
        ):
            make_calibrator(spec)


class FeaturesAsScores:
    """A calibrator that reads any number of features, repeated in turn until there is a column per class.

    scikit-learn's checks make data of the shape that they like; a calibrator wants a column per class.
    """

    def fit(self, scores, y, sample_weight=None, classes=None):
        super().fit(self.widened(scores, max(2, len(np.unique(np.asarray(y))))), y, sample_weight, classes)
        self.n_features_in_ = np.asarray(scores).shape[1]
        return self

    def predict_log_proba(self, scores):
        check_is_fitted(self, "classes_")
        validate_data(self, scores, reset=False, ensure_all_finite=False)
        wide = copy.copy(self)
        wide.n_features_in_ = len(self.classes_)
        return super(FeaturesAsScores, wide).predict_log_proba(self.widened(scores, len(self.classes_)))

    @staticmethod
    def widened(features, k):
        features = features if issparse(features) else np.asarray(features)
        if issparse(features) or features.ndim != 2 or features.shape[1] == 0:
            return features
        return features[:, np.arange(k) % features.shape[1]]


def reading_features(calibrator):
    """The calibrator with the same parameters whose class reads features as scores; pickle finds that class by its name."""
    base = type(calibrator)
    name = f"{base.__name__}OfFeatures"
    made = globals().setdefault(name, type(name, (FeaturesAsScores, base), {"__module__": __name__}))
    return made(**calibrator.get_params(deep=False))


@unwarned
@parametrize_with_checks([reading_features(one) for one in (*BOTH, *AFFINE, *EVENT, *PLAIN, AutoCalibrator())])
@pytest.mark.slow
def test_scikit_learn_checks(estimator, check):
    """scikit-learn's own checks pass on data with a column per class."""
    check(estimator)


@unwarned
@pytest.mark.parametrize("calibrator", [*BOTH, *AFFINE, *EVENT, *PLAIN, AutoCalibrator()], ids=repr)
def test_another_number_of_columns_than_classes_is_refused(calibrator):
    """Which is why scikit-learn's checks need other data; the message names both numbers."""
    with pytest.raises(InputError, match="scores have 2 columns for 3 classes"):
        clone(calibrator).fit(np.zeros((60, 2)), [0, 1, 2] * 20)


def test_metadata_routing_offers_weights_and_classes_alone():
    """With metadata routing, scores are no extra argument."""
    with sklearn.config_context(enable_metadata_routing=True):
        assert set(TemperatureCalibrator().get_metadata_routing().fit.requests) == {"sample_weight", "classes"}
        assert not hasattr(TemperatureCalibrator, "set_predict_proba_request")


@pytest.mark.parametrize("calibrator", ALL, ids=repr)
def test_pickle(calibrator):
    """A pickled calibrator predicts the same."""
    scores, y = noisy(1)
    fitted = clone(calibrator).fit(scores, y)
    restored = pickle.loads(pickle.dumps(fitted))
    assert (restored.predict_proba(scores) == fitted.predict_proba(scores)).all()


def test_auto_shows_what_it_chose():
    """Once fitted, its repr names what weighs most and the losses; before, and as a parameter, it is scikit-learn's."""
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(200, 2)) * 3
    labels = np.where(rng.random(200) < 1 / (1 + np.exp((scores[:, 0] - scores[:, 1]) / 4)), "b", "a")
    auto = AutoCalibrator()
    assert repr(auto) == "AutoCalibrator()"
    auto.fit(scores, labels)
    heaviest = max(auto.weights_, key=auto.weights_.get)
    assert repr(auto).startswith(f"<AutoCalibrator() pooled {heaviest} {auto.weights_[heaviest]:.0%}, ")
    assert repr(auto).endswith(f"{auto.losses_['identity']:.3f} without calibration>")
    assert repr(AutoCalibrator.from_dict(auto.to_dict())) == repr(auto)
