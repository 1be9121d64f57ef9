"""Arithmetic on logits and log-probabilities, in numpy: distributions, logits processors, and sampling.

Every function takes logits (..., vocabulary), works along the last axis unless it has a parameter `axis`, computes in
float64 and does not change its input. ``-inf`` is a masked token. The package may import ``arrays``, ``checks`` and
``errors`` alone. Another logits processor goes into ``processors``, and its place in transformers' order into ``chain``.
"""

from .chain import Processor, apply_chain, chain
from .guidance import guide
from .missing import FLOOR, floor_missing
from .processors import (
    add_logit_bias,
    apply_temperature,
    min_p,
    presence_and_frequency_penalty,
    repetition_penalty,
    top_k,
    top_p,
)
from .sampling import sample
from .sequences import perplexity, sequence_logprob
from .softmax import entropy, log_softmax, logsumexp, softmax

__all__ = [
    "FLOOR",
    "Processor",
    "add_logit_bias",
    "apply_chain",
    "apply_temperature",
    "chain",
    "entropy",
    "floor_missing",
    "guide",
    "log_softmax",
    "logsumexp",
    "min_p",
    "perplexity",
    "presence_and_frequency_penalty",
    "repetition_penalty",
    "sample",
    "sequence_logprob",
    "softmax",
    "top_k",
    "top_p",
]
