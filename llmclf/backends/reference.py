"""The definition made code, and a model that needs no model.

`ReferenceBackend` scores one (prompt, completion) pair at a time: no batch, no cache, no padding. It is slow and obviously
right, and every other backend is held to it. `FakeBackend` answers at once from a hash of the text; it is deterministic,
keeps the promises of the `Backend` protocol, and is meant for tests and examples.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import numpy as np

from ..logits import log_softmax
from .base import Request, RowScores, check_requests, needs_terminator
from .encoders import TokenizerEncoder
from .processing import TokenProcessing
from .tokens import TokenCodec


class ReferenceBackend:
    """Score with a transformers model, one plain forward pass per completion.

    Parameters
    ----------
    model : transformers causal language model
    tokenizer : its tokenizer
    context_length : int, optional
        The most tokens that the model may read; by default what its configuration says.
    """

    processes_logits: ClassVar[bool] = True

    def __init__(self, model: Any, tokenizer: Any, context_length: int | None = None) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self._codec = TokenCodec(TokenizerEncoder(tokenizer), context_length or model_context_length(model))

    def __repr__(self) -> str:
        return f"ReferenceBackend({type(self.model).__name__})"

    def identity(self) -> dict[str, Any]:
        return {"backend": "reference", "model": type(self.model).__name__}

    def score(self, requests: Sequence[Request]) -> Iterator[tuple[int, RowScores]]:
        check_requests(requests, processes_logits=True)
        for place, row in enumerate(self._codec.encode(requests)):
            logprobs = tuple(self.token_logprobs(row.context, target, row.processing) for target in row.targets)
            yield (
                place,
                RowScores(logprobs, characters_cut=row.characters_cut, healed=row.healed, terminated=row.terminated),
            )

    def token_logprobs(
        self, context: Sequence[int], target: Sequence[int], processing: TokenProcessing | None = None
    ) -> tuple[float, ...]:
        """log p(target[j] | context, target[:j]) for every j, in nats: by the model's own softmax, or a processed one."""
        logits = self._logits(context, target)
        if processing is not None:
            unconditional = self._logits(processing.unconditional, target) if processing.unconditional else None
            logits = processing.apply(logits, unconditional)
        return tuple(float(log_softmax(at)[token]) for at, token in zip(logits, target, strict=True))

    def _logits(self, context: Sequence[int], target: Sequence[int]) -> np.ndarray:
        """The logits (len(target), vocabulary) that predict each token of the target."""
        import torch

        ids = torch.tensor([[*context, *target]], device=self.model.device)
        with torch.inference_mode():
            logits = self.model(input_ids=ids, use_cache=False).logits[0]
        # The logits at a position predict the token after it.
        found: np.ndarray = logits[len(context) - 1 : -1].float().cpu().numpy()
        return found


def model_context_length(model: Any) -> int:
    """The most tokens that a transformers model can read at once, by its configuration."""
    config = model.config.get_text_config()
    for name in ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length"):
        length = getattr(config, name, None)
        if isinstance(length, int) and length > 0:
            return length
    return 1 << 30


class FakeBackend:
    """A deterministic model without weights: log-probabilities from a hash of the prompt's words and the completion.

    A completion has one token per word; each log-probability depends on the prompt's text, so the answers are neither
    constant nor random. Like a real model it is fallible: it knows nothing.

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
            yield place, RowScores(logprobs, terminated=terminated)

    def _logprob(self, text: str, path: str) -> float:
        digest = hashlib.sha256(f"{self.seed}\0{text}\0{path}".encode("utf-8", "surrogatepass")).digest()
        uniform = (int.from_bytes(digest[:6], "big") + 1) / (2**48 + 1)
        return min(0.0, math.log(uniform) * 2.0 - 0.5)
