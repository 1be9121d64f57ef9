"""Attention over a token trie, for any transformers model that lets its attention be chosen.

Keys and values of the shared prefix are computed once and kept. The columns of a batch attend to them and to whatever the
batch's mask allows.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.nn import functional

from ...errors import ModelError

NAME = "llmclf_trie"


@dataclass
class TrieContext:
    """What the attention of one forward pass needs to know.

    Attributes
    ----------
    mask : bool tensor (B, L, P + L)
    query_positions, key_positions : int tensors (B, L) and (B, P + L)
    prefix : list of (keys, values), one pair per layer, each (1, heads, P, d); empty where there is no prefix.
    recorded : list, optional
        If given, each layer appends its (keys, values).
    """

    mask: torch.Tensor
    query_positions: torch.Tensor
    key_positions: torch.Tensor
    prefix: list[tuple[torch.Tensor, torch.Tensor]]
    recorded: list[tuple[torch.Tensor, torch.Tensor]] | None = None
    n_calls: int = 0
    _biases: dict[tuple[int | None, torch.dtype], torch.Tensor] = field(default_factory=dict)

    def bias(self, window: int | None, dtype: torch.dtype) -> torch.Tensor:
        """The mask as numbers to add to attention scores, (B, 1, L, P + L); within a sliding window, if any."""
        key = (window, dtype)
        if key not in self._biases:
            allowed = self.mask
            if window is not None:
                distance = self.query_positions[:, :, None] - self.key_positions[:, None, :]
                allowed = allowed & (distance < window)
            bias = torch.zeros(allowed.shape, dtype=dtype, device=allowed.device)
            self._biases[key] = bias.masked_fill_(~allowed, float("-inf")).unsqueeze(1)
        return self._biases[key]


_CONTEXT: ContextVar[TrieContext | None] = ContextVar("llmclf_trie_context", default=None)


def trie_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    softcap: float | None = None,
    sliding_window: int | None = None,
    s_aux: torch.Tensor | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """One layer's attention in the form that transformers calls it.

    `query` is (B, heads, L, d), `key` and `value` (B, key heads, L, d); returns (B, L, heads, d) and no weights.
    """
    context = _CONTEXT.get()
    if context is None:
        raise ModelError("trie attention was called outside of a scoring pass")
    if s_aux is not None:
        raise ModelError("this model adds attention sinks, which the trie does not know")
    if context.recorded is not None:
        context.recorded.append((key, value))
    if context.prefix:
        prefix_key, prefix_value = context.prefix[context.n_calls]
        n_rows = key.shape[0]
        key = torch.cat((prefix_key.expand(n_rows, -1, -1, -1), key), dim=2)
        value = torch.cat((prefix_value.expand(n_rows, -1, -1, -1), value), dim=2)
    context.n_calls += 1
    bias = context.bias(sliding_window, query.dtype)
    if softcap is None:
        grouped = key.shape[1] != query.shape[1]
        mixed = functional.scaled_dot_product_attention(
            query, key, value, attn_mask=bias, scale=scaling, enable_gqa=grouped
        )
    else:
        mixed = _softcapped(query, key, value, bias, scaling, softcap)
    return mixed.transpose(1, 2).contiguous(), None


def _softcapped(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    bias: torch.Tensor,
    scaling: float | None,
    softcap: float,
) -> torch.Tensor:
    """Attention whose scores are bounded by `softcap` * tanh, as in Gemma 2."""
    repeats = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(repeats, dim=1), value.repeat_interleave(repeats, dim=1)
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    scores = torch.matmul(query, key.transpose(2, 3)) * scale
    scores = torch.tanh(scores / softcap) * softcap + bias
    return torch.matmul(torch.softmax(scores, dim=-1, dtype=torch.float32).to(value.dtype), value)


@contextmanager
def attending(model: Any, context: TrieContext) -> Iterator[None]:
    """Let `model` attend over a trie within the block, and as before after it."""
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    ALL_ATTENTION_FUNCTIONS.register(NAME, trie_attention)
    config = model.config.get_text_config()
    before = config._attn_implementation
    config._attn_implementation = NAME
    token = _CONTEXT.set(context)
    try:
        yield
    finally:
        _CONTEXT.reset(token)
        config._attn_implementation = before
