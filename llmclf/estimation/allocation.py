"""How many rows of each stratum are labelled: whole numbers near what is ideal, within what is possible."""

from __future__ import annotations

import numpy as np

from ..arrays import Floats, Integers


def allocate(shares: Floats, most: Integers, budget: int, least: int = 1) -> Integers:
    """Whole numbers that sum to `budget`, as near to shares of it as limits allow.

    What a full stratum cannot take goes to the others, in proportion to their shares. Fractions are rounded to the largest
    remainders (Hamilton's method), so that the numbers are fixed and the inclusion probabilities exact.

    Parameters
    ----------
    shares : ndarray (H,)
        Positive.
    most : ndarray of int (H,)
        At least 1 each, and at least `budget` together.
    budget : int
        At least H.
    least : int
        What each stratum gets if it can, and if the budget is large enough for all.

    Returns
    -------
    ndarray of int (H,)
        From 1 to `most`.

    Examples
    --------
    >>> allocate(np.array([0.8, 0.1, 0.1]), np.array([30, 100, 100]), 60, least=2)
    array([30, 15, 15])
    """
    floor = np.minimum(least, most)
    if floor.sum() > budget:
        floor = np.ones_like(most)
    ideal = floor.astype(np.float64)
    open_ = np.ones(len(shares), dtype=bool)
    # Strata at a limit are closed one kind at a time, as in water filling.
    for _ in range(2 * len(shares) + 1):
        left = budget - ideal[~open_].sum()
        ideal[open_] = shares[open_] * (left / shares[open_].sum()) if open_.any() else 0.0
        low, high = open_ & (ideal < floor), open_ & (ideal > most)
        if not low.any() and not high.any():
            break
        missing, surplus = (floor - ideal)[low].sum(), (ideal - most)[high].sum()
        closed = low if missing >= surplus else high
        ideal[closed] = (floor if missing >= surplus else most)[closed]
        open_ &= ~closed
    sizes = np.clip(np.floor(ideal + 1e-9).astype(np.int64), floor, most)
    order = np.argsort(-(ideal - sizes), kind="stable")
    while (gap := budget - int(sizes.sum())) != 0:
        step = 1 if gap > 0 else -1
        able = order[(sizes < most)[order]] if gap > 0 else order[::-1][(sizes > 1)[order[::-1]]]
        sizes[able[: abs(gap)]] += step
    return sizes
