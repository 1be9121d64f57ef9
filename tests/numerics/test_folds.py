"""Tests of folds that part no group."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmclf.logits import log_softmax
from llmclf.numerics.folds import copies, fold_weights


def data(seed: int, n: int, k: int = 3):
    rng = np.random.default_rng(seed)
    return rng, log_softmax(rng.normal(size=(n, k))), rng.integers(0, k, n)


@given(st.integers(0, 2**32 - 1), st.integers(1, 60), st.integers(1, 30))
@settings(max_examples=40, deadline=None)
def test_no_group_is_parted(seed, n, n_groups):
    """Each row keeps its weight, and all rows of a group are in one fold."""
    rng, scores, columns = data(seed, n)
    weights, groups = rng.integers(1, 4, n).astype(float), rng.integers(0, n_groups, n)
    folds = fold_weights(scores, columns, weights, groups=groups)
    assert folds.sum(axis=1) == pytest.approx(weights)
    if len(np.unique(groups)) < n:
        assert ((folds > 0).sum(axis=1) == 1).all()
        for group in np.unique(groups):
            assert len(set(folds[groups == group].argmax(axis=1))) == 1


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=25, deadline=None)
def test_the_order_does_not_matter(seed):
    """Rows and columns in another order, and groups under other names, give the same folds."""
    rng, scores, columns = data(seed, 60)
    groups, weights = rng.integers(0, 20, 60), np.ones(60)
    folds = fold_weights(scores, columns, weights, groups=groups)
    order, places = rng.permutation(60), rng.permutation(3)
    again = fold_weights(
        scores[order][:, np.argsort(places)], places[columns[order]], weights, groups=50 - groups[order]
    )
    assert (again == folds[order]).all()


def test_equal_scores_are_copies():
    """Forty texts five times: without groups, too, no copy is parted from the others, whatever their labels."""
    rng, scores, columns = data(0, 40)
    rows = rng.permutation(np.arange(40).repeat(5))
    labels = np.where(rng.random(200) < 0.2, 0, columns[rows])
    folds = fold_weights(scores[rows], labels, np.ones(200)).argmax(axis=1)
    assert all(len(set(folds[rows == text])) == 1 for text in range(40))
    assert np.bincount(folds).tolist() == [40] * 5


def test_rounded_scores_are_no_copies():
    """Where there are few different rows, as from sampled answers, equal ones are dealt to all folds."""
    scores = np.log(np.array([[0.2, 0.8], [0.4, 0.6], [0.9, 0.1]]))[np.arange(90) % 3]
    assert copies(scores, np.ones(90)) is None
    assert (fold_weights(scores, np.arange(90) % 2, np.ones(90)).sum(axis=0) == 18).all()


def test_classes_are_spread():
    """Every fold holds as many rows of a rare class as can be."""
    _, scores, _ = data(1, 200)
    columns = np.where(np.arange(200) < 20, 1, 0)
    folds = fold_weights(scores, columns, np.ones(200), groups=np.arange(200) // 2).argmax(axis=1)
    assert np.bincount(folds[columns == 1]).tolist() == [4] * 5
    assert np.bincount(folds).tolist() == [40] * 5


@pytest.mark.parametrize(("sizes", "n_used"), [((50, 1, 1, 1, 1, 1, 1), 5), ((10, 10, 10), 3), ((30,), 1)])
def test_few_or_giant_groups(sizes, n_used):
    """A giant group has a fold of its own, and with fewer groups than folds some stay empty."""
    groups = np.repeat(np.arange(len(sizes)), sizes)
    _, scores, columns = data(2, len(groups), 2)
    folds = fold_weights(scores, columns, np.ones(len(groups)), groups=groups).argmax(axis=1)
    assert len(set(folds)) == n_used
    if sizes[0] == 50:
        assert (folds == folds[0]).sum() == 50
