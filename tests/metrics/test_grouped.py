"""Tests of intervals and tests for rows in groups."""

from __future__ import annotations

import numpy as np
import pytest

from llmclf.errors import InputError
from llmclf.metrics import calibration_interval, calibration_test, mean_interval, paired_difference, refinement_error
from llmclf.metrics.grouped import group_values

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
