"""Multinomial logistic regression with a ridge: its optimum, whatever the number of features."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from sklearn.linear_model import LogisticRegression

from llmclf.logits import log_softmax
from llmclf.numerics.ridge_softmax import VARIANCES, RidgeSoftmax, RowSpan


def drawn(seed, n, d, k):
    rng = np.random.default_rng(seed)
    matrix = rng.normal(size=(n, d)) / np.sqrt(d)
    return matrix, rng.integers(0, k, n), rng.uniform(0.5, 2.0, n), log_softmax(rng.normal(size=(n, k)))


def objective(parts, columns, weights, offset, variance, coefficients, intercepts):
    logits = (
        offset
        + intercepts
        + sum(
            part @ own
            for part, own in zip(
                parts, np.split(coefficients, np.cumsum([p.shape[1] for p in parts])[:-1]), strict=True
            )
        )
    )
    losses = -log_softmax(np.asarray(logits))[np.arange(len(columns)), columns]
    return weights @ losses + (coefficients**2).sum() / (2 * variance) + (intercepts**2).sum() / 2


@given(st.integers(0, 10**6), st.integers(2, 30), st.integers(1, 40), st.integers(2, 4), st.sampled_from(VARIANCES))
@settings(max_examples=40, deadline=None)
def test_no_neighbour_is_better(seed, n, d, k, variance):
    """Fewer rows than features or more: no other coefficients or intercepts have a lower objective."""
    matrix, columns, weights, offset = drawn(seed, n, d, k)
    coefficients, intercepts = RidgeSoftmax(RowSpan([matrix]), columns, weights, offset).fit(variance)
    data = [matrix], columns, weights, offset, variance
    best = objective(*data, coefficients, intercepts)
    rng = np.random.default_rng(seed)
    for size in (1e-4, 1e-2, 1.0):
        other = coefficients + size * rng.normal(size=coefficients.shape), intercepts + size * rng.normal(size=k)
        assert best <= objective(*data, *other) + 1e-6
    assert coefficients.sum(axis=1) == pytest.approx(np.zeros(d), abs=1e-3)


@pytest.mark.parametrize(("n", "d"), [(30, 5), (30, 200)])
def test_scikit_learn_agrees(n, d):
    """Without an offset and with intercepts that cost next to nothing here, it is scikit-learn's logistic regression."""
    matrix, columns, weights, _ = drawn(0, n, d, 3)
    found, intercepts = RidgeSoftmax(RowSpan([matrix]), columns, weights, np.zeros((n, 3))).fit(2.0)
    theirs = LogisticRegression(C=2.0, fit_intercept=False, tol=1e-10, max_iter=10_000)
    # The intercept as one more feature, with the same ridge: its variance is 1 here and 2 there.
    theirs.fit(np.column_stack([matrix, np.full(n, np.sqrt(0.5))]), columns, sample_weight=weights)
    logits = matrix @ found + intercepts
    expected = np.column_stack([matrix, np.full(n, np.sqrt(0.5))]) @ theirs.coef_.T
    assert log_softmax(logits) == pytest.approx(log_softmax(expected), abs=1e-3)


def test_sparse_and_dense_parts_side_by_side():
    """A matrix in parts, some of them sparse, is the whole matrix."""
    matrix, columns, weights, offset = drawn(1, 20, 60, 3)
    matrix[:, 30:] *= np.random.default_rng(0).random((20, 30)) < 0.3
    whole = RidgeSoftmax(RowSpan([matrix]), columns, weights, offset).fit(3.0)
    parts = [matrix[:, :30], sparse.csr_array(matrix[:, 30:])]
    split = RidgeSoftmax(RowSpan(parts), columns, weights, offset).fit(3.0)
    assert split[0] == pytest.approx(whole[0], abs=1e-4)
    assert split[1] == pytest.approx(whole[1], abs=1e-4)


def test_a_warm_start_changes_nothing():
    """The fit for a variance does not depend on those before it."""
    matrix, columns, weights, offset = drawn(2, 25, 80, 4)
    problem = RidgeSoftmax(RowSpan([matrix]), columns, weights, offset)
    walked = [problem.fit(variance) for variance in VARIANCES][-1]
    alone = RidgeSoftmax(RowSpan([matrix]), columns, weights, offset).fit(VARIANCES[-1])
    assert matrix @ walked[0] + walked[1] == pytest.approx(matrix @ alone[0] + alone[1], abs=2e-3)
