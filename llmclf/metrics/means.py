"""Intervals for means and for shares of rows."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import beta, norm

from ..arrays import Floats
from ..checks import check_open_share, is_whole_number
from ..errors import InputError
from .checks import row_weights

_MOST_CELLS = 1000
_FEWEST_ROWS = 10


class MeanInterval(NamedTuple):
    """A mean over rows and an interval for the mean of all rows like these.

    Attributes
    ----------
    mean : float
    low, high : float
        NaN where there are too few rows to tell.
    """

    mean: float
    low: float
    high: float


def mean_interval(
    values: ArrayLike,
    *,
    confidence_level: float = 0.95,
    n_resamples: int = 1000,
    random_state: Any = None,
    sample_weight: ArrayLike | None = None,
) -> MeanInterval:
    """An interval for the mean of a value per row, such as its log loss.

    The studentised bootstrap (Efron 1981; Hall 1988, "Theoretical comparison of bootstrap confidence intervals"): it allows for
    the skewness that few but large losses bring, where the percentile bootstrap and the t interval are too narrow.

    Parameters
    ----------
    values : array-like (n,)
        Finite. More than 1,000 different ones are drawn in cells of equally many neighbours; their sums and squares are exact.
    confidence_level : float in (0, 1)
    n_resamples : int
    random_state : None, int or numpy Generator
    sample_weight : array-like (n,), optional
        Numbers of rows.

    Returns
    -------
    MeanInterval
        ``(mean, low, high)``; the ends are NaN for fewer than ten rows, and where a single row decides.

    Raises
    ------
    InputError
        Any argument cannot be used.

    Examples
    --------
    >>> losses = np.random.default_rng(0).exponential(size=200)
    >>> mean, low, high = mean_interval(losses, random_state=0)
    >>> low < 1.0 < high, round(high - mean, 2) > round(mean - low, 2)
    (True, True)
    """
    check_confidence_level(confidence_level)
    check_n_resamples(n_resamples)
    own = np.asarray(values, dtype=np.float64)
    if own.ndim != 1 or not own.size or not np.isfinite(own).all():
        raise InputError(f"values of shape {own.shape} cannot be averaged; expected one finite number per row")
    weights = row_weights(sample_weight, own.size)
    means, squares, mass = _cells(own[weights > 0], weights[weights > 0])
    shares = mass / mass.sum()
    mean = float(shares @ means)
    size = round(float(mass.sum()))
    # About their mean, so that no digit is lost to the square of a large one.
    centred, spread = means - mean, squares - 2.0 * mean * means + mean**2
    error = math.sqrt(max(0.0, float(shares @ spread)) / max(1, size - 1))
    if size < _FEWEST_ROWS:
        return MeanInterval(mean, math.nan, math.nan)
    if error <= 1e-12 * max(1.0, abs(mean)):
        return MeanInterval(mean, mean, mean)
    generator = np.random.default_rng(random_state)
    studentised = np.empty(n_resamples)
    for number in range(n_resamples):
        # Every row of weight w stands for w rows: they are drawn with that probability, as many as there are.
        drawn = generator.multinomial(size, shares) / size
        shift = float(drawn @ centred)
        own_error = math.sqrt(max(0.0, float(drawn @ spread) - shift**2) / (size - 1))
        studentised[number] = shift / own_error if own_error > 1e-9 * error else math.copysign(math.inf, shift)
    tail = (1.0 - confidence_level) / 2.0
    # Not interpolated: between an infinite value and its neighbour there is no number.
    left, right = np.quantile(studentised, [tail, 1.0 - tail], method="closest_observation")
    low, high = mean - right * error, mean - left * error
    return (
        MeanInterval(mean, float(low), float(high))
        if math.isfinite(high - low)
        else MeanInterval(mean, math.nan, math.nan)
    )


def proportion_interval(hits: ArrayLike, counts: ArrayLike, *, confidence_level: float = 0.95) -> tuple[Floats, Floats]:
    """Exact intervals for shares of rows (Clopper & Pearson 1934): they cover at least as often as they say.

    Parameters
    ----------
    hits, counts : array-like of int (...)
        Rows that count, of how many; 0 of 0 gives (0, 1).
    confidence_level : float in (0, 1)

    Returns
    -------
    low, high : ndarray (...)

    Examples
    --------
    >>> low, high = proportion_interval(9, 10)
    >>> round(float(low), 3), round(float(high), 3)
    (0.555, 0.997)
    """
    check_confidence_level(confidence_level)
    return exact_bounds(np.asarray(hits), np.asarray(counts), (1.0 - confidence_level) / 2.0)


def exact_bounds(hits: NDArray[Any], counts: NDArray[Any], tail: float) -> tuple[Floats, Floats]:
    """Clopper and Pearson's two bounds on a share, each missed with probability `tail` at most."""
    with np.errstate(invalid="ignore"):
        lower = np.where(hits > 0, beta.ppf(tail, hits, counts - hits + 1), 0.0)
        upper = np.where(hits < counts, beta.ppf(1.0 - tail, hits + 1, counts - hits), 1.0)
    return lower, upper


def change_of_share(gained: float, lost: float, size: float, confidence_level: float) -> tuple[float, float]:
    """An interval for (gained - lost) / size of paired rows (Bonett & Price 2012, "Adjusted Wald confidence interval for a
    difference of binomial proportions based on paired data"); it has a width where no row changed, too."""
    up, down = (gained + 1.0) / (size + 2.0), (lost + 1.0) / (size + 2.0)
    width = float(norm.ppf((1.0 + confidence_level) / 2.0)) * math.sqrt((up + down - (up - down) ** 2) / (size + 2.0))
    return max(-1.0, up - down - width), min(1.0, up - down + width)


def check_confidence_level(level: Any) -> None:
    """Refuse a confidence level that is not a number between 0 and 1.

    Raises
    ------
    InputError
    """
    check_open_share("confidence_level", level, "0.95")


def check_n_resamples(number: Any) -> None:
    """Refuse a number of resamples that is not a positive whole number.

    Raises
    ------
    InputError
    """
    if not is_whole_number(number, 1):
        raise InputError(f"n_resamples={number!r}; expected a positive integer")


def _cells(values: Floats, weights: Floats) -> tuple[Floats, Floats, Floats]:
    """Mean value, mean square and mass of the different values, or of cells of neighbours where they are many."""
    distinct, members = np.unique(values, return_inverse=True)
    mass: Floats = np.bincount(members, weights).astype(np.float64)
    if distinct.size <= _MOST_CELLS:
        return distinct, distinct**2, mass
    cell = np.minimum(np.arange(distinct.size) * _MOST_CELLS // distinct.size, _MOST_CELLS - 1)
    total: Floats = np.bincount(cell, mass).astype(np.float64)
    return np.bincount(cell, mass * distinct) / total, np.bincount(cell, mass * distinct**2) / total, total
