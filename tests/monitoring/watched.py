"""A classifier in use, simulated: what its certificate's rows got, and what later rows get."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from llmclf.certificates import ReferenceRows
from llmclf.monitoring import Baseline, DecisionLog, DecisionRecord

CLASSES = ("praise", "complaint")
THRESHOLD = 0.8


def draw(n: int, seed: int, gap: float = 0.0, shape: float = 1.2) -> tuple[Any, Any, Any]:
    """Probabilities (n, 2), true columns, and confidences; rows are right `gap` less often than they should be."""
    rng = np.random.default_rng(seed)
    confidence = 0.5 + 0.5 * rng.beta(shape, 0.4, n)
    label = rng.integers(0, 2, n)
    right = rng.random(n) < confidence - gap
    proba = np.where(np.arange(2) == label[:, None], confidence[:, None], 1 - confidence[:, None])
    return proba, np.where(right, label, 1 - label), confidence


def a_baseline(n: int = 600, **values: Any) -> Baseline:
    """A promise that the simulated classifier keeps."""
    proba, truth, confidence = draw(n, seed=1)
    reference = ReferenceRows(
        proba, confidence >= THRESHOLD, np.full(n, 0.9), np.zeros(n, dtype=bool), proba.argmax(axis=1) == truth
    )
    return Baseline(reference, CLASSES, **{"max_error": 0.07, "threshold": THRESHOLD, "certificate": "c1", **values})


def records(proba: Any, start: int = 0) -> list[DecisionRecord]:
    """What is logged of rows."""
    return [
        DecisionRecord(
            f"r{start + i}",
            1.7e9 + start + i,
            CLASSES[int(row.argmax())],
            tuple(row.tolist()),
            accepted=bool(row.max() >= THRESHOLD),
            label_mass=0.9,
        )
        for i, row in enumerate(proba)
    ]


def audit(truth: Any, rows: Any) -> pd.DataFrame:
    """True classes of some rows, in this order."""
    return pd.DataFrame({"id": [f"r{i}" for i in rows], "label": [CLASSES[truth[i]] for i in rows]})


def append_many(log: DecisionLog, name: str) -> None:
    """What each of several processes does with a log."""
    for number in range(60):
        log.append([DecisionRecord(f"{name}.{number}", 1e9, CLASSES[0], (0.75, 0.25))])
