"""Tests of the calibration errors beyond plain ECE: golden values, laws, tests of calibration and intervals."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.stats import binom
from scipy.stats import norm as gaussian
from sklearn.model_selection import GridSearchCV, cross_validate

from llmclf.calibration import BiasTemperatureCalibrator, TemperatureCalibrator
from llmclf.errors import InputError
from llmclf.logits import log_softmax, softmax
from llmclf.metrics import (
    aurc,
    binned_calibration,
    brier_score,
    calibration_interval,
    calibration_slope,
    calibration_test,
    classwise_calibration_error,
    corp_decomposition,
    debiased_calibration_error,
    expected_calibration_error,
    log_loss,
    maximum_calibration_error,
    mean_interval,
    neg_ece,
    neg_refinement,
    paired_difference,
    proportion_interval,
    refinement_error,
    row_weights,
    skill_score,
    smooth_calibration_error,
    spiegelhalter_test,
    sweep_calibration_error,
    top_label_calibration_error,
)
from llmclf.numerics.folds import fold_weights


def multi():
    """3000 rows of over-confident, biased probabilities of four classes."""
    rng = np.random.default_rng(20260101)
    truth = log_softmax(rng.normal(size=(3000, 4)) * 1.5 + np.array([0.4, 0.0, -0.3, 0.1]))
    y = (np.exp(truth).cumsum(axis=1) < rng.random(3000)[:, None]).sum(axis=1).clip(0, 3)
    return y, softmax(truth / 0.45 + np.array([0.8, 0.0, -0.5, 0.2]))


def binary(n, seed):
    """An over-confident probability of class 1."""
    rng = np.random.default_rng(seed)
    t = rng.normal(0, 1.4, n)
    y = (rng.random(n) < 1 / (1 + np.exp(-t))).astype(int)
    return y, 1 / (1 + np.exp(-(1.9 * t + 0.3)))


SMALL, LARGE = (2000, 7), (3000, 11)


@st.composite
def predictions(draw):
    """Labels, probabilities with many ties, and a generator."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n, k = draw(st.integers(1, 50)), draw(st.integers(2, 4))
    return rng.integers(0, k, n), softmax(rng.integers(-2, 3, (n, k))), rng


class TestGoldenValues:
    """Values that independent packages agree on (netcal, uncertainty-calibration, calibre, model-diagnostics, MAPIE, brier)."""

    @pytest.mark.parametrize(
        ("metric", "options", "data", "value"),
        [
            (maximum_calibration_error, {"pos_label": 1}, LARGE, 0.194277970867),
            (expected_calibration_error, {"pos_label": 1, "strategy": "mass", "norm": "l2"}, LARGE, 0.118838079259),
            (debiased_calibration_error, {"pos_label": 1}, LARGE, 0.114949198465),
            (debiased_calibration_error, {}, None, 0.194412545982),
            (debiased_calibration_error, {"target": "classwise"}, None, 0.123796305823),
            (classwise_calibration_error, {}, None, 0.099205404518),
            (top_label_calibration_error, {}, None, 0.188719240751),
            (sweep_calibration_error, {"pos_label": 1}, SMALL, 0.114043526235),
        ],
    )
    def test_binned(self, metric, options, data, value):
        y, proba = multi() if data is None else binary(*data)
        assert metric(y, proba, **options) == pytest.approx(value, abs=1e-9)

    def test_sweep_chooses_eleven_bins(self):
        _, curve = sweep_calibration_error(*binary(*SMALL), pos_label=1, return_curve=True)
        assert len(curve.weight) == 11

    @pytest.mark.parametrize(
        ("score", "target", "data", "parts"),
        [
            ("brier", "confidence", SMALL, (0.0155930225, 0.0722995834, 0.24969375)),
            ("log", "confidence", SMALL, (0.065477191, 0.167928795, 0.692534555)),
            ("brier", "classwise", None, (0.071764160, 0.256664547, 0.742475778)),
        ],
    )
    def test_corp(self, score, target, data, parts):
        y, proba = multi() if data is None else binary(*data)
        pos_label = None if data is None else 1
        found = corp_decomposition(y, proba, score=score, target=target, pos_label=pos_label)
        assert (found.miscalibration, found.discrimination, found.uncertainty) == pytest.approx(parts, abs=1e-8)

    def test_spiegelhalter(self):
        assert spiegelhalter_test(*binary(*SMALL), pos_label=1)[0] == pytest.approx(16.189865138923, abs=1e-9)

    def test_areas(self):
        """With confidences that all differ, the areas are those of a stable order."""
        found = aurc(*multi())
        assert (found.aurc, found.excess, found.augrc) == pytest.approx(
            (0.2298720485996, 0.1508927303, 0.1416357778), abs=1e-9
        )

    @pytest.mark.parametrize(
        ("data", "elsewhere"), [(None, 0.185319664456), (LARGE, 0.101532845171), (SMALL, 0.095154705929)]
    )
    def test_smooth(self, data, elsewhere):
        """The fixed point is that of adaptive quadrature; packages on a mesh of 200 points come within about 1 %."""
        y, proba = multi() if data is None else binary(*data)
        found = smooth_calibration_error(y, proba, pos_label=None if data is None else 1)
        assert found == pytest.approx(elsewhere, rel=0.011)
        p = proba.max(axis=1) if data is None else proba
        residuals = ((proba.argmax(axis=1) == y) if data is None else y) - p
        centres = np.concatenate([p, -p, 2 - p, p - 2, p + 2])

        def height(t):
            return abs(np.tile(residuals, 5) @ gaussian.pdf(t, centres, found)) / len(p)

        exact = sum(quad(height, a, a + 0.05, epsabs=1e-9, limit=200)[0] for a in np.arange(20) / 20)
        assert found == pytest.approx(exact, abs=5e-6)


class TestLaws:
    @pytest.mark.slow
    @given(predictions(), st.sampled_from(["uniform", "mass"]), st.sampled_from(["right", "left"]))
    @settings(max_examples=80, deadline=None)
    def test_rows_and_weights(self, given_predictions, strategy, closed):
        """The order of the rows changes nothing; a weight of 2 is the row twice, and one of 0 no row."""
        y, proba, rng = given_predictions
        binned = {"strategy": strategy, "closed": closed}
        metrics = [
            lambda *a, **w: classwise_calibration_error(*a, **binned, **w),
            lambda *a, **w: top_label_calibration_error(*a, **binned, **w),
            lambda *a, **w: debiased_calibration_error(*a, **binned, squared=True, **w),
            lambda *a, **w: sweep_calibration_error(*a, **w),
            lambda *a, **w: smooth_calibration_error(*a, **w),
            lambda *a, **w: aurc(*a, **w).aurc,
            lambda *a, **w: aurc(*a, **w).excess,
            lambda *a, **w: aurc(*a, **w).augrc,
            lambda *a, **w: corp_decomposition(*a, **w).miscalibration,
            lambda *a, **w: spiegelhalter_test(*a, **w)[0],
        ]
        order = rng.permutation(len(y))
        repeats = rng.integers(0, 3, len(y))
        repeats[0] += not repeats.any()
        for i, metric in enumerate(metrics):
            value = metric(y, proba)
            assert metric(y[order], proba[order]) == pytest.approx(value, abs=1e-9, nan_ok=True), i
            weighted = metric(y, proba, sample_weight=repeats)
            repeated = metric(y.repeat(repeats), proba.repeat(repeats, axis=0))
            assert weighted == pytest.approx(repeated, abs=1e-9, nan_ok=True), i

    @given(predictions())
    @settings(max_examples=80, deadline=None)
    def test_order_of_classes(self, given_predictions):
        """Shuffled columns with their classes change nothing; absent classes are allowed."""
        y, proba, rng = given_predictions
        proba = proba + rng.random(proba.shape) * 1e-3  # no ties between columns, which the first would win
        proba /= proba.sum(axis=1, keepdims=True)
        columns = rng.permutation(proba.shape[1])
        names = np.array(["d", "b", "c", "a"])[: proba.shape[1]]
        for metric in (classwise_calibration_error, top_label_calibration_error, smooth_calibration_error):
            shuffled = metric(names[y], proba[:, columns], classes=names[columns])
            assert shuffled == pytest.approx(metric(y, proba), abs=1e-9)

    @given(predictions(), st.sampled_from(["brier", "log"]))
    @settings(max_examples=80, deadline=None)
    def test_corp_adds_up(self, given_predictions, score):
        """The score is miscalibration less discrimination plus uncertainty, and no part is negative."""
        y, proba, _ = given_predictions
        for target in ("confidence", "classwise"):
            parts = corp_decomposition(y, proba, score=score, target=target)
            total = parts.miscalibration - parts.discrimination + parts.uncertainty
            assert parts.score == pytest.approx(total, abs=1e-12)
            assert parts.miscalibration >= -1e-12
            assert parts.discrimination >= -1e-12
        if score == "brier":
            assert parts.score == pytest.approx(brier_score(y, proba), abs=1e-12)

    @given(predictions())
    @settings(max_examples=60, deadline=None)
    def test_areas_are_means_over_orders(self, given_predictions):
        """Ties: the area is the mean over random orders of the tied rows."""
        y, proba, rng = given_predictions
        confidence, wrong = proba.max(axis=1), proba.argmax(axis=1) != y
        k = np.arange(1, len(y) + 1)
        areas = []
        for _ in range(300):
            order = np.lexsort((rng.random(len(y)), -confidence))
            areas.append((np.cumsum(wrong[order]) / k).mean())
        assert aurc(y, proba).aurc == pytest.approx(np.mean(areas), abs=6 * np.std(areas) / math.sqrt(300) + 1e-9)

    def test_edges(self):
        """A probability on an edge belongs to the bin on the side that was named."""
        p, event = [0.45, 0.5, 0.55], [0, 1, 1]
        assert binned_calibration(p, event, n_bins=2).count.tolist() == [2, 1]
        assert binned_calibration(p, event, n_bins=2, closed="left").count.tolist() == [1, 2]
        for closed in ("right", "left"):
            both_ends = binned_calibration([0.0, 1.0], [0, 1], n_bins=10, closed=closed)
            assert both_ends.count.tolist() == [1, 1]
            assert (both_ends.lower[0], both_ends.upper[-1]) == (0.0, 1.0)

    def test_infinite_log_score(self):
        """A class that happened against probability 0 makes miscalibration infinite, not the other parts."""
        parts = corp_decomposition([1, 0, 1], [0.0, 0.5, 0.9], pos_label=1, score="log")
        assert parts.miscalibration == math.inf
        assert math.isfinite(parts.discrimination)


class TestNull:
    @pytest.mark.slow
    def test_size(self):
        """Under calibration, p-values below 0.1 come about as often as they should."""
        rejected = 0
        for seed in range(300):
            rng = np.random.default_rng(seed)
            p = rng.random(100)
            y = (rng.random(100) < p).astype(int)
            rejected += calibration_test(y, p, pos_label=1, n_resamples=99, random_state=rng).p_value <= 0.1
        assert 15 <= rejected <= 48  # 30 expected, standard deviation 5.2

    def test_power_and_null_mean(self):
        """Over-confident probabilities are found out; the null mean is the error of calibrated ones."""
        y, proba = multi()
        found = calibration_test(y, proba, n_resamples=199, random_state=0)
        assert found.p_value == 1 / 200
        assert found.error == expected_calibration_error(y, proba)
        rng = np.random.default_rng(1)
        errors = [
            expected_calibration_error(
                (rng.random(3000) < proba.max(axis=1)).astype(int), proba.max(axis=1), pos_label=1
            )
            for _ in range(50)
        ]
        assert found.null_mean == pytest.approx(np.mean(errors), abs=0.002)

    def test_spiegelhalter_without_variance(self):
        """Probabilities of 0, 1/2 and 1 alone say nothing: NaN, not a division by zero."""
        assert np.isnan(spiegelhalter_test([0, 1, 1], [0.0, 0.5, 1.0], pos_label=1)).all()


class TestInterval:
    @pytest.mark.slow
    @pytest.mark.parametrize(("n", "slope"), [(200, 1.0), (200, 1.4), (1000, 1.4)])
    def test_coverage(self, n, slope):
        """At 90 % the interval holds the true error in at least 82 % of 100 data sets (a 90 % one does: chance 0.99)."""
        big = np.random.default_rng(0).normal(0, 1.4, 400_000)
        bins = np.minimum((softmax(np.stack([0 * big, slope * big], 1))[:, 1] * 15).astype(int), 14)
        p_true, p_said = 1 / (1 + np.exp(-big)), 1 / (1 + np.exp(-slope * big))
        true = np.abs(np.bincount(bins, p_true - p_said)).sum() / len(big)
        covered = 0
        for seed in range(100):
            rng = np.random.default_rng(seed)
            t = rng.normal(0, 1.4, n)
            y = (rng.random(n) < 1 / (1 + np.exp(-t))).astype(int)
            low, high, *_ = calibration_interval(
                y, 1 / (1 + np.exp(-slope * t)), pos_label=1, confidence_level=0.9, n_resamples=200, random_state=rng
            )
            covered += low <= true <= high
        assert covered >= 82

    def test_wider_at_higher_confidence(self):
        """More confidence is a wider interval; the same seed is the same interval."""
        y, proba = binary(500, 3)
        kwargs = {"pos_label": 1, "random_state": 0}
        narrow = calibration_interval(y, proba, confidence_level=0.8, **kwargs)
        wide = calibration_interval(y, proba, confidence_level=0.99, **kwargs)
        assert wide.low <= narrow.low < narrow.high <= wide.high
        assert wide == calibration_interval(y, proba, confidence_level=0.99, **kwargs)

    @pytest.mark.parametrize(
        ("y", "proba"),
        [([1, 1], [1.0, 1.0]), ([0, 0], [1.0, 1.0]), ([1], [0.5]), ([0, 1] * 10, [0.5] * 20), ([1] * 5, [0.0] * 5)],
    )
    def test_extremes(self, y, proba):
        """Certain, wrong, single and constant probabilities: a range in [0, 1] that is in order."""
        low, high, error, null_mean = calibration_interval(y, proba, pos_label=1, n_resamples=200, random_state=0)
        assert 0 <= low <= high <= 1
        assert 0 <= null_mean <= 1
        assert low - 1e-3 <= error

    @pytest.mark.slow
    @pytest.mark.parametrize("n_bins", [1, 15])
    @pytest.mark.parametrize(
        "name",
        ["half reversed", "reversed above 0.75", "half of all rows reversed", "calibrated", "wrong in one place"],
    )
    def test_covers_where_the_error_depends_on_the_row(self, name, n_bins):
        """The share of rows in each bin is drawn, too: of 200 intervals at .95, 182 or more hold the true error."""

        def draw(rng, n):
            p = rng.beta(0.5, 0.5, n)
            if name == "half reversed":
                p = np.where(rng.random(n) < 0.5, 0.95, 0.85)
                return p, np.where(p > 0.9, 1 - p, p)
            if name == "reversed above 0.75":
                return p, np.where(p > 0.75, 1 - p, p)
            if name == "half of all rows reversed":
                return p, np.where(rng.random(n) < 0.5, 1 - p, p)
            if name == "wrong in one place":
                p = np.where(rng.random(n) < 0.1, 0.99, 0.6)
                return p, np.where(p > 0.9, 0.3, 0.6)
            return p, p

        said, right = draw(np.random.default_rng(9), 1_000_000)
        bins = np.clip(np.ceil(said * n_bins).astype(int) - 1, 0, n_bins - 1)
        true = np.abs(np.bincount(bins, right - said)).sum() / said.size
        hits, rng = 0, np.random.default_rng(1)
        for seed in range(200):
            p, chance = draw(rng, 400)
            low, high, *_ = calibration_interval(
                rng.random(400) < chance, p, pos_label=1, n_bins=n_bins, n_resamples=300, random_state=seed
            )
            hits += low <= true <= high
        assert hits >= 182  # 190 expected, standard deviation 3.1

    @pytest.mark.parametrize("level", [0.8, 0.95])
    @pytest.mark.parametrize("options", [{}, {"n_bins": 4, "strategy": "mass"}, {"closed": "left"}])
    def test_it_agrees_with_the_test(self, level, options):
        """The interval begins above 0 if and only if the test of the same draws rejects calibration."""
        rejected = 0
        for seed in range(25):
            y, p = binary(120, seed)
            options = {**options, "pos_label": 1, "n_resamples": 99, "random_state": seed}
            test = calibration_test(y, 0.5 + (p - 0.5) * 0.8, **options)
            found = calibration_interval(y, 0.5 + (p - 0.5) * 0.8, confidence_level=level, **options)
            assert (found.low > 0) == (test.p_value < round(1 - level, 9))
            assert (found.error, found.null_mean) == (test.error, test.null_mean)
            rejected += found.low > 0
        assert 0 < rejected < 25


class TestBadInput:
    @pytest.mark.parametrize(
        ("call", "match"),
        [
            (lambda: expected_calibration_error([0, 1], [0.1, 0.9], closed="both"), "closed='both'.*'right' or 'left'"),
            (lambda: expected_calibration_error([0, 1], [0.1, 0.9], pos_label="x"), "pos_label='x' is not one"),
            (lambda: debiased_calibration_error([0, 1], [0.1, 0.9], target="all"), "target='all'"),
            (lambda: debiased_calibration_error([0, 1], [0.1, 0.9], target="classwise", pos_label=1), "leave one out"),
            (lambda: corp_decomposition([0, 1], [0.1, 0.9], score="l1"), "score='l1'.*'brier' or 'log'"),
            (lambda: corp_decomposition([0, 1], [0.1, 0.9], target="all"), "target='all'"),
            (lambda: calibration_test([0, 1], [0.1, 0.9], n_resamples=0), "n_resamples=0"),
            (lambda: calibration_test([0, 1], [0.1, 0.9], norm="l3"), "norm='l3'"),
            (lambda: calibration_interval([0, 1], [0.1, 0.9], confidence_level=95), "confidence_level=95.*0.95"),
            (lambda: calibration_interval([0, 1], [0.1, 0.9], n_resamples=1.5), "n_resamples=1.5"),
            (lambda: smooth_calibration_error([0, 1], [0.1, 1.9]), "row 1 of proba holds 1.9"),
            (lambda: aurc([0, 2], [0.1, 0.9]), r"y\[1\]=2"),
        ],
    )
    def test_refused(self, call, match):
        with pytest.raises(InputError, match=match):
            call()


def test_average_calibration_error():
    """The mean gap over the bins, all alike, is that of netcal's ACE."""
    y, p = binary(*LARGE)
    _, curve = expected_calibration_error(y, p, pos_label=1, return_curve=True)
    assert np.abs(curve.accuracy - curve.confidence).mean() == pytest.approx(0.104953392864, abs=1e-11)


@given(predictions(), st.sampled_from([0.5, 0.9, 0.975]))
@settings(max_examples=60, deadline=None)
def test_an_interval_begins_below_its_end(data, level):
    """Whatever the rows, among them all right and all wrong, 0 <= low <= high <= 1."""
    y, proba, _ = data
    for truth in (y, proba.argmax(axis=1), proba.argmin(axis=1)):
        found = calibration_interval(truth, proba, confidence_level=level, n_resamples=100, random_state=0)
        assert 0 <= found.low <= found.high <= 1


def test_an_interval_of_a_model_that_is_always_right():
    """Forty right answers at a confidence of 0.7 bound the error from below, and by 0.3 from above."""
    found = calibration_interval([0, 1] * 20, [0.3, 0.7] * 20, random_state=0)
    assert 0.15 < found.low < 0.3
    assert found.high == pytest.approx(0.3)


class TestSlope:
    def test_golden_value(self):
        """Slope and intercept are those of an unregularised logistic regression."""
        y, p = binary(*SMALL)
        slope, intercept = calibration_slope(y, p, pos_label=1)
        assert slope == pytest.approx(0.549700881, abs=1e-8)
        assert intercept == pytest.approx(-0.191429077, abs=1e-8)

    def test_calibrated_probabilities(self):
        """Drawn from the probabilities themselves, labels give the line 1, 0."""
        rng = np.random.default_rng(0)
        p = rng.random(200_000)
        slope, intercept = calibration_slope(rng.random(p.size) < p, p, pos_label=1)
        assert (slope, intercept) == pytest.approx((1.0, 0.0), abs=0.02)

    def test_certain_probabilities_and_constant_events(self):
        """Probabilities of 0 and 1 stay finite; where every row is right there is no line."""
        assert np.isfinite(calibration_slope([0, 1, 1, 0], [0.0, 1.0, 0.5, 1.0], pos_label=1)).all()
        assert np.isnan(calibration_slope([0, 1], [0.1, 0.9])).all()


class TestStatistics:
    @pytest.mark.parametrize(("statistic", "value"), [("ks", 4.678230585571), ("kuiper", 8.757325116945)])
    def test_golden_values(self, statistic, value):
        """The cumulative differences are those of an independent package."""
        y, p = binary(*SMALL)
        found = calibration_test(y, p, pos_label=1, statistic=statistic, n_resamples=9, random_state=0)
        assert found.error == pytest.approx(value, abs=1e-6)

    def test_mcb_is_that_of_the_decomposition(self):
        """The statistic without bins is the miscalibration of CORP."""
        y, p = binary(*SMALL)
        found = calibration_test(y, p, pos_label=1, statistic="mcb", n_resamples=9, random_state=0)
        assert found.error == pytest.approx(0.0155930225, abs=1e-9)

    @pytest.mark.slow
    @pytest.mark.parametrize("statistic", ["ece", "mcb", "ks", "kuiper"])
    def test_size(self, statistic):
        """A calibrated model is rejected at the 10 % level about every tenth time."""
        rng = np.random.default_rng(1)
        rejected = 0
        for _ in range(200):
            p = rng.random(60)
            test = calibration_test(
                rng.random(60) < p, p, pos_label=1, statistic=statistic, n_resamples=99, random_state=rng
            )
            rejected += test.p_value <= 0.1
        assert 6 <= rejected <= 36

    @given(predictions())
    @settings(max_examples=20, deadline=None)
    def test_order_of_rows_and_weights(self, data):
        """Rows in another order, and a row twice in place of a weight of 2, give the same sums."""
        y, proba, rng = data
        order, repeats = rng.permutation(len(y)), rng.integers(1, 3, len(y))
        for statistic in ("ks", "kuiper", "mcb"):
            options = {"statistic": statistic, "n_resamples": 1, "random_state": 0}
            found = calibration_test(y, proba, sample_weight=repeats, **options).error
            assert calibration_test(y.repeat(repeats), proba.repeat(repeats, axis=0), **options).error == pytest.approx(
                found, abs=1e-9
            )
            assert calibration_test(y[order], proba[order], sample_weight=repeats[order], **options).error == (
                pytest.approx(found, abs=1e-9)
            )

    def test_unknown(self):
        """An unknown statistic is refused with the known ones."""
        with pytest.raises(InputError, match="statistic='ad' is unknown; expected 'ece', 'mcb', 'ks', 'kuiper'"):
            calibration_test([0, 1], [0.2, 0.7], statistic="ad")


class TestSkill:
    def test_golden_values(self):
        """They are the D2 scores of scikit-learn."""
        y, proba = multi()
        assert skill_score(y, proba, score="brier") == pytest.approx(0.249032214799, abs=1e-11)
        assert skill_score(y, proba) == pytest.approx(0.162204784381, abs=1e-11)

    def test_a_single_class(self):
        """The frequency of the only class cannot be beaten, and an unknown score is refused."""
        assert math.isnan(skill_score([0, 0], [0.1, 0.2]))
        with pytest.raises(InputError, match="score='f1'"):
            skill_score([0, 1], [0.1, 0.9], score="f1")


class TestRefinement:
    def test_it_is_the_loss_of_held_out_rows(self):
        """The refinement is the mean log loss of five fits by hand."""
        y, proba = (part[:200] for part in multi())
        logs = np.log(proba)
        folds = fold_weights(logs - logs.max(axis=1, keepdims=True), y, np.ones(200)).argmax(axis=1)
        total = 0.0
        for fold in range(5):
            own = folds == fold
            fitted = BiasTemperatureCalibrator().fit(logs[~own], y[~own], classes=range(4))
            total += own.sum() * log_loss(y[own], fitted.predict_proba(logs[own]))
        refinement, calibration = refinement_error(y, proba, return_calibration=True)
        assert refinement == pytest.approx(total / 200, abs=1e-9)
        assert refinement + calibration == pytest.approx(log_loss(y, proba), abs=1e-12)

    def test_it_does_not_see_a_temperature(self):
        """Sharper probabilities have the same refinement and another calibration error."""
        y, proba = multi()
        sharper = softmax(3 * np.log(proba))
        # Not to the last digit: which rows share a fold depends on their order by probability.
        assert refinement_error(y, sharper) == pytest.approx(refinement_error(y, proba), abs=1e-3)
        assert refinement_error(y, sharper, return_calibration=True)[1] > 0.5

    @given(st.integers(0, 2**32 - 1), st.integers(2, 60), st.integers(2, 4))
    @settings(max_examples=20, deadline=None)
    def test_laws(self, seed, n, k):
        """Rows in another order, classes under other names and whole weights as repetition change nothing."""
        rng = np.random.default_rng(seed)
        y, proba = np.tile(rng.integers(0, k, n), 3), np.tile(softmax(rng.normal(size=(n, k))), (3, 1))
        found = refinement_error(y, proba)
        rows, columns = rng.permutation(len(y)), rng.permutation(proba.shape[1])
        renamed = refinement_error(y[rows], proba[rows][:, columns], classes=columns)
        assert renamed == pytest.approx(found, abs=1e-7)
        third = len(y) // 3
        assert refinement_error(y[:third], proba[:third], sample_weight=np.full(third, 3)) == pytest.approx(
            found, abs=1e-7
        )

    def test_impossible_rows(self):
        """A true class of probability 0 makes the calibration part infinite, not the refinement; one row is refused."""
        refinement, calibration = refinement_error([0, 1] * 5, [[0.0, 1.0], [0.2, 0.8]] * 5, return_calibration=True)
        assert np.isfinite(refinement)
        assert calibration == np.inf
        with pytest.raises(InputError, match="at least two rows"):
            refinement_error([0], [[0.5, 0.5]])


class TestIntervalsThatLuckCannotEmpty:
    def test_a_lucky_sample(self):
        """Frequencies that hit the probabilities better than chance would leave room for a true error all the same."""
        p = np.repeat([0.2, 0.5, 0.8], 100)
        event = np.concatenate([np.arange(100) < 100 * level for level in (0.21, 0.5, 0.8)])
        low, high, error, null_mean = calibration_interval(event, p, pos_label=1, random_state=0)
        assert low == 0.0
        assert error == pytest.approx(1 / 300)
        assert high > 1.5 * null_mean

    def test_certainty_that_was_never_wrong(self):
        """200 of 200 right at a confidence of 1: the true error may be as large as the exact interval of a share says."""
        low, high, *_ = calibration_interval([1] * 200, np.ones(200), random_state=0)
        assert low == 0.0
        assert high == pytest.approx(1 - 0.025 ** (1 / 200), abs=0.002)


class TestMeanInterval:
    @pytest.mark.slow
    @pytest.mark.parametrize("n_rows", [20, 50, 300])
    def test_covers_skewed_losses(self, n_rows):
        """An over-confident model's log loss has few large values; the interval covers its mean all the same."""
        rng = np.random.default_rng(3)

        def losses(n):
            margin = rng.normal(size=n) * 2
            right = rng.random(n) < 1 / (1 + np.exp(-margin))
            return np.logaddexp(0.0, np.where(right, -3 * margin, 3 * margin))

        true = losses(2_000_000).mean()
        hits = 0
        for seed in range(300):
            _, low, high = mean_interval(losses(n_rows), n_resamples=300, random_state=seed)
            hits += low <= true <= high
        assert hits / 300 >= 0.92

    def test_weights_are_numbers_of_rows(self):
        """A row of weight 3 counts as three rows."""
        values = np.random.default_rng(0).exponential(size=40)
        weights = np.arange(40) % 4
        weighted = mean_interval(values, sample_weight=weights, random_state=0)
        repeated = mean_interval(np.repeat(values, weights), random_state=0)
        assert weighted == pytest.approx(repeated, rel=1e-12)

    def test_cells_change_nothing_that_matters(self):
        """Of very many rows, neighbours are drawn together: mean exact, ends as by the normal law."""
        values = np.random.default_rng(0).exponential(size=50_000)
        mean, low, high = mean_interval(values, random_state=0)
        assert mean == pytest.approx(values.mean(), abs=1e-12)
        error = values.std() / math.sqrt(values.size)
        assert (high - low) == pytest.approx(2 * 1.96 * error, rel=0.08)

    def test_what_cannot_be_told(self):
        """Nine rows, one row that decides, losses of 0 alone, and values without an upper bound have no interval."""
        for values, bounds in (
            (np.arange(9.0), None),
            ([1.0] + [0.0] * 30, None),
            ([0.0] * 30, None),
            ([-1.0] * 30, None),
            ([0.5] * 30, (0.0, math.inf)),
        ):
            mean, low, high = mean_interval(values, bounds=bounds, random_state=0)
            assert mean == np.mean(values)
            assert np.isnan([low, high]).all()

    @pytest.mark.parametrize(("hits", "n_rows"), [(0, 1), (1, 1), (0, 5), (0, 30), (1, 30), (7, 30), (99, 100)])
    def test_shares_have_the_exact_interval(self, hits, n_rows):
        """Of values 0 and 1 between the bounds 0 and 1, it is that of proportion_interval, up to the resampling."""
        found = mean_interval([1.0] * hits + [0.0] * (n_rows - hits), bounds=(0, 1), n_resamples=20_000, random_state=0)
        exact = [float(end) for end in proportion_interval(hits, n_rows)]
        assert [found.low, found.high] == pytest.approx(exact, abs=0.01)

    @given(
        st.lists(st.floats(0.0, 2.0), min_size=1, max_size=40),
        st.sampled_from([0.5, 0.9, 0.99]),
        st.sampled_from([(0.0, 2.0), (-1.0, 2.5), (0.0, 50.0)]),
    )
    @settings(max_examples=60, deadline=None)
    def test_no_width_is_zero(self, values, level, bounds):
        """Whatever the values, the interval lies between the bounds, holds the mean, and has a width."""
        mean, low, high = mean_interval(values, bounds=bounds, confidence_level=level, n_resamples=200, random_state=0)
        assert bounds[0] <= low <= mean <= high <= bounds[1]
        assert high - low > 1e-6

    def test_equal_losses_still_have_an_upper_end(self):
        """Thirty log losses of .01 are thirty probabilities of .99, and the next row may cost 4.6 nats."""
        mean, low, high = mean_interval([0.01] * 30, random_state=0)
        assert 0 < low < mean == pytest.approx(0.01)
        assert high == pytest.approx(0.01 + (1 - 0.025 ** (1 / 30)) * (-math.log(1 - math.exp(-0.01)) - 0.01), rel=0.01)

    @pytest.mark.slow
    @pytest.mark.parametrize("n_rows", [10, 30, 100, 300])
    @pytest.mark.parametrize("spread", [0.0, 0.7])
    @pytest.mark.parametrize("rate", [0.01, 0.002])
    def test_covers_rare_losses(self, n_rows, spread, rate):
        """A calibrated model of a rare class: the mean log loss is covered at .95, with bounds or without."""
        rng = np.random.default_rng(5)
        sample = rate * np.exp(spread * rng.normal(size=1_000_000) - spread**2 / 2)
        true = -(sample * np.log(sample) + (1 - sample) * np.log1p(-sample)).mean()
        hits = []
        for seed in range(200):
            p = rate * np.exp(spread * rng.normal(size=n_rows) - spread**2 / 2)
            losses = -np.where(rng.random(n_rows) < p, np.log(p), np.log1p(-p))
            found = [
                mean_interval(losses, bounds=bounds, n_resamples=300, random_state=seed)
                for bounds in (None, (0.0, -math.log(p.min())))
            ]
            hits.append([own.low <= true <= own.high for own in found])
        assert (np.mean(hits, axis=0) >= 0.93).all()

    @pytest.mark.parametrize("bounds", [(1, 0), (0.0, 0.5), (0, math.nan), 3, ("a", "b"), (0.2, 9.0)])
    def test_bounds_that_do_not_hold(self, bounds):
        """Bounds that are no range, or that a value leaves, are refused."""
        with pytest.raises(InputError, match="bounds="):
            mean_interval([0.1, 0.7] * 10, bounds=bounds)

    @pytest.mark.parametrize("values", [[], [[1.0]], [1.0, math.nan], [math.inf] * 20])
    def test_refused(self, values):
        """What has no mean is refused."""
        with pytest.raises(InputError, match="one finite number per row"):
            mean_interval(values)


class TestProportionInterval:
    def test_exact(self):
        """The bounds are those where the observed share has a probability of 2.5 %."""
        low, high = proportion_interval([0, 3, 10], [10, 10, 10])
        assert low[0] == 0.0
        assert high[2] == 1.0
        assert binom.sf(2, 10, low[1]) == pytest.approx(0.025)
        assert binom.cdf(3, 10, high[1]) == pytest.approx(0.025)

    def test_nothing_is_known_of_no_rows(self):
        """0 of 0 rows may be any share."""
        low, high = proportion_interval(0, 0)
        assert (float(low), float(high)) == (0.0, 1.0)


class TestPairedDifference:
    def test_the_difference_is_that_of_the_metrics(self):
        """Each metric's difference is that of the two calls."""
        y, proba = multi()
        calm = softmax(np.log(proba) / 2)
        for metric, function in (("log_loss", log_loss), ("brier", brier_score), ("ece", expected_calibration_error)):
            found = paired_difference(y, proba, calm, metric=metric, n_resamples=100, random_state=0)
            assert found.before == pytest.approx(function(y, proba), abs=1e-12)
            assert found.after == pytest.approx(function(y, calm), abs=1e-12)
            assert found.difference == pytest.approx(found.after - found.before, abs=1e-12)
            assert found.low < found.difference < found.high < 0

    def test_accuracy_without_a_change(self):
        """Where no row changed, a small change is still possible."""
        y, proba = (part[:300] for part in multi())
        found = paired_difference(y, proba, softmax(np.log(proba) / 2), metric="accuracy")
        assert found.difference == 0.0
        assert -0.02 < found.low < 0 < found.high < 0.02

    def test_what_both_find_hard_cancels(self):
        """The interval is far narrower than the two losses' own, and the same seed gives the same one."""
        y, proba = (part[:300] for part in multi())
        calm = softmax(np.log(proba) / 1.1)
        found = paired_difference(y, proba, calm, random_state=0)
        assert found == paired_difference(y, proba, calm, random_state=0)
        losses = -np.log(proba[np.arange(300), y])
        assert found.high - found.low < 0.3 * 2 * 1.96 * losses.std() / math.sqrt(300)

    @given(st.integers(0, 12), st.integers(0, 12))
    @settings(max_examples=40, deadline=None)
    def test_accuracy_agrees_with_mcnemar(self, gained, lost):
        """The interval excludes 0 where the exact test of McNemar has a p-value below .05, up to the resampling."""
        y = np.zeros(100, int)
        before, after = np.full((100, 2), 0.5), np.full((100, 2), 0.5)
        before[:gained], after[gained : gained + lost] = [0.1, 0.9], [0.1, 0.9]
        p_value = min(1.0, 2 * binom.cdf(min(gained, lost), gained + lost, 0.5))
        found = paired_difference(y, before, after, metric="accuracy", n_resamples=4000, random_state=0)
        assert found.low < found.high
        if not 0.04 < p_value < 0.06:
            assert (found.low > 0 or found.high < 0) == (p_value < 0.05)

    @pytest.mark.parametrize("metric", ["log_loss", "brier", "accuracy"])
    @pytest.mark.parametrize("n_changed", [0, 1, 3, 50])
    def test_few_rows_that_differ(self, metric, n_changed):
        """Where no row or few differ, others may: the interval has a width around the difference."""
        y, proba = (part[:100] for part in multi())
        after = proba.copy()
        after[:n_changed] = after[:n_changed] ** 0.7
        after /= after.sum(axis=1, keepdims=True)
        found = paired_difference(y, proba, after, metric=metric, random_state=0)
        assert found.low <= found.difference <= found.high
        assert found.high - found.low > 0.01

    @pytest.mark.slow
    @pytest.mark.parametrize("metric", ["log_loss", "brier"])
    @pytest.mark.parametrize("n_rows", [30, 100, 300])
    def test_covers_changes_of_few_rows(self, metric, n_rows):
        """A change to one row of fifty: the difference is covered, although most samples show few such rows."""
        rng = np.random.default_rng(7)

        def draw(n):
            p = softmax(rng.normal(size=(n, 2)))
            y = (rng.random(n) < p[:, 1]).astype(int)
            after = np.where((rng.random(n) < 0.02)[:, None], softmax(3 * np.log(p)), p)
            return y, p, after

        true = paired_difference(*draw(1_000_000), metric=metric, n_resamples=1).difference
        hits = []
        for seed in range(200):
            found = paired_difference(*draw(n_rows), metric=metric, n_resamples=300, random_state=seed)
            hits.append(found.low <= true <= found.high)
        assert np.mean(hits) >= 0.93

    def test_an_infinite_loss_that_was_not_seen(self):
        """Where a class has probability 0, its log loss has no upper end: there is no interval, and for Brier there is."""
        y, before, after = np.zeros(30, int), np.full((30, 2), 0.5), np.tile([1.0, 0.0], (30, 1))
        found = paired_difference(y, before, after)
        assert np.isnan([found.low, found.high]).all()
        assert paired_difference(y, before, after, metric="brier", random_state=0).high < 0

    @pytest.mark.slow
    @pytest.mark.parametrize("metric", ["log_loss", "brier", "accuracy", "ece"])
    def test_coverage(self, metric):
        """The interval holds the true difference about as often as it says, or more often."""
        rng = np.random.default_rng(2)

        def draw(n):
            truth = log_softmax(rng.normal(size=(n, 3)) * 1.5)
            y = (np.exp(truth).cumsum(axis=1) < rng.random(n)[:, None]).sum(axis=1).clip(0, 2)
            return y, softmax(2 * truth + [0.5, 0.0, -0.5]), np.exp(truth)

        large = draw(400_000)
        true = paired_difference(*large, metric=metric, n_resamples=1, random_state=0).difference
        hits = 0
        for seed in range(100):
            found = paired_difference(
                *draw(300), metric=metric, confidence_level=0.9, n_resamples=200, random_state=seed
            )
            hits += found.low <= true <= found.high
        assert hits >= 82

    @pytest.mark.parametrize(
        ("options", "match"),
        [
            ({"metric": "f1"}, "metric='f1' is unknown"),
            ({"n_bins": 10}, "'n_bins' is an option of metric='ece'"),
            ({"confidence_level": 95}, "confidence_level=95"),
            ({"n_resamples": 0}, "n_resamples=0"),
            ({"proba_after": [[0.2, 0.8]] * 3}, "proba"),
            ({"proba_after": [[1.0, 0.0]] * 2}, "probability 0 to the true class of row 1"),
        ],
    )
    def test_refused(self, options, match):
        """What cannot be compared is refused, with the value."""
        arguments = {"y": [0, 1], "proba_before": [[0.5, 0.5]] * 2, "proba_after": [[0.4, 0.6]] * 2} | options
        with pytest.raises(InputError, match=match):
            paired_difference(**arguments)


class TestScorers:
    def test_grid_search_and_cross_validation(self):
        """Both scorers work in scikit-learn's searches, with classes that a fold lacks."""
        y, proba = (part[:400] for part in multi())
        names = np.array(["a", "b", "c", "rare"])[np.where(y == 3, 2, y)]
        names[:2] = "rare"
        scores = np.log(proba)
        search = GridSearchCV(BiasTemperatureCalibrator(), {"ridge": ["auto", 1e9]}, scoring=neg_refinement, cv=3)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the rare class
            search.fit(scores, names)
            found = cross_validate(
                TemperatureCalibrator(), scores, names, scoring={"ece": neg_ece, "refinement": neg_refinement}, cv=3
            )
        assert search.best_score_ < 0
        assert (found["test_ece"] <= 0).all()
        assert (found["test_refinement"] < 0).all()

    def test_they_are_the_metrics(self):
        """A scorer is minus the metric of the estimator's probabilities."""
        y, proba = multi()
        fitted = TemperatureCalibrator().fit(np.log(proba), y)
        q = fitted.predict_proba(np.log(proba))
        assert neg_ece(fitted, np.log(proba), y) == -expected_calibration_error(y, q)
        assert neg_refinement(fitted, np.log(proba), y, np.full(len(y), 2.0)) == -refinement_error(
            y, q, sample_weight=np.full(len(y), 2.0)
        )


class TestWeights:
    """Whole numbers are repetitions; of all other weights only the ratios matter."""

    def test_units(self):
        """Equal weights are ones, whatever their size; others count as their effective sample size."""
        for unit in (1 / 7, 1e-300, 5e-324, 1e300):
            assert row_weights(np.full(7, unit), 7).tolist() == [1.0] * 7
        assert row_weights([3, 0, 1], 3).tolist() == [3.0, 0.0, 1.0]
        weights = np.array([0.1, 0.2, 0.7])
        assert row_weights(weights, 3).sum() == pytest.approx(1 / np.sum(weights**2))
        assert row_weights(row_weights(weights, 3), 3) == pytest.approx(row_weights(weights, 3), rel=1e-12)

    @pytest.mark.parametrize(
        "metric",
        [log_loss, expected_calibration_error, refinement_error, debiased_calibration_error],
        ids=lambda m: m.__name__,
    )
    def test_weights_that_sum_to_1(self, metric):
        """They give the number that any other unit gives, and equal ones that of no weights."""
        y, proba = (part[:200] for part in multi())
        weights = np.random.default_rng(0).uniform(0.1, 2.0, 200)
        expected = metric(y, proba, sample_weight=weights * 1e5)
        assert metric(y, proba, sample_weight=weights / weights.sum()) == pytest.approx(expected, abs=1e-9)
        assert metric(y, proba, sample_weight=np.full(200, 1 / 200)) == pytest.approx(metric(y, proba), abs=1e-12)

    @pytest.mark.filterwarnings("ignore::llmclf.errors.CalibrationWarning")
    def test_refinement_of_a_model_that_is_always_right(self):
        """Folds without any error make no fold's temperature 0, so one error elsewhere costs a few nats, not seventy."""
        p = np.r_[np.full(39, 0.97), 0.6]
        proba, y = np.column_stack([p, 1 - p]), np.r_[np.zeros(39, dtype=int), 1]
        assert refinement_error(y, proba) < 0.3
