"""Forward passes over token tries, and over the beginnings that rows share."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING

import numpy as np
import torch

from ...errors import ModelError
from .hidden_states import HiddenStates, PassReader
from .prefixes import KeysAndValues, Prefix
from .trie_attention import TrieContext, attending
from .trie_batches import Batch

if TYPE_CHECKING:
    from .plain_calls import PlainCalls


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
