"""Classes and slices: the numbers of each, and which of them differ from all rows beyond chance."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom, norm

from ..arrays import Floats
from ..metrics import calibration_interval, mean_interval, proportion_interval, recalibrated
from .evidence import Evidence
from .measures import Settings, entry, number

_NORMAL_VARIANCE = 1000.0  # above this variance a count is treated as normally distributed
_NEGLIGIBLE = 1e-18  # a tail of this probability is cut off


def class_rows(evidence: Evidence, settings: Settings) -> list[dict[str, Any]]:
    """One dict per class: how often it is true and predicted, precision, recall, and the calibration of its probability."""
    n_classes = len(evidence.classes)
    support = np.bincount(evidence.columns, minlength=n_classes)
    predicted = np.bincount(evidence.predicted, minlength=n_classes)
    hits = np.bincount(evidence.predicted[evidence.right], minlength=n_classes)
    total_confidence = np.bincount(evidence.predicted, evidence.confidence, minlength=n_classes)
    level = settings.confidence
    precision, recall = (
        proportion_interval(hits * worth, counts * worth, confidence_level=level)
        for counts, worth in (
            (predicted, _worths(evidence, evidence.predicted, n_classes)),
            (support, _worths(evidence, evidence.columns, n_classes)),
        )
    )
    verdicts = surprises(evidence, evidence.predicted, n_classes, 1.0 - level)
    entries = []
    for k, label in enumerate(evidence.names):
        error = calibration_interval(
            evidence.columns == k,
            evidence.proba[:, k],
            pos_label=1,
            n_bins=settings.n_bins,
            confidence_level=level,
            n_resamples=400,
            random_state=settings.seed,
            groups=evidence.clusters,
        )
        entries.append(
            {
                "class": label,
                "support": int(support[k]),
                "predicted": int(predicted[k]),
                "precision": _share(hits[k], predicted[k], precision, k),
                "recall": _share(hits[k], support[k], recall, k),
                "confidence": number(total_confidence[k] / predicted[k]) if predicted[k] else None,
                "ece": entry(error.error, error.low, error.high, null_mean=error.null_mean),
                **verdicts[k],
            }
        )
    return entries


def slice_rows(evidence: Evidence, settings: Settings, threshold: float) -> list[dict[str, Any]]:
    """One dict per slice of each partition, the largest first: the report's numbers, computed on its rows alone."""
    slices = []
    partitions = {name: np.unique(values, return_inverse=True) for name, values in evidence.groups.items()}
    # One family of tests: the more slices there are, the stronger the evidence against one must be.
    n_slices = sum(len(names) for names, _ in partitions.values())
    for partition, (names, members) in partitions.items():
        verdicts = surprises(evidence, members, len(names), 1.0 - settings.confidence, n_slices)
        for k in np.argsort(-np.bincount(members), kind="stable"):
            mask = members == k
            slices.append(
                {
                    "partition": partition,
                    "slice": str(names[k]),
                    **_slice(evidence, mask, settings, threshold),
                    **verdicts[k],
                }
            )
    return slices


def _slice(evidence: Evidence, mask: NDArray[np.bool_], settings: Settings, threshold: float) -> dict[str, Any]:
    y, proba = evidence.columns[mask], evidence.proba[mask]
    level, n_rows, hits = settings.confidence, int(mask.sum()), evidence.right[mask]
    worth, clusters = evidence.worth(mask), None if evidence.clusters is None else evidence.clusters[mask]
    accuracy = proportion_interval(hits.sum() * worth, n_rows * worth, confidence_level=level)
    options: dict[str, Any] = {
        "confidence_level": level,
        "n_resamples": 400,
        "random_state": settings.seed,
        "groups": clusters,
    }
    error = calibration_interval(y, proba, n_bins=settings.n_bins, **options)
    with np.errstate(divide="ignore"):
        losses = -np.log(proba[np.arange(n_rows), y])
    loss = entry(math.inf) if np.isinf(losses).any() else entry(*mean_interval(losses, **options))
    accepted = evidence.confidence[mask] >= threshold
    wrong = int((~hits[accepted]).sum())
    worth = evidence.worth(np.flatnonzero(mask)[accepted])
    bounds = proportion_interval(wrong * worth, accepted.sum() * worth, confidence_level=level)
    return {
        "n_rows": n_rows,
        "accuracy": entry(float(hits.mean()), float(accuracy[0]), float(accuracy[1])),
        "confidence": float(evidence.confidence[mask].mean()),
        "log_loss": loss,
        "ece": entry(error.error, error.low, error.high, null_mean=error.null_mean),
        "coverage": float(accepted.mean()),
        "accepted_error": _share(wrong, int(accepted.sum()), bounds, ()),
    }


def _worths(evidence: Evidence, members: NDArray[Any], n_parts: int) -> Floats:
    """How many independent rows a row of each part counts for."""
    return np.array([evidence.worth(members == k) for k in range(n_parts)])


def _share(hits: Any, count: Any, bounds: tuple[Floats, Floats], k: Any) -> dict[str, Any]:
    if not count:
        return entry(math.nan)
    return entry(float(hits / count), float(bounds[0][k]), float(bounds[1][k]))


def surprises(
    evidence: Evidence, members: NDArray[Any], n_parts: int, alpha: float, n_tests: int | None = None
) -> list[dict[str, Any]]:
    """For each part of the rows: is it right more or less often than all rows are at the same confidences?

    Isotonic regression on all rows gives the frequency of right rows at each confidence. Given these frequencies, the number of
    right rows in a part follows the Poisson-binomial distribution, whose two tails give an exact p-value, corrected for the
    number of parts (Holm 1979, "A simple sequentially rejective multiple test procedure").

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
    raw = np.array([two_sided(round(count), p) if p.size else math.nan for count, p in zip(hits, parts, strict=True)])
    corrected = _holm(raw, n_tests)
    entries = []
    for k in range(n_parts):
        flag = None
        if corrected[k] < alpha:
            flag = "worse" if hits[k] < expected[k] else "better"
        entries.append(
            {
                "expected_accuracy": number(expected[k] / counts[k]) if counts[k] else None,
                "p_value": number(corrected[k]),
                "flag": flag,
            }
        )
    return entries


def two_sided(hits: int, p: Floats) -> float:
    """Twice the smaller tail of the Poisson-binomial distribution, at most 1: how surprising are `hits` successes?

    `p` holds the probability of each trial. Equal probabilities form one binomial distribution each, and these are convolved.
    If the variance is large, the normal approximation is used.

    Examples
    --------
    >>> round(two_sided(0, np.array([0.5, 0.5, 0.5])), 12), two_sided(2, np.array([1.0, 1.0, 0.5]))
    (0.25, 1.0)
    """
    levels, counts = np.unique(p, return_counts=True)
    mean, variance = float(counts @ levels), float(counts @ (levels * (1.0 - levels)))
    if variance > _NORMAL_VARIANCE:
        spread = math.sqrt(variance)
        below, above = norm.cdf((hits + 0.5 - mean) / spread), norm.sf((hits - 0.5 - mean) / spread)
    else:
        masses, first = np.ones(1), 0
        for level, count in zip(levels, counts, strict=True):
            low, high = int(binom.ppf(_NEGLIGIBLE, count, level)), int(binom.isf(_NEGLIGIBLE, count, level))
            masses, first = np.convolve(masses, binom.pmf(np.arange(low, high + 1), count, level)), first + low
        index = hits - first
        below, above = masses[: max(0, index + 1)].sum(), masses[max(0, index) :].sum()
    return float(min(1.0, 2.0 * min(below, above)))


def _holm(p_values: Floats, n_tests: int | None = None) -> Floats:
    """P-values to compare with the level itself; NaN stays NaN. `n_tests` also counts tests that are not among these."""
    corrected = np.full(p_values.shape, math.nan)
    order = np.argsort(p_values)[: np.count_nonzero(~np.isnan(p_values))]
    total = max(n_tests or 0, order.size)
    steps: Callable[[Floats], Floats] = np.maximum.accumulate
    corrected[order] = np.minimum(1.0, steps(p_values[order] * (total - np.arange(order.size))))
    return corrected
