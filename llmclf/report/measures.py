"""The numbers of a report: how good the probabilities are, and how certain that is."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..arrays import Floats, Integers
from ..metrics import (
    aurc,
    calibration_slope,
    classwise_calibration_error,
    corp_decomposition,
    mean_interval,
    paired_difference,
    proportion_interval,
    refinement_error,
    smooth_calibration_error,
)
from ..metrics.grouped import row_worth
from ..metrics.intervals import interval_and_test
from ..metrics.means import MIN_ROWS
from .evidence import Evidence


@dataclass(frozen=True)
class Settings:
    """The settings of a report.

    Attributes
    ----------
    max_error, confidence : float
        The error budget for accepted rows, and the confidence level of keeping it and of all intervals.
    n_bins : int
    seed : int
    cost_error, cost_review : float
        The cost of one wrong accepted row, and of one row that a person reviews.
    """

    max_error: float
    confidence: float
    n_bins: int
    seed: int
    cost_error: float
    cost_review: float


# name -> (title, unit, which direction is better, meaning)
METRICS: dict[str, tuple[str, str, str, str]] = {
    "accuracy": ("Accuracy", "share", "higher", "Share of rows whose most probable class is the true one."),
    "confidence": (
        "Mean confidence",
        "share",
        "",
        "Mean probability of the most probable class; equal to the accuracy if calibrated.",
    ),
    "log_loss": ("Log loss", "nats", "lower", "Mean negative logarithm of the probability given to the true class."),
    "refinement": (
        "Log loss: refinement",
        "nats",
        "lower",
        "Log loss that remains after recalibration (a bias and a temperature, fitted on other rows): how well the "
        "probabilities separate the classes.",
    ),
    "calibration": (
        "Log loss: calibration",
        "nats",
        "lower",
        "Log loss that this recalibration removes; below 0, it finds nothing to remove.",
    ),
    "brier": ("Brier score", "", "lower", "Mean squared distance between the probabilities and the truth, 0 to 2."),
    "ece": (
        "Calibration error (ECE)",
        "share",
        "lower",
        "Mean distance between confidence and accuracy in bins of equal width. On few rows it is above 0 even for a "
        "calibrated model.",
    ),
    "smooth_ece": (
        "Smooth calibration error",
        "share",
        "lower",
        "The calibration error with a kernel instead of bins.",
    ),
    "classwise_ece": (
        "Classwise calibration error",
        "share",
        "lower",
        "The binned error of each class's probability, averaged over the classes.",
    ),
    "miscalibration": (
        "Brier: miscalibration",
        "",
        "lower",
        "The part of the confidence's Brier score that isotonic regression removes (CORP, MCB).",
    ),
    "discrimination": (
        "Brier: discrimination",
        "",
        "higher",
        "How well the confidence separates right rows from wrong ones (CORP, DSC).",
    ),
    "slope": (
        "Calibration slope",
        "",
        "1",
        "Slope of a logistic regression of correctness on the log-odds of the confidence; below 1, the confidence is too "
        "extreme.",
    ),
    "intercept": ("Calibration intercept", "", "0", "Intercept of the same regression; 0 if calibrated."),
    "aurc": (
        "Risk-coverage: area",
        "share",
        "lower",
        "Error among the most confident rows, averaged over all coverages.",
    ),
    "excess_aurc": (
        "Risk-coverage: excess",
        "share",
        "lower",
        "The area beyond that of a perfect ranking, which puts all right rows first.",
    ),
}


def measure(evidence: Evidence, settings: Settings) -> tuple[dict[str, Any], list[dict[str, str]]]:
    """Every metric with its uncertainty, and what could not be computed.

    Returns
    -------
    metrics : dict of name to dict
        ``title``, ``unit``, ``better``, ``meaning`` and ``after``: a dict of ``value``, ``low``, ``high``, and for the ECE also
        ``null_mean`` and ``p_value``; None where unknown. With probabilities before calibration also ``before``, of the same
        form, and ``change``: ``value``, ``low``, ``high``.
    not_computed : list of dict
        ``what`` and ``why``.
    """
    missing: list[dict[str, str]] = []
    after = _measure(evidence, evidence.proba, settings, missing, "")
    before = None
    if evidence.proba_before is not None:
        before = _measure(evidence, evidence.proba_before, settings, missing, " before calibration")
    metrics = {}
    for name, (title, unit, better, meaning) in METRICS.items():
        line: dict[str, Any] = {
            "title": title,
            "unit": unit,
            "better": better,
            "meaning": meaning,
            "after": after[name],
        }
        if before is not None:
            line["before"] = before[name]
            assert evidence.proba_before is not None
            line["change"] = change(
                name,
                evidence.columns,
                evidence.proba_before,
                evidence.proba,
                settings,
                before[name]["value"],
                after[name]["value"],
                evidence.clusters,
            )
        metrics[name] = line
    return metrics, missing


def number(value: float) -> float | None:
    """A number for JSON: None for NaN and infinity."""
    return float(value) if math.isfinite(value) else None


def entry(value: float, low: float = math.nan, high: float = math.nan, **more: float | None) -> dict[str, Any]:
    return {"value": number(value), "low": number(low), "high": number(high), **more}


def log_loss_entry(losses: Floats, proba: Floats, **options: Any) -> tuple[dict[str, Any], str | None]:
    """The mean of the rows' log losses with its interval, or the reason why none can be given.

    No true class can cost more than the least probable class of all rows of `proba`, which bounds what was not seen.
    """
    if np.isinf(losses).any():
        return entry(math.inf), "it is infinite"
    mean, least = float(losses.mean()), float(proba.min())
    groups = options.get("groups")
    number = losses.size * row_worth(groups, np.ones(losses.size))
    if number < MIN_ROWS - 1e-9:
        few = f"n = {losses.size} is too small"
        if groups is not None:
            few = f"clusters of these sizes count as {number:.2g} independent rows, too few"
        return entry(mean), f"{few} to know how large a loss can be; {MIN_ROWS} rows are needed"
    if least <= 0.0:
        n_rows = int((proba <= 0.0).any(axis=1).sum())
        return entry(mean), (
            f"a class has probability 0 in {n_rows} of the rows; the loss of a row with such a true class is infinite, so no "
            "upper limit is known"
        )
    if least >= 1.0:
        return entry(mean), "there is only one class"
    return entry(*mean_interval(losses, bounds=(0.0, -math.log(least)), **options)), None


def _measure(
    evidence: Evidence, proba: Floats, settings: Settings, missing: list[dict[str, str]], when: str
) -> dict[str, dict[str, Any]]:
    y, n_rows, level = evidence.columns, evidence.n_rows, settings.confidence

    def skip(what: str, why: str) -> None:
        missing.append({"what": what + when, "why": why})

    rows = np.arange(n_rows)
    confidence = proba.max(axis=1)
    right = proba.argmax(axis=1) == y
    with np.errstate(divide="ignore"):
        losses = -np.log(proba[rows, y])
    accuracy = float(right.mean())
    worth, clusters = evidence.worth(), evidence.clusters
    low, high = proportion_interval(right.sum() * worth, n_rows * worth, confidence_level=level)
    entries = {
        "accuracy": entry(accuracy, float(low), float(high)),
        "confidence": entry(float(confidence.mean())),
    }
    options: dict[str, Any] = {"confidence_level": level, "random_state": settings.seed, "groups": clusters}
    impossible = int(np.isinf(losses).sum())
    if impossible:
        skip("log loss", f"it is infinite: the true class has probability 0 in {impossible} of {n_rows} rows")
    entries["log_loss"], why = log_loss_entry(losses, proba, **options)
    if why and not impossible:
        skip("intervals of log loss", why)
    squares = proba.copy()
    squares[rows, y] -= 1.0
    entries["brier"] = entry(*mean_interval((squares**2).sum(axis=1), bounds=(0.0, 2.0), **options))
    if evidence.n_clusters >= 2:
        refinement, calibration = refinement_error(y, proba, return_calibration=True, groups=clusters)
    else:
        refinement, calibration = math.nan, math.nan
        skip(
            "refinement and calibration",
            "recalibration is fitted on some rows and evaluated on others, so it needs two rows at least"
            + ("" if clusters is None else ", of different clusters"),
        )
    entries["refinement"], entries["calibration"] = entry(refinement), entry(calibration)
    interval, test = interval_and_test(
        confidence,
        right.astype(np.float64),
        np.ones(n_rows),
        {"n_bins": settings.n_bins, "strategy": "uniform", "closed": "right"},
        n_resamples=999,
        **options,
    )
    entries["ece"] = entry(
        interval.error, interval.low, interval.high, null_mean=interval.null_mean, p_value=test.p_value
    )
    entries["smooth_ece"] = entry(smooth_calibration_error(y, proba))
    entries["classwise_ece"] = entry(classwise_calibration_error(y, proba, n_bins=settings.n_bins))
    corp = corp_decomposition(y, proba)
    entries["miscalibration"], entries["discrimination"] = entry(corp.miscalibration), entry(corp.discrimination)
    slope, intercept = calibration_slope(y, proba)
    if math.isnan(slope):
        skip(
            "calibration slope",
            f"all rows are {'right' if accuracy else 'wrong'}, so accuracy cannot rise with the confidence",
        )
    elif np.ptp(confidence) == 0.0:
        slope = intercept = math.nan
        skip("calibration slope", f"all rows have the same confidence, {confidence[0]:.4g}")
    entries["slope"], entries["intercept"] = entry(slope), entry(intercept)
    area = aurc(y, proba)
    entries["aurc"], entries["excess_aurc"] = entry(area.aurc), entry(area.excess)
    return entries


def change(
    name: str,
    columns: NDArray[np.intp],
    first: Floats,
    second: Floats,
    settings: Settings,
    value_first: float | None,
    value_second: float | None,
    clusters: Integers | None = None,
) -> dict[str, Any]:
    """The difference of a metric between two sets of probabilities (n, K) of the same rows, with an interval from the rows'
    paired differences where there is one."""
    if value_first is None or value_second is None:
        return entry(math.nan)
    if name not in ("accuracy", "log_loss", "brier", "ece"):
        return entry(value_second - value_first)
    options: dict[str, Any] = {"n_bins": settings.n_bins} if name == "ece" else {}
    paired = paired_difference(
        columns,
        first,
        second,
        metric=name,
        confidence_level=settings.confidence,
        random_state=settings.seed,
        groups=clusters,
        **options,
    )
    return entry(paired.difference, paired.low, paired.high)
