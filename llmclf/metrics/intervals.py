"""Confidence intervals for calibration errors, with correct coverage.

A binned calibration error is biased upwards on few rows, and resampling the rows biases it once more, so the usual percentile
bootstrap can miss the true error every time. Here the interval holds the errors under which the observed error is not
surprising: an inverted test.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtri

from ..arrays import Floats, Integers
from ..checks import random_generator
from .bins import ReliabilityCurve, bin_numbers, binned_calibration
from .checks import checked_event, either_weights
from .grouped import kept_groups, row_worth
from .means import check_confidence_level, check_n_resamples
from .significance import CalibrationTest, binned_errors, compared, drawn_errors

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
    n_resamples: int = 999,
    random_state: Any = None,
    pos_label: Any = None,
    classes: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    inclusion: ArrayLike | None = None,
    groups: ArrayLike | None = None,
) -> CalibrationInterval:
    """A confidence interval for the true expected calibration error of the bins.

    The gaps between accuracy and confidence are scaled up from zero in three ways: as observed, bin by bin; as a straight
    line fitted to them; and as observed, but only in the bins where chance does not explain them. For each scale, data sets are
    simulated: how many rows fall into each bin, and how many of them are right. The scale is kept if the observed error is not in
    the tails of the simulated errors, and the interval is the range of true errors of the scales kept (an inverted test, Neyman
    1937, along three directions; for the failure of the bootstrap near the boundary see Andrews 2000). Its upper end is never
    below that of the median calibrated model, so that a lucky sample makes it neither empty nor too narrow (Cowan et al. 2011,
    "Power-constrained limits").

    The interval and `calibration_test` agree: with the same `n_resamples` and the same number as `random_state`, `low` is above 0
    if and only if the p-value is below ``1 - confidence_level``. So the tails are unequal near 0: the error probability is spent
    below where the error cannot be told from chance, and goes over to equal halves as it can (as in Feldman & Cousins 1998,
    "Unified approach to the classical statistical analysis of small signals").
    experiments/interval_coverage.md has its simulated coverage for several kinds of model and three sample sizes.

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
    inclusion : array-like (n,), optional
        With what probability each row was drawn, where not all had the same: each counts ``1 / inclusion``, as one row. It
        takes the place of `sample_weight`.
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
    sample_weight = either_weights(sample_weight, inclusion, y)
    options = {"n_bins": n_bins, "strategy": strategy, "closed": closed}
    p, event, weights = checked_event(y, proba, classes, sample_weight, pos_label)
    return interval_and_test(
        p,
        event,
        weights,
        options,
        confidence_level=confidence_level,
        n_resamples=n_resamples,
        random_state=random_state,
        groups=kept_groups(groups, np.shape(y)[0], sample_weight),
        is_drawn_unevenly=inclusion is not None and bool((weights != 1.0).any()),
    )[0]


def interval_and_test(
    p: Floats,
    event: Floats,
    weights: Floats,
    bins: dict[str, Any],
    *,
    confidence_level: float,
    n_resamples: int,
    random_state: Any,
    groups: Integers | None = None,
    is_drawn_unevenly: bool = False,
) -> tuple[CalibrationInterval, CalibrationTest]:
    """`calibration_interval` and `calibration_test` from the same draws, of checked rows (see `checked_event`).

    With `groups` (n,) the test draws one number per group. All other draws are made twice: of as many rows as the groups are
    worth if their rows say all the same, and if they agree as far as is seen. More noise explains a small true error, less noise
    a large one, so the interval holds what either keeps. It reaches at least as far as a normal distribution of the error
    would, where the rows of a group are right or wrong together in several bins.
    """
    check_confidence_level(confidence_level)
    check_n_resamples(n_resamples)
    curve = binned_calibration(p, event, **bins, sample_weight=weights)
    observed = float(curve.error())
    generator = random_generator(random_state)
    # Exactly the draws of calibration_test.
    calibrated = drawn_errors(binned_errors(p, weights, **bins, norm="l1"), p, n_resamples, generator, groups)
    test = compared(observed, calibrated)
    share = curve.weight / curve.weight.sum()
    gap = curve.accuracy - curve.confidence
    excess = _excess_variance(p, event, weights, bins, curve)
    alpha = round(1.0 - confidence_level, 12)  # exactly the .05 that a reader compares with
    worths, ends = [row_worth(groups, weights)], []
    if groups is not None:
        worth, error = _agreement(p, event, weights, groups, bins, curve)
        worths.append(max(worths[0], worth))
        if error:
            # The observed error is at least as large as the true one on average, so this end needs no correction of its bias.
            ends.append((math.inf, min(1.0, observed + float(ndtri(1.0 - alpha / 2.0)) * error)))
    for size, worth in {max(1, round(float(weights.sum()) * worth)): worth for worth in worths}.items():
        simulations = [_simulation(curve.confidence, share, excess, size, n_resamples, generator)]
        if is_drawn_unevenly:
            # Neither is the whole truth: how many rows a bin is worth, and that bins of few heavy rows hide their errors.
            simulations.append(_weighted_simulation(p, weights, worth, bins, curve, excess, n_resamples, generator))
        directions = (
            gap,
            _line(curve.confidence, gap, curve.weight),
            _significant_gaps(curve.confidence, gap, curve.weight * worth),
        )
        for simulated in simulations:
            search = _Search(
                confidence=curve.confidence,
                share=share,
                observed=observed,
                observed_for_high=max(observed, float(np.median(calibrated))),
                is_calibrated=not test.p_value < alpha,
                alpha=alpha,
                critical=float(np.quantile(calibrated, confidence_level)),
                simulated=simulated,
            )
            ends += [search.ends(direction) for direction in np.unique(directions, axis=0)]
    interval = CalibrationInterval(
        low=min(low for low, _ in ends), high=max(high for _, high in ends), error=observed, null_mean=test.null_mean
    )
    return interval, test


def _simulation(
    confidence: Floats, share: Floats, excess: Floats, size: int, n_resamples: int, generator: np.random.Generator
) -> Callable[[Floats], Floats]:
    """From the frequencies in the bins to the errors of data sets of `size` rows."""
    counts = generator.multinomial(size, share, size=n_resamples)
    noise = generator.standard_normal(counts.shape) * np.sqrt(counts * excess)
    # Every scale uses the same random numbers, so that the search is over a deterministic function.
    seed = int(generator.integers(2**63))

    def simulated(frequency: Floats) -> Floats:
        hits = np.random.default_rng(seed).binomial(counts, frequency)
        errors: Floats = np.abs(hits + noise - counts * confidence).sum(axis=1) / size
        return errors

    return simulated


def _weighted_simulation(
    p: Floats,
    weights: Floats,
    worth: float,
    bins: dict[str, Any],
    curve: ReliabilityCurve,
    excess: Floats,
    n_resamples: int,
    generator: np.random.Generator,
) -> Callable[[Floats], Floats]:
    """As `_simulation`, of rows drawn unevenly: a bin has the share of its weights, and the noise of what its rows are worth."""
    members, _, _ = bin_numbers(p, weights, **bins)
    share = curve.weight / curve.weight.sum()
    rows = np.bincount(members, weights) ** 2 / np.bincount(members, weights**2)
    counts = np.maximum(1, np.round(rows * worth)).astype(np.int64)
    noise = generator.standard_normal((n_resamples, len(counts))) * np.sqrt(excess / counts)
    seed = int(generator.integers(2**63))

    def simulated(frequency: Floats) -> Floats:
        hits = np.random.default_rng(seed).binomial(counts, frequency, size=(n_resamples, len(counts)))
        gaps = np.abs(hits / counts + noise - curve.confidence)
        errors: Floats = gaps @ share
        return errors

    return simulated


@dataclass(frozen=True, eq=False)
class _Search:
    """Which true errors are compatible with the observed one?

    Attributes
    ----------
    confidence, share : ndarray (n_bins,)
    observed, observed_for_high : float
        The observed error, and what is used in its place for the upper end.
    is_calibrated : bool
        Whether the test keeps a true error of 0.
    alpha : float
    critical : float
        What the error of a calibrated model exceeds with probability `alpha`.
    simulated : callable
        From the frequencies in the bins to simulated errors.
    """

    confidence: Floats
    share: Floats
    observed: float
    observed_for_high: float
    is_calibrated: bool
    alpha: float
    critical: float
    simulated: Callable[[Floats], Floats]

    def ends(self, direction: Floats) -> tuple[float, float]:
        """The smallest and the largest true error along one direction for which the observed one does not lie in the tails."""

        def frequency(scale: float) -> Floats:
            moved: Floats = np.clip(self.confidence + scale * direction, 0.0, 1.0)
            return moved

        def true_error(scale: float) -> float:
            return float(self.share @ np.abs(frequency(scale) - self.confidence))

        def too_small(scale: float) -> bool:
            errors = self.simulated(frequency(scale))
            return bool(np.mean(errors >= self.observed - 1e-12) < self.alpha - self._upper_tail(errors))

        def too_large(scale: float) -> bool:
            errors = self.simulated(frequency(scale))
            return bool(np.mean(errors <= self.observed_for_high + 1e-12) < self._upper_tail(errors))

        unit = true_error(1.0)
        if unit < 1e-12:
            direction = np.sqrt(
                self.confidence * (1.0 - self.confidence)
            )  # no gap was observed, but any bin may have one
            unit = true_error(1.0)
            if unit < 1e-12:
                direction = 1.0 - 2.0 * self.confidence  # every probability is 0 or 1
                unit = true_error(1.0)
        high = max(1.0, self.observed / unit)
        # Stop when chance hardly ever gives so small an error, or when the true error cannot grow: all frequencies are 0 or 1.
        while not too_large(high) and true_error(2.0 * high) > true_error(high):
            high *= 2.0
        low = 0.0 if self.is_calibrated else max(high / 2.0**_HALVINGS, _bisect(too_small, 0.0, high))
        top = _bisect(lambda scale: not too_large(scale), low, high) if too_large(high) else high
        return true_error(low), true_error(top)

    def _upper_tail(self, errors: Floats) -> float:
        """The probability of missing that is spent above: half of it where such errors are always told from chance."""
        power = float(np.mean(errors > self.critical))
        return self.alpha / 2.0 * max(0.0, power - self.alpha) / (1.0 - self.alpha)


def _bisect(holds: Callable[[float], bool], low: float, high: float) -> float:
    """The upper end of the range that starts at `low` and in which `holds` is true."""
    for _ in range(_HALVINGS):
        middle = (low + high) / 2.0
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low


def _agreement(
    p: Floats,
    event: Floats,
    weights: Floats,
    groups: Integers,
    bins: dict[str, Any],
    curve: ReliabilityCurve,
) -> tuple[float, float]:
    """How far the rows of a group are seen to be right or wrong together.

    Returns
    -------
    worth : float
        How many independent rows a unit of weight counts for within the bins: the inverse of the design effect of the gaps (Kish
        1965, "Survey sampling"), the `row_worth` of copies.
    error : float
        The standard error of the calibration error where the rows of a group err together also across bins, which the simulated
        bins do not; 0 where they do not, as for copies.
    """
    members, _, _ = bin_numbers(p, weights, **bins)
    gap = curve.accuracy - curve.confidence
    residuals = event - p - gap[members]
    cells, cell = np.unique(np.column_stack([groups, members]), axis=0, return_inverse=True)
    sums = np.bincount(cell.reshape(-1), weights * residuals)
    within = float(sums @ sums)
    worth = float(weights @ residuals**2) / within if within > 0.0 else 1.0
    across = np.bincount(cells[:, 0], sums * np.sign(gap)[cells[:, 1]])
    variance = float(across @ across)
    error = math.sqrt(variance) / float(weights.sum()) if variance > within * (1.0 + 1e-9) else 0.0
    return min(1.0, worth), error


def _excess_variance(
    p: Floats, event: Floats, weights: Floats, bins: dict[str, Any], curve: ReliabilityCurve
) -> Floats:
    """How much more (event - probability) varies in each bin than the event of one frequency would: in wide bins, the
    probabilities that are drawn vary, too."""
    members, _, _ = bin_numbers(p, weights, **bins)
    gap = curve.accuracy - curve.confidence
    variance = np.bincount(members, weights * (event - p) ** 2) / curve.weight - gap**2
    excess: Floats = (variance - curve.accuracy * (1.0 - curve.accuracy)).clip(min=0.0)
    return excess


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
