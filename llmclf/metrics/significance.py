"""Tests of calibration: could a calibrated model have given these probabilities, and how large would its error be?"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr

from ..arrays import Floats, Integers
from ..checks import random_generator
from ..errors import InputError
from .bins import bin_numbers, binned_calibration
from .checks import checked_event, either_weights
from .corp import recalibrated
from .grouped import kept_groups
from .means import check_n_resamples


@dataclass(frozen=True)
class CalibrationTest:
    """A calibration error, compared with those of calibrated models.

    Attributes
    ----------
    error : float
        The statistic of the probabilities; the expected calibration error unless another one was requested.
    p_value : float in (0, 1]
        How often a calibrated model with the same probabilities has an error at least as large.
    null_mean : float
        The mean statistic of such a model on these rows: the value to expect under perfect calibration.
    """

    error: float
    p_value: float
    null_mean: float


def calibration_test(
    y: ArrayLike,
    proba: ArrayLike,
    *,
    statistic: str = "ece",
    n_bins: int = 15,
    strategy: str = "uniform",
    closed: str = "right",
    norm: str = "l1",
    n_resamples: int = 999,
    random_state: Any = None,
    pos_label: Any = None,
    classes: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    inclusion: ArrayLike | None = None,
    groups: ArrayLike | None = None,
) -> CalibrationTest:
    """Test whether the probabilities are calibrated, by drawing true classes from the probabilities themselves.

    Exact for any number of rows: under calibration, the observed error is exchangeable with the drawn ones (Bröcker & Smith
    2007, "Increasing the reliability of reliability diagrams", consistency resampling; Vaicenavicius et al. 2019).

    Parameters
    ----------
    y, proba, n_bins, strategy, closed, norm, pos_label, classes, sample_weight, inclusion
        As in `expected_calibration_error`.
    statistic : {"ece", "mcb", "ks", "kuiper"}
        The statistic to compare. "ece" is the binned error, "mcb" the miscalibration of `corp_decomposition` (Brier). "ks" and
        "kuiper" take the cumulative sum of (event - probability) over the rows in the order of their probability, in units of
        its standard deviation at the end: "ks" (Kolmogorov-Smirnov) its largest absolute value, "kuiper" its range
        (Arrieta-Ibarra et al. 2022, "Metrics of calibration for probabilistic predictions"). The last three do not use bins.
    n_resamples : int
        Number of draws, at least 1; the smallest p-value is 1 / (n_resamples + 1).
    random_state : None, int or numpy Generator
    groups : array-like (n,), optional
        What each row belongs to, such as its text or its author. True classes are then drawn with one random number a group: as
        if its rows were right and wrong together.

    Returns
    -------
    CalibrationTest

    Raises
    ------
    InputError
        Any argument cannot be used.

    Examples
    --------
    >>> y, proba = [0, 1] * 50, [[0.9, 0.1], [0.1, 0.9]] * 50
    >>> result = calibration_test(y, proba, random_state=0)
    >>> round(result.error, 3), result.p_value < 0.01, round(result.null_mean, 2)
    (0.1, True, 0.02)
    """
    sample_weight = either_weights(sample_weight, inclusion, y)
    p, event, weights = checked_event(y, proba, classes, sample_weight, pos_label)
    check_n_resamples(n_resamples)
    if statistic == "ece":
        errors = binned_errors(p, weights, n_bins, strategy, closed, norm)
    elif statistic in _WITHOUT_BINS:
        errors = _WITHOUT_BINS[statistic](p, weights)
    else:
        raise InputError(f"statistic={statistic!r} is unknown; expected 'ece', {', '.join(map(repr, _WITHOUT_BINS))}")
    generator = random_generator(random_state)
    if statistic == "ece":
        # Exactly the number that the metric gives; sums over many draws at once may differ in the last digit.
        curve = binned_calibration(p, event, n_bins=n_bins, strategy=strategy, closed=closed, sample_weight=weights)
        observed = float(curve.error(norm))
    else:
        observed = float(errors(event[None])[0])
    members = kept_groups(groups, np.shape(y)[0], sample_weight)
    return compared(observed, drawn_errors(errors, p, n_resamples, generator, members))


def drawn_errors(
    errors: Any, p: Floats, n_resamples: int, generator: np.random.Generator, groups: Integers | None = None
) -> Floats:
    """The errors of calibrated models: `errors` of outcomes that are drawn from `p` (n,), with one number per group (n,)."""
    return np.concatenate(
        [errors(_numbers(generator, size, p.size, groups) < p) for size in _portions(n_resamples, p.size)]
    )


def compared(observed: float, drawn: Floats) -> CalibrationTest:
    """The test of an observed error against those of calibrated models."""
    # Equal up to rounding counts as equal.
    p_value = (1 + np.count_nonzero(drawn >= observed - 1e-12)) / (drawn.size + 1)
    return CalibrationTest(error=observed, p_value=float(p_value), null_mean=float(drawn.mean()))


def spiegelhalter_test(
    y: ArrayLike,
    proba: ArrayLike,
    *,
    pos_label: Any = None,
    classes: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    inclusion: ArrayLike | None = None,
) -> tuple[float, float]:
    r"""Spiegelhalter's z: does the Brier score agree with that of calibrated probabilities?

    :math:`z = \sum w (a - p)(1 - 2p) / \sqrt{\sum w (1 - 2p)^2 p (1 - p)}` (Spiegelhalter 1986, "Probabilistic prediction in
    patient management and clinical trials"); a weight of 2 counts the row twice. With `inclusion`, where a row is one row
    whatever it counts, the variance has :math:`w^2` in place of w.

    Parameters
    ----------
    y, proba, pos_label, classes, sample_weight, inclusion
        As in `expected_calibration_error`.

    Returns
    -------
    z, p_value : float
        z is standard normal under calibration; the p-value is two-sided. NaN if every probability is 0, 1/2 or 1.

    Raises
    ------
    InputError
        Any argument cannot be used.

    Examples
    --------
    >>> z, p_value = spiegelhalter_test([0, 1, 0, 1] * 10, [0.2, 0.8, 0.4, 0.6] * 10, pos_label=1)
    >>> round(z, 4), round(p_value, 4)
    (-3.4503, 0.0006)
    """
    sample_weight = either_weights(sample_weight, inclusion, y)
    p, event, weights = checked_event(y, proba, classes, sample_weight, pos_label)
    # Weights of rows drawn unevenly are no repetitions: each row varies once, by its weight.
    spread = weights if inclusion is None else weights**2
    variance = float(spread @ ((1 - 2 * p) ** 2 * p * (1 - p)))
    if variance <= 0.0:
        return math.nan, math.nan
    z = float(weights @ ((event - p) * (1 - 2 * p))) / math.sqrt(variance)
    return z, float(2.0 * ndtr(-abs(z)))


def binned_errors(p: Floats, weights: Floats, n_bins: int, strategy: str, closed: str, norm: str) -> Any:
    """A function from outcomes (R, n) of the same rows, booleans or 0 and 1, to their R binned calibration errors."""
    if norm not in ("l1", "l2", "max"):
        raise InputError(f"norm={norm!r} is unknown; expected 'l1', 'l2' or 'max'")
    members, _, _ = bin_numbers(p, weights, n_bins, strategy, closed)
    order = np.argsort(members, kind="stable")
    starts = np.flatnonzero(np.diff(members[order], prepend=-1))
    mass = np.bincount(members, weights)
    expected = np.bincount(members, weights * p)
    total = mass.sum()
    counted = bool((weights == 1.0).all())
    ordered_weights = weights[order]

    def errors(events: NDArray[Any]) -> Floats:
        if counted:
            # Counts of small whole numbers, which is several times as fast.
            happened = np.add.reduceat(events.astype(np.int8)[:, order], starts, axis=1, dtype=np.int32)
        else:
            happened = np.add.reduceat(events[:, order] * ordered_weights, starts, axis=1)
        gaps = np.abs(happened - expected)
        if norm == "max":
            worst: Floats = (gaps / mass).max(axis=1)
            return worst
        mean: Floats = gaps.sum(axis=1) / total if norm == "l1" else np.sqrt((gaps**2 / mass).sum(axis=1) / total)
        return mean

    return errors


def _miscalibrations(p: Floats, weights: Floats) -> Any:
    shares = weights / weights.sum()

    def errors(events: NDArray[Any]) -> Floats:
        events = events.astype(np.float64)
        gains = [(p - event) ** 2 - (recalibrated(p, event, weights) - event) ** 2 for event in events]
        means: Floats = np.array(gains) @ shares
        return means

    return errors


def _excursions(p: Floats, weights: Floats, use_range: bool) -> Any:
    order = np.argsort(p, kind="stable")
    # The order among rows of equal probability is arbitrary, so the sum counts only after the last of them.
    ends = np.flatnonzero(np.append(np.diff(p[order]) > 0, True))
    spread = math.sqrt(float(weights @ (p * (1.0 - p))))

    def errors(events: NDArray[Any]) -> Floats:
        sums = np.cumsum((events - p)[:, order] * weights[order], axis=1)[:, ends]
        top, bottom = sums.max(axis=1).clip(min=0.0), sums.min(axis=1).clip(max=0.0)
        sizes: Floats = top - bottom if use_range else np.maximum(top, -bottom)
        return sizes / spread if spread > 0.0 else sizes

    return errors


_WITHOUT_BINS: dict[str, Callable[[Floats, Floats], Any]] = {
    "mcb": _miscalibrations,
    "ks": partial(_excursions, use_range=False),
    "kuiper": partial(_excursions, use_range=True),
}


def _numbers(generator: np.random.Generator, n_draws: int, n_rows: int, groups: Integers | None) -> Floats:
    """Random numbers (n_draws, n_rows), the same ones for the rows of a group."""
    if groups is None:
        return generator.random((n_draws, n_rows))
    numbers: Floats = generator.random((n_draws, int(groups.max()) + 1))[:, groups]
    return numbers


def _portions(n_resamples: int, n_rows: int) -> list[int]:
    """How many draws to make at a time, so that their random numbers stay in the processor's cache."""
    size = max(1, 250_000 // n_rows)
    return [min(size, n_resamples - done) for done in range(0, n_resamples, size)]
