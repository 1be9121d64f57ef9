"""Labelled rows and backends for races."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from llmclf.backends import FakeBackend, Request, RowScores
from llmclf.numerics.row_features import DenseFeatures
from llmclf.race.contest import LabelledRows


def labelled(
    n: int = 24, *, k: int = 2, signal: float = 0.0, scores: float = 0.0, seed: int = 0, groups: Any = None
) -> LabelledRows:
    """Rows whose words tell the class by `signal`, and whose label scores tell it by `scores`."""
    rng = np.random.default_rng(seed)
    columns = rng.permutation(np.arange(n) % k)
    words = rng.normal(size=(n, 3))
    words[:, :1] += signal * columns[:, None]
    return LabelledRows(
        rng.normal(size=(n, k)) + scores * np.eye(k)[columns],
        columns,
        np.arange(n) if groups is None else np.asarray(groups),
        {"tfidf": DenseFeatures(words)},
        ("tfidf",),
    )


ASKED: list[str] = []
"""The prompts that counting backends were asked about; a clone of a backend is another object, so this is no attribute."""


class CountingBackend(FakeBackend):
    """A `FakeBackend` that notes what it is asked."""

    def score(self, requests: Sequence[Request]) -> Iterator[tuple[int, RowScores]]:
        ASKED.extend(request.prompt.text for request in requests)
        yield from super().score(requests)


class StatesBackend(CountingBackend):
    """One that shows hidden states: they say how long the prompt is."""

    shows_states = True

    def score(self, requests: Sequence[Request]) -> Iterator[tuple[int, RowScores]]:
        ASKED.extend(request.prompt.text for request in requests)
        for place, request in enumerate(requests):
            (_, answer), *_ = FakeBackend(self.seed).score([_without_states(request)])
            states = None
            if request.states:
                length = float(len(request.prompt.text))
                states = np.array([[length, 1.0]] * len(request.states), dtype=np.float32).ravel()
            yield place, RowScores(answer.token_logprobs, state_parts=request.states, states=states)


def _without_states(request: Request) -> Request:
    return Request(request.prompt, request.completions, request.terminator, request.processing)


def texts(n: int = 24, start: int = 0) -> tuple[list[str], list[str]]:
    """Texts whose last word tells the class."""
    return [f"text {i} {'ab'[i % 2]}" for i in range(start, start + n)], ["no" if i % 2 else "yes" for i in range(n)]
