"""Several distributions over the same labels as one, by weighted means of log-probabilities."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .draws import LogShares


def log_pool(parts: Sequence[LogShares], weights: Sequence[float]) -> LogShares:
    """The logarithmic opinion pool of distributions that each leave nothing out.

    Parameters
    ----------
    parts : sequence of LogShares
    weights : sequence of float
        At least 0, with the sum 1.

    Returns
    -------
    LogShares
        Normalised. The bounds follow from those of the parts: the sum that the pool is divided by is at most 1.

    Examples
    --------
    >>> one, two = (LogShares(x, x, x) for x in (np.log([0.8, 0.2]), np.log([0.5, 0.5])))
    >>> np.exp(log_pool([one, two], [0.5, 0.5]).logp).round(4).tolist()
    [0.6667, 0.3333]
    """
    if len(parts) == 1:
        return parts[0]
    used = [(part, weight) for part, weight in zip(parts, weights, strict=True) if weight > 0]
    mean, low, high = (
        np.sum([weight * side for side, (_, weight) in zip(sides, used, strict=True)], axis=0)
        for sides in zip(*((part.logp, part.lower, part.upper) for part, _ in used), strict=True)
    )
    logp = np.minimum(mean - np.logaddexp.reduce(mean), 0.0)
    largest, least = min(0.0, float(np.logaddexp.reduce(high))), float(np.logaddexp.reduce(low))
    lower, upper = low - largest, np.minimum(high - least, 0.0)
    return LogShares(logp, np.minimum(lower, logp), np.maximum(upper, logp))
