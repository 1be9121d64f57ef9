"""Calibration errors from bins: probability against frequency."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import InputError
from .checks import checked_predictions, checked_probabilities, row_weights


@dataclass(frozen=True, eq=False)
class ReliabilityCurve:
    """Probability against frequency, bin by bin; empty bins are left out.

    Attributes
    ----------
    lower, upper : ndarray (n_filled,)
        The bin is ``(lower, upper]``; the first one also holds probability 0.
    confidence : ndarray (n_filled,)
        Weighted mean probability of the rows in the bin.
    accuracy : ndarray (n_filled,)
        Weighted share of those rows where the event happened: the prediction was right.
    weight : ndarray (n_filled,)
        Sum of the rows' weights.
    count : ndarray of int (n_filled,)
        Number of rows of positive weight.
    """

    lower: NDArray[np.float64]
    upper: NDArray[np.float64]
    confidence: NDArray[np.float64]
    accuracy: NDArray[np.float64]
    weight: NDArray[np.float64]
    count: NDArray[np.intp]

    def error(self, norm: str = "l1") -> float:
        """Distance between probability and frequency over all bins, in [0, 1].

        Parameters
        ----------
        norm : {"l1", "l2", "max"}
            The weighted mean of ``|accuracy - confidence|``, its root mean square, or its maximum.

        Raises
        ------
        InputError
            `norm` is none of the three.
        """
        gap = np.abs(self.accuracy - self.confidence)
        share = self.weight / self.weight.sum()
        if norm == "l1":
            return float(share @ gap)
        if norm == "l2":
            return float(np.sqrt(share @ gap**2))
        if norm == "max":
            return float(gap.max())
        raise InputError(f"norm={norm!r} is unknown; expected 'l1', 'l2' or 'max'")


def expected_calibration_error(
    y: ArrayLike,
    proba: ArrayLike,
    *,
    n_bins: int = 15,
    strategy: str = "uniform",
    norm: str = "l1",
    classes: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
) -> float:
    r"""Gap between the confidence in the predicted class and how often that class is right.

    With confidence :math:`c_i = \max_k p_{ik}`, bins :math:`B_m` of it, and weight shares :math:`W_m / W`, this is
    :math:`(\sum_m W_m/W \, |acc(B_m) - conf(B_m)|^p)^{1/p}` (Guo et al. 2017, "On Calibration of Modern Neural
    Networks", equation 3, with p = 1). It is biased upwards on few rows: a perfectly calibrated model does not reach 0.

    Parameters
    ----------
    y : array-like (n,)
        The true class of each row; see `label_columns`.
    proba : array-like (n, K) or (n,)
        Probabilities, rows summing to 1; one dimension is P(class 1) of two classes. The confidence is the larger of
        the two then also; for the error of P(class 1) itself see `binned_calibration`.
    n_bins : int
        Number of bins, at least 1.
    strategy : {"uniform", "mass"}
        Bins of equal width, or of equal weight without ever splitting equal confidences.
    norm : {"l1", "l2", "max"}
        ECE, root mean square calibration error, or maximum calibration error.
    classes : array-like (K,), optional
        The class of each column.
    sample_weight : array-like (n,), optional
        Non-negative; a weight of 2 is the row twice.

    Returns
    -------
    float in [0, 1]

    Raises
    ------
    InputError
        Any argument cannot be used.

    Examples
    --------
    >>> round(expected_calibration_error([0, 1, 1, 0], [[0.9, 0.1], [0.1, 0.9], [0.9, 0.1], [0.9, 0.1]]), 6)
    0.15
    """
    curve = reliability_curve(y, proba, n_bins=n_bins, strategy=strategy, classes=classes, sample_weight=sample_weight)
    return curve.error(norm)


def reliability_curve(
    y: ArrayLike,
    proba: ArrayLike,
    *,
    n_bins: int = 15,
    strategy: str = "uniform",
    classes: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
) -> ReliabilityCurve:
    """Accuracy against confidence in the predicted class, bin by bin.

    Parameters
    ----------
    y, proba, n_bins, strategy, classes, sample_weight
        As in `expected_calibration_error`.

    Returns
    -------
    ReliabilityCurve
        The non-empty bins, by rising confidence.

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
    columns, probabilities, weights = checked_predictions(y, proba, classes, sample_weight)
    return binned_calibration(
        probabilities.max(axis=1),
        probabilities.argmax(axis=1) == columns,
        n_bins=n_bins,
        strategy=strategy,
        sample_weight=weights,
    )


def binned_calibration(
    probability: ArrayLike,
    event: ArrayLike,
    *,
    n_bins: int = 15,
    strategy: str = "uniform",
    sample_weight: ArrayLike | None = None,
) -> ReliabilityCurve:
    """Probability of any yes-or-no event against how often it happened, bin by bin.

    Parameters
    ----------
    probability : array-like (n,)
        In [0, 1]: of the positive class, of one class of several, of being right.
    event : array-like (n,)
        Whether it happened: booleans, or 0 and 1.
    n_bins, strategy, sample_weight
        As in `expected_calibration_error`. Bins are closed on the right; the first one also holds probability 0.

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
    if isinstance(n_bins, bool) or not isinstance(n_bins, (int, np.integer)) or n_bins < 1:
        raise InputError(f"n_bins={n_bins!r}; expected a positive integer")
    weights = row_weights(sample_weight, p.size)
    kept = weights > 0
    p, happened, weights = p[kept], happened[kept].astype(np.float64), weights[kept]

    if strategy == "uniform":
        edges = np.linspace(0.0, 1.0, n_bins + 1)
        # Comparing with the edges themselves: floor(p * n_bins) puts 0.3 in the wrong one of ten bins.
        bins = np.searchsorted(edges[1:-1], p, side="left")
        filled, members = np.unique(bins, return_inverse=True)
        lower, upper = edges[filled], edges[filled + 1]
    elif strategy == "mass":
        bins = _equal_mass_bins(p, weights, int(n_bins))
        filled, members = np.unique(bins, return_inverse=True)
        upper = np.zeros(filled.size)
        np.maximum.at(upper, members, p)
        upper[-1] = 1.0
        lower = np.concatenate([[0.0], upper[:-1]])
    else:
        raise InputError(f"strategy={strategy!r} is unknown; expected 'uniform' or 'mass'")

    weight = np.bincount(members, weights)
    return ReliabilityCurve(
        lower=lower,
        upper=upper,
        confidence=np.bincount(members, weights * p) / weight,
        accuracy=np.bincount(members, weights * happened) / weight,
        weight=weight.astype(np.float64),
        count=np.bincount(members),
    )


def _equal_mass_bins(p: NDArray[np.float64], weights: NDArray[np.float64], n_bins: int) -> NDArray[np.intp]:
    """Bin number of each row, equal probabilities always in one bin, whatever the order of the rows."""
    _, members = np.unique(p, return_inverse=True)
    mass = np.bincount(members, weights)
    before = np.concatenate([[0.0], np.cumsum(mass)[:-1]])
    # A cut falls after the value that reaches j/n_bins of the weight. The small number keeps that true where the sum of
    # fractional weights falls short of it by rounding.
    bin_of_value = np.floor(before * n_bins / mass.sum() + 1e-9).astype(np.intp)
    result: NDArray[np.intp] = bin_of_value[members]
    return result
