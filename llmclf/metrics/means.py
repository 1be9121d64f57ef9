"""Confidence intervals for means and for proportions of rows."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import beta, norm

from ..arrays import Floats
from ..checks import check_open_share, is_whole_number
from ..errors import InputError
from ..numerics.groups import effective_number, group_numbers
from .checks import row_weights
from .grouped import group_values

_MAX_CELLS = 1000
_MIN_ROWS = 10


class MeanInterval(NamedTuple):
    """A mean over rows, and a confidence interval for the population mean.

    Attributes
    ----------
    mean : float
    low, high : float
        NaN if there are too few rows.
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
    groups: ArrayLike | None = None,
) -> MeanInterval:
    """A confidence interval for the mean of a value per row, such as its log loss.

    It is the studentised bootstrap (Efron 1981; Hall 1988, "Theoretical comparison of bootstrap confidence intervals"), which
    allows for the skewness due to a few large losses; the percentile bootstrap and the t interval would be too narrow.

    Parameters
    ----------
    values : array-like (n,)
        Finite. More than 1,000 different values are grouped into 1,000 cells of equally many neighbouring values, which are
        then resampled; the sums of values and of squares stay exact.
    confidence_level : float in (0, 1)
    n_resamples : int
    random_state : None, int or numpy Generator
    sample_weight : array-like (n,), optional
        Frequency weights: a weight of 2 counts the row twice.
    groups : array-like (n,), optional
        What each row belongs to, such as its text or its author: the groups are independent, their rows need not be. Groups
        are then resampled in place of rows. The ends are NaN where a few large groups hold most rows: where
        ``n**2 / sum(size**2)`` is below ten, for groups of these sizes.

    Returns
    -------
    MeanInterval
        ``(mean, low, high)``; the ends are NaN for fewer than ten rows, and if a single row determines the result.

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
    x = np.asarray(values, dtype=np.float64)
    if x.ndim != 1 or not x.size or not np.isfinite(x).all():
        raise InputError(f"values of shape {x.shape} cannot be averaged; expected one finite number per row")
    weights = row_weights(sample_weight, x.size)
    if groups is not None:
        kept = weights > 0
        members = group_numbers(groups, x.size)[kept]
        if effective_number(members, members.size) < _MIN_ROWS:
            return MeanInterval(float(np.average(x, weights=weights)), math.nan, math.nan)
        x = group_values(x[kept], weights[kept], members)
        weights = np.ones(x.size)
    means, squares, mass = _cells(x[weights > 0], weights[weights > 0])
    shares = mass / mass.sum()
    mean = float(shares @ means)
    size = round(float(mass.sum()))
    # Around their mean, so that the square of a large mean does not cost digits.
    centred, spread = means - mean, squares - 2.0 * mean * means + mean**2
    error = math.sqrt(max(0.0, float(shares @ spread)) / max(1, size - 1))
    if size < _MIN_ROWS:
        return MeanInterval(mean, math.nan, math.nan)
    if error <= 1e-12 * max(1.0, abs(mean)):
        return MeanInterval(mean, mean, mean)
    generator = np.random.default_rng(random_state)
    studentised = np.empty(n_resamples)
    for number in range(n_resamples):
        # A row of weight w stands for w rows: it is drawn with a probability proportional to w.
        drawn_shares = generator.multinomial(size, shares) / size
        shift = float(drawn_shares @ centred)
        drawn_error = math.sqrt(max(0.0, float(drawn_shares @ spread) - shift**2) / (size - 1))
        studentised[number] = shift / drawn_error if drawn_error > 1e-9 * error else math.copysign(math.inf, shift)
    tail = (1.0 - confidence_level) / 2.0
    # Without interpolation, which is undefined next to an infinite value.
    left, right = np.quantile(studentised, [tail, 1.0 - tail], method="closest_observation")
    low, high = mean - right * error, mean - left * error
    return (
        MeanInterval(mean, float(low), float(high))
        if math.isfinite(high - low)
        else MeanInterval(mean, math.nan, math.nan)
    )


def proportion_interval(hits: ArrayLike, counts: ArrayLike, *, confidence_level: float = 0.95) -> tuple[Floats, Floats]:
    """Exact confidence intervals for proportions of rows, with at least nominal coverage (Clopper & Pearson 1934).

    Parameters
    ----------
    hits, counts : array-like of int (...)
        The number of rows that count, and of all rows; 0 of 0 gives (0, 1).
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
    """Clopper and Pearson's two bounds on a proportion, each wrong with probability at most `tail`."""
    with np.errstate(invalid="ignore"):
        lower = np.where(hits > 0, beta.ppf(tail, hits, counts - hits + 1), 0.0)
        upper = np.where(hits < counts, beta.ppf(1.0 - tail, hits + 1, counts - hits), 1.0)
    return lower, upper


def change_of_share(gained: float, lost: float, size: float, confidence_level: float) -> tuple[float, float]:
    """A confidence interval for (gained - lost) / size of paired rows.

    From Bonett & Price 2012, "Adjusted Wald confidence interval for a difference of binomial proportions based on paired
    data". Its width is positive even if no row changed.
    """
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
    """Mean value, mean square and mass of each distinct value, or of cells of neighbouring values if there are many."""
    distinct, members = np.unique(values, return_inverse=True)
    mass: Floats = np.bincount(members, weights).astype(np.float64)
    if distinct.size <= _MAX_CELLS:
        return distinct, distinct**2, mass
    cell = np.minimum(np.arange(distinct.size) * _MAX_CELLS // distinct.size, _MAX_CELLS - 1)
    total: Floats = np.bincount(cell, mass).astype(np.float64)
    return np.bincount(cell, mass * distinct) / total, np.bincount(cell, mass * distinct**2) / total, total
