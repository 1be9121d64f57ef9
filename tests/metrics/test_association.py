"""Tests of whether probabilities and labels have anything to do with each other, and whether recalibration could mend them."""

from __future__ import annotations

import numpy as np
import pytest

from llmclf.metrics.association import label_association, recalibration_test


def both(p):
    return np.column_stack([1 - p, p])


@pytest.mark.parametrize("n", [20, 60, 500])
def test_size(n):
    """Probabilities that have nothing to do with the labels agree with them as rarely as the level says."""
    rng = np.random.default_rng(n)
    draws = 150
    agree = sum(label_association(both(rng.random(n)), rng.integers(2, size=n)).agree < 0.05 for _ in range(draws))
    assert agree <= 0.05 * draws + 3 * np.sqrt(0.05 * 0.95 * draws)


@pytest.mark.parametrize("balance", [0.5, 0.1])
def test_good_models_are_seen(balance):
    """A model that is right in nine rows of ten is seen on 30 rows, whatever its most confident mistake costs."""
    rng = np.random.default_rng(0)
    seen = 0
    for _ in range(60):
        p = 1 / (1 + np.exp(-5 * rng.normal(size=30) - np.log(balance / (1 - balance))))
        y = (rng.random(30) < p).astype(int)
        p[np.argmin(np.abs(p - y))] = 1e-9 if y[np.argmin(np.abs(p - y))] else 1 - 1e-9  # one sure mistake
        seen += label_association(both(p), y).agree < 0.05
    assert seen >= 40


def test_contradiction():
    """Reversed probabilities contradict the labels; permuted columns of many classes do, too."""
    rng = np.random.default_rng(0)
    p = rng.random(200)
    y = (rng.random(200) < p).astype(int)
    assert label_association(both(1 - p), y).contradict < 2e-3
    assert label_association(both(1 - p), y).agree > 0.5


def test_a_rare_class_that_is_ranked_well():
    """A class that is never the most probable is seen by its ranks."""
    columns = (np.arange(400) % 20 == 0).astype(int)
    assert label_association(both(np.where(columns == 1, 0.45, 0.01)), columns).agree < 2e-3


@pytest.mark.parametrize(("n", "k"), [(12, 2), (30, 2), (60, 3), (600, 3)])
def test_recalibration_size(n, k):
    """Calibrated probabilities are told from others as rarely as the level says, on few rows as on many."""
    rng = np.random.default_rng(n)
    draws = 120
    rejected = 0
    for _ in range(draws):
        logits = 3 * rng.normal(size=(n, k))
        proba = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        y = (rng.random((n, 1)) > proba.cumsum(axis=1)).sum(axis=1)
        rejected += recalibration_test(proba, np.minimum(y, k - 1)) < 0.05
    assert rejected <= 0.05 * draws + 3 * np.sqrt(0.05 * 0.95 * draws)


def test_recalibration_power():
    """Sharpened probabilities, and those with a shifted class, are found."""
    rng = np.random.default_rng(1)
    logits = 2 * rng.normal(size=(300, 3))
    proba = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    y = (rng.random((300, 1)) > proba.cumsum(axis=1)).sum(axis=1)
    for stated in (proba**2, proba * [1, 1, 4]):
        assert recalibration_test(stated / stated.sum(axis=1, keepdims=True), y) < 0.01
