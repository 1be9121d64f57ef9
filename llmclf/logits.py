"""Arithmetic on logits and log-probabilities, in numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray


def logsumexp(logits: ArrayLike, axis: int = -1, keepdims: bool = False) -> NDArray[Any]:
    """Logarithm of the sum of exponentials along one axis; a row of only ``-inf`` gives ``-inf``.

    Examples
    --------
    >>> float(logsumexp([-1000.0, -1000.0]).round(3))
    -999.307
    """
    x = np.asarray(logits, dtype=np.float64)
    top = x.max(axis=axis, keepdims=True)
    shift = np.where(np.isfinite(top), top, 0.0)
    with np.errstate(divide="ignore"):
        out = np.log(np.exp(x - shift).sum(axis=axis, keepdims=True)) + shift
    result: NDArray[Any] = out if keepdims else np.squeeze(out, axis=axis)
    return result


def log_softmax(logits: ArrayLike, axis: int = -1) -> NDArray[Any]:
    """Log-probabilities of the softmax distribution over one axis, in float64.

    Parameters
    ----------
    logits : array-like (..., vocabulary)
        Any real numbers; a constant added along `axis` changes nothing.
    axis : int
        The axis that is one distribution.

    Returns
    -------
    ndarray of the same shape, in nats, at most 0.

    Examples
    --------
    >>> log_softmax([0.0, 0.0]).round(4).tolist()
    [-0.6931, -0.6931]
    """
    x = np.asarray(logits, dtype=np.float64)
    result: NDArray[Any] = x - logsumexp(x, axis=axis, keepdims=True)
    return result


def softmax(logits: ArrayLike, axis: int = -1) -> NDArray[Any]:
    """Probabilities of the softmax distribution over one axis, in float64.

    Examples
    --------
    >>> softmax([0.0, 0.0]).tolist()
    [0.5, 0.5]
    """
    result: NDArray[Any] = np.exp(log_softmax(logits, axis=axis))
    return result


FLOOR = 16.0
"""Nats below the best score of its row at which a score of ``-inf`` is taken to lie, unless another score is lower still."""


def floor_missing(scores: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """Log-scores with every ``-inf`` replaced by a low finite number, and the rows where that happened.

    An API that shows only the likeliest tokens may not see a label at all. Such a score becomes that of its row's lowest
    label that was seen, or 16 nats (a probability of about 1e-7) below the best one, whichever is lower. The number depends
    on nothing but the row.

    Parameters
    ----------
    scores : ndarray (n, K)
        At least one finite score in every row that holds ``-inf``; other rows stay as they are.

    Examples
    --------
    >>> floored, rows = floor_missing(np.array([[-1.0, -np.inf, -3.0], [0.0, -1.0, -2.0]]))
    >>> floored[0].tolist(), rows.tolist()
    ([-1.0, -17.0, -3.0], [0])
    """
    unseen = np.isneginf(scores)
    rows = np.flatnonzero(unseen.any(axis=1) & (scores > -np.inf).any(axis=1))
    if not rows.size:
        return scores, rows
    floored = scores.copy()
    own, lost = scores[rows], unseen[rows]
    lowest = np.where(lost, np.inf, own).min(axis=1)
    level = np.minimum(lowest, own.max(axis=1) - FLOOR)
    floored[rows] = np.where(lost, level[:, None], own)
    return floored, rows
