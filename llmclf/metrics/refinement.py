"""How much of the log loss a simple recalibration would take away, and how much would stay."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ..errors import InputError
from ..logits import floor_missing, log_softmax
from ..numerics.folds import fold_weights
from ..numerics.solvers import fit_bias_temperature
from .checks import checked_predictions


def refinement_error(
    y: ArrayLike,
    proba: ArrayLike,
    *,
    classes: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    return_calibration: bool = False,
) -> Any:
    """Log loss that is left after recalibration by a bias and a temperature: what the probabilities know, in nats.

    Cross-validated: the two are fitted on four fifths of the rows and the loss taken on the rest, five times (Berta,
    Holzmüller, Jordan & Bach 2025, "Rethinking early stopping: refine, then calibrate"; the map is that of
    `BiasTemperatureCalibrator`). Log loss = refinement + calibration, so unlike a binned error the calibration part is in
    the units of the loss, speaks of all classes, and may be negative: nothing to correct, and the fit cost a little.

    Parameters
    ----------
    y, proba, classes, sample_weight
        As in `expected_calibration_error`. A probability of 0 is recalibrated as `llmclf.logits.floor_missing` says.
    return_calibration : bool
        Also return the log loss less the refinement, infinite where a true class was given probability 0.

    Returns
    -------
    float, or (float, float), in nats

    Raises
    ------
    InputError
        Any argument cannot be used, or fewer than two rows have weight.

    Examples
    --------
    >>> y, proba = [0, 1, 1, 0] * 50, [[0.9, 0.1], [0.1, 0.9], [0.9, 0.1], [0.9, 0.1]] * 50
    >>> refinement, calibration = refinement_error(y, proba, return_calibration=True)
    >>> round(refinement, 2), round(calibration, 2)
    (0.49, 0.17)
    """
    columns, probabilities, weights = checked_predictions(y, proba, classes, sample_weight)
    kept = weights > 0
    columns, probabilities, weights = columns[kept], probabilities[kept], weights[kept]
    with np.errstate(divide="ignore"):
        logs = np.log(probabilities)
    scores, _ = floor_missing(logs - logs.max(axis=1, keepdims=True))
    parts = fold_weights(scores, columns, weights)
    if np.count_nonzero(parts.any(axis=0)) < 2:
        raise InputError("refinement_error needs at least two rows of positive weight; give more labelled rows")
    loss = 0.0
    for own in parts.T:
        rest = weights - own
        held, seen = np.flatnonzero(own > 0), rest > 0
        if held.size:
            beta, bias, _ = fit_bias_temperature(scores[seen], columns[seen], rest[seen], float(probabilities.shape[1]))
            loss -= own[held] @ log_softmax(beta * scores[held] + bias)[np.arange(held.size), columns[held]]
    refinement = float(loss / weights.sum())
    if not return_calibration:
        return refinement
    raw = float(-(weights @ logs[np.arange(columns.size), columns]) / weights.sum())
    return refinement, raw - refinement
