"""Intervals for shares that rest on few cases: exact ones, for numbers of rows and of cases that need not be whole.

A share that is estimated with the variance V is worth as much as ``share * (1 - share) / V`` rows that were simply counted (Korn
& Graubard 1998, "Confidence intervals for proportions with small expected number of positive counts estimated from survey
data"), and gets the interval of such a count.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import bdtrik, betainc, betaincinv
from scipy.stats import hypergeom

from ..arrays import Floats, Integers

_HALVINGS = 16  # of the way from the end of Clopper and Pearson to the share
_ROUNDING = 1e-9


def count_interval(
    counts: ArrayLike, sizes: ArrayLike, alpha: float, *, step: ArrayLike = 1.0, smoothness: ArrayLike = 0.0
) -> tuple[Floats, Floats]:
    r"""Intervals for shares of which `counts` of `sizes` rows were seen, at the confidence level 1 - `alpha`.

    Where counts are whole, it is the exact interval of Blaker (2000, "Confidence curves and improved exact confidence intervals
    for discrete distributions"), which covers at least as often as it says, and is never wider than that of Clopper and Pearson:
    a share is kept if the probability of a count whose tail is at most as probable as that of the observed one is above `alpha`.
    An estimate that probabilities have improved is no longer a multiple of one case; its interval moves from Blaker's to the
    mid-p interval, which takes half of the probability of the observed count, as `smoothness` goes from 0 to 1.

    Parameters
    ----------
    counts, sizes : array-like (...)
        Numbers with :math:`0 \le x \le m`, which need not be whole.
    alpha : float in (0, 1)
    step : array-like (...)
        What one labelled row counts: the distance between neighbouring possible counts.
    smoothness : array-like (...)
        In [0, 1].

    Returns
    -------
    low, high : ndarray (...)

    Examples
    --------
    >>> low, high = count_interval([0, 3, 150], 300, 0.05)
    >>> low.round(4).tolist(), high.round(4).tolist()
    ([0.0, 0.0027, 0.4432], [0.0118, 0.0286, 0.5568])
    """
    x, m, s, smooth = np.broadcast_arrays(
        *(np.asarray(value, dtype=np.float64) for value in (counts, sizes, step, smoothness))
    )
    x = np.clip(x, 0.0, m)
    low = _lower_end(x, m, s, smooth, alpha)
    high = 1.0 - _lower_end(m - x, m, s, smooth, alpha)
    return low, high


def population_interval(counts: ArrayLike, n_drawn: int, population: int, alpha: float) -> tuple[Floats, Floats]:
    """Exact intervals for shares of a finite population, of which a simple random sample holds `counts` cases.

    A number of cases is kept if neither tail of its hypergeometric distribution has less than half of `alpha` (Wright 1991,
    "Exact confidence bounds when sampling from small finite universes"), as in the interval of Clopper and Pearson, which it is
    where the population is endless.

    Parameters
    ----------
    counts : array-like of int (...)
    n_drawn, population : int
    alpha : float in (0, 1)

    Returns
    -------
    low, high : ndarray (...)

    Examples
    --------
    >>> low, high = population_interval([0, 5], 300, 500, 0.05)
    >>> low.round(4).tolist(), high.round(4).tolist()
    ([0.0, 0.01], [0.008, 0.03])
    """
    x = np.asarray(counts, dtype=np.int64)
    low = _fewest_cases(x, n_drawn, population, alpha) / population
    high = 1.0 - _fewest_cases(n_drawn - x, n_drawn, population, alpha) / population
    return low, high


def _fewest_cases(x: Integers, n_drawn: int, population: int, alpha: float) -> Integers:
    """The fewest cases of a population with which at least x in the sample are not too improbable."""
    outside, inside = x - 1, population - n_drawn + x
    while (inside - outside > 1).any():
        middle = (outside + inside) // 2
        kept = hypergeom.sf(x - 1, population, np.maximum(middle, 0), n_drawn) > alpha / 2.0
        outside, inside = np.where(kept, outside, middle), np.where(kept, middle, inside)
    return inside


def _lower_end(x: Floats, m: Floats, step: Floats, smoothness: Floats, alpha: float) -> Floats:
    """The lower ends; 0 where nothing was counted. They are searched between that of Clopper and Pearson and the share."""
    positive = np.maximum(x, 1e-12)
    outside: Floats = np.where(x > 0, betaincinv(positive, m - x + 1.0, alpha / 2.0), 0.0)
    share = x / m
    ends = []
    for acceptability in (_blaker, _mid_p) if smoothness.any() else (_blaker,):
        out, inside = outside.copy(), share.copy()
        for _ in range(_HALVINGS):
            middle = (out + inside) / 2.0
            kept = acceptability(x, m, step, middle) > alpha
            inside, out = np.where(kept, middle, inside), np.where(kept, out, middle)
        ends.append(out)  # rather a little too wide: where two tails are equal, a share is kept by itself
    result: Floats = np.where(x > 0, ends[0] + smoothness * (ends[-1] - ends[0]), 0.0)
    return result


def _tails(x: Floats, m: Floats, p: Floats) -> tuple[Floats, Floats]:
    """P(X >= x) and P(X <= x) of a binomial count, continued between the whole numbers."""
    with np.errstate(invalid="ignore"):
        above = np.where(x <= 0, 1.0, betainc(np.maximum(x, 1e-300), m - x + 1.0, p))
        below = np.where(x >= m, 1.0, 1.0 - betainc(x + 1.0, np.maximum(m - x, 1e-300), p))
    return above, below


def _blaker(x: Floats, m: Floats, step: Floats, p: Floats) -> Floats:
    """The probability of the counts whose tail is at most as probable as that of x, for a share p below x / m."""
    above, below = _tails(x, m, p)
    with np.errstate(invalid="ignore"):
        reached = bdtrik(np.clip(above, 1e-15, 1.0 - 1e-15), m, p)
    reached = np.where(np.isfinite(reached), reached, -1.0)
    # The largest possible count below x whose lower tail is at most as probable as the upper tail of x.
    other = x - step * np.maximum(np.ceil((x - reached) / step - _ROUNDING), 1.0)
    tail = np.where(other >= -_ROUNDING, _tails(other, m, p)[1], 0.0)
    tail = np.where(tail <= above * (1.0 + _ROUNDING), tail, 0.0)
    result: Floats = np.where(above <= below, np.minimum(1.0, above + tail), 1.0)
    return result


def _mid_p(x: Floats, m: Floats, step: Floats, p: Floats) -> Floats:
    above, below = _tails(x, m, p)
    result: Floats = np.minimum(1.0, above + 1.0 - below)
    return result
