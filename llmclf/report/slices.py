"""Classes and slices: the numbers of each, and which of them differ from the other rows beyond chance."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..arrays import Floats
from ..metrics import calibration_interval, proportion_interval
from .evidence import Evidence
from .measures import Settings, entry, log_loss_entry, number
from .stratified import PartTest, compare_parts


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
    verdicts = surprises(evidence, evidence.predicted, n_classes, round(1.0 - level, 12), settings.seed)
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
    slices: list[dict[str, Any]] = []
    partitions = {name: np.unique(values, return_inverse=True) for name, values in evidence.groups.items()}
    if not partitions:
        return slices
    # One family of tests: the more slices there are, the stronger the evidence against one must be.
    alpha = round(1.0 - settings.confidence, 12)
    tests = compare_parts(
        evidence.confidence,
        evidence.right,
        [(members, len(names)) for names, members in partitions.values()],
        alpha=alpha,
        seed=settings.seed,
    )
    for (partition, (names, members)), verdicts in zip(partitions.items(), tests, strict=True):
        for k in np.argsort(-np.bincount(members), kind="stable"):
            mask = members == k
            slices.append(
                {
                    "partition": partition,
                    "slice": str(names[k]),
                    **_slice(evidence, mask, settings, threshold),
                    **_surprise(verdicts[k], alpha),
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
    loss, _ = log_loss_entry(losses, evidence.proba, **options)
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
    evidence: Evidence, members: NDArray[Any], n_parts: int, alpha: float, seed: int = 0
) -> list[dict[str, Any]]:
    """For each part of the rows: is it right more or less often than the other rows of the same confidence?

    Returns
    -------
    list of dict
        ``expected_accuracy`` of the other rows; ``expected_low`` and ``expected_high``, between which chance allows the part's
        accuracy to lie; ``p_value``, corrected for the number of parts; and ``flag``: "worse" or "better" if the accuracy is
        outside, else None. Numbers are None for an empty part, and if no other row has the same confidence.
    """
    tests = compare_parts(evidence.confidence, evidence.right, [(members, n_parts)], alpha=alpha, seed=seed)
    return [_surprise(test, alpha) for test in tests[0]]


def _surprise(test: PartTest, alpha: float) -> dict[str, Any]:
    flag = None
    if test.p_value < alpha:
        flag = "worse" if test.accuracy < test.expected else "better"
    return {
        "expected_accuracy": number(test.expected),
        "expected_low": number(test.low),
        "expected_high": number(test.high),
        "p_value": number(test.p_value),
        "flag": flag,
    }
