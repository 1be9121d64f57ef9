"""Attention over a token trie, for any transformers model that lets its attention be chosen.

Keys and values of the shared prefix are computed once and kept. The columns of a pass, which are those of all its rows end to
end, attend to them and to what the tiles of the pass allow.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch.nn import functional

from ...errors import ModelError
from .products.attention import Blocks, attend, read_on
from .products.processor import has_packed_float32
from .trie_blocks import Tile

NAME = "llmclf_trie"

_LONG_TEXT = 1024
"""Tokens and those before them: from here on PyTorch's attention without a mask is faster than products of whole blocks."""
_FEW_COLUMNS = 64
"""Up to here one call of PyTorch's attention is faster than several products."""


@dataclass
class TrieContext:
    """What the attention of one forward pass needs to know.

    Attributes
    ----------
    tiles : sequence of Tile
        Who attends to whom among the T columns.
    positions : int tensor (1, T)
    prefix : list of (keys, values), one pair per layer, each (1, heads, P, d); empty where there is no prefix.
    n_prefix : int
        P: how many tokens come before all columns, at positions 0 to P - 1.
    is_text : bool
        Whether the columns are one text, of which each token sees those before it.
    recorded : list, optional
        If given, each layer appends its (keys, values).
    """

    tiles: Sequence[Tile]
    positions: torch.Tensor
    prefix: list[tuple[torch.Tensor, torch.Tensor]]
    n_prefix: int
    is_text: bool = False
    recorded: list[tuple[torch.Tensor, torch.Tensor]] | None = None
    n_calls: int = 0
    _blocks: dict[torch.dtype, list[tuple[Blocks, torch.Tensor | None]]] = field(default_factory=dict)
    _biases: dict[tuple[int | None, torch.dtype], list[torch.Tensor]] = field(default_factory=dict)

    @cached_property
    def last_position(self) -> int:
        """Asked of the device once, not in every layer."""
        return int(self.positions.max())

    def blocks(self, dtype: torch.dtype) -> list[tuple[Blocks, torch.Tensor | None]]:
        """The tiles on the model's device, each with the places of its queries that are not repeated ones, if not all."""
        if dtype not in self._blocks:
            device = self.positions.device
            found = []
            for tile in self.tiles:
                mask = torch.from_numpy(tile.mask).to(device)
                bias = torch.zeros(mask.shape, dtype=dtype, device=device).masked_fill_(~mask, float("-inf"))
                queries, keys = (torch.from_numpy(some.ravel()).to(device) for some in (tile.queries, tile.keys))
                real = None if tile.real is None else torch.from_numpy(tile.real).to(device)
                found.append((Blocks(queries, keys, bias), real))
            self._blocks[dtype] = found
        return self._blocks[dtype]

    def biases(self, window: int | None, dtype: torch.dtype) -> list[torch.Tensor]:
        """Of each tile, what to add to the scores of prefix and keys, (B, 1, Q, P + W); within a sliding window, if any."""
        key = (window, dtype)
        if key not in self._biases:
            self._biases[key] = [self._bias(blocks, window) for blocks, _ in self.blocks(dtype)]
        return self._biases[key]

    def _bias(self, blocks: Blocks, window: int | None) -> torch.Tensor:
        own = blocks.bias
        before = own.new_zeros((*own.shape[:2], self.n_prefix))
        if window is not None:
            queries, keys = (self.positions[0, places].view(len(own), -1) for places in (blocks.queries, blocks.keys))
            own = own.masked_fill(queries[:, :, None] - keys[:, None, :] >= window, float("-inf"))
            kept = torch.arange(self.n_prefix, device=own.device)
            before = before.masked_fill(queries[:, :, None] - kept >= window, float("-inf"))
        return torch.cat((before, own), dim=2).unsqueeze(1)


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

    `query` is (1, heads, T, d), `key` and `value` (1, key heads, T, d); returns (1, T, heads, d) and no weights.
    """
    context = _CONTEXT.get()
    if context is None:
        raise ModelError("trie attention was called outside of a scoring pass")
    if s_aux is not None:
        raise ModelError("this model adds attention sinks, which the trie does not know")
    if query.shape[0] != 1 or not query.shape[2] == key.shape[2] == context.positions.shape[1]:
        raise ModelError("this model attends to other columns than those of its input, which the trie does not know")
    if context.recorded is not None:
        context.recorded.append((key, value))
    prefix = context.prefix[context.n_calls] if context.prefix else None
    context.n_calls += 1
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    is_plain = softcap is None and (sliding_window is None or context.last_position < sliding_window)
    if is_plain and context.is_text and _reads_on(query, value, context):
        return read_on(query, key, value, prefix, scale).unsqueeze(0).contiguous(), None
    of_tiles = []
    if is_plain and _multiplies(query):
        own_prefix = None if prefix is None else (prefix[0][0], prefix[1][0])
        for blocks, real in context.blocks(query.dtype):
            read = attend(query[0], key[0], value[0], blocks, own_prefix, scale)
            of_tiles.append(read if real is None else read.index_select(0, real))
    else:
        biases = context.biases(sliding_window, query.dtype)
        for (blocks, real), bias in zip(context.blocks(query.dtype), biases, strict=True):
            read = _masked(query, key, value, blocks, bias, prefix, scale, softcap)
            of_tiles.append(read if real is None else read.index_select(0, real))
    return (of_tiles[0] if len(of_tiles) == 1 else torch.cat(of_tiles)).unsqueeze(0), None


def _reads_on(query: torch.Tensor, value: torch.Tensor, context: TrieContext) -> bool:
    """Whether a text is better read without a mask."""
    return (
        query.device.type == "cpu"
        and query.shape[-1] == value.shape[-1]
        and context.n_prefix + query.shape[2] > _LONG_TEXT
        and hasattr(torch.ops.aten, "_scaled_dot_product_flash_attention_for_cpu")
    )


def _multiplies(query: torch.Tensor) -> bool:
    """Whether attention is better computed by products of whole tiles."""
    is_large = query.shape[2] > _FEW_COLUMNS
    return is_large and query.device.type == "cpu" and query.dtype == torch.float32 and has_packed_float32()


def _masked(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    blocks: Blocks,
    bias: torch.Tensor,
    prefix: tuple[torch.Tensor, torch.Tensor] | None,
    scale: float,
    softcap: float | None,
) -> torch.Tensor:
    """Attention of some blocks by PyTorch's, over the prefix and their keys: (B * Q, heads, d)."""
    n_blocks = len(bias)
    query, key, value = (
        states[0].transpose(0, 1).index_select(0, places).view(n_blocks, -1, *states.shape[1::2]).transpose(1, 2)
        for states, places in ((query, blocks.queries), (key, blocks.keys), (value, blocks.keys))
    )
    if prefix is not None:
        key = torch.cat((prefix[0].expand(n_blocks, -1, -1, -1), key), dim=2)
        value = torch.cat((prefix[1].expand(n_blocks, -1, -1, -1), value), dim=2)
    if softcap is None:
        grouped = key.shape[1] != query.shape[1]
        mixed = functional.scaled_dot_product_attention(
            query, key, value, attn_mask=bias, scale=scale, enable_gqa=grouped
        )
    else:
        mixed = _softcapped(query, key, value, bias, scale, softcap)
    return mixed.transpose(1, 2).flatten(0, 1)


def _softcapped(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    bias: torch.Tensor,
    scale: float,
    softcap: float,
) -> torch.Tensor:
    """Attention whose scores are bounded by `softcap` * tanh, as in Gemma 2."""
    repeats = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(repeats, dim=1), value.repeat_interleave(repeats, dim=1)
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
