"""Calibration errors from bins: probability against frequency.

Each of them measures the probability of an event. By default the event is "the most probable class is the true one", and its
probability is the confidence. With ``pos_label=`` the event is "`pos_label` is the true class", and its probability is that
column. On the same two-class table, the two give different numbers.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ..errors import InputError
from .bins import binned_calibration, curve_of_bins, norm_of_gaps, reliability_curve
from .checks import checked_event, checked_predictions, either_weights


def expected_calibration_error(
    y: ArrayLike,
    proba: ArrayLike,
    *,
    n_bins: int = 15,
    strategy: str = "uniform",
    norm: str = "l1",
    closed: str = "right",
    pos_label: Any = None,
    classes: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    inclusion: ArrayLike | None = None,
    return_curve: bool = False,
) -> Any:
    r"""Gap between the confidence in the predicted class and the accuracy of that prediction.

    With the confidence :math:`c_i = \max_k p_{ik}`, its bins :math:`B_m`, and the weight shares :math:`W_m / W`, this is
    :math:`(\sum_m W_m/W \, |acc(B_m) - conf(B_m)|^p)^{1/p}` (Guo et al. 2017, "On Calibration of Modern Neural
    Networks", equation 3, with p = 1). It is biased upwards on few rows: a perfectly calibrated model does not reach 0.

    Parameters
    ----------
    y : array-like (n,)
        The true class of each row; see `label_columns`.
    proba : array-like (n, K) or (n,)
        Probabilities, rows summing to 1. One dimension is P(class 1) of two classes; the confidence is still the larger
        of the two probabilities.
    n_bins : int
        Number of bins, at least 1.
    strategy : {"uniform", "mass"}
        Bins of equal width, or of equal weight (equal confidences always share a bin).
    norm : {"l1", "l2", "max"}
        ECE, root mean square calibration error, or maximum calibration error.
    closed : {"right", "left"}
        Which bin includes a confidence that lies on an edge of "uniform" bins: the bin below or the bin above.
    pos_label : class, optional
        Measure the probability of this class instead of the confidence.
    classes : array-like (K,), optional
        The class of each column; some may be absent from `y`.
    sample_weight : array-like (n,), optional
        Non-negative. A weight of 2 counts the row twice.
    inclusion : array-like (n,), optional
        With what probability each row was drawn, where not all had the same: each counts ``1 / inclusion``, as one row. It
        takes the place of `sample_weight`.
    return_curve : bool
        Also return the bins.

    Returns
    -------
    float in [0, 1], or (float, ReliabilityCurve)

    Raises
    ------
    InputError
        Any argument cannot be used.

    Examples
    --------
    >>> round(expected_calibration_error([0, 1, 1, 0], [[0.9, 0.1], [0.1, 0.9], [0.9, 0.1], [0.9, 0.1]]), 6)
    0.15
    """
    sample_weight = either_weights(sample_weight, inclusion, y)
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
    error = curve.error(norm)
    return (error, curve) if return_curve else error


def maximum_calibration_error(y: ArrayLike, proba: ArrayLike, **options: Any) -> Any:
    """The largest gap between confidence and accuracy in any non-empty bin.

    Parameters
    ----------
    y, proba
        As in `expected_calibration_error`.
    **options
        `n_bins`, `strategy`, `closed`, `pos_label`, `classes`, `sample_weight`, `inclusion` and `return_curve`, as there.

    Returns
    -------
    float in [0, 1], or (float, ReliabilityCurve)

    Examples
    --------
    >>> round(maximum_calibration_error([0, 1, 0, 0], [[0.9, 0.1], [0.9, 0.1], [0.7, 0.3], [0.7, 0.3]]), 6)
    0.4
    """
    return expected_calibration_error(y, proba, norm="max", **options)


def classwise_calibration_error(
    y: ArrayLike,
    proba: ArrayLike,
    *,
    n_bins: int = 15,
    strategy: str = "uniform",
    norm: str = "l1",
    closed: str = "right",
    classes: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    inclusion: ArrayLike | None = None,
    return_curve: bool = False,
) -> Any:
    """The calibration error of every column as the probability of its class, averaged over the K columns.

    All columns count equally, including those of classes absent from `y` (Kull et al. 2019, "Beyond temperature scaling",
    definition 2). With norm "l2" it is the root mean square over the columns, with "max" the largest error.

    Parameters
    ----------
    y, proba, n_bins, strategy, norm, closed, classes, sample_weight, inclusion
        As in `expected_calibration_error`.
    return_curve : bool
        Also return one `ReliabilityCurve` per column.

    Returns
    -------
    float in [0, 1], or (float, list of ReliabilityCurve)

    Examples
    --------
    >>> round(classwise_calibration_error([0, 1], [[0.8, 0.2], [0.4, 0.6]]), 6)
    0.3
    """
    sample_weight = either_weights(sample_weight, inclusion, y)
    columns, probabilities, weights = checked_predictions(y, proba, classes, sample_weight)
    curves = [
        binned_calibration(
            probabilities[:, k], columns == k, n_bins=n_bins, strategy=strategy, closed=closed, sample_weight=weights
        )
        for k in range(probabilities.shape[1])
    ]
    errors = np.array([curve.error(norm) for curve in curves])
    error = norm_of_gaps(errors, np.full(len(errors), 1 / len(errors)), norm)
    return (error, curves) if return_curve else error


def top_label_calibration_error(
    y: ArrayLike,
    proba: ArrayLike,
    *,
    n_bins: int = 15,
    strategy: str = "uniform",
    norm: str = "l1",
    closed: str = "right",
    classes: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    inclusion: ArrayLike | None = None,
    return_curve: bool = False,
) -> Any:
    """Gap between confidence and accuracy among the rows with the same predicted class, weighted by their number.

    Two classes whose errors cancel in `expected_calibration_error` do not cancel here (Gupta & Ramdas 2022, "Top-label
    calibration and multiclass-to-binary reductions", equation 4). Classes that are never predicted add nothing.

    Parameters
    ----------
    y, proba, n_bins, strategy, norm, closed, classes, sample_weight, inclusion
        As in `expected_calibration_error`; each predicted class has its own bins.
    return_curve : bool
        Also return the bins of each predicted class.

    Returns
    -------
    float in [0, 1], or (float, dict of column number to ReliabilityCurve)

    Examples
    --------
    >>> proba = [[0.8, 0.2], [0.8, 0.2], [0.2, 0.8], [0.2, 0.8]]
    >>> round(expected_calibration_error([0, 0, 1, 0], proba), 6), round(top_label_calibration_error([0, 0, 1, 0], proba), 6)
    (0.05, 0.25)
    """
    sample_weight = either_weights(sample_weight, inclusion, y)
    columns, probabilities, weights = checked_predictions(y, proba, classes, sample_weight)
    predicted, confidence = probabilities.argmax(axis=1), probabilities.max(axis=1)
    curves = {
        int(k): binned_calibration(
            confidence[rows],
            columns[rows] == k,
            n_bins=n_bins,
            strategy=strategy,
            closed=closed,
            sample_weight=weights[rows],
        )
        for k in np.unique(predicted[weights > 0])
        for rows in [predicted == k]
    }
    gaps = np.concatenate([np.abs(curve.accuracy - curve.confidence) for curve in curves.values()])
    mass = np.concatenate([curve.weight for curve in curves.values()])
    error = norm_of_gaps(gaps, mass / mass.sum(), norm)
    return (error, curves) if return_curve else error


def debiased_calibration_error(
    y: ArrayLike,
    proba: ArrayLike,
    *,
    n_bins: int = 15,
    strategy: str = "mass",
    target: str = "confidence",
    squared: bool = False,
    closed: str = "right",
    pos_label: Any = None,
    classes: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    inclusion: ArrayLike | None = None,
    return_curve: bool = False,
) -> Any:
    """Root mean square calibration error without the bias that chance alone adds on few rows.

    See `ReliabilityCurve.debiased_squared_error` for the formula and its source.

    Parameters
    ----------
    y, proba, n_bins, strategy, closed, pos_label, classes, sample_weight, inclusion
        As in `expected_calibration_error`. Weights count rows: a bin of weight below 2 adds nothing.
    target : {"confidence", "classwise"}
        One event, or every column, with the mean of the squared errors taken over the K columns.
    squared : bool
        Return the signed square, whose expected value is the true squared error of the bins.
    return_curve : bool
        Also return the bins, or with "classwise" one set of bins per column.

    Returns
    -------
    float in [0, 1], 0 if chance alone would give a larger error; or the signed square; or one of them with the bins

    Examples
    --------
    >>> y, proba = [0, 1, 0, 0] * 5, [[0.9, 0.1]] * 20
    >>> round(expected_calibration_error(y, proba, norm="l2"), 4), round(debiased_calibration_error(y, proba), 4)
    (0.15, 0.1124)
    """
    sample_weight = either_weights(sample_weight, inclusion, y)
    curves: Any
    if target == "confidence":
        curves = reliability_curve(
            y,
            proba,
            n_bins=n_bins,
            strategy=strategy,
            closed=closed,
            pos_label=pos_label,
            classes=classes,
            sample_weight=sample_weight,
        )
        square = curves.debiased_squared_error()
    elif target == "classwise":
        if pos_label is not None:
            raise InputError(f"pos_label={pos_label!r} is one class and target='classwise' means all; leave one out")
        _, curves = classwise_calibration_error(
            y,
            proba,
            n_bins=n_bins,
            strategy=strategy,
            closed=closed,
            classes=classes,
            sample_weight=sample_weight,
            return_curve=True,
        )
        square = float(np.mean([curve.debiased_squared_error() for curve in curves]))
    else:
        raise InputError(f"target={target!r} is unknown; expected 'confidence' or 'classwise'")
    error = square if squared else float(np.sqrt(max(0.0, square)))
    return (error, curves) if return_curve else error


def sweep_calibration_error(
    y: ArrayLike,
    proba: ArrayLike,
    *,
    norm: str = "l2",
    pos_label: Any = None,
    classes: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    inclusion: ArrayLike | None = None,
    return_curve: bool = False,
) -> Any:
    """Calibration error in equal-mass bins, as many as keep the accuracies increasing from bin to bin.

    The number of bins grows from 1 as long as no bin is less accurate than the one before (Roelofs et al. 2022,
    "Mitigating bias in calibration error estimation", algorithm 1), so that nobody has to choose it.

    Parameters
    ----------
    y, proba, norm, pos_label, classes, sample_weight, inclusion
        As in `expected_calibration_error`.
    return_curve : bool
        Also return the bins.

    Returns
    -------
    float in [0, 1], or (float, ReliabilityCurve)

    Examples
    --------
    >>> y, proba = [1, 0, 1, 1], [0.1, 0.2, 0.8, 0.9]
    >>> error, curve = sweep_calibration_error(y, proba, pos_label=1, return_curve=True)
    >>> round(error, 6), len(curve.weight)
    (0.27157, 3)
    """
    sample_weight = either_weights(sample_weight, inclusion, y)
    p, event, weights = checked_event(y, proba, classes, sample_weight, pos_label)
    best = curve_of_bins(p, event, weights, 1, "mass", "right")
    for n_bins in range(2, len(np.unique(p)) + 1):
        curve = curve_of_bins(p, event, weights, n_bins, "mass", "right")
        if (np.diff(curve.accuracy) < -1e-12).any():
            break
        best = curve
    error = best.error(norm)
    return (error, best) if return_curve else error
