"""Placeholder."""

from __future__ import annotations

import numpy as np

from ..arrays import Floats
from ..logits import log_softmax
from ..numerics.solvers import fit_bias_temperature
from .labelled_sample import LabelledSample

_RIDGE, _PRIOR = 0.5, 8.0


def cross_fitted(sample: LabelledSample) -> tuple[Floats, Floats]:
    scores = np.log(np.clip(sample.proba, 1e-12, None))
    scores -= scores.max(axis=1, keepdims=True)
    fold = sample.folds()
    share = sample.design_weights / sample.design_weights.sum()
    q_all, q_seen = np.zeros_like(scores), np.zeros((sample.n_labelled, sample.n_classes))
    for f in np.unique(fold):
        inside = fold == f
        outside = ~inside
        weights = share[outside] / share[outside].mean()
        beta, bias, _ = fit_bias_temperature(
            scores[sample.rows[outside]], sample.columns[outside], weights, _RIDGE, _PRIOR
        )
        q = np.exp(log_softmax(beta * scores + bias))
        q_seen[inside] = q[sample.rows[inside]]
        q_all += share[inside].sum() * q
    return q_all, q_seen
