"""The numbers of a report: how good the probabilities are, and how sure that is."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..arrays import Floats
from ..metrics import (
    aurc,
    calibration_interval,
    calibration_slope,
    calibration_test,
    classwise_calibration_error,
    corp_decomposition,
    mean_interval,
    paired_difference,
    proportion_interval,
    refinement_error,
    smooth_calibration_error,
)
from .evidence import Evidence


@dataclass(frozen=True)
class Settings:
    """What a report was asked for.

    Attributes
    ----------
    max_error, confidence : float
        The error budget of accepted rows, and how sure it is to be kept; all intervals have this confidence, too.
    n_bins : int
    seed : int
    cost_error, cost_review : float
        Of one wrong accepted row and of one row that a person looks at.
    """

    max_error: float
    confidence: float
    n_bins: int
    seed: int
    cost_error: float
    cost_review: float


# name -> (title, unit, which direction is better, what it is)
METRICS: dict[str, tuple[str, str, str, str]] = {
    "accuracy": ("Accuracy", "share", "higher", "Share of rows whose most probable class is the true one."),
    "confidence": (
        "Mean confidence",
        "share",
        "",
        "Mean probability of the most probable class; the accuracy if calibrated.",
    ),
    "log_loss": ("Log loss", "nats", "lower", "Mean of -log of the probability given to the true class."),
    "refinement": (
        "Log loss: refinement",
        "nats",
        "lower",
        "Log loss that stays after a bias and a temperature fitted on other rows: what the probabilities know.",
    ),
    "calibration": (
        "Log loss: calibration",
        "nats",
        "lower",
        "Log loss that such a recalibration takes away; below 0 there is nothing to take away.",
    ),
    "brier": ("Brier score", "", "lower", "Mean squared distance between the probabilities and the truth, 0 to 2."),
    "ece": (
        "Calibration error (ECE)",
        "share",
        "lower",
        "Mean distance between confidence and accuracy in bins of equal width; never 0 on few rows, see the null mean.",
    ),
    "smooth_ece": ("Smooth calibration error", "share", "lower", "The same with a kernel instead of bins."),
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
        "Part of the confidence's Brier score that isotonic regression takes away (CORP, MCB).",
    ),
    "discrimination": (
        "Brier: discrimination",
        "",
        "higher",
        "What the confidence knows beyond its mean: how well it tells right rows from wrong ones (CORP, DSC).",
    ),
    "slope": (
        "Calibration slope",
        "",
        "1",
        "Of right on the log-odds of the confidence; below 1 the confidence is too extreme.",
    ),
    "intercept": ("Calibration intercept", "", "0", "Of the same line; 0 if calibrated."),
    "aurc": (
        "Risk-coverage: area",
        "share",
        "lower",
        "Error among the most confident rows, averaged over coverages.",
    ),
    "excess_aurc": (
        "Risk-coverage: excess",
        "share",
        "lower",
        "More than a confidence that puts all right rows first would have.",
    ),
}


def measure(evidence: Evidence, settings: Settings) -> tuple[dict[str, Any], list[dict[str, str]]]:
    """Every metric with what is known of its uncertainty, and what could not be computed.

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
    found = {}
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
            )
        found[name] = line
    return found, missing


def number(value: float) -> float | None:
    """A number as JSON has it: None for NaN and infinity."""
    return float(value) if math.isfinite(value) else None


def entry(value: float, low: float = math.nan, high: float = math.nan, **more: float | None) -> dict[str, Any]:
    return {"value": number(value), "low": number(low), "high": number(high), **more}


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
    low, high = proportion_interval(int(right.sum()), n_rows, confidence_level=level)
    found = {
        "accuracy": entry(accuracy, float(low), float(high)),
        "confidence": entry(float(confidence.mean())),
    }
    options: dict[str, Any] = {"confidence_level": level, "random_state": settings.seed}
    impossible = int(np.isinf(losses).sum())
    if impossible:
        skip("log loss", f"it is infinite: the true class has probability 0 in {impossible} of {n_rows} rows")
        found["log_loss"] = entry(math.inf)
    else:
        found["log_loss"] = entry(*mean_interval(losses, **options))
    squares = proba.copy()
    squares[rows, y] -= 1.0
    found["brier"] = entry(*mean_interval((squares**2).sum(axis=1), **options))
    if n_rows < 10:
        skip(
            "intervals of log loss and Brier score",
            f"n = {n_rows} is too few to see how they vary; ten rows are the least",
        )
    if n_rows >= 2:
        refinement, calibration = refinement_error(y, proba, return_calibration=True)
    else:
        refinement, calibration = math.nan, math.nan
        skip(
            "refinement and calibration", "recalibration is fitted on some rows and judged on others: it needs two rows"
        )
    found["refinement"], found["calibration"] = entry(refinement), entry(calibration)
    interval = calibration_interval(y, proba, n_bins=settings.n_bins, **options)
    test = calibration_test(y, proba, n_bins=settings.n_bins, n_resamples=499, random_state=settings.seed)
    found["ece"] = entry(
        interval.error, interval.low, interval.high, null_mean=interval.null_mean, p_value=test.p_value
    )
    found["smooth_ece"] = entry(smooth_calibration_error(y, proba))
    found["classwise_ece"] = entry(classwise_calibration_error(y, proba, n_bins=settings.n_bins))
    corp = corp_decomposition(y, proba)
    found["miscalibration"], found["discrimination"] = entry(corp.miscalibration), entry(corp.discrimination)
    slope, intercept = calibration_slope(y, proba)
    if math.isnan(slope):
        skip(
            "calibration slope",
            f"all rows are {'right' if accuracy else 'wrong'}, so nothing rises with the confidence",
        )
    elif np.ptp(confidence) == 0.0:
        slope = intercept = math.nan
        skip("calibration slope", f"all rows have the same confidence, {confidence[0]:.4g}")
    found["slope"], found["intercept"] = entry(slope), entry(intercept)
    area = aurc(y, proba)
    found["aurc"], found["excess_aurc"] = entry(area.aurc), entry(area.excess)
    return found


def change(
    name: str,
    columns: NDArray[np.intp],
    first: Floats,
    second: Floats,
    settings: Settings,
    value_first: float | None,
    value_second: float | None,
) -> dict[str, Any]:
    """The difference of a metric between two sets of probabilities (n, K) of the same rows, with an interval of the rows' paired
    differences where there is one."""
    if value_first is None or value_second is None:
        return entry(math.nan)
    if name not in ("accuracy", "log_loss", "brier", "ece"):
        return entry(value_second - value_first)
    options: dict[str, Any] = {"n_bins": settings.n_bins} if name == "ece" else {}
    found = paired_difference(
        columns,
        first,
        second,
        metric=name,
        confidence_level=settings.confidence,
        random_state=settings.seed,
        **options,
    )
    return entry(found.difference, found.low, found.high)
