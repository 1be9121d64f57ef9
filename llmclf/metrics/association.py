"""Whether probabilities and labels have anything to do with each other, exactly at any number of rows."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from ..arrays import Floats

_DRAWS = 1999
_MAX_DRAWN = 400  # rows up to which permutations are drawn; beyond, their normal law is used


class Association(NamedTuple):
    """How surprising the agreement of probabilities and labels is, if they had nothing to do with each other.

    Attributes
    ----------
    agree : float
        The p-value of so much agreement or more.
    contradict : float
        The p-value of so little agreement or less.
    """

    agree: float
    contradict: float


def label_association(proba: Floats, columns: NDArray[np.intp], seed: int = 0) -> Association:
    """A permutation test of probabilities against labels.

    Two statistics are looked at, and the smaller p-value counts twice: the sum of the probabilities of the true classes, and the
    number of rows whose most probable class is the true one. Both are bounded in every row, so that one confident mistake cannot
    hide what all the other rows show. The labels are exchanged among the rows; for many rows, mean and variance under all
    exchanges are exact (Hoeffding 1951, "A combinatorial central limit theorem") and the law is taken as normal.

    Parameters
    ----------
    proba : (n, K)
    columns : (n,)
        The column of each row's true class.
    seed : int

    Examples
    --------
    >>> columns = np.array([0, 1] * 20)
    >>> good = np.where(np.arange(2) == columns[:, None], 0.8, 0.2)
    >>> label_association(good, columns).agree < 0.01, label_association(good[:, ::-1], columns).contradict < 0.01
    (True, True)
    >>> label_association(np.full((40, 2), 0.5), columns).agree
    1.0
    """
    best = (np.arange(proba.shape[1]) == proba.argmax(axis=1)[:, None]).astype(np.float64)
    found = [_tails(values, columns, seed) for values in (proba, best)]
    return Association(*(min(1.0, 2.0 * min(tails)) for tails in zip(*found, strict=True)))


def _tails(values: Floats, columns: NDArray[np.intp], seed: int) -> tuple[float, float]:
    """The p-values of a sum as large, and as small, as that of each row's value for its label."""
    n_rows = len(columns)
    rows = np.arange(n_rows)
    observed = values[rows, columns].sum()
    shares = np.bincount(columns, minlength=values.shape[1]) / n_rows
    left = values - values.mean(axis=0) - (values @ shares)[:, None] + (values.mean(axis=0) @ shares)
    variance = ((left**2) @ (shares * n_rows)).sum() / max(1, n_rows - 1)
    if variance < 1e-18:
        return 1.0, 1.0
    if n_rows > _MAX_DRAWN:
        z = (observed - (values @ shares).sum()) / np.sqrt(variance)
        return float(ndtr(-z)), float(ndtr(z))
    drawn = np.random.default_rng(seed).permuted(np.tile(columns, (_DRAWS, 1)), axis=1)
    sums = values[rows, drawn].sum(axis=1)
    at_least, at_most = (sums >= observed - 1e-9).sum(), (sums <= observed + 1e-9).sum()
    return float(1 + at_least) / (_DRAWS + 1), float(1 + at_most) / (_DRAWS + 1)


def recalibration_test(proba: Floats, columns: NDArray[np.intp], seed: int = 0) -> float:
    """The p-value of what a bias and a temperature could mend, if the probabilities are calibrated.

    It is the score test of the two at their neutral values (Rao 1948). On few rows its law is simulated with labels drawn from
    the probabilities themselves; on many it is chi-squared.

    Parameters
    ----------
    proba : (n, K)
    columns : (n,)
        The column of each row's true class.
    seed : int

    Examples
    --------
    >>> columns = np.array([0, 1] * 50)
    >>> recalibration_test(np.where(np.arange(2) == columns[:, None], 0.6, 0.4), columns) < 0.01
    True
    """
    from scipy.stats import chi2

    n_rows, n_classes = proba.shape
    logs = np.log(np.maximum(proba, 1e-12))
    centred = logs - (proba * logs).sum(axis=1, keepdims=True)
    # The derivatives of the log-likelihood of a row by its label: by the biases of all classes but one, and by the temperature.
    by_bias = proba[:, :-1]
    information = np.empty((n_classes, n_classes))
    information[:-1, :-1] = np.diag(by_bias.sum(axis=0)) - by_bias.T @ by_bias
    information[-1, :-1] = information[:-1, -1] = (by_bias * centred[:, :-1]).sum(axis=0)
    information[-1, -1] = (proba * centred**2).sum()
    inverse = np.linalg.pinv(information, rcond=1e-9)

    def statistic(labels: NDArray[np.intp]) -> Floats:
        counts = np.stack([(labels == k).sum(axis=-1) for k in range(n_classes - 1)], axis=-1) - by_bias.sum(axis=0)
        slope = centred[np.arange(n_rows), labels].sum(axis=-1)
        scores = np.concatenate([counts, slope[..., None]], axis=-1)
        values: Floats = np.einsum("...i,ij,...j->...", scores, inverse, scores)
        return values

    observed = float(statistic(columns))
    if n_rows > _MAX_DRAWN:
        return float(chi2.sf(observed, np.linalg.matrix_rank(information, tol=1e-9)))
    cumulated = proba.cumsum(axis=1)
    uniform = np.random.default_rng(seed).random((_DRAWS, n_rows, 1))
    drawn = np.minimum((uniform > cumulated).sum(axis=-1), n_classes - 1)
    return float(1 + (statistic(drawn) >= observed - 1e-9).sum()) / (_DRAWS + 1)
