"""Drift between two sets of rows: have the probabilities moved, and are rows of the same confidence right equally often?"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2_contingency, ks_2samp

from ..arrays import Floats, Integers
from ..numerics.groups import first_members
from .evidence import Evidence

_BINS = 10
_DRAWS = 1999


def score_shift(a: Evidence, proba: Floats, level: float, clusters: Integers | None = None) -> dict[str, Any]:
    """Have the probabilities moved? Needs no labels: it looks at the confidences and at the shares of the predicted classes.

    Where rows belong together, the tests look at the first row of each cluster: they are made for independent rows.
    """
    alone = first_members(a.clusters, a.n_rows), first_members(clusters, len(proba))
    confidence, predicted = proba.max(axis=1), proba.argmax(axis=1)
    moved = ks_2samp(a.confidence[alone[0]], confidence[alone[1]])
    runs = a.predicted, predicted
    shares = np.array([np.bincount(columns, minlength=len(a.classes)) / columns.size for columns in runs])
    counts = np.array(
        [np.bincount(columns[rows], minlength=len(a.classes)) for columns, rows in zip(runs, alone, strict=True)]
    )
    observed = counts[:, counts.sum(axis=0) > 0]
    p_classes = float(chi2_contingency(observed).pvalue) if observed.shape[1] > 1 else 1.0
    # Two tests of one question (Holm).
    smallest = min(1.0, 2.0 * min(float(moved.pvalue), p_classes))
    return {
        "confidence_distance": float(moved.statistic),
        "confidence_p_value": float(moved.pvalue),
        "mean_confidence": [float(a.confidence.mean()), float(confidence.mean())],
        "predicted_shares": [
            {"class": name, "a": float(shares[0, k]), "b": float(shares[1, k])} for k, name in enumerate(a.names)
        ],
        "predicted_distance": float(np.abs(shares[0] - shares[1]).sum() / 2.0),
        "predicted_p_value": p_classes,
        "p_value": smallest,
        "moved": smallest < round(1.0 - level, 12),
    }


def calibration_change(
    a: Evidence, proba: Floats, columns: NDArray[Any], level: float, seed: int, clusters: Integers | None = None
) -> dict[str, Any]:
    """Are rows of the same confidence right as often as before?

    The rows of both runs together are put into bins of equally many rows. Given how many rows of a bin are right and how many
    belong to each run, the number of the first run's right rows follows the hypergeometric distribution if nothing changed. The
    squared standard scores of these numbers are summed over the bins and compared with simulated sums. Exact for any number of
    rows; where rows belong together, for the first row of each cluster, and the others are left out.
    """
    alone = first_members(a.clusters, a.n_rows), first_members(clusters, len(proba))
    confidence = np.concatenate([a.confidence[alone[0]], proba.max(axis=1)[alone[1]]])
    right = np.concatenate([a.right[alone[0]], (proba.argmax(axis=1) == columns)[alone[1]]])
    first = np.arange(confidence.size) < len(alone[0])
    edges = np.unique(np.quantile(confidence, np.linspace(0, 1, _BINS + 1)[1:-1]))
    members = np.searchsorted(edges, confidence, side="left")
    total = np.bincount(members, minlength=edges.size + 1)
    first_total = np.bincount(members[first], minlength=total.size)
    hits = np.bincount(members[right], minlength=total.size)
    first_hits = np.bincount(members[first & right], minlength=total.size)
    kept = (first_total > 0) & (first_total < total) & (hits > 0) & (hits < total)
    total, first_total, hits, first_hits = (part[kept] for part in (total, first_total, hits, first_hits))
    mean = first_total * hits / total
    variance = mean * (1.0 - hits / total) * (total - first_total) / np.maximum(total - 1, 1)
    if not kept.any():
        return {"p_value": None, "statistic": None, "changed": None}
    statistic = float(((first_hits - mean) ** 2 / variance).sum())
    drawn = np.random.default_rng(seed).hypergeometric(hits, total - hits, first_total, size=(_DRAWS, first_total.size))
    values = ((drawn - mean) ** 2 / variance).sum(axis=1)
    p_value = float((1 + np.count_nonzero(values >= statistic - 1e-9)) / (_DRAWS + 1))
    return {"p_value": p_value, "statistic": statistic, "changed": p_value < round(1.0 - level, 12)}
