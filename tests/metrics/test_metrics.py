"""Tests of llmclf.metrics: golden values, laws, bin edges, and what is refused."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pandas as pd
import polars as pl
import pytest
import sklearn.metrics
from hypothesis import given, settings
from hypothesis import strategies as st

from llmclf.errors import InputError
from llmclf.logits import log_softmax, softmax
from llmclf.metrics import (
    accuracy,
    binned_calibration,
    brier_score,
    checked_predictions,
    expected_calibration_error,
    label_columns,
    log_loss,
    reliability_curve,
)

METRICS = [accuracy, brier_score, log_loss, expected_calibration_error]


def four_classes():
    """3000 rows of over-confident, biased probabilities of four classes; the golden values belong to them."""
    rng = np.random.default_rng(20260101)
    truth = log_softmax(rng.normal(size=(3000, 4)) * 1.5 + np.array([0.4, 0.0, -0.3, 0.1]))
    y = (np.exp(truth).cumsum(axis=1) < rng.random(3000)[:, None]).sum(axis=1).clip(0, 3)
    return y, softmax(truth / 0.45 + np.array([0.8, 0.0, -0.5, 0.2]))


def two_classes():
    """3000 rows of an over-confident probability of the positive class."""
    rng = np.random.default_rng(11)
    t = rng.normal(0, 1.4, 3000)
    y = (rng.random(3000) < 1 / (1 + np.exp(-t))).astype(int)
    return y, 1 / (1 + np.exp(-(1.9 * t + 0.3)))


@st.composite
def predictions(draw, ties=True):
    """Labels, probabilities and a generator; with ties, many rows share their confidence."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n, k = draw(st.integers(1, 60)), draw(st.integers(2, 5))
    logits = rng.integers(-2, 3, (n, k)) if ties else rng.normal(size=(n, k)) * 3
    return rng.integers(0, k, n), softmax(logits), rng


options = {"strategy": st.sampled_from(["uniform", "mass"]), "norm": st.sampled_from(["l1", "l2", "max"])}


class TestGoldenValues:
    @pytest.mark.parametrize(
        ("metric", "value"), [(accuracy, 0.63), (log_loss, 1.148839735675), (brier_score, 0.557575390403)]
    )
    def test_scores(self, metric, value):
        """Accuracy, log loss and Brier score are those of scikit-learn."""
        assert metric(*four_classes()) == pytest.approx(value, abs=1e-9)

    @pytest.mark.parametrize(
        ("norm", "value", "tolerance"),
        # The middle value comes from a package that computes in float32.
        [("l1", 0.183375775337, 1e-9), ("l2", 0.195116207, 1e-6), ("max", 0.273144997835, 1e-9)],
    )
    def test_calibration_errors(self, norm, value, tolerance):
        """ECE, root mean square and maximum calibration error in 15 equal bins are those of other packages."""
        assert expected_calibration_error(*four_classes(), norm=norm) == pytest.approx(value, abs=tolerance)

    @pytest.mark.parametrize(("strategy", "value"), [("uniform", 0.107983243833), ("mass", 0.106044585881)])
    def test_positive_class(self, strategy, value):
        """The error of P(positive class) is that of other packages, in bins of equal width and of equal mass."""
        y, p = two_classes()
        assert binned_calibration(p, y, strategy=strategy).error() == pytest.approx(value, abs=1e-9)

    def test_curve(self):
        """The curve's means are the accuracy and the mean confidence, and 15 bins of equal mass hold 200 rows each."""
        y, proba = four_classes()
        for strategy in ("uniform", "mass"):
            curve = reliability_curve(y, proba, strategy=strategy)
            assert np.average(curve.accuracy, weights=curve.weight) == pytest.approx(0.63, abs=1e-9)
            assert np.average(curve.confidence, weights=curve.weight) == pytest.approx(0.8133757753, abs=1e-9)
        assert curve.count.tolist() == [200] * 15


class TestLaws:
    @given(predictions(), *options.values())
    @settings(max_examples=100, deadline=None)
    def test_bounds(self, given_predictions, strategy, norm):
        """The error is at most 1, and at least the difference of mean confidence and accuracy."""
        y, proba, _ = given_predictions
        error = expected_calibration_error(y, proba, strategy=strategy, norm=norm)
        gap = abs(proba.max(axis=1).mean() - accuracy(y, proba))
        assert gap - 1e-12 <= error <= 1

    @given(predictions(), st.integers(1, 20), *options.values())
    @settings(max_examples=100, deadline=None)
    def test_order_of_rows(self, given_predictions, n_bins, strategy, norm):
        """The order of the rows changes nothing, ties or not."""
        y, proba, rng = given_predictions
        order = rng.permutation(len(y))
        kwargs = {"n_bins": n_bins, "strategy": strategy, "norm": norm}
        error = expected_calibration_error(y, proba, **kwargs)
        assert expected_calibration_error(y[order], proba[order], **kwargs) == pytest.approx(error, abs=1e-12)
        for metric in (accuracy, brier_score, log_loss):
            assert metric(y[order], proba[order]) == pytest.approx(metric(y, proba), abs=1e-12)

    @given(predictions(ties=False))
    @settings(max_examples=50, deadline=None)
    def test_order_of_classes(self, given_predictions):
        """Shuffled columns with their classes change nothing."""
        y, proba, rng = given_predictions
        columns = rng.permutation(proba.shape[1])
        names = np.array(["e", "b", "d", "a", "c"])[: proba.shape[1]]
        for metric in METRICS:
            shuffled = metric(names[y], proba[:, columns], classes=names[columns])
            assert shuffled == pytest.approx(metric(y, proba), abs=1e-12)

    @given(predictions(), st.integers(1, 20), *options.values())
    @settings(max_examples=100, deadline=None)
    def test_weights_are_repetition(self, given_predictions, n_bins, strategy, norm):
        """A weight of 2 is the row twice, and a weight of 0 is no row."""
        y, proba, rng = given_predictions
        repeats = rng.integers(0, 4, len(y))
        repeats[0] += not repeats.any()
        repeated = y.repeat(repeats), proba.repeat(repeats, axis=0)
        kwargs = {"n_bins": n_bins, "strategy": strategy, "norm": norm}
        found = expected_calibration_error(y, proba, sample_weight=repeats, **kwargs)
        assert found == pytest.approx(expected_calibration_error(*repeated, **kwargs), abs=1e-12)
        # A third is inexact in binary, and equal-mass cuts still fall where they should.
        scaled = expected_calibration_error(y, proba, sample_weight=repeats / 3, **kwargs)
        assert scaled == pytest.approx(found, abs=1e-12)
        for metric in (accuracy, brier_score, log_loss):
            assert metric(y, proba, sample_weight=repeats) == pytest.approx(metric(*repeated), abs=1e-12)

    @given(predictions(), st.integers(1, 20), options["strategy"])
    @settings(max_examples=100, deadline=None)
    def test_bins_hold_their_rows(self, given_predictions, n_bins, strategy):
        """Every row lies in exactly one bin (lower, upper], bins follow one another, and none is empty."""
        y, proba, _ = given_predictions
        curve = reliability_curve(y, proba, n_bins=n_bins, strategy=strategy)
        confidence = proba.max(axis=1)
        inside = (confidence[:, None] > curve.lower) & (confidence[:, None] <= curve.upper)
        assert (inside.sum(axis=1) == 1).all()
        assert (inside.sum(axis=0) == curve.count).all()
        assert (curve.count > 0).all()
        assert len(curve.count) <= n_bins
        assert (curve.upper[:-1] <= curve.lower[1:]).all()

    @given(predictions())
    @settings(max_examples=50, deadline=None)
    def test_scikit_learn_agrees(self, given_predictions):
        """Log loss and Brier score equal those of scikit-learn."""
        y, proba, _ = given_predictions
        labels = np.arange(proba.shape[1])
        assert log_loss(y, proba) == pytest.approx(sklearn.metrics.log_loss(y, proba, labels=labels))
        theirs = sklearn.metrics.brier_score_loss(y, proba, labels=labels, scale_by_half=False)
        assert brier_score(y, proba) == pytest.approx(theirs)


class TestBins:
    def test_closed_on_the_right(self):
        """A probability on an edge belongs to the bin below it, and 0 and 1 to the first and the last bin."""
        curve = binned_calibration([0.0, 0.1, 0.3, 0.5, 1.0], [0, 1, 0, 1, 1], n_bins=10)
        assert curve.upper == pytest.approx([0.1, 0.3, 0.5, 1.0])
        assert curve.count.tolist() == [2, 1, 1, 1]
        assert binned_calibration([0.45, 0.5, 0.55], [0, 1, 1], n_bins=2).count.tolist() == [2, 1]

    @pytest.mark.parametrize("n_bins", [3, 7, 10, 15, 49])
    def test_every_edge_is_its_own_upper_edge(self, n_bins):
        """Each edge that numpy computes, 3/10 for one, lands in the bin that it closes."""
        edges = np.linspace(0, 1, n_bins + 1)[1:]
        curve = binned_calibration(edges, np.ones(n_bins), n_bins=n_bins)
        assert curve.upper.tolist() == edges.tolist()

    def test_certain_and_wrong(self):
        """Certain and always wrong is an error of 1: the two ends of the scale are no blind spots."""
        assert expected_calibration_error([1, 1], [[1.0, 0.0], [1.0, 0.0]]) == 1
        assert binned_calibration([0.0, 0.0], [1, 1]).error() == 1

    def test_ties_are_never_split(self):
        """A constant confidence is one bin of equal mass, whatever the order of the labels."""
        p = np.full(100, 0.7)
        for event in (np.arange(100) < 60, np.arange(100) >= 40):
            curve = binned_calibration(p, event, strategy="mass")
            assert curve.count.tolist() == [100]
            assert curve.error() == pytest.approx(0.1)

    def test_mass_cuts_after_the_value_that_reaches_the_share(self):
        """With half of the weight on one value, two bins cut behind it, and their edges cover 0 to 1."""
        curve = binned_calibration([0.2, 0.6, 0.6, 0.9], [0, 1, 0, 1], n_bins=2, strategy="mass")
        assert curve.count.tolist() == [3, 1]
        assert curve.lower.tolist() == [0.0, 0.6]
        assert curve.upper.tolist() == [0.6, 1.0]

    def test_mass_cuts_survive_inexact_weights(self):
        """Ten weights of 0.1, whose sums fall short by rounding, still fill ten bins, one row each."""
        p = np.arange(10) / 10
        curve = binned_calibration(p, p > 0.5, n_bins=10, strategy="mass", sample_weight=np.full(10, 0.1))
        assert curve.count.tolist() == [1] * 10

    def test_fewer_rows_than_bins(self):
        """One row fills one bin."""
        for strategy in ("uniform", "mass"):
            assert binned_calibration([0.25], [True], strategy=strategy).error() == 0.75

    def test_a_curve_is_frozen(self):
        """A curve's fields cannot be exchanged."""
        with pytest.raises(dataclasses.FrozenInstanceError):
            binned_calibration([0.5], [1]).count = None


class TestInput:
    def test_one_dimension_is_the_second_class(self):
        """A vector of probabilities means P(class 1) of two classes."""
        y, p = two_classes()
        for metric in METRICS:
            assert metric(y, p) == metric(y, np.column_stack([1 - p, p]))
            assert metric(np.array(["a", "b"])[y], p, classes=["a", "b"]) == metric(y, p)

    def test_an_impossible_true_class(self):
        """Probability 0 of a true class is an infinite log loss, unless the row weighs nothing."""
        proba = [[1.0, 0.0], [0.5, 0.5]]
        assert log_loss([1, 1], proba) == math.inf
        assert log_loss([1, 1], proba, sample_weight=[0, 2]) == pytest.approx(math.log(2))

    def test_a_certain_truth_is_plain_zero(self):
        """The best log loss prints as 0.0, not as -0.0."""
        assert math.copysign(1, log_loss([0], [[1.0, 0.0]])) == 1

    def test_the_first_of_equal_columns_is_predicted(self):
        """Ties of the largest probability go to the first column."""
        assert accuracy([0, 1], [[0.5, 0.5], [0.5, 0.5]]) == 0.5

    def test_classes_absent_from_y(self):
        """Columns whose class no row has are allowed, and so is a y of one class."""
        assert accuracy(["b", "b"], [[0.1, 0.8, 0.1], [0.1, 0.1, 0.8]], classes=["a", "b", "c"]) == 0.5
        assert expected_calibration_error([1, 1], [[0.25, 0.75], [0.25, 0.75]]) == 0.25

    def test_float32_is_computed_in_float64(self):
        """Probabilities in float32 with rounded sums are accepted, and binned in float64."""
        y, proba = four_classes()
        found = expected_calibration_error(y, proba.astype(np.float32))
        assert found == pytest.approx(expected_calibration_error(y, proba), abs=1e-6)
        _, probabilities, _ = checked_predictions([0], np.array([[1.0 + 1e-7, -1e-7]]))
        assert probabilities.tolist() == [[1.0, 0.0]]

    @pytest.mark.parametrize(
        "y",
        [
            ["no", "yes", "no"],
            np.array(["no", "yes", "no"]),
            pd.Series(["no", "yes", "no"]),
            pl.Series(["no", "yes", "no"]),
        ],
        ids=["list", "array", "pandas", "polars"],
    )
    def test_kinds_of_labels(self, y):
        """Lists, arrays and series of labels are matched to the classes, or to the columns in sorted order."""
        assert label_columns(y, 2).tolist() == [0, 1, 0]
        assert label_columns(y, 3, ["yes", "no", "maybe"]).tolist() == [1, 0, 1]

    @pytest.mark.parametrize("y", [[True, False], [1.0, 0.0], np.array([1, 0], dtype=np.uint8)], ids=repr)
    def test_whole_numbers_are_columns(self, y):
        """Booleans and whole numbers are column numbers unless classes are given."""
        assert label_columns(y, 4).tolist() == [1, 0]
        assert label_columns(y, 3, [1, 5, 0]).tolist() == [0, 2]

    def test_classes_of_several_types(self):
        """The number 1 and the text "1" are different classes."""
        assert label_columns([1, "1", 2.5], 3, ["1", 2.5, 1]).tolist() == [2, 0, 1]

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"y": [], "proba": np.empty((0, 2))}, "proba is empty"),
            ({"proba": [[0.5], [0.5]]}, "1 column; expected at least two classes"),
            ({"proba": [[[0.5, 0.5]], [[0.5, 0.5]]]}, r"shape \(2, 1, 2\)"),
            ({"proba": [[0.5, 0.5], [0.5, np.nan]]}, "row 1 of proba holds nan"),
            ({"proba": [[0.5, 0.5], [-0.5, 1.5]]}, "row 1 of proba holds -0.5.*softmax"),
            (
                {"proba": [[0.5, 0.5], [0.5, 0.50001]]},
                r"row 1 of proba sums to 1.00001; expected 1 within 1e-06.*Divide",
            ),
            ({"y": [0, 2]}, r"y\[1\]=2 is not a column number in 0 .. 1; .*classes="),
            ({"y": [0, 0.5]}, r"y\[1\]=0.5 is not a column number"),
            ({"y": ["a", "a"]}, "1 different labels for 2 columns; .*classes="),
            ({"y": np.array([0, "a"], dtype=object)}, "cannot be sorted; .*classes="),
            ({"y": [0, 5], "classes": [0, 1]}, r"y\[1\]=5 is not one of the classes \[0, 1\]"),
            ({"y": ["a", None], "classes": ["a", "b"]}, r"y\[1\]=None is missing"),
            ({"classes": ["a", "b", "c"]}, "got 3 classes for 2 columns"),
            ({"classes": [1, 1]}, "repeats a class"),
            ({"y": [[0], [1]]}, r"y has shape \(2, 1\)"),
            ({"y": [0]}, "y has 1 labels and proba 2 rows"),
            ({"sample_weight": [1, -1]}, r"sample_weight\[1\]=-1.0"),
            ({"sample_weight": [1, np.inf]}, r"sample_weight\[1\]=inf"),
            ({"sample_weight": [0, 0]}, "all sample weights are zero"),
            ({"sample_weight": [1]}, r"shape \(1,\); expected \(2,\)"),
        ],
    )
    @pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.__name__)
    def test_refused_by_every_metric(self, metric, arguments, message):
        """Input that is no prediction is refused by an InputError that names the value."""
        with pytest.raises(InputError, match=message):
            metric(**{"y": [0, 1], "proba": [[0.5, 0.5], [0.2, 0.8]], **arguments})

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"n_bins": 0}, "n_bins=0; expected a positive integer"),
            ({"n_bins": 2.0}, "n_bins=2.0"),
            ({"n_bins": True}, "n_bins=True"),
            ({"strategy": "quantile"}, "strategy='quantile' is unknown; expected 'uniform' or 'mass'"),
            ({"norm": "L1"}, "norm='L1' is unknown; expected 'l1', 'l2' or 'max'"),
        ],
    )
    def test_refused_options(self, arguments, message):
        """Unknown bins and norms are refused with the known ones."""
        with pytest.raises(InputError, match=message):
            expected_calibration_error([0, 1], [0.5, 0.5], **arguments)

    @pytest.mark.parametrize(
        ("probability", "event", "message"),
        [
            ([[0.5]], [1], "probability has shape"),
            ([1.5], [1], "row 0 of probability holds 1.5"),
            ([0.5], [1, 0], r"event has shape \(2,\)"),
            ([0.5], [2], "other than 0 and 1"),
        ],
    )
    def test_refused_events(self, probability, event, message):
        """An event is 0 or 1 for each probability in [0, 1]."""
        with pytest.raises(InputError, match=message):
            binned_calibration(probability, event)
