"""The distribution of the next token, before and after a chain of processors."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..arrays import Floats
from ..logits import Processor, apply_chain, entropy, log_softmax

N_SHOWN = 30
"""How many of the likeliest tokens are listed."""


@dataclass(frozen=True, eq=False)
class NextTokens:
    """What comes next by the model, and by the chain.

    Attributes
    ----------
    logits : ndarray (vocabulary,)
        Before the chain.
    processors : tuple of Processor
    context : tuple of int
        The tokens before, as penalties count them.
    named : mapping of token id -> label words
        Tokens with which labels begin; like those with an offset they are listed however unlikely they are.
    texts : callable of token ids
        What each token adds to a text.
    """

    logits: Floats
    processors: tuple[Processor, ...]
    context: tuple[int, ...]
    named: Mapping[int, Sequence[str]]
    texts: Callable[[Sequence[int]], list[str]]

    @property
    def offsets(self) -> dict[int, float]:
        """The chain's logit bias."""
        return {
            int(token): float(offset)
            for step in self.processors
            if step.name == "logit_bias"
            for token, offset in step.value.items()
        }

    def to_dict(self) -> dict[str, Any]:
        """Plain values, the tokens in the order of their probability after the chain and, among those cut, before it."""
        before, processed = log_softmax(self.logits), apply_chain(self.logits, self.processors, self.context)
        after = log_softmax(processed)
        # Equal ones in the order of their ids, as argmax takes them.
        rank = np.empty(len(before), dtype=np.int64)
        rank[np.argsort(-before, kind="stable")] = np.arange(1, len(before) + 1)
        order = np.lexsort((rank, -after))
        listed = order[:N_SHOWN].tolist()
        listed += [token for token in order[N_SHOWN:].tolist() if token in self.named or token in self.offsets]
        tokens = [
            {
                "rank": int(rank[token]),
                "token": text,
                "id": token,
                "logit": float(self.logits[token]),
                "logprob": float(before[token]),
                "probability": float(np.exp(before[token])),
                "kept": bool(np.isfinite(after[token])),
                "processed_logprob": float(after[token]) if np.isfinite(after[token]) else None,
                "processed_probability": float(np.exp(after[token])),
                "labels": list(self.named.get(token, ())),
                "offset": plain_value(self.offsets.get(token)),
            }
            for token, text in zip(listed, self.texts(listed), strict=True)
        ]
        return {
            "vocabulary": len(before),
            "context_tokens": len(self.context),
            "processors": [{"name": step.name, "value": plain_value(step.value)} for step in self.processors],
            "entropy": float(entropy(self.logits)),
            "processed_entropy": float(entropy(processed)),
            "kept": int(np.isfinite(after).sum()),
            "listed_probability": float(np.exp(before[listed]).sum()),
            "tokens": tokens,
        }


def plain_value(value: Any) -> Any:
    """A processor's value as JSON has it: offsets as pairs, since JSON's keys are not numbers, and infinities as text."""
    if isinstance(value, Mapping):
        return [[int(token), plain_value(float(offset))] for token, offset in value.items()]
    return str(value) if isinstance(value, float) and math.isinf(value) else value
