"""Probabilities recalibrated on the labelled rows, each labelled row by a map that did not see its label."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from ..arrays import Floats, Integers
from .labelled_sample import LabelledSample

_RIDGE_BIAS, _RIDGE_SLOPE = 0.5, 2.0
"""Pulls towards the probabilities as they are, in labelled rows; strong enough for fifty rows with a handful of cases."""

_LEAST_SLOPE = 0.05
_LEAST_PROBABILITY = 1e-9
_STEPS = 12
_CHUNK = 65_536


@dataclass(frozen=True, eq=False)
class Recalibration:
    r"""One map per fold and class, :math:`m = 1 / (1 + e^{-(a + b \log(p / (1 - p)))})`, fitted on the other folds.

    Attributes
    ----------
    folds : ndarray of int (n,)
        The fold of each labelled row.
    biases, slopes : ndarray (number of folds, K)
        a and b.
    """

    folds: Integers
    biases: Floats
    slopes: Floats

    @classmethod
    def fitted(cls, sample: LabelledSample, n_folds: int = 5) -> Recalibration:
        r"""The maps of all folds and classes, each with the least weighted log loss plus a pull towards a = 0 and b = 1.

        The loss is that of Platt (1999, "Probabilistic outputs for support vector machines") with the penalty
        :math:`\rho_a a^2 / 2 + \rho_b (b - 1)^2 / 2`; rows weigh their design weights, 1 on average. All maps are fitted at once,
        by Newton's method.
        """
        folds = sample.folds(n_folds)
        logits = log_odds(sample.labelled_proba)
        d = sample.design_weights / sample.design_weights.mean()
        trained = (folds[None, :] != np.arange(n_folds)[:, None]) * d
        return cls(folds, *_fitted_maps(logits, sample.one_hot, trained))

    def labelled(self, sample: LabelledSample) -> Floats:
        """The recalibrated probabilities (n, K) of the labelled rows, each by the map of its fold."""
        result: Floats = expit(self.biases[self.folds] + self.slopes[self.folds] * log_odds(sample.labelled_proba))
        return result

    def table(self, sample: LabelledSample) -> Floats:
        """The recalibrated probabilities (N, K) of all rows: the mean of what the maps of the folds say."""
        # Each map stands for the rows of its fold, so that what labelled rows are compared with is what they were given.
        d = np.bincount(self.folds, sample.design_weights, minlength=len(self.biases))
        result = np.empty_like(sample.proba)
        for start in range(0, sample.n_rows, _CHUNK):
            logits = log_odds(sample.proba[start : start + _CHUNK])
            total = np.zeros_like(logits)
            for share, bias, slope in zip(d / d.sum(), self.biases, self.slopes, strict=True):
                if share:
                    total += share * expit(bias + slope * logits)
            result[start : start + _CHUNK] = total
        return result


def log_odds(proba: Floats) -> Floats:
    """log(p / (1 - p)), finite for 0 and 1, too."""
    p = np.clip(proba, _LEAST_PROBABILITY, 1.0 - _LEAST_PROBABILITY)
    result: Floats = np.log(p) - np.log1p(-p)
    return result


def _fitted_maps(logits: Floats, cases: Floats, weights: Floats) -> tuple[Floats, Floats]:
    """The biases and slopes (F, K) for logits (n, K), cases (n, K) and weights (F, n)."""
    shape = (len(weights), logits.shape[1])
    a, b = np.zeros(shape), np.ones(shape)
    squares = logits**2
    for _ in range(_STEPS):
        p = expit(a[:, None, :] + b[:, None, :] * logits)
        error = weights[:, :, None] * (cases - p)
        h = weights[:, :, None] * p * (1.0 - p)
        slope_a = error.sum(axis=1) - _RIDGE_BIAS * a
        slope_b = np.einsum("fnk,nk->fk", error, logits) - _RIDGE_SLOPE * (b - 1.0)
        haa = h.sum(axis=1) + _RIDGE_BIAS
        hab = np.einsum("fnk,nk->fk", h, logits)
        hbb = np.einsum("fnk,nk->fk", h, squares) + _RIDGE_SLOPE
        determinant = haa * hbb - hab**2
        step_a, step_b = (hbb * slope_a - hab * slope_b) / determinant, (haa * slope_b - hab * slope_a) / determinant
        # A step of more than 2 leaves the region in which the loss is nearly quadratic.
        size = np.maximum(np.maximum(np.abs(step_a), np.abs(step_b)), 1e-12)
        if size.max() < 1e-8:
            break
        scale = np.minimum(1.0, 2.0 / size)
        a, b = a + scale * step_a, np.maximum(b + scale * step_b, _LEAST_SLOPE)
    return a, b
