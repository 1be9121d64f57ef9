"""Whether a change made the probabilities better: two sets of them for the same rows."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from ..arrays import Floats
from ..checks import random_generator
from ..errors import InputError
from .checks import checked_predictions, either_weights
from .grouped import kept_groups, row_worth
from .intervals import calibration_interval
from .means import MIN_ROWS, check_confidence_level, check_n_resamples, mean_interval

_ROUNDING = 1e-6  # a smaller difference may be one between float32 and float64


class PairedDifference(NamedTuple):
    """The change of a metric from one set of probabilities to the other, with a confidence interval.

    Attributes
    ----------
    difference : float
        `after` minus `before`.
    low, high : float
        Confidence interval for the difference.
    before, after : float
    """

    difference: float
    low: float
    high: float
    before: float
    after: float


def paired_difference(
    y: ArrayLike,
    proba_before: ArrayLike,
    proba_after: ArrayLike,
    *,
    metric: str = "log_loss",
    confidence_level: float = 0.95,
    n_resamples: int = 1000,
    random_state: Any = None,
    classes: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    inclusion: ArrayLike | None = None,
    groups: ArrayLike | None = None,
    **options: Any,
) -> PairedDifference:
    """The change of a metric from one set of probabilities to another for the same rows.

    Log loss, Brier score and accuracy are means over rows, and their change is the mean of the rows' differences, so the
    difficulty of a row cancels out: the interval is that of `mean_interval` for the differences. Its bounds are the least and
    the greatest difference that any of the rows would have shown, whatever its true class; where fewer than ten rows differ, the
    least and the greatest that two losses can have. For the accuracy these are -1 and 1, and the interval excludes 0 if the exact
    test of McNemar (1947) finds a difference.

    The expected calibration error is not a mean over rows, and a bootstrap of its difference has almost no coverage if one of the
    two sets is calibrated. Its interval combines those of `calibration_interval` for the two sets, each with half of the error
    probability and with the same random numbers; it is wider than an interval for paired rows could be.

    Parameters
    ----------
    y, classes : as in `expected_calibration_error`
    proba_before, proba_after : array-like (n, K) or (n,)
    metric : {"log_loss", "brier", "accuracy", "ece"}
    confidence_level : float in (0, 1)
    n_resamples : int
    random_state : None, int or numpy Generator
    sample_weight : array-like (n,), optional
        Frequency weights: a weight of 2 counts the row twice.
    inclusion : array-like (n,), optional
        With what probability each row was drawn, where not all had the same: each counts ``1 / inclusion``, as one row. It
        takes the place of `sample_weight`.
    groups : array-like (n,), optional
        What each row belongs to, as in `mean_interval` and, for "ece", in `calibration_interval`. Wherever rows are counted,
        they count as many as the groups are worth.
    **options
        For "ece": `n_bins`, `strategy`, `closed` and `pos_label`.

    Returns
    -------
    PairedDifference
        ``(difference, low, high, before, after)``. For the log loss the ends are NaN if there are fewer than ten rows, or if a
        class has probability 0 in some row: it would make the loss infinite.

    Raises
    ------
    InputError
        Any argument cannot be used, or a log loss is infinite.

    Examples
    --------
    >>> y, before, after = [0, 1, 0, 1] * 25, [[0.99, 0.01], [0.3, 0.7], [0.2, 0.8], [0.1, 0.9]] * 25, [[0.6, 0.4]] * 100
    >>> result = paired_difference(y, before, after, metric="accuracy", random_state=0)
    >>> round(result.difference, 6), result.low < -0.25 < result.high < 0
    (-0.25, True)
    """
    sample_weight = either_weights(sample_weight, inclusion, y)
    check_confidence_level(confidence_level)
    check_n_resamples(n_resamples)
    if metric == "ece":
        return _calibration_error_difference(
            (y, proba_before, proba_after),
            confidence_level,
            n_resamples,
            random_state,
            classes,
            None if inclusion is not None else sample_weight,
            {**options, "groups": groups, "inclusion": inclusion},
        )
    if metric not in _ROW_VALUES:
        raise InputError(f"metric={metric!r} is unknown; expected 'log_loss', 'brier', 'accuracy' or 'ece'")
    if options:
        raise InputError(f"{sorted(options)[0]!r} is an option of metric='ece'; leave it out for {metric!r}")
    columns, before, weights = checked_predictions(y, proba_before, classes, sample_weight)
    _, after, _ = checked_predictions(y, proba_after, classes, sample_weight)
    if before.shape != after.shape:
        raise InputError(f"proba_before has shape {before.shape} and proba_after {after.shape}; expected the same")
    kept = weights > 0
    members = kept_groups(groups, columns.size, sample_weight)
    columns, weights = columns[kept], weights[kept]
    values, rows = _ROW_VALUES[metric], np.arange(columns.size)
    # What each row would show for each true class.
    possible = [values(proba[kept]) for proba in (before, after)]
    first, second = (losses[rows, columns] for losses in possible)
    for name, row_values in (("proba_before", first), ("proba_after", second)):
        if not np.isfinite(row_values).all():
            raise InputError(
                f"{name} gives probability 0 to the true class of row {np.flatnonzero(kept)[~np.isfinite(row_values)][0]}, so "
                "the log loss is infinite; use metric='brier', or probabilities above 0"
            )
    difference, low, high = mean_interval(
        second - first,
        bounds=_bounds(metric, possible[0], possible[1], weights * row_worth(members, weights)),
        confidence_level=confidence_level,
        n_resamples=n_resamples,
        random_state=random_state,
        sample_weight=None if inclusion is not None else weights,
        groups=members,
        inclusion=inclusion,
    )
    return PairedDifference(
        difference, low, high, float(np.average(first, weights=weights)), float(np.average(second, weights=weights))
    )


def _calibration_error_difference(
    data: tuple[ArrayLike, ArrayLike, ArrayLike],
    confidence_level: float,
    n_resamples: int,
    random_state: Any,
    classes: ArrayLike | None,
    sample_weight: ArrayLike | None,
    options: dict[str, Any],
) -> PairedDifference:
    y, *both = data
    seed = int(random_generator(random_state).integers(2**63))
    before, after = (
        calibration_interval(
            y,
            proba,
            confidence_level=(1.0 + confidence_level) / 2.0,
            n_resamples=n_resamples,
            random_state=seed,
            classes=classes,
            sample_weight=sample_weight,
            **options,
        )
        for proba in both
    )
    return PairedDifference(
        after.error - before.error, after.low - before.high, after.high - before.low, before.error, after.error
    )


def _bounds(metric: str, before: Floats, after: Floats, weights: Floats) -> tuple[float, float]:
    """The least and the greatest difference that a row can show."""
    if metric == "accuracy":
        return -1.0, 1.0
    if metric == "log_loss" and (weights.sum() < MIN_ROWS or not np.isfinite([before.max(), after.max()]).all()):
        return -math.inf, math.inf
    change = after - before
    if weights @ (np.abs(change) > _ROUNDING).any(axis=1) >= MIN_ROWS:
        return float(change.min()), float(change.max())
    return (-2.0, 2.0) if metric == "brier" else (-float(before.max()), float(after.max()))


def _log_losses(proba: Floats) -> Floats:
    with np.errstate(divide="ignore"):
        losses: Floats = -np.log(proba)
    return losses


def _brier_scores(proba: Floats) -> Floats:
    scores: Floats = (proba**2).sum(axis=1, keepdims=True) + 1.0 - 2.0 * proba
    return scores


def _accuracies(proba: Floats) -> Floats:
    right: Floats = (np.arange(proba.shape[1]) == proba.argmax(axis=1)[:, None]).astype(np.float64)
    return right


_ROW_VALUES = {"log_loss": _log_losses, "brier": _brier_scores, "accuracy": _accuracies}
