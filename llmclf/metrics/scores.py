"""Proper scores and accuracy."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from ..errors import InputError
from .checks import checked_predictions, either_weights


def log_loss(
    y: ArrayLike,
    proba: ArrayLike,
    *,
    classes: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    inclusion: ArrayLike | None = None,
) -> float:
    """Mean of ``-log`` of the probability given to the true class.

    Parameters
    ----------
    y, proba, classes, sample_weight, inclusion
        As in `expected_calibration_error`.

    Returns
    -------
    float, at least 0, in nats
        Infinite if a true class was given probability 0: the score is defined so, and nothing is clipped.

    Raises
    ------
    InputError
        Any argument cannot be used.

    Examples
    --------
    >>> round(log_loss(["no", "yes"], [0.2, 0.7], classes=["no", "yes"]), 6)
    0.289909
    """
    sample_weight = either_weights(sample_weight, inclusion, y)
    columns, probabilities, weights = checked_predictions(y, proba, classes, sample_weight)
    # Rows with weight 0 are left out first, since 0 times an infinite loss is NaN.
    kept = weights > 0
    with np.errstate(divide="ignore"):
        losses = -np.log(probabilities[kept, columns[kept]])
    return float(np.average(losses, weights=weights[kept]))


def brier_score(
    y: ArrayLike,
    proba: ArrayLike,
    *,
    classes: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    inclusion: ArrayLike | None = None,
) -> float:
    """Mean squared distance between the row of probabilities and the true class, summed over all K columns.

    Parameters
    ----------
    y, proba, classes, sample_weight, inclusion
        As in `expected_calibration_error`.

    Returns
    -------
    float in [0, 2]
        Brier's own definition (1950). For two classes it is twice the mean of ``(P(class 1) - [y is class 1])**2``.

    Raises
    ------
    InputError
        Any argument cannot be used.

    Examples
    --------
    >>> round(brier_score([0, 1], [[0.8, 0.2], [0.3, 0.7]]), 6)
    0.13
    """
    sample_weight = either_weights(sample_weight, inclusion, y)
    columns, probabilities, weights = checked_predictions(y, proba, classes, sample_weight)
    distance = probabilities.copy()
    distance[np.arange(columns.size), columns] -= 1.0
    return float(np.average((distance**2).sum(axis=1), weights=weights))


def accuracy(
    y: ArrayLike,
    proba: ArrayLike,
    *,
    classes: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    inclusion: ArrayLike | None = None,
) -> float:
    """Share of rows whose most probable class is the true one; of equally probable classes the first counts.

    Parameters
    ----------
    y, proba, classes, sample_weight, inclusion
        As in `expected_calibration_error`.

    Returns
    -------
    float in [0, 1]

    Raises
    ------
    InputError
        Any argument cannot be used.

    Examples
    --------
    >>> accuracy([0, 1, 1], [[0.8, 0.2], [0.3, 0.7], [0.5, 0.5]], sample_weight=[1, 1, 2])
    0.5
    """
    sample_weight = either_weights(sample_weight, inclusion, y)
    columns, probabilities, weights = checked_predictions(y, proba, classes, sample_weight)
    return float(np.average(probabilities.argmax(axis=1) == columns, weights=weights))


def skill_score(
    y: ArrayLike,
    proba: ArrayLike,
    *,
    score: str = "log",
    classes: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    inclusion: ArrayLike | None = None,
) -> float:
    """Reduction of the loss relative to predicting the class frequencies: 1 is perfect, 0 useless, below 0 harmful.

    Parameters
    ----------
    y, proba, classes, sample_weight, inclusion
        As in `expected_calibration_error`.
    score : {"log", "brier"}
        `log_loss` or `brier_score`. scikit-learn calls the two results d2_log_loss_score and d2_brier_score.

    Returns
    -------
    float, at most 1; NaN if `y` holds a single class, whose frequency cannot be beaten

    Raises
    ------
    InputError
        Any argument cannot be used.

    Examples
    --------
    >>> round(skill_score([0, 1], [[0.8, 0.2], [0.3, 0.7]], score="brier"), 6)
    0.74
    """
    sample_weight = either_weights(sample_weight, inclusion, y)
    losses = {"log": log_loss, "brier": brier_score}
    if score not in losses:
        raise InputError(f"score={score!r} is unknown; expected 'log' or 'brier'")
    columns, probabilities, weights = checked_predictions(y, proba, classes, sample_weight)
    frequencies = np.bincount(columns, weights, minlength=probabilities.shape[1]) / weights.sum()
    baseline = losses[score](columns, np.tile(frequencies, (columns.size, 1)), sample_weight=weights)
    if baseline <= 0.0:
        return math.nan
    return 1.0 - losses[score](columns, probabilities, sample_weight=weights) / baseline
