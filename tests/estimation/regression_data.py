"""Rows with a label that depends on covariates, and probabilities of it, for the tests of regressions."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np


def gold_rows():
    """400 rows of an intercept and two covariates, a label, and its probabilities, for values of other packages."""
    rng = np.random.default_rng(20261130)
    X = np.column_stack([np.ones(400), rng.normal(size=400), rng.random(400) < 0.4]).astype(float)
    y = (rng.random(400) < 1 / (1 + np.exp(-X @ [-0.3, 0.8, -0.6]))).astype(float)
    p = 1 / (1 + np.exp(-(1.5 * (2 * y - 1) + rng.normal(0, 1.5, 400) - 0.3)))
    return X, y, p


def labelled_rows(n_rows=1500, n_labelled=150, seed=0, signal=2.0):
    """Rows of which the label is seen on some: `age` and `north` explain it, and it explains `shares` and `clicked`."""
    rng = np.random.default_rng(seed)
    age, north = rng.normal(50, 10, n_rows), (rng.random(n_rows) < 0.4).astype(float)
    label = (rng.random(n_rows) < 1 / (1 + np.exp(-(-0.3 + 0.08 * (age - 50) - 0.5 * north)))).astype(int)
    shares = 1.0 + 0.8 * label + 0.05 * (age - 50) - 0.3 * north + rng.normal(size=n_rows)
    clicked = (rng.random(n_rows) < 1 / (1 + np.exp(-(-0.5 + 1.0 * label + 0.3 * north)))).astype(float)
    p = 1 / (1 + np.exp(-(signal * rng.normal((label - 0.5) * signal, 1.0))))
    rows = rng.choice(n_rows, n_labelled, replace=False)
    table = {"age": age, "north": north}
    return SimpleNamespace(
        proba=np.column_stack([1 - p, p]),
        label=label,
        y=label[rows],
        rows=rows,
        X=table,
        matrix=np.column_stack([np.ones(n_rows), age, north]),
        shares=shares,
        clicked=clicked,
    )
