"""How much of the log loss a simple recalibration would remove, and how much would remain."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..arrays import Floats, Integers
from ..errors import InputError
from ..logits import floor_missing, log_softmax
from ..numerics.folds import fold_weights
from ..numerics.solvers import PRIOR_ROWS, fit_bias_temperature
from .checks import checked_predictions, either_weights
from .grouped import kept_groups


def refinement_error(
    y: ArrayLike,
    proba: ArrayLike,
    *,
    classes: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    inclusion: ArrayLike | None = None,
    return_calibration: bool = False,
    groups: ArrayLike | None = None,
) -> Any:
    """Log loss that remains after recalibration by a bias and a temperature, in nats: how informative the probabilities are.

    It is cross-validated: the two are fitted on four fifths of the rows and the loss is computed on the rest, five times
    (Berta, Holzmüller, Jordan & Bach 2025, "Rethinking early stopping: refine, then calibrate"; the map is that of
    `BiasTemperatureCalibrator`). Log loss = refinement + calibration. So unlike a binned error, the calibration part has the
    units of the loss and covers all classes. It may be negative if there is little to correct and the fit costs a little.

    Parameters
    ----------
    y, proba, classes, sample_weight, inclusion
        As in `expected_calibration_error`. A probability of 0 is recalibrated as `llmclf.logits.floor_missing` says.
    return_calibration : bool
        Also return the log loss minus the refinement; infinite if a true class was given probability 0.
    groups : array-like (n,), optional
        What each row belongs to, such as its text or its author: rows of a group are never on both sides of a fold. None: rows
        with equal probabilities belong together where there are at least 20 different ones.

    Returns
    -------
    float, or (float, float), in nats

    Raises
    ------
    InputError
        Any argument cannot be used, or fewer than two rows (of two groups) have positive weight.

    Examples
    --------
    >>> y, proba = [0, 1, 1, 0] * 50, [[0.9, 0.1], [0.1, 0.9], [0.9, 0.1], [0.9, 0.1]] * 50
    >>> refinement, calibration = refinement_error(y, proba, return_calibration=True)
    >>> round(refinement, 2), round(calibration, 2)
    (0.49, 0.17)
    """
    sample_weight = either_weights(sample_weight, inclusion, y)
    columns, probabilities, weights = checked_predictions(y, proba, classes, sample_weight)
    kept = weights > 0
    members = kept_groups(groups, columns.size, sample_weight)
    columns, probabilities, weights = columns[kept], probabilities[kept], weights[kept]
    recalibrated = recalibrate(columns, probabilities, weights, members)
    refinement = float(np.average(recalibrated.losses, weights=recalibrated.weights))
    if not return_calibration:
        return refinement
    with np.errstate(divide="ignore"):
        logs = np.log(probabilities[np.arange(columns.size), columns])
    raw = float(-(weights @ logs) / weights.sum())
    return refinement, raw - refinement


class Recalibrated(NamedTuple):
    """Log losses (n,) in nats of rows that were judged by what other rows taught.

    Attributes
    ----------
    losses : ndarray (n,)
        After a bias and a temperature.
    weights : ndarray (n,)
        Those given, up to rounding.
    """

    losses: Floats
    weights: Floats


def recalibrate(
    columns: NDArray[np.intp], proba: Floats, weights: Floats, groups: Integers | None = None
) -> Recalibrated:
    """Judge each row by a bias and a temperature that come from four fifths of the other rows.

    Parameters
    ----------
    columns : (n,)
        The column of each row's true class.
    proba : (n, K)
    weights : (n,)
        Positive.
    groups : (n,), optional
        Rows of one group do not judge each other. None: those with equal probabilities, as in `refinement_error`.

    Raises
    ------
    InputError
        There are fewer than two rows (of two groups).
    """
    with np.errstate(divide="ignore"):
        logs = np.log(proba)
    scores, _ = floor_missing(logs - logs.max(axis=1, keepdims=True))
    folds = fold_weights(scores, columns, weights, groups=groups)
    if np.count_nonzero(folds.any(axis=0)) < 2:
        of_groups = "" if groups is None else " of two groups"
        raise InputError(
            f"refinement_error needs at least two rows{of_groups} with positive weight; give more labelled rows"
        )
    n_classes = proba.shape[1]
    losses, totals = np.zeros(columns.size), np.zeros(columns.size)
    for test_weights in folds.T:
        train_weights = weights - test_weights
        test, train = np.flatnonzero(test_weights > 0), train_weights > 0
        if test.size:
            beta, bias, _ = fit_bias_temperature(
                scores[train], columns[train], train_weights[train], float(n_classes), PRIOR_ROWS
            )
            log_proba = log_softmax(beta * scores[test] + bias)
            losses[test] -= test_weights[test] * log_proba[np.arange(test.size), columns[test]]
            totals[test] += test_weights[test]
    return Recalibrated(losses / totals, totals)
