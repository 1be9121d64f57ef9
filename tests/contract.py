"""What every backend must satisfy: the same answers as the reference, whatever the batch, the order and the company.

Use: ``assert_contract(backend, reference)`` with a backend and a ReferenceBackend on the same model; ``assert_estimates`` where
scores are estimates, which no reference gives.
"""

from __future__ import annotations

import functools
import math
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import numpy as np

from llmclf import Prompt
from llmclf.backends import Backend, LocalBackend, ReferenceBackend, Request, RowScores
from llmclf.backends.base import EstimatesCost, processes_logits, sees_tokens
from llmclf.backends.local.weights import load
from llmclf.backends.logit_processing import Processing

TEXTS = [
    "A fine film.",
    "Neither funny nor sad, and far too long; I left before the end.",
    "Braces {{ 7*7 }} and {percent} %s stay as they are.",
    "Größe, café, 東京 🙂",
    "x",
    'He said: "never again".',
    "The plot is thin, but the actors were superb, and what a delight the music was from start to finish!",
]
LABELS = ["positive", "negative", "not spam", "not sure", "a person or a group"]


def requests_for(
    texts: Sequence[str] = TEXTS,
    labels: Sequence[str] = LABELS,
    prompt: Prompt | None = None,
    shots: Sequence[tuple[str, str]] = (("The film was a delight.", "positive"), ("What a waste of time.", "negative")),
) -> list[Request]:
    """Requests as a classifier would make them."""
    prompt = prompt or Prompt("Review: {{ text }}\nSentiment:")
    renderer = prompt.renderer(list(labels), [({"text": text}, word) for text, word in shots])
    completions = tuple(prompt.completion(label) for label in labels)
    terminator = prompt.request_terminator(completions)
    return [Request(renderer.render({"text": text}), completions, terminator) for text in texts]


def score(backend: Backend, requests: Sequence[Request]) -> list[RowScores]:
    """All answers in the order of the requests; each request is answered exactly once."""
    answers = list(backend.score(requests))
    assert sorted(place for place, _ in answers) == list(range(len(requests)))
    return [answer for _, answer in sorted(answers, key=lambda pair: pair[0])]


def in_order(groups: Iterable[list[tuple[int, RowScores]]]) -> list[RowScores]:
    """All answers of a stream in the order of the requests; each request is answered exactly once, and no group is empty."""
    answers: list[tuple[int, RowScores]] = []
    for group in groups:
        assert group
        answers += group
    assert sorted(place for place, _ in answers) == list(range(len(answers)))
    return [answer for _, answer in sorted(answers, key=lambda pair: pair[0])]


def assert_same(ours: Sequence[RowScores], expected: Sequence[RowScores], atol: float = 1e-4) -> None:
    """Token for token the same log-probabilities, within `atol` nats."""
    assert len(ours) == len(expected)
    for i, (row, reference) in enumerate(zip(ours, expected, strict=True)):
        assert [len(tokens) for tokens in row.token_logprobs] == [len(tokens) for tokens in reference.token_logprobs], i
        for k, (tokens, wanted) in enumerate(zip(row.token_logprobs, reference.token_logprobs, strict=True)):
            np.testing.assert_allclose(tokens, wanted, rtol=0.0, atol=atol, err_msg=f"row {i}, completion {k}")
        assert (row.characters_cut, row.healed, row.terminated) == (
            reference.characters_cut,
            reference.healed,
            reference.terminated,
        )


def assert_contract(backend: Backend, reference: Backend, atol: float = 1e-4) -> None:
    """The whole contract on a few texts of very different lengths."""
    requests = requests_for()
    expected = score(reference, requests)
    assert_same(score(backend, requests), expected, atol)
    # Order does not matter.
    order = list(range(len(requests)))
    random.Random(0).shuffle(order)
    assert_same(score(backend, [requests[i] for i in order]), [expected[i] for i in order], atol)
    # Company does not matter: each alone is as in the crowd.
    for request, answer in zip(requests, expected, strict=True):
        assert_same(score(backend, [request]), [answer], atol)
    # The order of the completions does not matter.
    turned = [Request(request.prompt, request.completions[::-1], request.terminator) for request in requests]
    for row, answer in zip(score(backend, turned), expected, strict=True):
        np.testing.assert_allclose(row.sums[::-1], answer.sums, rtol=0.0, atol=atol)
    if processes_logits(backend):
        # What is done to the logits is done as the reference does it, row by row, beside rows that are left as they are.
        processing = Processing(
            guidance=1.5, unconditional=requests[-1].prompt, logit_bias=((5, 2.0),), temperature=0.7
        )
        mixed = [replace(request, processing=processing if i % 2 else None) for i, request in enumerate(requests)]
        assert_same(score(backend, mixed), score(reference, mixed), atol)
    # Nothing asked, nothing answered.
    assert score(backend, []) == []
    identity = backend.identity()
    assert identity == backend.identity()
    assert identity


@functools.lru_cache
def plain_model(name: str):
    """Model and tokenizer as transformers loads them, untouched by the backend."""
    return load(name, "cpu", None)[:2]


def reference_for(backend: LocalBackend, context_length: int | None = None) -> ReferenceBackend:
    """The slow definition, over the same weights."""
    return ReferenceBackend(*plain_model(backend.name), context_length)


def assert_estimates(make: Callable[..., Backend], requests: Sequence[Request]) -> None:
    """What every route must satisfy whose scores are estimates with bounds.

    Parameters
    ----------
    make : callable
        A backend, with further options: ``seed``.
    requests : sequence of Request
        With the same labels.
    """
    backend = make()
    answers = score(backend, requests)
    for answer in answers:
        assert answer.error is None
        assert all(len(tokens) == 1 for tokens in answer.token_logprobs)
        for low, value, high in zip(answer.lower, answer.sums, answer.upper, strict=True):
            assert low <= value <= high <= 0.0
            assert math.isfinite(value)
        assert sum(map(math.exp, answer.sums)) <= 1.0 + 1e-9
        assert RowScores.from_json(answer.to_json()) == answer
    # Company and order of the rows do not matter, where the same seed asks the same.
    assert_same(score(backend, requests[::-1]), answers[::-1], 1e-9)
    assert_same(score(make(), requests[:1]), answers[:1], 1e-9)
    # Nor does the order of the labels: they are listed in orders of the row's own.
    turned = [replace(request, completions=request.completions[::-1]) for request in requests]
    for row, answer in zip(score(backend, turned), answers, strict=True):
        np.testing.assert_allclose(row.sums[::-1], answer.sums, rtol=0.0, atol=1e-9)
        np.testing.assert_allclose(row.lower[::-1], answer.lower, rtol=0.0, atol=1e-9)
    assert not sees_tokens(backend)
    assert score(backend, []) == []
    # Another seed is another question.
    identity = backend.identity()
    assert identity == make().identity()
    assert identity != make(seed=1).identity()
    if isinstance(backend, EstimatesCost):
        estimate = backend.estimate(requests)
        assert estimate.route == identity["route"]
