"""What to do next, from what was found."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from scipy.stats import binom

from ..arrays import Floats
from ..calibration import select_threshold
from ..errors import CalibrationWarning, InputError
from .audited import AuditedRows
from .baseline import Baseline

EDGES = (0.0, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0)
"""Of the regions of confidence."""
_HALF_WIDTH = 0.05  # how exactly a region's share of right rows should be known before probabilities are fitted to it
_MOST_LABELS = 20_000


@dataclass(frozen=True)
class Action:
    """Something to do.

    Attributes
    ----------
    kind : {"continue", "audit", "certify", "recalibrate", "change_threshold", "stop"}
    text : str
    n_labels : int or None
        How many rows should be labelled for it.
    region : tuple (low, high) or None
        The confidences in which labels are needed most.
    threshold : float or None
        The new one.
    """

    kind: str
    text: str
    n_labels: int | None = None
    region: tuple[float, float] | None = None
    threshold: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for the report."""
        return {**asdict(self), "region": None if self.region is None else list(self.region)}


@dataclass(frozen=True)
class Region:
    """Rows of similar confidence.

    Attributes
    ----------
    low, high : float
        Rows from `low` on, below `high`; the last region has its end, too.
    reference_share, share : float or None
        Of the certificate's rows and of those since.
    n_audited, n_right : int
    mean_confidence : float or None
        Of its audited rows.
    """

    low: float
    high: float
    reference_share: float | None
    share: float | None
    n_audited: int
    n_right: int
    mean_confidence: float | None

    @property
    def gap(self) -> float:
        """How far confidence and the share of right rows differ, in standard errors; 0 without audited rows."""
        if self.mean_confidence is None:
            return 0.0
        p = self.mean_confidence
        return (self.n_right - self.n_audited * p) / math.sqrt(max(self.n_audited * p * (1.0 - p), 0.25))


def region_counts(confidence: Floats) -> Floats:
    """How many of n confidences lie in each region; NaN counts nowhere."""
    known = confidence[~np.isnan(confidence)]
    places = np.clip(np.searchsorted(EDGES, known, side="right") - 1, 0, len(EDGES) - 2)
    return np.bincount(places, minlength=len(EDGES) - 1).astype(np.float64)


def regions(reference: Floats, live: Floats, audited: AuditedRows | None) -> list[Region]:
    """The regions of confidence that have rows.

    Parameters
    ----------
    reference, live : ndarray (number of regions,)
        See `region_counts`.
    audited : AuditedRows or None
    """
    confidence = np.empty(0) if audited is None else audited.decisions.confidence
    right = np.empty(0) if audited is None else audited.right
    n, n_right = region_counts(confidence), region_counts(confidence[right.astype(bool)])
    found = []
    for place, (low, high) in enumerate(pairwise(EDGES)):
        if not reference[place] + live[place]:
            continue
        inside = (confidence >= low) & ((confidence < high) | (high == EDGES[-1]))
        found.append(
            Region(
                low,
                high,
                float(reference[place] / reference.sum()) if reference.sum() else None,
                float(live[place] / live.sum()) if live.sum() else None,
                int(n[place]),
                int(n_right[place]),
                float(confidence[inside].mean()) if inside.any() else None,
            )
        )
    return found


def labels_to_certify(error: float, max_error: float, confidence: float, power: float = 0.8) -> int | None:
    """How many accepted rows must be labelled so that an exact test shows the promise, with a probability of `power`.

    None if more than 20,000 are needed: then the promise is too near to the error.

    Parameters
    ----------
    error : float
        The share of accepted rows that is wrong, as it is hoped to be.
    max_error, confidence : float
        What is to be promised.

    Examples
    --------
    >>> labels_to_certify(0.02, 0.05, 0.95), labels_to_certify(0.05, 0.05, 0.95)
    (286, None)
    """
    if error >= max_error:
        return None
    n = np.arange(1, _MOST_LABELS + 1)
    tolerated = binom.ppf(1.0 - confidence, n, max_error) - 1
    tolerated += binom.cdf(tolerated + 1, n, max_error) <= 1.0 - confidence
    passes = binom.cdf(tolerated, n, error) >= power
    # From there on: by luck of whole numbers, fewer rows may do now and then.
    failing = np.flatnonzero(~passes)
    last = int(failing[-1]) + 1 if len(failing) else 0
    return None if last >= _MOST_LABELS else last + 1


def advice(
    kinds: Sequence[str],
    baseline: Baseline,
    all_regions: Sequence[Region],
    audited: AuditedRows | None,
    horizon: int,
) -> list[Action]:
    """What to do about alarms, the most urgent first.

    Parameters
    ----------
    kinds : sequence of {"promise", "calibration", "shift", "expired"}
        The alarms.
    baseline : Baseline
    all_regions : sequence of Region
    audited : AuditedRows or None
    horizon : int
        For how many accepted audited rows the test of the promise is made.
    """
    actions = []
    accepted = baseline.reference.accepted
    error = float(1.0 - baseline.reference.correct[accepted].mean()) if accepted.any() else 0.0
    needed = labels_to_certify(error, baseline.max_error, baseline.confidence)
    if "promise" in kinds and audited is not None:
        actions.append(_after_broken_promise(baseline, audited))
    if "promise" in kinds or "calibration" in kinds:
        actions.append(_recalibration(all_regions))
    if "shift" in kinds and not {"promise", "calibration"} & set(kinds):
        grown = max(all_regions, key=lambda one: (one.share or 0.0) - (one.reference_share or 0.0), default=None)
        where = (
            ""
            if grown is None
            else f", above all rows of confidence {_range(grown)}, of which there are more than before"
        )
        actions.append(
            Action(
                "audit",
                f"Find out whether the promise still holds: audit {horizon} accepted rows drawn at random{where}. A shift alone "
                "does not say that more rows are wrong.",
                n_labels=horizon,
                region=None if grown is None else (grown.low, grown.high),
            )
        )
    if {"promise", "calibration", "expired"} & set(kinds):
        many = (
            "more accepted rows than is practical, as the certified error is too near to the promise"
            if needed is None
            else f"about {needed} accepted rows that nothing was fitted on"
        )
        actions.append(
            Action(
                "certify",
                f"Then certify again, on labels of {many}." if actions else f"Certify again, on labels of {many}.",
                needed,
            )
        )
    if not actions:
        done = 0 if audited is None else len(audited.accepted)
        left = max(0, horizon - done)
        text = (
            f"Go on. Audit {left} more accepted rows drawn at random: with {horizon}, an error of twice the promise is found in "
            "about nine of ten cases."
            if left
            else "Go on, and keep auditing accepted rows drawn at random."
        )
        actions.append(Action("continue", text, n_labels=left or None))
    return actions


def _after_broken_promise(baseline: Baseline, audited: AuditedRows) -> Action:
    """A threshold above which the audited rows keep the promise, or the end of automation."""
    threshold = math.inf
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CalibrationWarning)
        try:
            threshold = select_threshold(
                audited.truth,
                audited.decisions.probabilities,
                max_error=baseline.max_error,
                confidence=baseline.confidence,
                classes=np.arange(len(baseline.classes)),
                inclusion=audited.inclusion,
            ).threshold
        except InputError:
            pass  # too few rows
    if math.isfinite(threshold) and threshold > (baseline.threshold or 0.0):
        kept = float((audited.decisions.confidence >= threshold).mean())
        return Action(
            "change_threshold",
            f"Accept rows from confidence {threshold:.4g} on: there the audited rows keep the promise, and {kept:.0%} of them "
            "are accepted.",
            threshold=threshold,
        )
    return Action(
        "stop",
        "Stop automation: no threshold keeps the promise on the audited rows. Let people look at every row until the classifier "
        "is certified again.",
    )


def _recalibration(all_regions: Sequence[Region]) -> Action:
    worst = max(all_regions, key=lambda one: abs(one.gap), default=None)
    if worst is None:
        return Action("recalibrate", "Recalibrate on newly labelled rows.")
    share = (worst.n_right + 1) / (worst.n_audited + 2)
    inside = math.ceil(1.96**2 * share * (1.0 - share) / _HALF_WIDTH**2)
    expected = worst.n_audited * (worst.mean_confidence or 0.0)
    found = f"{worst.n_right} of {worst.n_audited} audited rows are right there, {expected:.0f} were expected"
    return Action(
        "recalibrate",
        f"Recalibrate with {2 * inside} labels: {inside} of rows with confidence {_range(worst)} ({found}), the others of rows "
        "drawn at random.",
        n_labels=2 * inside,
        region=(worst.low, worst.high),
    )


def _range(region: Region) -> str:
    return f"from {region.low:g} to {region.high:g}"
