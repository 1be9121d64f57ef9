"""The CORP decomposition of a proper score into miscalibration, discrimination and uncertainty."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import isotonic_regression

from ..arrays import Floats
from ..errors import InputError
from .checks import checked_event, checked_predictions, either_weights


@dataclass(frozen=True)
class CorpDecomposition:
    """``score = miscalibration - discrimination + uncertainty``.

    Attributes
    ----------
    score : float
        The mean score of the probabilities.
    miscalibration : float, at least 0
        How much recalibration by an increasing curve would improve the score; infinite if the log score is infinite.
    discrimination : float, at least 0
        How much better the recalibrated probabilities score than the frequency of the event.
    uncertainty : float
        The score of that frequency.
    """

    score: float
    miscalibration: float
    discrimination: float
    uncertainty: float


def corp_decomposition(
    y: ArrayLike,
    proba: ArrayLike,
    *,
    score: str = "brier",
    target: str = "confidence",
    pos_label: Any = None,
    classes: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    inclusion: ArrayLike | None = None,
) -> CorpDecomposition:
    """Miscalibration, discrimination and uncertainty without bins (CORP).

    The probabilities are recalibrated by isotonic regression (Dimitriadis, Gneiting & Jordan 2021, "Stable reliability
    diagrams for probabilistic classifiers"). On few rows miscalibration is biased upwards, as every such measure is.

    Parameters
    ----------
    y, proba, pos_label, classes, sample_weight, inclusion
        As in `expected_calibration_error`.
    score : {"brier", "log"}
        The squared difference of probability and event, or the negative log-likelihood in nats.
    target : {"confidence", "classwise"}
        One event, or every column against its class, summed: with "brier" the sum is `brier_score`.

    Returns
    -------
    CorpDecomposition

    Raises
    ------
    InputError
        Any argument cannot be used.

    Examples
    --------
    >>> parts = corp_decomposition([0, 1, 0, 1], [0.1, 0.4, 0.6, 0.9], pos_label=1)
    >>> round(parts.miscalibration, 6), round(parts.discrimination, 6), round(parts.uncertainty, 6)
    (0.06, 0.125, 0.25)
    """
    sample_weight = either_weights(sample_weight, inclusion, y)
    losses = {"brier": _brier, "log": _log}
    if score not in losses:
        raise InputError(f"score={score!r} is unknown; expected 'brier' or 'log'")
    loss = losses[score]
    if target == "confidence":
        return _decompose(*checked_event(y, proba, classes, sample_weight, pos_label), loss)
    if target != "classwise":
        raise InputError(f"target={target!r} is unknown; expected 'confidence' or 'classwise'")
    if pos_label is not None:
        raise InputError(f"pos_label={pos_label!r} is one class and target='classwise' means all; leave one out")
    columns, probabilities, weights = checked_predictions(y, proba, classes, sample_weight)
    kept = weights > 0
    parts = [
        _decompose(probabilities[kept, k], (columns[kept] == k).astype(np.float64), weights[kept], loss)
        for k in range(probabilities.shape[1])
    ]
    return CorpDecomposition(
        *(
            float(sum(getattr(part, name) for part in parts))
            for name in ("score", "miscalibration", "discrimination", "uncertainty")
        )
    )


def recalibrated(p: Floats, event: Floats, weights: Floats) -> Floats:
    """The frequency of the event as an increasing function of its probability: isotonic regression with pooled ties."""
    _, members = np.unique(p, return_inverse=True)
    mass = np.bincount(members, weights)
    frequency = np.bincount(members, weights * event) / mass
    fitted: Floats = isotonic_regression(frequency, weights=mass).x.clip(0.0, 1.0)[members]
    return fitted


def _decompose(p: Floats, event: Floats, weights: Floats, loss: Any) -> CorpDecomposition:
    shares = weights / weights.sum()
    score = float(shares @ loss(p, event))
    recalibrated_score = float(shares @ loss(recalibrated(p, event, weights), event))
    uncertainty = float(shares @ loss(np.full_like(p, shares @ event), event))
    return CorpDecomposition(score, score - recalibrated_score, uncertainty - recalibrated_score, uncertainty)


def _brier(p: Floats, event: Floats) -> Floats:
    result: Floats = (p - event) ** 2
    return result


def _log(p: Floats, event: Floats) -> Floats:
    with np.errstate(divide="ignore"):
        result: Floats = -np.log(np.where(event == 1.0, p, 1.0 - p))
    return result
