"""Proper scores and accuracy."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from .checks import checked_predictions


def log_loss(
    y: ArrayLike, proba: ArrayLike, *, classes: ArrayLike | None = None, sample_weight: ArrayLike | None = None
) -> float:
    """Mean of ``-log`` of the probability given to the true class.

    Parameters
    ----------
    y, proba, classes, sample_weight
        As in `expected_calibration_error`.

    Returns
    -------
    float, at least 0, in nats
        Infinite where a true class was given probability 0: that is what the score says, so nothing is clipped.

    Raises
    ------
    InputError
        Any argument cannot be used.

    Examples
    --------
    >>> round(log_loss(["no", "yes"], [0.2, 0.7], classes=["no", "yes"]), 6)
    0.289909
    """
    columns, probabilities, weights = checked_predictions(y, proba, classes, sample_weight)
    # Rows of weight 0 are left out first: 0 times an infinite loss is no number.
    kept = weights > 0
    with np.errstate(divide="ignore"):
        losses = -np.log(probabilities[kept, columns[kept]])
    return float(np.average(losses, weights=weights[kept]))


def brier_score(
    y: ArrayLike, proba: ArrayLike, *, classes: ArrayLike | None = None, sample_weight: ArrayLike | None = None
) -> float:
    """Mean squared distance between the row of probabilities and the true class, summed over all K columns.

    Parameters
    ----------
    y, proba, classes, sample_weight
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
    columns, probabilities, weights = checked_predictions(y, proba, classes, sample_weight)
    distance = probabilities.copy()
    distance[np.arange(columns.size), columns] -= 1.0
    return float(np.average((distance**2).sum(axis=1), weights=weights))


def accuracy(
    y: ArrayLike, proba: ArrayLike, *, classes: ArrayLike | None = None, sample_weight: ArrayLike | None = None
) -> float:
    """Share of rows whose most probable class is the true one; the first of equally probable classes counts.

    Parameters
    ----------
    y, proba, classes, sample_weight
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
    columns, probabilities, weights = checked_predictions(y, proba, classes, sample_weight)
    return float(np.average(probabilities.argmax(axis=1) == columns, weights=weights))
