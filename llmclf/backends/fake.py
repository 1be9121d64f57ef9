"""A backend without a model: it answers from a hash of the text, at once, for tests and examples."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterator, Sequence
from typing import Any

from .nested_labels import without_longer
from .requests import Request, RowScores, check_requests, needs_terminator


class FakeBackend:
    """A deterministic model without weights: log-probabilities from a hash of the prompt's words and the completion.

    A completion has one token per word; each log-probability depends on the prompt's text, so the answers are neither
    constant nor random. It knows nothing, so its labels are often wrong.

    Parameters
    ----------
    seed : int
        Another seed is another model.

    Examples
    --------
    >>> from llmclf import LLMClassifier
    >>> clf = LLMClassifier(FakeBackend(), labels=["yes", "no"]).fit(["good", "bad"])
    >>> clf.predict_proba(["good"]).shape
    (1, 2)
    """

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    def __repr__(self) -> str:
        return f"FakeBackend(seed={self.seed})"

    def identity(self) -> dict[str, Any]:
        return {"backend": "fake", "seed": self.seed}

    def score(self, requests: Sequence[Request]) -> Iterator[tuple[int, RowScores]]:
        check_requests(requests)
        for place, request in enumerate(requests):
            text = request.prompt.text
            tokens = [tuple(re.findall(r"\S+", completion)) or (completion,) for completion in request.completions]
            terminated = request.terminator == "eos" or (request.terminator == "auto" and needs_terminator(tokens))
            if terminated:
                tokens = [(*words, "<eos>") for words in tokens]
            logprobs = tuple(
                tuple(self._logprob(text, " ".join(words[: j + 1])) for j in range(len(words))) for words in tokens
            )
            if request.terminator == "longest" and needs_terminator(tokens):
                words = sorted({word for target in tokens for word in target})
                logprobs = without_longer([[words.index(word) for word in target] for target in tokens], logprobs)
            yield place, RowScores(logprobs, terminated=terminated)

    def _logprob(self, text: str, path: str) -> float:
        digest = hashlib.sha256(f"{self.seed}\0{text}\0{path}".encode("utf-8", "surrogatepass")).digest()
        uniform = (int.from_bytes(digest[:6], "big") + 1) / (2**48 + 1)
        return min(0.0, math.log(uniform) * 2.0 - 0.5)
