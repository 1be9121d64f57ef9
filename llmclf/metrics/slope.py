"""Calibration slope and intercept: whether the probabilities are too extreme, or shifted."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import logit

from ..numerics.solvers import fit_logistic
from .checks import checked_event, either_weights

_NEAREST_TO_ONE = 1.0 - 2.0**-53


class CalibrationSlope(NamedTuple):
    """The line through the log-odds; slope 1 and intercept 0 if the probabilities are calibrated."""

    slope: float
    intercept: float


def calibration_slope(
    y: ArrayLike,
    proba: ArrayLike,
    *,
    pos_label: Any = None,
    classes: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    inclusion: ArrayLike | None = None,
) -> CalibrationSlope:
    """Logistic regression of the event on the log-odds of its probability.

    A slope below 1 means that the probabilities are too extreme, an intercept above 0 that they are too low (Cox 1958, "Two
    further applications of a model for binary regression"; "weak calibration" in Van Calster et al. 2016).

    Parameters
    ----------
    y, proba, pos_label, classes, sample_weight, inclusion
        As in `expected_calibration_error`. Probabilities of 0 and 1 are moved inwards by 1e-16.

    Returns
    -------
    CalibrationSlope
        ``(slope, intercept)``; NaN if the event always happened, or never.

    Raises
    ------
    InputError
        Any argument cannot be used.

    Examples
    --------
    >>> slope, intercept = calibration_slope([0, 0, 0, 1] * 9 + [1, 1, 1, 0] * 9, [0.1] * 36 + [0.9] * 36, pos_label=1)
    >>> round(slope, 6), round(intercept, 6) + 0.0
    (0.5, 0.0)
    """
    sample_weight = either_weights(sample_weight, inclusion, y)
    p, event, weights = checked_event(y, proba, classes, sample_weight, pos_label)
    if np.ptp(event) == 0.0:
        return CalibrationSlope(math.nan, math.nan)
    log_odds = logit(np.clip(p, 1.0 - _NEAREST_TO_ONE, _NEAREST_TO_ONE))
    slope, intercept = fit_logistic(log_odds[:, None], event, weights)
    return CalibrationSlope(float(slope), float(intercept))
