"""Scores that an interface did not show, given a low finite value."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

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
