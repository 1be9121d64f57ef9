"""Tests of intervals and tests for rows in groups."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import ndtr

from llmclf.errors import InputError
from llmclf.metrics import (
    calibration_interval,
    calibration_test,
    mean_interval,
    paired_difference,
    proportion_interval,
    refinement_error,
)
from llmclf.metrics.grouped import group_values, kept_groups, row_worth

FIVE = np.arange(60).repeat(5)


def rows(seed: int = 0):
    """Sixty rows of two classes, and two sets of probabilities for them."""
    rng = np.random.default_rng(seed)
    p = rng.random(60)
    y = (rng.random(60) < p).astype(int)
    return y, p, np.clip(p + rng.normal(0, 0.1, 60), 0.01, 0.99)


def test_the_mean_of_the_groups_is_that_of_the_rows():
    """For groups of any size and rows of any weight."""
    rng = np.random.default_rng(0)
    values, weights, groups = rng.normal(size=100), rng.random(100), rng.integers(0, 17, 100)
    assert group_values(values, weights, groups).mean() == pytest.approx(np.average(values, weights=weights))


def test_copies_give_the_interval_of_the_rows_alone():
    """Of a mean and of paired differences, exactly; without groups it is too narrow by the root of five."""
    y, p, q = rows()
    values = np.abs(y - p)
    alone = mean_interval(values, random_state=0)
    assert mean_interval(values[FIVE], groups=FIVE, random_state=0) == pytest.approx(alone)
    _, low, high = mean_interval(values[FIVE], random_state=0)
    assert (high - low) < 0.6 * (alone.high - alone.low)
    for metric in ("log_loss", "brier", "accuracy", "ece"):
        difference = paired_difference(y, p, q, metric=metric, random_state=0)
        grouped = paired_difference(y[FIVE], p[FIVE], q[FIVE], metric=metric, random_state=0, groups=FIVE)
        assert grouped == pytest.approx(difference, abs=1e-9)


def test_a_giant_group_leaves_no_interval():
    """Where one group holds half of the rows, the others say little about groups like it, and no ends are given."""
    values, groups = np.random.default_rng(0).random(200), np.concatenate([np.zeros(100, dtype=int), np.arange(1, 101)])
    mean, low, high = mean_interval(values, groups=groups)
    assert mean == pytest.approx(values.mean())
    assert np.isnan([low, high]).all()


def test_copies_give_the_calibration_interval_of_the_rows_alone():
    """The bins hold as many rows as there are groups."""
    y, p, _ = rows()
    alone = calibration_interval(y, p, random_state=0)
    assert calibration_interval(y[FIVE], p[FIVE], random_state=0, groups=FIVE) == pytest.approx(alone, abs=1e-9)


def test_the_test_of_copies_has_its_size():
    """A calibrated model is rejected in a twentieth of the draws or so, and else in most of them."""
    rng, rejected = np.random.default_rng(3), np.zeros(2)
    for _ in range(80):
        p = rng.random(60)
        y = (rng.random(60) < p).astype(int)
        for i, groups in enumerate((None, FIVE)):
            test = calibration_test(y[FIVE], p[FIVE], n_resamples=99, random_state=0, groups=groups)
            rejected[i] += test.p_value <= 0.05
    assert rejected[0] > 50
    assert rejected[1] <= 9


def test_refinement_does_not_learn_from_copies():
    """Named or not, copies are not parted, which would make the loss smaller."""
    y, p, _ = rows()
    grouped = refinement_error(y[FIVE], p[FIVE], groups=FIVE)
    assert grouped == pytest.approx(refinement_error(y[FIVE], p[FIVE]), abs=1e-9)
    assert grouped > refinement_error(y[FIVE], p[FIVE], groups=np.arange(300)) + 0.01
    with pytest.raises(InputError, match="at least two rows of two groups"):
        refinement_error(y, p, groups=np.zeros(60))


@pytest.mark.parametrize("function", [calibration_interval, calibration_test, refinement_error])
def test_bad_groups_are_named(function):
    """A missing group is refused by every function alike."""
    y, p, _ = rows()
    with pytest.raises(InputError, match=r"groups\[59\]=None is missing"):
        function(y, p, groups=[*range(59), None])


@pytest.mark.parametrize("n_copies", [2, 5, 49])
def test_copies_give_the_bounded_interval_of_the_rows_alone(n_copies):
    """With bounds, too, and whatever the number of copies; for shares it is the exact interval of as many rows."""
    y, p, _ = rows()
    groups = np.arange(60).repeat(n_copies)
    alone = mean_interval((y - p) ** 2, bounds=(0.0, 1.0), random_state=0)
    grouped = mean_interval(((y - p) ** 2)[groups], bounds=(0.0, 1.0), random_state=0, groups=groups)
    assert grouped == pytest.approx(alone, abs=1e-9)
    _, low, high = mean_interval(y[groups], bounds=(0.0, 1.0), groups=groups, random_state=0, n_resamples=20_000)
    assert [low, high] == pytest.approx([float(end) for end in proportion_interval(y.sum(), 60)], abs=0.01)


def test_a_giant_group_leaves_a_wide_interval_between_bounds():
    """It is that of the few rows that the groups are worth."""
    values, groups = np.full(200, 0.1), np.concatenate([np.zeros(100, dtype=int), np.arange(1, 101)])
    _, low, high = mean_interval(values, bounds=(0.0, 1.0), groups=groups, random_state=0)
    worth = 200**2 / (100**2 + 100)
    assert (low, high) == pytest.approx((0.1 * 0.025 ** (1 / worth), 1 - 0.9 * 0.025 ** (1 / worth)), abs=0.01)


def test_a_change_of_few_groups_is_bounded_by_what_losses_can_be():
    """Where fewer than ten groups differ, as where fewer than ten rows do; the log loss then has no interval."""
    y, p, q = rows()
    five, nine = np.arange(9).repeat(5), slice(0, 9)
    for metric in ("log_loss", "brier"):
        alone = paired_difference(y[nine], p[nine], q[nine], metric=metric, random_state=0)
        grouped = paired_difference(y[five], p[five], q[five], metric=metric, random_state=0, groups=five)
        assert grouped == pytest.approx(alone, abs=1e-9, nan_ok=True)
        assert np.isnan(grouped.low) == (metric == "log_loss")


def test_a_weight_of_two_is_a_row_and_its_copy_in_the_same_group():
    """Zero weights leave rows and their groups out."""
    y, p, _ = rows()
    groups, weights = np.arange(60) // 2, np.arange(60) % 3
    repeated = np.arange(60).repeat(weights)
    kept = kept_groups(groups, 60, weights)
    assert kept.max() + 1 == np.unique(groups[repeated]).size
    once = row_worth(kept, weights[weights > 0].astype(float))
    assert once == pytest.approx(row_worth(groups[repeated], np.ones(60)))
    for options in ({}, {"bounds": (0.0, 1.0)}):
        weighted = mean_interval(np.abs(y - p), sample_weight=weights, groups=groups, random_state=0, **options)
        plain = mean_interval(np.abs(y - p)[repeated], groups=groups[repeated], random_state=0, **options)
        assert weighted == pytest.approx(plain, abs=1e-9)


def authors(seed: int, bias: float = 0.0):
    """Sixty authors of five rows of any confidence, who are right or wrong together to some degree."""
    rng = np.random.default_rng(seed)
    p = 0.5 + 0.5 * rng.random(300)
    u = ndtr(np.sqrt(0.6) * rng.normal(size=60)[FIVE] + np.sqrt(0.4) * rng.normal(size=300))
    return (u < np.clip(p - bias, 0.0, 1.0)).astype(int), np.column_stack([1.0 - p, p])


def test_interval_and_test_agree_with_groups():
    """The interval lies above 0 if and only if the test rejects."""
    found = set()
    for seed in range(7):
        y, proba = authors(seed, 0.1)
        options = {"n_resamples": 99, "random_state": seed, "groups": FIVE}
        rejected = calibration_test(y, proba, **options).p_value < 0.05
        assert (calibration_interval(y, proba, **options).low > 0.0) == rejected
        found.add(rejected)
    assert found == {False, True}


@pytest.mark.slow
def test_the_interval_reaches_the_error_of_rows_that_agree_little():
    """Groups whose rows are not all alike show a true error more clearly; it is not taken for noise. (78 of 80 draws.)"""
    covered = 0
    for seed in range(50):
        y, proba = authors(seed, 0.1)
        interval = calibration_interval(y, proba, n_resamples=200, random_state=0, groups=FIVE)
        covered += interval.low <= 0.1 <= interval.high
    assert covered >= 45
