"""A classifier on a tiny model whose labels are mostly what the model says, so that it can keep a promise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from llmclf import LLMClassifier

MAX_ERROR = 0.15
WORDS = ["river", "stone", "lamp", "paper", "cloud", "engine", "garden", "window"]


@dataclass(frozen=True)
class World:
    """Texts and labels for the fit, for the threshold, and fresh ones."""

    backend: Any
    texts: list[str]
    labels: np.ndarray

    FIT, THRESHOLD, FRESH = slice(0, 200), slice(200, 500), slice(500, 900)

    def of(self, part: slice) -> tuple[list[str], np.ndarray]:
        return self.texts[part], self.labels[part]

    def fitted(self, **options: Any) -> LLMClassifier:
        """A calibrated classifier with a threshold."""
        clf = LLMClassifier(
            self.backend, labels=["bad", "good"], prompt="{{ text }}:", **{"calibrator": "vector", **options}
        )
        clf.fit(*self.of(self.FIT))
        return clf.fit_threshold(*self.of(self.THRESHOLD), max_error=MAX_ERROR)


def make_world(backend: Any) -> World:
    """The label of a text is the model's, but for its preference for a label, and for some noise."""
    rng = np.random.default_rng(0)
    texts = [f"{' '.join(rng.choice(WORDS, 4))} {i}" for i in range(900)]
    scores = LLMClassifier(backend, labels=["bad", "good"], prompt="{{ text }}:").fit(texts[:1]).score_labels(texts)
    margin = scores[:, 1] - scores[:, 0]
    margin = (margin - np.median(margin)) / margin.std()
    return World(backend, texts, np.where(margin + 0.15 * rng.normal(size=900) > 0, "good", "bad"))
