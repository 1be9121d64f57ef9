"""Probability against frequency in bins: the reliability curve, from which calibration errors are computed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..arrays import Floats
from ..checks import is_whole_number
from ..errors import InputError
from .checks import checked_event, checked_probabilities, either_weights, row_weights


@dataclass(frozen=True, eq=False)
class ReliabilityCurve:
    """Probability against frequency, bin by bin; empty bins are left out.

    Attributes
    ----------
    lower, upper : ndarray (n_filled,)
        The bin is ``(lower, upper]``, and the first one also holds probability 0. If `closed` is "left", the bin is
        ``[lower, upper)``, and the last one also holds probability 1.
    confidence : ndarray (n_filled,)
        Weighted mean probability of the rows in the bin.
    accuracy : ndarray (n_filled,)
        Weighted share of those rows for which the event happened, such as a correct prediction.
    weight : ndarray (n_filled,)
        Sum of the rows' weights.
    count : ndarray of int (n_filled,)
        Number of rows with positive weight.
    closed : {"right", "left"}
    """

    lower: Floats
    upper: Floats
    confidence: Floats
    accuracy: Floats
    weight: Floats
    count: NDArray[np.intp]
    closed: str = "right"

    def error(self, norm: str = "l1") -> float:
        """Distance between probability and frequency over all bins, in [0, 1].

        Parameters
        ----------
        norm : {"l1", "l2", "max"}
            The weighted mean of ``|accuracy - confidence|``, its root mean square, or its maximum.

        Raises
        ------
        InputError
            `norm` is not one of the three.
        """
        return norm_of_gaps(np.abs(self.accuracy - self.confidence), self.weight / self.weight.sum(), norm)

    def debiased_squared_error(self) -> float:
        """The squared "l2" error minus its bias from chance alone; negative if chance alone would give a larger error.

        In each bin, ``accuracy * (1 - accuracy) / (weight - 1)`` is subtracted from the squared gap; bins of weight below 2
        add nothing (Kumar, Liang & Ma 2019, "Verified Uncertainty Calibration", definition 4).
        """
        is_large = self.weight >= 2
        gap = self.accuracy - self.confidence
        noise = self.accuracy * (1 - self.accuracy) / np.where(is_large, self.weight - 1, 1.0)
        return float((self.weight / self.weight.sum()) @ np.where(is_large, gap**2 - noise, 0.0))


def reliability_curve(
    y: ArrayLike,
    proba: ArrayLike,
    *,
    n_bins: int = 15,
    strategy: str = "uniform",
    closed: str = "right",
    pos_label: Any = None,
    classes: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    inclusion: ArrayLike | None = None,
) -> ReliabilityCurve:
    """Accuracy against confidence in the predicted class, bin by bin.

    Parameters
    ----------
    y, proba, n_bins, strategy, closed, pos_label, classes, sample_weight, inclusion
        As in `expected_calibration_error`.

    Returns
    -------
    ReliabilityCurve
        The non-empty bins, by increasing confidence.

    Raises
    ------
    InputError
        Any argument cannot be used.

    Examples
    --------
    >>> curve = reliability_curve([0, 1, 1], [[0.9, 0.1], [0.2, 0.8], [0.9, 0.1]], n_bins=10)
    >>> curve.confidence.round(6).tolist(), curve.accuracy.tolist(), curve.count.tolist()
    ([0.8, 0.9], [1.0, 0.5], [1, 2])
    """
    sample_weight = either_weights(sample_weight, inclusion, y)
    p, event, weights = checked_event(y, proba, classes, sample_weight, pos_label)
    return curve_of_bins(p, event, weights, n_bins, strategy, closed)


def binned_calibration(
    probability: ArrayLike,
    event: ArrayLike,
    *,
    n_bins: int = 15,
    strategy: str = "uniform",
    closed: str = "right",
    sample_weight: ArrayLike | None = None,
) -> ReliabilityCurve:
    """Probability of any binary event against how often it happened, bin by bin.

    Parameters
    ----------
    probability : array-like (n,)
        In [0, 1]: of the positive class, of one of several classes, or of a correct prediction.
    event : array-like (n,)
        Whether it happened: booleans, or 0 and 1.
    n_bins, strategy, closed, sample_weight
        As in `expected_calibration_error`. Of rows that were drawn with the probabilities `inclusion`, the weights are
        ``inclusion_weights(inclusion, n)``.

    Returns
    -------
    ReliabilityCurve

    Raises
    ------
    InputError
        Any argument cannot be used.

    Examples
    --------
    >>> curve = binned_calibration([0.0, 0.5, 0.5, 1.0], [False, False, True, False], n_bins=2)
    >>> curve.confidence.round(6).tolist(), curve.accuracy.round(6).tolist(), round(curve.error(), 6)
    ([0.333333, 1.0], [0.333333, 0.0], 0.25)
    """
    p = checked_probabilities(probability, "probability", ndim=1)
    happened = np.asarray(event)
    if happened.shape != p.shape:
        raise InputError(f"event has shape {happened.shape}; expected {p.shape}, one entry per probability")
    if not np.isin(happened, (0, 1)).all():
        raise InputError("event holds values other than 0 and 1; expected booleans, or 0 and 1")
    weights = row_weights(sample_weight, p.size)
    kept = weights > 0
    return curve_of_bins(p[kept], happened[kept].astype(np.float64), weights[kept], n_bins, strategy, closed)


def bin_numbers(
    p: Floats, weights: Floats, n_bins: int, strategy: str, closed: str
) -> tuple[NDArray[np.intp], Floats, Floats]:
    """The bin of each row, as a number among the non-empty bins, and the lower and upper edges of those bins."""
    if not is_whole_number(n_bins, 1):
        raise InputError(f"n_bins={n_bins!r}; expected a positive integer")
    if closed not in ("right", "left"):
        raise InputError(f"closed={closed!r} is unknown; expected 'right' or 'left'")
    if strategy == "uniform":
        edges = np.linspace(0.0, 1.0, n_bins + 1)
        # Compare with the edges themselves: floor(p * n_bins) puts 0.3 into the wrong one of ten bins.
        bins = np.searchsorted(edges[1:-1], p, side="left" if closed == "right" else "right")
        filled, members = np.unique(bins, return_inverse=True)
        return members, edges[filled], edges[filled + 1]
    if strategy != "mass":
        raise InputError(f"strategy={strategy!r} is unknown; expected 'uniform' or 'mass'")
    filled, members = np.unique(_equal_mass_bins(p, weights, int(n_bins)), return_inverse=True)
    if closed == "right":
        upper = np.zeros(filled.size)
        np.maximum.at(upper, members, p)
        upper[-1] = 1.0
        return members, np.concatenate([[0.0], upper[:-1]]), upper
    lower = np.ones(filled.size)
    np.minimum.at(lower, members, p)
    lower[0] = 0.0
    return members, lower, np.concatenate([lower[1:], [1.0]])


def curve_of_bins(
    p: Floats, event: Floats, weights: Floats, n_bins: int, strategy: str, closed: str
) -> ReliabilityCurve:
    """The bins of checked rows, all with positive weight."""
    members, lower, upper = bin_numbers(p, weights, n_bins, strategy, closed)
    weight = np.bincount(members, weights)
    return ReliabilityCurve(
        lower=lower,
        upper=upper,
        confidence=np.bincount(members, weights * p) / weight,
        accuracy=np.bincount(members, weights * event) / weight,
        weight=weight.astype(np.float64),
        count=np.bincount(members),
        closed=closed,
    )


def norm_of_gaps(gaps: Floats, shares: Floats, norm: str) -> float:
    if norm == "l1":
        return float(shares @ gaps)
    if norm == "l2":
        return float(np.sqrt(shares @ gaps**2))
    if norm == "max":
        return float(gaps.max())
    raise InputError(f"norm={norm!r} is unknown; expected 'l1', 'l2' or 'max'")


def _equal_mass_bins(p: Floats, weights: Floats, n_bins: int) -> NDArray[np.intp]:
    """Bin number of each row. Equal probabilities always share a bin, and the order of the rows does not matter."""
    _, members = np.unique(p, return_inverse=True)
    mass = np.bincount(members, weights)
    before = np.concatenate([[0.0], np.cumsum(mass)[:-1]])
    # A bin ends with the value that reaches j/n_bins of the weight. The small number keeps this true if rounding leaves a sum
    # of fractional weights just below that.
    bin_of_value = np.floor(before * n_bins / mass.sum() + 1e-9).astype(np.intp)
    result: NDArray[np.intp] = bin_of_value[members]
    return result
