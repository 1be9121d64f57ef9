"""Have the probabilities moved from some rows to others, and are rows of the same confidence right as often?"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2_contingency, ks_2samp

from ..arrays import Floats
from .evidence import Evidence

_BINS = 10
_DRAWS = 1999


def score_shift(a: Evidence, proba: Floats, level: float) -> dict[str, Any]:
    """Have the probabilities moved? Seen without labels: the confidences' distribution and the predicted classes' shares."""
    confidence, predicted = proba.max(axis=1), proba.argmax(axis=1)
    moved = ks_2samp(a.confidence, confidence)
    counts = np.array([np.bincount(own, minlength=len(a.classes)) for own in (a.predicted, predicted)])
    shares = counts / counts.sum(axis=1, keepdims=True)
    seen = counts[:, counts.sum(axis=0) > 0]
    p_classes = float(chi2_contingency(seen).pvalue) if seen.shape[1] > 1 else 1.0
    # Two tests, one question (Holm).
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
        "moved": smallest < 1.0 - level,
    }


def calibration_change(a: Evidence, proba: Floats, columns: NDArray[Any], seed: int) -> dict[str, Any]:
    """Are rows of the same confidence right as often as before?

    In bins of equally many rows of both runs together, given how many of a bin's rows are right and how many belong to each run,
    the right ones of the first run follow the hypergeometric law if nothing changed; the sum over bins of their squared standard
    scores is compared with drawn ones. Exact for any number of rows.
    """
    confidence = np.concatenate([a.confidence, proba.max(axis=1)])
    right = np.concatenate([a.right, proba.argmax(axis=1) == columns])
    first = np.arange(confidence.size) < a.n_rows
    edges = np.unique(np.quantile(confidence, np.linspace(0, 1, _BINS + 1)[1:-1]))
    members = np.searchsorted(edges, confidence, side="left")
    total = np.bincount(members, minlength=edges.size + 1)
    own = np.bincount(members[first], minlength=total.size)
    hits = np.bincount(members[right], minlength=total.size)
    seen = np.bincount(members[first & right], minlength=total.size)
    kept = (own > 0) & (own < total) & (hits > 0) & (hits < total)
    total, own, hits, seen = (part[kept] for part in (total, own, hits, seen))
    mean = own * hits / total
    variance = mean * (1.0 - hits / total) * (total - own) / np.maximum(total - 1, 1)
    if not kept.any():
        return {"p_value": None, "statistic": None, "changed": None}
    statistic = float(((seen - mean) ** 2 / variance).sum())
    drawn = np.random.default_rng(seed).hypergeometric(hits, total - hits, own, size=(_DRAWS, own.size))
    values = ((drawn - mean) ** 2 / variance).sum(axis=1)
    p_value = float((1 + np.count_nonzero(values >= statistic - 1e-9)) / (_DRAWS + 1))
    return {"p_value": p_value, "statistic": statistic, "changed": p_value < 0.05}
