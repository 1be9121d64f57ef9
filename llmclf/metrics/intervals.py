"""Intervals for calibration errors that cover.

A binned calibration error is biased upwards on few rows, and resampling rows biases it once more, so that the usual
percentile bootstrap can miss the truth always. Here the interval holds the errors under which the observed one is no
surprise: a test turned round.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from ..arrays import Floats
from .binned import reliability_curve
from .means import check_confidence_level, check_n_resamples

_HALVINGS = 12  # of the searched range: a four-thousandth of it


class CalibrationInterval(NamedTuple):
    """An interval for the expected calibration error, and the error that was observed.

    Attributes
    ----------
    low, high : float
    error : float
        The plug-in error of these rows, biased upwards; it may lie above `high`.
    null_mean : float
        What a calibrated model shows on as few rows, on average.
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
) -> CalibrationInterval:
    """An interval that holds the true expected calibration error of the bins as often as it says.

    The gaps between accuracy and confidence are scaled from none upwards, in three ways: as observed, bin by bin; as a
    straight line fitted to them; and as observed in those bins alone where chance does not explain them. For each scale
    the outcomes are simulated, and the scale is kept if the observed error is not among the outermost of theirs; the
    interval is the range of errors of the scales kept (a test inverted, Neyman 1937, along three directions; for the
    failure of the bootstrap near the boundary see Andrews 2000). Its upper end is never below that of the median calibrated
    model, so that luck makes it neither empty nor too narrow (Cowan et al. 2011, "Power-constrained limits"). How often it
    covers was simulated for five kinds of model and three sizes: experiments/interval_coverage.md.

    Parameters
    ----------
    y, proba, n_bins, strategy, closed, pos_label, classes
        As in `expected_calibration_error`.
    confidence_level : float in (0, 1)
    n_resamples : int
        Simulated outcomes per scale.
    random_state : None, int or numpy Generator
    sample_weight : array-like (n,), optional
        Numbers of rows: a weight of 2 is the row twice, so weights that only say what matters more make it too narrow.

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
    # The same random numbers for every scale, so that the search is over a fixed function.
    seed = int(np.random.default_rng(random_state).integers(2**63))
    share = curve.weight / curve.weight.sum()
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
            _outstanding(curve.confidence, gap, curve.weight),
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
    for_upper_end: float,
    tail: float,
    simulated: Callable[[Floats], Floats],
) -> tuple[float, float]:
    """The least and the greatest true error along one direction under which `observed` lies between the tails."""

    def frequency(scale: float) -> Floats:
        moved: Floats = np.clip(confidence + scale * direction, 0.0, 1.0)
        return moved

    def true_error(scale: float) -> float:
        return float(share @ np.abs(frequency(scale) - confidence))

    def too_small(scale: float) -> bool:
        return bool(np.mean(simulated(frequency(scale)) >= observed - 1e-12) < tail)

    def too_large(scale: float) -> bool:
        return bool(np.mean(simulated(frequency(scale)) <= for_upper_end + 1e-12) < tail)

    unit = true_error(1.0)
    if unit < 1e-12:
        direction = np.sqrt(confidence * (1.0 - confidence))  # no gap was seen: any could have been missed
        unit = true_error(1.0)
        if unit < 1e-12:
            direction = 1.0 - 2.0 * confidence  # every probability is 0 or 1
            unit = true_error(1.0)
    high = max(1.0, observed / unit)
    # Until chance never shows so little, or every frequency is 0 or 1 and no true error is larger.
    while not too_large(high) and true_error(2.0 * high) > true_error(high):
        high *= 2.0
    low = _bisect(too_small, 0.0, high) if too_small(0.0) else 0.0
    top = _bisect(lambda scale: not too_large(scale), low, high) if too_large(high) else high
    return true_error(low), true_error(top)


def _bisect(holds: Callable[[float], bool], low: float, high: float) -> float:
    """The end of the range from `low` on where `holds` is true."""
    for _ in range(_HALVINGS):
        middle = (low + high) / 2.0
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low


def _outstanding(confidence: Floats, gap: Floats, weight: Floats) -> Floats:
    """The gaps of more than two standard errors, and none elsewhere; all of them if none is so large."""
    kept = gap**2 * weight > 4.0 * confidence * (1.0 - confidence)
    return np.where(kept, gap, 0.0) if kept.any() else gap


def _line(confidence: Floats, gap: Floats, weight: Floats) -> Floats:
    """The weighted least-squares line through the gaps."""
    design = np.column_stack([np.ones_like(confidence), confidence]) * np.sqrt(weight)[:, None]
    coefficients = np.linalg.lstsq(design, gap * np.sqrt(weight))[0]
    line: Floats = coefficients[0] + coefficients[1] * confidence
    return line
