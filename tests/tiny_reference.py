"""The tiny model of the fake servers as the definition has it, and what tests of several routes share."""

from __future__ import annotations

import math

import numpy as np
import pytest
from faults import CONTEXT, tiny_model

from llmclf import LLMClassifier, Prompt
from llmclf.backends import RowScores
from llmclf.backends.tokens.codec import TokenCodec
from llmclf.backends.tokens.transformers_encoder import TokenizerEncoder

EXACT = [
    ("vllm", "echo"),
    ("vllm", "named_tokens"),
    ("vllm", None),
    ("vllm_processed", "echo"),
    ("vllm_processed", "named_tokens"),
    ("llama_server", "grammar"),
]
"""Kinds of servers, and the exact routes over token ids that they allow."""
CHAT = Prompt("Review: {{ text }}\nGood or bad?", instruction="Judge films.", chat=True)


class TinyReference:
    """The definition on the tiny model: one pair at a time, from its own distribution."""

    def __init__(self, tokenizer: str) -> None:
        from transformers import AutoTokenizer

        self.model = tiny_model()
        self.codec = TokenCodec(TokenizerEncoder(AutoTokenizer.from_pretrained(tokenizer)), CONTEXT - 2)

    def identity(self):
        return {"backend": "tiny"}

    def score(self, requests):
        for place, row in enumerate(self.codec.encode(requests)):
            values = tuple(tuple(self.model.reference(row.context, target)) for target in row.targets)
            yield place, RowScores(values, (), (), row.characters_cut, row.healed, row.terminated)


def text_truth(prompt: str, label: str) -> float:
    """Probability that the tiny model writes a text, added over all ways to cut it into tokens."""
    model = tiny_model()
    pieces = [model.piece(token) for token in range(model.n_vocab)]

    def rest(ids: tuple[int, ...], remaining: str) -> float:
        if not remaining:
            return 1.0
        logprobs = model.logprobs(list(ids))
        return sum(
            math.exp(logprobs[token]) * rest((*ids, token), remaining[len(piece) :])
            for token, piece in enumerate(pieces)
            if token > 2 and piece and remaining.startswith(piece)
        )

    return rest(tuple(model.encode(prompt)), label)


def inside(answers, expected, slack=1e-6):
    """Every label's true score lies between its bounds, and its score is the middle of the two probabilities."""
    for row, truth in zip(answers, expected, strict=True):
        for low, high, value, wanted in zip(row.lower, row.upper, row.sums, truth.sums, strict=True):
            assert low - slack <= wanted <= high + slack
            assert low <= value <= high
            assert value == pytest.approx(math.log((math.exp(low) + math.exp(high)) / 2), abs=1e-9)


def noisy(backend, labels, texts, **options):
    """Classes that agree with the model more often than not, so that a calibrator has something to learn."""
    clf = LLMClassifier(backend, labels=labels, **{"prompt": "{{ text }}:", **options}).fit(texts)
    classes, guesses = clf.classes_.tolist(), clf.predict(texts).tolist()
    random = np.random.default_rng(0)
    return [str(random.choice(classes)) if random.random() < 0.4 else guess for guess in guesses]
