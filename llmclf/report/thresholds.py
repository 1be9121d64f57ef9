"""The confidence above which rows can be accepted without review."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np

from ..arrays import Floats
from ..calibration import select_threshold
from ..errors import CalibrationWarning, InputError
from ..metrics import proportion_interval
from ..numerics.groups import effective_numbers
from .evidence import Evidence
from .measures import Settings, number

_MAX_POINTS = 400


def recommended(evidence: Evidence, settings: Settings) -> dict[str, Any]:
    """The threshold of `select_threshold`, or the reason why there is none.

    Returns
    -------
    dict
        ``max_error``, ``confidence``, ``threshold``, ``coverage``, ``n_accepted``, ``error``, ``error_bound``, and ``reason``:
        a sentence if there is no threshold (then ``threshold``, ``error`` and ``error_bound`` are None and nothing is accepted).
    """
    target = {"max_error": settings.max_error, "confidence": settings.confidence}
    nothing = {"threshold": None, "coverage": 0.0, "n_accepted": 0, "error": None, "error_bound": None}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", CalibrationWarning)
        try:
            chosen = select_threshold(
                evidence.columns,
                evidence.proba,
                max_error=settings.max_error,
                confidence=settings.confidence,
                groups=evidence.clusters,
            )
        except InputError as error:
            return {**target, **nothing, "reason": str(error)}
    if math.isinf(chosen.threshold):
        return {**target, **nothing, "reason": "; ".join(str(warning.message) for warning in caught)}
    return {
        **target,
        "threshold": chosen.threshold,
        "coverage": chosen.coverage,
        "n_accepted": chosen.n_accepted,
        "error": number(chosen.error),
        "error_bound": number(chosen.error_bound),
        "reason": None,
    }


def operating_points(evidence: Evidence, settings: Settings, chosen: float | None) -> list[dict[str, Any]]:
    """What happens at each of about four hundred thresholds at most, at even steps of coverage, beginning with all rows."""
    distinct = np.unique(evidence.confidence)
    if distinct.size > _MAX_POINTS:
        ranks = np.linspace(0, evidence.n_rows - 1, _MAX_POINTS).round().astype(int)
        distinct = np.unique(np.sort(evidence.confidence)[ranks])
    extra = [] if chosen is None else [chosen]
    return at_thresholds(evidence, settings, np.unique(np.concatenate([[0.0], distinct, extra])))


def at_thresholds(evidence: Evidence, settings: Settings, thresholds: Floats) -> list[dict[str, Any]]:
    """One dict per threshold.

    ``threshold``, ``coverage``, ``n_accepted``, ``n_wrong``, ``error`` with its exact interval ``low`` and ``high`` for this
    threshold alone, and ``cost`` per row: that of the wrong accepted rows and of the rows that a person reviews.
    """
    order = np.argsort(evidence.confidence, kind="stable")
    rising = evidence.confidence[order]
    wrong_from = np.concatenate([np.cumsum(~evidence.right[order][::-1])[::-1], [0]])
    first = np.searchsorted(rising, thresholds, side="left")
    n_accepted, n_wrong = evidence.n_rows - first, wrong_from[first]
    worth = np.ones(len(thresholds))
    if evidence.clusters is not None:
        falling = effective_numbers(evidence.clusters[order][::-1])
        worth[n_accepted > 0] = (falling[n_accepted - 1] / np.maximum(n_accepted, 1))[n_accepted > 0]
    low, high = proportion_interval(n_wrong * worth, n_accepted * worth, confidence_level=settings.confidence)
    return [
        {
            "threshold": float(thresholds[i]),
            "coverage": float(n_accepted[i] / evidence.n_rows),
            "n_accepted": int(n_accepted[i]),
            "n_wrong": int(n_wrong[i]),
            "error": float(n_wrong[i] / n_accepted[i]) if n_accepted[i] else None,
            "low": float(low[i]) if n_accepted[i] else None,
            "high": float(high[i]) if n_accepted[i] else None,
            "cost": float((n_wrong[i] * settings.cost_error + first[i] * settings.cost_review) / evidence.n_rows),
        }
        for i in range(len(thresholds))
    ]
