"""The numbers of a report: how good the probabilities are, and how sure that is."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom, norm

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
    recalibrated,
    refinement_error,
    smooth_calibration_error,
)
from .evidence import Evidence

Floats = NDArray[np.float64]

_WIDE = 1000.0  # variance of a count above which its law is taken as normal
_NEVER = 1e-18  # what is rarer is left out of a law


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
        entry: dict[str, Any] = {
            "title": title,
            "unit": unit,
            "better": better,
            "meaning": meaning,
            "after": after[name],
        }
        if before is not None:
            entry["before"] = before[name]
            entry["change"] = _change(name, evidence, settings, before[name]["value"], after[name]["value"])
        found[name] = entry
    return found, missing


def number(value: float) -> float | None:
    """A number as JSON has it: None for NaN and infinity."""
    return float(value) if math.isfinite(value) else None


def _entry(value: float, low: float = math.nan, high: float = math.nan, **more: float | None) -> dict[str, Any]:
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
        "accuracy": _entry(accuracy, float(low), float(high)),
        "confidence": _entry(float(confidence.mean())),
    }
    options: dict[str, Any] = {"confidence_level": level, "random_state": settings.seed}
    impossible = int(np.isinf(losses).sum())
    if impossible:
        skip("log loss", f"it is infinite: the true class has probability 0 in {impossible} of {n_rows} rows")
        found["log_loss"] = _entry(math.inf)
    else:
        found["log_loss"] = _entry(*mean_interval(losses, **options))
    squares = proba.copy()
    squares[rows, y] -= 1.0
    found["brier"] = _entry(*mean_interval((squares**2).sum(axis=1), **options))
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
    found["refinement"], found["calibration"] = _entry(refinement), _entry(calibration)
    interval = calibration_interval(y, proba, n_bins=settings.n_bins, **options)
    test = calibration_test(y, proba, n_bins=settings.n_bins, n_resamples=499, random_state=settings.seed)
    found["ece"] = _entry(
        interval.error, interval.low, interval.high, null_mean=interval.null_mean, p_value=test.p_value
    )
    found["smooth_ece"] = _entry(smooth_calibration_error(y, proba))
    found["classwise_ece"] = _entry(classwise_calibration_error(y, proba, n_bins=settings.n_bins))
    corp = corp_decomposition(y, proba)
    found["miscalibration"], found["discrimination"] = _entry(corp.miscalibration), _entry(corp.discrimination)
    slope, intercept = calibration_slope(y, proba)
    if math.isnan(slope):
        skip(
            "calibration slope",
            f"all rows are {'right' if accuracy else 'wrong'}, so nothing rises with the confidence",
        )
    elif np.ptp(confidence) == 0.0:
        slope = intercept = math.nan
        skip("calibration slope", f"all rows have the same confidence, {confidence[0]:.4g}")
    found["slope"], found["intercept"] = _entry(slope), _entry(intercept)
    area = aurc(y, proba)
    found["aurc"], found["excess_aurc"] = _entry(area.aurc), _entry(area.excess)
    return found


def _change(
    name: str, evidence: Evidence, settings: Settings, before: float | None, after: float | None
) -> dict[str, float | None]:
    """What calibration changed, with an interval of the rows' paired differences where there is one."""
    if before is None or after is None:
        return _entry(math.nan)
    if name not in ("accuracy", "log_loss", "brier", "ece"):
        return _entry(after - before)
    assert evidence.proba_before is not None
    options: dict[str, Any] = {"n_bins": settings.n_bins} if name == "ece" else {}
    found = paired_difference(
        evidence.columns,
        evidence.proba_before,
        evidence.proba,
        metric=name,
        confidence_level=settings.confidence,
        random_state=settings.seed,
        **options,
    )
    return _entry(found.difference, found.low, found.high)


def class_rows(evidence: Evidence, settings: Settings) -> list[dict[str, Any]]:
    """One dict per class: how often it is true and said, precision, recall, and how its probability is calibrated."""
    n_classes = len(evidence.classes)
    support = np.bincount(evidence.columns, minlength=n_classes)
    said = np.bincount(evidence.predicted, minlength=n_classes)
    hits = np.bincount(evidence.predicted[evidence.right], minlength=n_classes)
    own_confidence = np.bincount(evidence.predicted, evidence.confidence, minlength=n_classes)
    level = settings.confidence
    precision, recall = (proportion_interval(hits, counts, confidence_level=level) for counts in (said, support))
    verdicts = surprises(evidence, evidence.predicted, n_classes, 1.0 - level)
    found = []
    for k, label in enumerate(evidence.names):
        error = calibration_interval(
            evidence.columns == k,
            evidence.proba[:, k],
            pos_label=1,
            n_bins=settings.n_bins,
            confidence_level=level,
            n_resamples=400,
            random_state=settings.seed,
        )
        found.append(
            {
                "class": label,
                "support": int(support[k]),
                "predicted": int(said[k]),
                "precision": _share(hits[k], said[k], precision, k),
                "recall": _share(hits[k], support[k], recall, k),
                "confidence": number(own_confidence[k] / said[k]) if said[k] else None,
                "ece": _entry(error.error, error.low, error.high, null_mean=error.null_mean),
                **verdicts[k],
            }
        )
    return found


def slice_rows(evidence: Evidence, settings: Settings, threshold: float) -> list[dict[str, Any]]:
    """One dict per slice of each partition, the largest first: the report's numbers for its rows alone."""
    found = []
    partitions = {name: np.unique(values, return_inverse=True) for name, values in evidence.groups.items()}
    # One family of tests: the more slices there are, the more surprising one must be.
    n_slices = sum(len(names) for names, _ in partitions.values())
    for partition, (names, members) in partitions.items():
        verdicts = surprises(evidence, members, len(names), 1.0 - settings.confidence, n_slices)
        for k in np.argsort(-np.bincount(members), kind="stable"):
            own = members == k
            found.append(
                {
                    "partition": partition,
                    "slice": str(names[k]),
                    **_slice(evidence, own, settings, threshold),
                    **verdicts[k],
                }
            )
    return found


def _slice(evidence: Evidence, own: NDArray[np.bool_], settings: Settings, threshold: float) -> dict[str, Any]:
    y, proba = evidence.columns[own], evidence.proba[own]
    level, n_rows, hits = settings.confidence, int(own.sum()), evidence.right[own]
    accuracy = proportion_interval(int(hits.sum()), n_rows, confidence_level=level)
    error = calibration_interval(
        y, proba, n_bins=settings.n_bins, confidence_level=level, n_resamples=400, random_state=settings.seed
    )
    with np.errstate(divide="ignore"):
        losses = -np.log(proba[np.arange(n_rows), y])
    loss = (
        _entry(math.inf)
        if np.isinf(losses).any()
        else _entry(*mean_interval(losses, confidence_level=level, n_resamples=400, random_state=settings.seed))
    )
    accepted = evidence.confidence[own] >= threshold
    wrong = int((~hits[accepted]).sum())
    bounds = proportion_interval(wrong, int(accepted.sum()), confidence_level=level)
    return {
        "n_rows": n_rows,
        "accuracy": _entry(float(hits.mean()), float(accuracy[0]), float(accuracy[1])),
        "confidence": float(evidence.confidence[own].mean()),
        "log_loss": loss,
        "ece": _entry(error.error, error.low, error.high, null_mean=error.null_mean),
        "coverage": float(accepted.mean()),
        "accepted_error": _share(wrong, int(accepted.sum()), bounds, ()),
    }


def _share(hits: Any, count: Any, bounds: tuple[Floats, Floats], k: Any) -> dict[str, Any]:
    if not count:
        return _entry(math.nan)
    return _entry(float(hits / count), float(bounds[0][k]), float(bounds[1][k]))


def surprises(
    evidence: Evidence, members: NDArray[Any], n_parts: int, doubt: float, n_tests: int | None = None
) -> list[dict[str, Any]]:
    """For each part of the rows: is it right more or less often than all rows are at the same confidences?

    How often a row of some confidence is right is read off all rows by isotonic regression. Given these frequencies the number
    of right rows in a part follows the Poisson-binomial law, whose two tails give an exact p-value, corrected for the number
    of parts (Holm 1979, "A simple sequentially rejective multiple test procedure").

    Returns
    -------
    list of dict
        ``expected_accuracy``, ``p_value`` (corrected; None for an empty part) and ``flag``: "worse", "better" or None.
    """
    usual = recalibrated(evidence.confidence, evidence.right.astype(np.float64), np.ones(evidence.n_rows))
    expected = np.bincount(members, usual, minlength=n_parts)
    counts = np.bincount(members, minlength=n_parts)
    hits = np.bincount(members, evidence.right, minlength=n_parts)
    order = np.argsort(members, kind="stable")
    parts = np.split(usual[order], np.cumsum(counts)[:-1])
    raw = np.array([two_sided(round(own), p) if p.size else math.nan for own, p in zip(hits, parts, strict=True)])
    corrected = _holm(raw, n_tests)
    found = []
    for k in range(n_parts):
        flag = None
        if corrected[k] < doubt:
            flag = "worse" if hits[k] < expected[k] else "better"
        found.append(
            {
                "expected_accuracy": number(expected[k] / counts[k]) if counts[k] else None,
                "p_value": number(corrected[k]),
                "flag": flag,
            }
        )
    return found


def two_sided(hits: int, p: Floats) -> float:
    """Twice the smaller tail of the Poisson-binomial law, at most 1: how surprising are `hits` successes of these chances?

    Equal chances are one binomial law each, and the laws are folded; where the spread is wide the law is normal.

    Examples
    --------
    >>> round(two_sided(0, np.array([0.5, 0.5, 0.5])), 12), two_sided(2, np.array([1.0, 1.0, 0.5]))
    (0.25, 1.0)
    """
    levels, counts = np.unique(p, return_counts=True)
    mean, variance = float(counts @ levels), float(counts @ (levels * (1.0 - levels)))
    if variance > _WIDE:
        spread = math.sqrt(variance)
        below, above = norm.cdf((hits + 0.5 - mean) / spread), norm.sf((hits - 0.5 - mean) / spread)
    else:
        law, first = np.ones(1), 0
        for level, count in zip(levels, counts, strict=True):
            low, high = int(binom.ppf(_NEVER, count, level)), int(binom.isf(_NEVER, count, level))
            law, first = np.convolve(law, binom.pmf(np.arange(low, high + 1), count, level)), first + low
        place = hits - first
        below, above = law[: max(0, place + 1)].sum(), law[max(0, place) :].sum()
    return float(min(1.0, 2.0 * min(below, above)))


def _holm(p_values: Floats, n_tests: int | None = None) -> Floats:
    """P-values that may be compared with the level itself; NaN stays. `n_tests` counts tests that are not among these, too."""
    corrected = np.full(p_values.shape, math.nan)
    order = np.argsort(p_values)[: np.count_nonzero(~np.isnan(p_values))]
    total = max(n_tests or 0, order.size)
    steps: Callable[[Floats], Floats] = np.maximum.accumulate
    corrected[order] = np.minimum(1.0, steps(p_values[order] * (total - np.arange(order.size))))
    return corrected
