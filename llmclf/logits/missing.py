"""A low finite value for scores that an API did not show."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..arrays import Floats

FLOOR = 16.0
"""A score of ``-inf`` is replaced by a value this many nats below its row's best score, unless another score is even lower."""


def floor_missing(scores: Floats) -> tuple[Floats, NDArray[np.intp]]:
    """Log-scores with every ``-inf`` replaced by a low finite number, and the rows where that happened.

    An API that shows only the likeliest tokens may not show a label at all. Such a score becomes the row's lowest finite
    score, or 16 nats (a factor of about 1e-7 in probability) below the row's best score, whichever is lower. The number
    depends only on the row.

    Parameters
    ----------
    scores : ndarray (n, K)
        A row with ``-inf`` and at least one finite score is changed; all other rows stay as they are.

    Examples
    --------
    >>> floored, rows = floor_missing(np.array([[-1.0, -np.inf, -3.0], [0.0, -1.0, -2.0]]))
    >>> floored[0].tolist(), rows.tolist()
    ([-1.0, -17.0, -3.0], [0])
    """
    is_missing = np.isneginf(scores)
    rows = np.flatnonzero(is_missing.any(axis=1) & (scores > -np.inf).any(axis=1))
    if not rows.size:
        return scores, rows
    floored = scores.copy()
    row_scores, row_missing = scores[rows], is_missing[rows]
    lowest = np.where(row_missing, np.inf, row_scores).min(axis=1)
    level = np.minimum(lowest, row_scores.max(axis=1) - FLOOR)
    floored[rows] = np.where(row_missing, level[:, None], row_scores)
    return floored, rows
