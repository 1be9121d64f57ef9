"""How much of the log loss a simple recalibration would remove, and how much would remain."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ..errors import InputError
from ..logits import floor_missing, log_softmax
from ..numerics.folds import fold_weights
from ..numerics.groups import group_numbers
from ..numerics.solvers import fit_bias_temperature
from .checks import checked_predictions


def refinement_error(
    y: ArrayLike,
    proba: ArrayLike,
    *,
    classes: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
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
    y, proba, classes, sample_weight
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
    columns, probabilities, weights = checked_predictions(y, proba, classes, sample_weight)
    kept = weights > 0
    members = None if groups is None else group_numbers(groups, columns.size)[kept]
    columns, probabilities, weights = columns[kept], probabilities[kept], weights[kept]
    with np.errstate(divide="ignore"):
        logs = np.log(probabilities)
    scores, _ = floor_missing(logs - logs.max(axis=1, keepdims=True))
    folds = fold_weights(scores, columns, weights, groups=members)
    if np.count_nonzero(folds.any(axis=0)) < 2:
        of_groups = "" if members is None else " of two groups"
        raise InputError(
            f"refinement_error needs at least two rows{of_groups} with positive weight; give more labelled rows"
        )
    loss = 0.0
    for test_weights in folds.T:
        train_weights = weights - test_weights
        test, train = np.flatnonzero(test_weights > 0), train_weights > 0
        if test.size:
            beta, bias, _ = fit_bias_temperature(
                scores[train], columns[train], train_weights[train], float(probabilities.shape[1])
            )
            log_proba = log_softmax(beta * scores[test] + bias)
            loss -= test_weights[test] @ log_proba[np.arange(test.size), columns[test]]
    refinement = float(loss / weights.sum())
    if not return_calibration:
        return refinement
    raw = float(-(weights @ logs[np.arange(columns.size), columns]) / weights.sum())
    return refinement, raw - refinement
