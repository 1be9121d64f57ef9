"""Confidence intervals for means and for proportions of rows."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import beta

from ..arrays import Floats, Integers
from ..checks import check_open_share, is_whole_number, random_generator
from ..errors import InputError
from ..tables.array_arguments import as_numbers
from .checks import either_weights, row_weights
from .grouped import group_values, kept_groups, row_worth

_MAX_CELLS = 1000
MIN_ROWS = 10  # fewer rows do not show how much a value without bounds varies


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
    bounds: tuple[float, float] | None = None,
    confidence_level: float = 0.95,
    n_resamples: int = 1000,
    random_state: Any = None,
    sample_weight: ArrayLike | None = None,
    groups: ArrayLike | None = None,
    inclusion: ArrayLike | None = None,
) -> MeanInterval:
    """A confidence interval for the mean of a value per row, such as its log loss.

    Rows do not show how much the rare rows cost that are not among them: thirty losses of 0 do not prove a mean loss of 0. Only
    bounds that no value can exceed limit it. With `bounds`, the rows are weighted at random (Dirichlet weights), together with
    one more row that has the greatest possible value, for the upper end, or the least, for the lower (Learned-Miller & Thomas
    2019, "A new confidence interval for the mean of a bounded random variable"). For shares it is the exact interval of Clopper
    and Pearson; no bounded distribution is known for which it covers too seldom, and its width is never zero.

    Without `bounds`, it is the studentised bootstrap (Efron 1981; Hall 1988, "Theoretical comparison of bootstrap confidence
    intervals"), which allows for the skewness due to a few large values. Positive values are taken to be log losses: a loss of x
    says that something else would have cost -log(1 - exp(-x)), and the interval extends to that for the greatest of these as
    bound. For other values, give `bounds`: without them, no interval can cover whatever the distribution (Bahadur & Savage 1956,
    "The nonexistence of certain statistical procedures in nonparametric problems").

    Parameters
    ----------
    values : array-like (n,)
        Finite. More than 1,000 different values are grouped into 1,000 cells of equally many neighbouring values, which are
        then resampled; the sums of values and of squares stay exact.
    bounds : (float, float), optional
        The least and the greatest value that any row can have. If one of them is infinite, there is no interval.
    confidence_level : float in (0, 1)
    n_resamples : int
    random_state : None, int or numpy Generator
    sample_weight : array-like (n,), optional
        Frequency weights: a weight of 2 counts the row twice.
    groups : array-like (n,), optional
        What each row belongs to, such as its text or its author: the groups are independent, their rows need not be. With
        `bounds`, the rows then weigh as much as ``n**2 / sum(size**2)`` independent ones, for groups of these sizes; without,
        groups are resampled in place of rows.
    inclusion : array-like (n,), optional
        With what probability each row was drawn, where not all had the same: each counts ``1 / inclusion``, as one row. With
        `bounds` the rows then weigh as much as as many rows drawn evenly whose mean would vary as much, but never more than
        ``(sum w)**2 / sum(w**2)``; without, what each row adds to the weighted mean is resampled. Not with `sample_weight`.

    Returns
    -------
    MeanInterval
        ``(mean, low, high)``; the ends are NaN if no interval can be given: an infinite bound; or without bounds fewer than ten
        rows, or groups that are worth fewer; or, if they are not all positive, values that are all equal or a single row that
        determines the result.

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
    >>> mean, low, high = mean_interval([0.0] * 30, bounds=(0.0, 2.0), random_state=0)
    >>> low, round(high, 2)  # 2 * (1 - 0.025 ** (1 / 30))
    (0.0, 0.23)
    """
    check_confidence_level(confidence_level)
    check_n_resamples(n_resamples)
    x = as_numbers(values, "values")
    if x.ndim != 1 or not x.size or not np.isfinite(x).all():
        raise InputError(f"values of shape {x.shape} cannot be averaged; expected one finite number per row")
    weights = row_weights(either_weights(sample_weight, inclusion, x), x.size)
    members = kept_groups(groups, x.size, sample_weight)
    x, weights = x[weights > 0], weights[weights > 0]
    generator = random_generator(random_state)
    tail = (1.0 - confidence_level) / 2.0
    if inclusion is not None and members is None and (weights != 1.0).any():
        members = np.arange(x.size)
    if bounds is not None:
        low, high = _checked_bounds(bounds, x)
        if inclusion is not None:
            weights = weights * _design_worth(x, weights)
        return _bounded(x, weights, members, low, high, tail, n_resamples, generator)
    number = float(weights.sum()) * row_worth(members, weights)
    if members is None:
        found = _studentised(x, weights, tail, n_resamples, generator)
    elif number < MIN_ROWS - 1e-9:
        return MeanInterval(float(np.average(x, weights=weights)), math.nan, math.nan)
    else:
        values = group_values(x, weights, members)
        found = _studentised(values, np.ones(values.size), tail, n_resamples, generator)
    if round(number) < MIN_ROWS or x.min() <= 0.0:
        return found
    worst = max(float(x.max()), -math.log(-math.expm1(-float(x.min()))))
    wide = _bounded(x, weights, members, 0.0, worst, tail, n_resamples, generator)
    return MeanInterval(found.mean, float(np.fmin(found.low, wide.low)), float(np.fmax(found.high, wide.high)))


def _design_worth(x: Floats, weights: Floats) -> float:
    """How many rows drawn evenly a unit of weight is worth, at most 1, by the variance of the weighted mean (n,)."""
    centred = x - np.average(x, weights=weights)
    total = float(weights.sum())
    varies = float((weights * centred) @ (weights * centred)) / total**2
    evenly = float(weights @ centred**2) / total**2
    return min(1.0, evenly / varies) if varies > 0.0 else 1.0


def _bounded(
    x: Floats,
    weights: Floats,
    groups: Integers | None,
    low: float,
    high: float,
    tail: float,
    n_resamples: int,
    generator: np.random.Generator,
) -> MeanInterval:
    mean = float(np.average(x, weights=weights))
    if math.isinf(high - low):
        return MeanInterval(mean, math.nan, math.nan)
    means, _, mass = _cells(x, weights)
    if groups is not None:
        # Together, the rows weigh as much as the groups are worth. Rounded, so that copies of a text weigh what it weighs alone.
        mass = (mass * row_worth(groups, weights)).round(12)
    drawn = generator.standard_gamma(mass, size=(n_resamples, mass.size))
    # Averages around the mean, so that equal values give exactly equal averages.
    averages = mean + drawn @ (means - mean) / drawn.sum(axis=1)
    # The weight of the row that was not seen is independent of them. It is drawn once in each of equally probable ranges.
    ranks = (generator.permutation(n_resamples) + 0.5) / n_resamples
    unseen = -np.expm1(np.log1p(-ranks) / mass.sum())
    lower = np.quantile(averages + unseen * (low - averages), tail)
    upper = np.quantile(averages + unseen * (high - averages), 1.0 - tail)
    return MeanInterval(mean, min(mean, max(low, float(lower))), max(mean, min(high, float(upper))))


def _studentised(
    x: Floats, weights: Floats, tail: float, n_resamples: int, generator: np.random.Generator
) -> MeanInterval:
    means, squares, mass = _cells(x, weights)
    shares = mass / mass.sum()
    mean = float(shares @ means)
    size = round(float(mass.sum()))
    # Around their mean, so that the square of a large mean does not cost digits.
    centred, spread = means - mean, squares - 2.0 * mean * means + mean**2
    error = math.sqrt(max(0.0, float(shares @ spread)) / max(1, size - 1))
    if size < MIN_ROWS or error <= 1e-12 * max(1.0, abs(mean)):
        return MeanInterval(mean, math.nan, math.nan)
    studentised = np.empty(n_resamples)
    for number in range(n_resamples):
        # A row of weight w stands for w rows: it is drawn with a probability proportional to w.
        drawn_shares = generator.multinomial(size, shares) / size
        shift = float(drawn_shares @ centred)
        drawn_error = math.sqrt(max(0.0, float(drawn_shares @ spread) - shift**2) / (size - 1))
        studentised[number] = shift / drawn_error if drawn_error > 1e-9 * error else math.copysign(math.inf, shift)
    # Without interpolation, which is undefined next to an infinite value.
    left, right = np.quantile(studentised, [tail, 1.0 - tail], method="closest_observation")
    low, high = mean - right * error, mean - left * error
    return (
        MeanInterval(mean, float(low), float(high))
        if math.isfinite(high - low)
        else MeanInterval(mean, math.nan, math.nan)
    )


def _checked_bounds(bounds: Any, x: Floats) -> tuple[float, float]:
    try:
        low, high = (float(bound) for bound in bounds)
    except (TypeError, ValueError):
        raise InputError(
            f"bounds={bounds!r}; expected the least and the greatest possible value, such as (0, 1)"
        ) from None
    if not low < high:
        raise InputError(f"bounds={bounds!r}; expected the first to be below the second")
    slack = 1e-9 * max(1.0, abs(float(x.min())), abs(float(x.max())))
    if x.min() < low - slack or x.max() > high + slack:
        raise InputError(f"the values reach from {x.min():.6g} to {x.max():.6g}, beyond bounds={bounds!r}")
    return low, high


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

    Raises
    ------
    InputError
        There are more hits than rows, or fewer than 0.

    Examples
    --------
    >>> low, high = proportion_interval(9, 10)
    >>> round(float(low), 3), round(float(high), 3)
    (0.555, 0.997)
    """
    check_confidence_level(confidence_level)
    x, n = as_numbers(hits, "hits"), as_numbers(counts, "counts")
    try:
        x, n = np.broadcast_arrays(x, n)
    except ValueError:
        raise InputError(
            f"hits has shape {x.shape} and counts {n.shape}; expected one count of rows for each"
        ) from None
    is_bad = ~((x >= 0) & (x <= n) & np.isfinite(n))
    if is_bad.any():
        hit, count = float(x[is_bad].flat[0]), float(n[is_bad].flat[0])
        raise InputError(f"{hit:g} of {count:g} rows; expected hits of at least 0, and at most as many as counts")
    return exact_bounds(x, n, (1.0 - confidence_level) / 2.0)


def exact_bounds(hits: NDArray[Any], counts: NDArray[Any], tail: float) -> tuple[Floats, Floats]:
    """Clopper and Pearson's two bounds on a proportion, each wrong with probability at most `tail`."""
    with np.errstate(invalid="ignore"):
        lower = np.where(hits > 0, beta.ppf(tail, hits, counts - hits + 1), 0.0)
        upper = np.where(hits < counts, beta.ppf(1.0 - tail, hits + 1, counts - hits), 1.0)
    return lower, upper


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
