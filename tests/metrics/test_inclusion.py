"""Rows that were drawn with unequal probabilities: weights everywhere, and intervals that know them."""

from __future__ import annotations

import inspect
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmclf import metrics
from llmclf.calibration import risk_coverage_curve, select_threshold
from llmclf.errors import CalibrationWarning, InputError
from llmclf.metrics import (
    accuracy,
    calibration_interval,
    calibration_test,
    expected_calibration_error,
    inclusion_weights,
    mean_interval,
    neg_ece,
    neg_refinement,
    paired_difference,
    refinement_error,
    spiegelhalter_test,
)

WEIGHTED = [
    function
    for name in metrics.__all__
    if inspect.isfunction(function := getattr(metrics, name))
    and "sample_weight" in inspect.signature(function).parameters
    and {"y", "proba", "proba_before"} & set(inspect.signature(function).parameters)
    and not name.startswith(("checked_", "neg_"))  # checks of weights, and scikit-learn's scorers (below)
]


def labelled(n: int = 400, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    p = rng.random(n)
    return (rng.random(n) < p).astype(int), np.column_stack([1 - p, p]), np.where(np.abs(p - 0.5) < 0.3, 0.4, 0.1)


def numbers(value: object) -> np.ndarray:
    parts = value if isinstance(value, tuple) else vars(value).values() if hasattr(value, "__dict__") else [value]
    arrays = [np.ravel(np.asarray(part)) for part in parts if not isinstance(part, str)]
    return np.concatenate([array.astype(float) for array in arrays if array.dtype.kind in "fib"])


@pytest.mark.parametrize("function", WEIGHTED, ids=lambda function: function.__name__)
def test_every_metric_takes_inclusion(function) -> None:
    """Equal probabilities change nothing, even if their inverse is whole; unequal ones do; two kinds of weights are refused."""
    y, proba, inclusion = labelled()
    if "proba" in inspect.signature(function).parameters:
        arguments = (y, proba) if "y" in inspect.signature(function).parameters else (proba[:, 1], y)
    else:
        arguments = (y, proba, np.full_like(proba, 0.5))
    seeded = {"random_state": 0} if "random_state" in inspect.signature(function).parameters else {}
    plain, tenth, uneven = (
        function(*arguments, **seeded, **more)
        for more in ({}, {"inclusion": np.full(len(y), 0.1)}, {"inclusion": inclusion})
    )
    np.testing.assert_allclose(numbers(tenth), numbers(plain))
    assert not np.array_equal(numbers(uneven), numbers(plain), equal_nan=True)
    with pytest.raises(InputError, match="both given"):
        function(*arguments, **seeded, sample_weight=np.ones(len(y)), inclusion=inclusion)


@pytest.mark.parametrize(
    ("scorer", "metric"), [(neg_ece, expected_calibration_error), (neg_refinement, refinement_error)]
)
def test_scorers_take_inclusion(scorer, metric) -> None:
    """A scorer is minus its metric, with the same inclusion probabilities."""
    y, proba, inclusion = labelled()

    class Model:
        classes_ = np.array([0, 1])

        def predict_proba(self, X):
            return X

    assert scorer(Model(), proba, y, inclusion=inclusion) == -float(metric(y, proba, inclusion=inclusion))
    assert scorer(Model(), proba, y, inclusion=inclusion) != scorer(Model(), proba, y)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(1e-6, 1.0), min_size=1, max_size=30))
def test_weights_are_of_one_row(inclusion: list[float]) -> None:
    """They are inverse to the probabilities, and together never more rows than there are."""
    weights = inclusion_weights(inclusion, len(inclusion))
    product = weights * inclusion
    np.testing.assert_allclose(product, product[0], rtol=1e-6)
    assert 1 - 1e-9 <= weights.sum() <= len(inclusion) + 1e-9
    assert weights.sum() == pytest.approx(weights @ weights)


@pytest.mark.parametrize("bad", [[0.0, 0.5], [0.5, 1.1], [np.nan, 0.5], [0.5]])
def test_refuses_probabilities(bad: list[float]) -> None:
    """0, more than 1, none, or not one per row."""
    with pytest.raises(InputError, match="inclusion"):
        accuracy([0, 1], [[0.9, 0.1], [0.2, 0.8]], inclusion=bad)


def test_accuracy_is_that_of_the_table() -> None:
    """Weighted by its inclusion probability, a sample of doubtful rows shows the accuracy of all rows."""
    y, proba, inclusion = labelled(40_000)
    drawn = np.random.default_rng(1).random(len(y)) < inclusion
    truth = accuracy(y, proba)
    assert abs(accuracy(y[drawn], proba[drawn]) - truth) > 0.03
    assert abs(accuracy(y[drawn], proba[drawn], inclusion=inclusion[drawn]) - truth) < 0.012


def test_intervals_of_a_mean_cover() -> None:
    """Of 300 samples drawn unevenly, the interval holds the mean of the table in 93 % at least."""
    rng = np.random.default_rng(0)
    doubt = rng.random(6000)
    values = (rng.random(6000) < 0.3 * doubt).astype(float)
    inclusion = np.where(doubt > 0.6, 0.06, 0.015)
    covered = 0
    for seed in range(300):
        drawn = np.random.default_rng(seed).random(6000) < inclusion
        _, low, high = mean_interval(
            values[drawn], bounds=(0, 1), inclusion=inclusion[drawn], n_resamples=300, random_state=seed
        )
        covered += low <= values.mean() <= high
    assert covered >= 0.93 * 300


def test_calibrated_models_pass() -> None:
    """Tests of calibration keep their level where the rows were drawn unevenly."""
    rejected, wide = 0, []
    for seed in range(150):
        y, proba, inclusion = labelled(300, seed)
        weights = {"inclusion": inclusion}
        rejected += calibration_test(y, proba, n_resamples=99, random_state=seed, **weights).p_value <= 0.05
        wide.append(spiegelhalter_test(y, proba, **weights)[0])
    assert rejected <= 17
    assert 0.85 < np.std(wide) < 1.15


def test_calibration_intervals_hold_the_error() -> None:
    """Of a model with a known error, drawn unevenly, the interval holds it nearly always."""
    rng = np.random.default_rng(999)
    p = rng.random(20_000)
    proba = np.column_stack([1 - p, p])
    y = (rng.random(20_000) < np.clip(0.5 + 0.7 * (p - 0.5), 0, 1)).astype(int)
    inclusion = np.where(np.abs(p - 0.5) < 0.25, 0.008, 0.03)
    truth = expected_calibration_error(y, proba, n_bins=10)
    held = 0
    for seed in range(40):
        drawn = np.random.default_rng(seed).random(20_000) < inclusion
        low, high, *_ = calibration_interval(
            y[drawn], proba[drawn], n_bins=10, inclusion=inclusion[drawn], n_resamples=199, random_state=seed
        )
        held += low <= truth <= high
    assert held >= 35


def test_threshold_keeps_its_promise() -> None:
    """With errors at the limit wherever rows are seldom drawn, few draws of a hundred break it."""
    broken = 0
    for seed in range(120):
        rng = np.random.default_rng(seed)
        confidence = 0.5 + 0.5 * rng.random(4000)
        wrong = rng.random(4000) < np.where(confidence > 0.8, 0.12, 0.09)
        proba = np.column_stack([confidence, 1 - confidence])
        inclusion = np.where(confidence > 0.9, 0.03, 0.09)
        drawn = rng.random(4000) < inclusion
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", CalibrationWarning)
            chosen = select_threshold(
                wrong[drawn].astype(int), proba[drawn], max_error=0.1, classes=[0, 1], inclusion=inclusion[drawn]
            )
        accepted = confidence >= chosen.threshold
        broken += bool(accepted.any() and wrong[accepted].mean() > 0.1)
    assert broken <= 0.05 * 120 + 5


def test_threshold_of_uneven_rows_finds_good_ones() -> None:
    """Where the sure rows are right, most of them are accepted; equal probabilities give the same threshold as none."""
    y, proba, _ = labelled(20_000)
    sure = proba.max(axis=1) > 0.8
    inclusion = np.where(sure, 0.3, 0.02)
    drawn = np.random.default_rng(1).random(20_000) < inclusion
    uneven = select_threshold(y[drawn], proba[drawn], max_error=0.1, inclusion=inclusion[drawn])
    assert 0.8 <= uneven.threshold < 0.85
    assert uneven.n_rows == sure[drawn].sum()  # evenly drawn, and more than would be left of all rows
    assert abs(uneven.coverage - (proba.max(axis=1) >= uneven.threshold).mean()) < 0.05
    assert uneven.error <= uneven.error_bound <= 0.1
    assert select_threshold(y[:900], proba[:900], max_error=0.1, inclusion=np.full(900, 0.2)) == select_threshold(
        y[:900], proba[:900], max_error=0.1
    )


def test_nothing_is_promised_below_the_rows_looked_at() -> None:
    """A model without errors is accepted as far down as rows were looked at, and no further."""
    proba = np.column_stack([np.linspace(0.99, 0.51, 300), np.linspace(0.01, 0.49, 300)])
    inclusion = np.where(np.arange(300) < 250, 0.5, 0.01)
    chosen = select_threshold(np.zeros(300, dtype=int), proba, max_error=0.1, inclusion=inclusion)
    assert chosen.threshold == proba[249, 0]
    assert chosen.n_accepted == chosen.n_rows == 250
    assert chosen.coverage < 0.15


def test_too_few_rows_of_one_probability() -> None:
    """Where hardly any rows have been drawn with the same probability, an error says so."""
    y, proba, _ = labelled(200)
    inclusion = np.linspace(0.001, 0.9, 200)
    with pytest.raises(InputError, match="count as drawn with the same one"):
        select_threshold(y, proba[np.argsort(proba.max(axis=1))], max_error=0.01, inclusion=inclusion)


def test_curve_and_difference() -> None:
    """The curve weighs rows; the difference of two models is that of the table."""
    y, proba, inclusion = labelled()
    assert np.isnan(risk_coverage_curve(y, proba, inclusion=inclusion).lower).all()
    assert np.isfinite(risk_coverage_curve(y, proba, inclusion=np.full(400, 0.1)).lower).all()
    found = paired_difference(y, proba, np.full_like(proba, 0.5), metric="brier", inclusion=inclusion, random_state=0)
    weights = 1 / inclusion
    expected = np.average(0.5 - ((proba - np.eye(2)[y]) ** 2).sum(axis=1), weights=weights)
    assert found.difference == pytest.approx(expected)
    assert found.low < found.difference < found.high


def test_words_in_place_of_probabilities_are_named():
    """In inclusion, and in the probabilities themselves."""
    p, y = np.linspace(0.1, 0.9, 20), [0, 1] * 10
    with pytest.raises(InputError, match=r"inclusion\[0\]='a' is not a number"):
        select_threshold(y, p, max_error=0.1, inclusion=["a"] * 20)
    with pytest.raises(InputError, match=r"\[0\]='a' is not a number"):
        expected_calibration_error(y, ["a"] * 20)


NO_NUMBERS = [
    (["a"] * 20, r"\[0\]='a' is not a number"),
    ([[1], [1, 2]] * 10, r"\[1\] has another length than"),
    ({0: 1}, " is a dict; expected a list or an array"),
    (iter([1] * 20), "; expected a list or an array"),
    ([1j] * 20, " holds values of type complex128; expected numbers"),
    (np.full(20, np.datetime64("2020-01-01")), " holds values of type datetime64"),
]
JUDGED = [
    function
    for name in metrics.__all__
    if inspect.isfunction(function := getattr(metrics, name))
    and list(inspect.signature(function).parameters)[:2] in (["y", "proba"], ["y", "proba_before"])
    and "inclusion" in inspect.signature(function).parameters
]


@pytest.mark.parametrize("function", JUDGED, ids=lambda function: function.__name__)
@pytest.mark.parametrize("which", ["sample_weight", "inclusion"])
def test_weights_that_are_no_numbers_are_named_by_every_metric(function, which):
    """Words, rows of different lengths, what can be read only once, complex numbers and dates."""
    y, p = np.arange(20) % 2, np.linspace(0.1, 0.9, 20)
    proba = (np.column_stack([1 - p, p]),) * (2 if function is metrics.paired_difference else 1)
    for values, message in NO_NUMBERS:
        with pytest.raises(InputError, match=f"{which}.*{message}"):
            function(y, *proba, **{which: values})


@pytest.mark.parametrize("function", JUDGED, ids=lambda function: function.__name__)
def test_labels_and_probabilities_that_are_none_are_named_by_every_metric(function):
    """Missing labels among words, which numpy would make the word nan, and rows of different lengths."""
    y, p = np.arange(20) % 2, np.linspace(0.1, 0.9, 20)
    proba = np.column_stack([1 - p, p])
    other = (proba,) if function is metrics.paired_difference else ()
    for labels, message in (
        (["a", float("nan")] * 10, r"y\[1\]=nan is missing"),
        (["a", None] * 10, r"y\[1\]=None is missing"),
        ([0.0, float("nan")] * 10, r"y\[1\]=nan is missing"),
        (["a", ""] * 10, r"y\[1\]='' is missing"),
        ([[1], [1, 2]] * 10, r"y\[1\] has another length"),
        ([1, "b"] * 10, "the labels in y cannot be sorted; give the classes"),
    ):
        with pytest.raises(InputError, match=message):
            function(labels, proba, *other)
    with pytest.raises(InputError, match=r"proba\w*\[1\] has another length"):
        function(y, [[0.5, 0.5], [1.0]] * 10, *other)


def test_labels_of_two_kinds_belong_to_their_classes():
    """The number 1 is no text beside a word."""
    labels, p = [1, "b"] * 10, np.linspace(0.1, 0.9, 20)
    found = expected_calibration_error(labels, p, classes=[1, "b"])
    assert found == expected_calibration_error(np.arange(20) % 2, p)


@pytest.mark.parametrize(
    ("hits", "counts", "message"),
    [
        (11, 10, "11 of 10 rows; expected hits of at least 0, and at most as many"),
        (-1, 10, "-1 of 10 rows"),
        ([1, 5], [2, 4], "5 of 4 rows"),
        (float("nan"), 10, "nan of 10 rows"),
        (1, float("inf"), "1 of inf rows"),
        ("a", 10, "hits='a' is not a number"),
        (None, 10, "nan of 10 rows"),
        ([1, 2], [1, 2, 3], r"hits has shape \(2,\) and counts \(3,\)"),
    ],
)
def test_proportions_that_are_none_are_refused(hits, counts, message):
    """In place of NaN."""
    with pytest.raises(InputError, match=message):
        metrics.proportion_interval(hits, counts)


def test_values_that_are_no_numbers_have_no_mean():
    """And a seed is a whole number."""
    with pytest.raises(InputError, match=r"values\[0\]='a' is not a number"):
        metrics.mean_interval(["a"] * 20)
    with pytest.raises(InputError, match="random_state='a'; expected a whole number"):
        metrics.mean_interval(np.linspace(0, 1, 20), random_state="a")
