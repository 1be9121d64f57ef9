"""Confidence intervals for calibration errors, with correct coverage.

A binned calibration error is biased upwards on few rows, and resampling the rows biases it once more, so the usual percentile
bootstrap can miss the true error every time. Here the interval holds the errors under which the observed error is not
surprising: an inverted test.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from ..arrays import Floats
from ..numerics.groups import effective_number, group_numbers
from .bins import reliability_curve
from .means import check_confidence_level, check_n_resamples

_HALVINGS = 12  # of the range searched, down to a four-thousandth of it


class CalibrationInterval(NamedTuple):
    """An interval for the expected calibration error, and the error that was observed.

    Attributes
    ----------
    low, high : float
    error : float
        The plug-in error of these rows, biased upwards; it may lie above `high`.
    null_mean : float
        The mean error of a calibrated model on the same number of rows.
    """

    low: float
    high: float
    error: float
    null_mean: float


def calibration_interval(
    y: ArrayLike,
    proba: ArrayLike,
    *,
    n_bins: int = 15,
    strategy: str = "uniform",
    closed: str = "right",
    confidence_level: float = 0.95,
    n_resamples: int = 1000,
    random_state: Any = None,
    pos_label: Any = None,
    classes: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    groups: ArrayLike | None = None,
) -> CalibrationInterval:
    """A confidence interval for the true expected calibration error of the bins.

    The gaps between accuracy and confidence are scaled up from zero in three ways: as observed, bin by bin; as a straight
    line fitted to them; and as observed, but only in the bins where chance does not explain them. Outcomes are simulated for
    each scale, and the scale is kept if the observed error is not in the tails of the simulated errors. The interval is the
    range of true errors of the scales kept (an inverted test, Neyman 1937, along three directions; for the failure of the
    bootstrap near the boundary see Andrews 2000). Its upper end is never below that of the median calibrated model, so that a
    lucky sample makes it neither empty nor too narrow (Cowan et al. 2011, "Power-constrained limits").
    experiments/interval_coverage.md has its simulated coverage for five kinds of model and three sample sizes.

    Parameters
    ----------
    y, proba, n_bins, strategy, closed, pos_label, classes
        As in `expected_calibration_error`.
    confidence_level : float in (0, 1)
    n_resamples : int
        Simulated outcomes per scale.
    random_state : None, int or numpy Generator
    sample_weight : array-like (n,), optional
        Frequency weights: a weight of 2 counts the row twice. Weights that express importance make the interval too narrow.
    groups : array-like (n,), optional
        What each row belongs to, such as its text or its author. The rows then count as many as
        ``n**2 / sum(size**2)`` independent ones, for groups of these sizes: as if the rows of a group said all the same.

    Returns
    -------
    CalibrationInterval
        ``(low, high, error, null_mean)``.

    Raises
    ------
    InputError
        Any argument cannot be used.

    Examples
    --------
    >>> y, proba = [0, 1, 1, 0] * 50, [[0.9, 0.1], [0.1, 0.9], [0.8, 0.2], [0.8, 0.2]] * 50
    >>> low, high, error, null_mean = calibration_interval(y, proba, random_state=0)
    >>> round(error, 3), 0.1 < low < 0.2 < high < 0.3
    (0.2, True)
    """
    check_confidence_level(confidence_level)
    check_n_resamples(n_resamples)
    curve = reliability_curve(
        y,
        proba,
        n_bins=n_bins,
        strategy=strategy,
        closed=closed,
        pos_label=pos_label,
        classes=classes,
        sample_weight=sample_weight,
    )
    # Every scale uses the same random numbers, so that the search is over a deterministic function.
    seed = int(np.random.default_rng(random_state).integers(2**63))
    share = curve.weight / curve.weight.sum()
    if groups is not None:
        n_rows = np.shape(y)[0]
        curve = replace(curve, weight=curve.weight * effective_number(group_numbers(groups, n_rows), n_rows) / n_rows)
    counts = np.maximum(1, np.round(curve.weight)).astype(np.int64)
    gap = curve.accuracy - curve.confidence

    def simulated(frequency: Floats) -> Floats:
        hits = np.random.default_rng(seed).binomial(counts, frequency, size=(n_resamples, counts.size))
        errors: Floats = np.abs(hits / counts - curve.confidence) @ share
        return errors

    observed = float(share @ np.abs(gap))
    calibrated = simulated(curve.confidence)
    tail = (1.0 - confidence_level) / 2.0
    ends = [
        _ends(
            curve.confidence, direction, share, observed, max(observed, float(np.median(calibrated))), tail, simulated
        )
        for direction in (
            gap,
            _line(curve.confidence, gap, curve.weight),
            _significant_gaps(curve.confidence, gap, curve.weight),
        )
    ]
    return CalibrationInterval(
        low=min(low for low, _ in ends),
        high=max(high for _, high in ends),
        error=observed,
        null_mean=float(calibrated.mean()),
    )


def _ends(
    confidence: Floats,
    direction: Floats,
    share: Floats,
    observed: float,
    observed_for_high: float,
    tail: float,
    simulated: Callable[[Floats], Floats],
) -> tuple[float, float]:
    """The smallest and the largest true error along one direction for which `observed` does not lie in the tails."""

    def frequency(scale: float) -> Floats:
        moved: Floats = np.clip(confidence + scale * direction, 0.0, 1.0)
        return moved

    def true_error(scale: float) -> float:
        return float(share @ np.abs(frequency(scale) - confidence))

    def too_small(scale: float) -> bool:
        return bool(np.mean(simulated(frequency(scale)) >= observed - 1e-12) < tail)

    def too_large(scale: float) -> bool:
        return bool(np.mean(simulated(frequency(scale)) <= observed_for_high + 1e-12) < tail)

    unit = true_error(1.0)
    if unit < 1e-12:
        direction = np.sqrt(confidence * (1.0 - confidence))  # no gap was observed, but any bin may have one
        unit = true_error(1.0)
        if unit < 1e-12:
            direction = 1.0 - 2.0 * confidence  # every probability is 0 or 1
            unit = true_error(1.0)
    high = max(1.0, observed / unit)
    # Stop when chance hardly ever gives so small an error, or when the true error cannot grow: all frequencies are 0 or 1.
    while not too_large(high) and true_error(2.0 * high) > true_error(high):
        high *= 2.0
    low = _bisect(too_small, 0.0, high) if too_small(0.0) else 0.0
    top = _bisect(lambda scale: not too_large(scale), low, high) if too_large(high) else high
    return true_error(low), true_error(top)


def _bisect(holds: Callable[[float], bool], low: float, high: float) -> float:
    """The upper end of the range that starts at `low` and in which `holds` is true."""
    for _ in range(_HALVINGS):
        middle = (low + high) / 2.0
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low


def _significant_gaps(confidence: Floats, gap: Floats, weight: Floats) -> Floats:
    """The gaps of more than two standard errors, and 0 elsewhere; all gaps if none is that large."""
    kept = gap**2 * weight > 4.0 * confidence * (1.0 - confidence)
    return np.where(kept, gap, 0.0) if kept.any() else gap


def _line(confidence: Floats, gap: Floats, weight: Floats) -> Floats:
    """The weighted least-squares line through the gaps."""
    design = np.column_stack([np.ones_like(confidence), confidence]) * np.sqrt(weight)[:, None]
    coefficients = np.linalg.lstsq(design, gap * np.sqrt(weight))[0]
    line: Floats = coefficients[0] + coefficients[1] * confidence
    return line
