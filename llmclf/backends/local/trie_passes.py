"""Forward passes over token tries, and over the beginnings that rows share, which are computed once, a few tokens at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from ...errors import ModelError
from .hidden_states import HiddenStates, PassReader
from .trie_attention import TrieContext, attending
from .trie_batches import Batch

if TYPE_CHECKING:
    from .plain_calls import PlainCalls


KeysAndValues = list[tuple[torch.Tensor, torch.Tensor]]
"""Of each layer, (1, heads, P, d) each."""


class Prefix(NamedTuple):
    """What is kept of a prompt's first tokens.

    Attributes
    ----------
    tokens : tuple of int (P,)
    chunk : int
        In how many tokens at a time they were read.
    attended : list of keys and values, one pair per layer
    hidden : dict of a layer to its states (P, hidden), float32
        Of the layers at which somebody wanted them.
    """

    tokens: tuple[int, ...]
    chunk: int
    attended: KeysAndValues
    hidden: dict[int, torch.Tensor]


Read = Callable[
    [Prefix, tuple[int, ...], Sequence[int], HiddenStates | None], tuple[KeysAndValues, dict[int, torch.Tensor]]
]
"""Keys and values, and states of some layers, of the tokens that follow a prefix."""


class Prefixes:
    """The last chain of prefixes, each of which begins the next.

    Parameters
    ----------
    read : function (prefix, tokens, layers, hidden) -> keys and values, states
        See `TriePasses.read_on`.
    """

    def __init__(self, read: Read) -> None:
        self._read = read
        self._chain: list[Prefix] = []

    def clear(self) -> None:
        """Forget all."""
        self._chain.clear()

    def last(
        self,
        chain: Sequence[tuple[int, ...]],
        chunk: int,
        layers: Sequence[int] = (),
        hidden: HiddenStates | None = None,
    ) -> Prefix:
        """The last of some prefixes, each of which begins the next, with the states of some layers; the chain is kept.

        A kept prefix is used only if it was computed in exactly the steps in which it would be computed now: the last digits of
        a state depend on them, and a score must not depend on what was asked before.
        """
        n_kept = 0
        for kept, tokens in zip(self._chain, chain, strict=False):
            if (kept.tokens, kept.chunk) != (tokens, chunk) or (tokens and not kept.hidden.keys() >= set(layers)):
                break
            n_kept += 1
        del self._chain[n_kept:]
        for tokens in chain[n_kept:]:
            before = self._chain[-1] if self._chain else Prefix((), chunk, [], {})
            self._chain.append(self._extended(before, tokens, layers, hidden))
        return self._chain[-1]

    def _extended(
        self, prefix: Prefix, tokens: tuple[int, ...], layers: Sequence[int], hidden: HiddenStates | None
    ) -> Prefix:
        # An empty prefix has no states, of whatever layer.
        states = {layer: [prefix.hidden[layer]] if prefix.tokens else [] for layer in layers}
        attended = prefix.attended
        for start in range(len(prefix.tokens), len(tokens), prefix.chunk):
            so_far = Prefix(tokens[:start], prefix.chunk, attended, {})
            new, more = self._read(so_far, tokens[start : start + prefix.chunk], layers, hidden)
            attended = (
                [
                    (torch.cat((key, more_key), dim=2), torch.cat((value, more_value), dim=2))
                    for (key, value), (more_key, more_value) in zip(attended, new, strict=True)
                ]
                if attended
                else new
            )
            for layer, found in more.items():
                states[layer].append(found)
        whole = {layer: torch.cat(pieces) for layer, pieces in states.items() if pieces}
        return Prefix(tokens, prefix.chunk, attended, whole)


class TriePasses:
    """The passes of one model; whoever calls one holds the model's lock.

    Parameters
    ----------
    calls : PlainCalls
    """

    def __init__(self, calls: PlainCalls) -> None:
        self._calls = calls
        self._model = calls.model

    def forward(
        self, batch: Batch, prefix: KeysAndValues, n_prefix: int, reader: PassReader | None = None
    ) -> torch.Tensor:
        """The logits (B, n_predict, vocabulary) of a batch after a shared prefix; `reader` takes hidden states."""
        context = self._context(batch.mask, batch.positions, prefix, n_prefix)
        with nullcontext() if reader is None else reader.reading():
            return self.run(batch.tokens, context, batch.n_predict)

    def read_on(
        self, prefix: Prefix, tokens: tuple[int, ...], layers: Sequence[int], hidden: HiddenStates | None
    ) -> tuple[KeysAndValues, dict[int, torch.Tensor]]:
        """Of the tokens that follow a prefix: keys and values, and the states (n, hidden) of some layers."""
        start, n_new = len(prefix.tokens), len(tokens)
        mask = np.ones((1, n_new, start + n_new), dtype=bool)
        mask[0, :, start:] = np.tril(mask[0, :, start:])
        context = self._context(mask, np.arange(start, start + n_new)[None], prefix.attended, start)
        context.recorded = []
        states: dict[int, torch.Tensor] = {}

        def keep(layer: int, found: torch.Tensor) -> None:
            # A copy: some layers write into what they are given.
            states[layer] = found[0].float().clone()

        with nullcontext() if hidden is None else hidden.reading(layers, keep):
            self.run(np.array([tokens], dtype=np.int64), context, 1)
        return context.recorded, states

    def run(self, tokens: np.ndarray, context: TrieContext, n_predict: int) -> torch.Tensor:
        """The logits (B, n_predict, vocabulary) of the last columns."""
        self._calls.state.restore()
        ids = torch.from_numpy(tokens).to(self._model.device)
        with torch.inference_mode(), attending(self._model, context):
            logits: torch.Tensor = self._model(
                input_ids=ids,
                position_ids=context.query_positions,
                use_cache=False,
                logits_to_keep=n_predict,
            ).logits
        if context.n_calls == 0:
            raise ModelError(f"{type(self._model).__name__} does not let its attention be chosen")
        return logits[:, -n_predict:]

    def _context(self, mask: np.ndarray, positions: np.ndarray, prefix: KeysAndValues, n_prefix: int) -> TrieContext:
        device = self._model.device
        before = np.broadcast_to(np.arange(n_prefix), (len(positions), n_prefix))
        return TrieContext(
            mask=torch.from_numpy(mask).to(device),
            query_positions=torch.from_numpy(positions).to(device),
            key_positions=torch.from_numpy(np.concatenate((before, positions), axis=1)).to(device),
            prefix=prefix,
        )
