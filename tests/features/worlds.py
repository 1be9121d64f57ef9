"""Rows and a model for the tests of features."""

from __future__ import annotations

import numpy as np

from llmclf.backends import FakeBackend

Y = np.where(np.random.default_rng(0).random(40) < 0.5, "fine", "dull")
X = [f"{'grand lovely' if y == 'fine' else 'slow grey'} thing number {i}" for i, y in enumerate(Y)]


class Counting(FakeBackend):
    """Counts what it is asked."""

    def __init__(self):
        super().__init__()
        self.n = 0

    def score(self, requests):
        self.n += len(requests)
        return super().score(requests)
