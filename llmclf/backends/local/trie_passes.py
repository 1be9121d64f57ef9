"""Forward passes over token tries, and over the beginnings that rows share, which are computed once, a few tokens at a time."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from ...arrays import Integers
from ...errors import ModelError
from ..tokens.label_trie import label_trie
from .hidden_states import HiddenStates, PassReader
from .trie_attention import TrieContext, attending
from .trie_batches import Batch
from .trie_blocks import tiles

if TYPE_CHECKING:
    from .plain_calls import PlainCalls


_NO_LABELS = label_trie(((0,),))
_LONGEST_BLOCK = {"cpu": 64}
"""Queries of a block of attention; on other devices, whole rows."""

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


_Way = tuple[tuple[int, ...], tuple[int, ...], int]
"""Tokens, the steps in which they were read, and how many at a time."""


class Prefixes:
    """The prefixes that were used last, kept for the next call: a few, in few bytes.

    Parameters
    ----------
    read : function (prefix, tokens, layers, hidden) -> keys and values, states
        See `TriePasses.read_on`.
    most_kept, most_bytes : int
        How many are kept, and in how many bytes together; those that are in use are kept besides, until `release`.
    """

    def __init__(self, read: Read, most_kept: int = 8, most_bytes: int = 1 << 28) -> None:
        self._read = read
        self._most_kept = most_kept
        self._most_bytes = most_bytes
        # By tokens, steps and chunk, the one used last at the end.
        self._kept: OrderedDict[_Way, Prefix] = OrderedDict()

    def clear(self) -> None:
        """Forget all."""
        self._kept.clear()

    def last(
        self,
        tokens: tuple[int, ...],
        steps: Sequence[int],
        chunk: int,
        layers: Sequence[int] = (),
        hidden: HiddenStates | None = None,
    ) -> Prefix:
        """The first ``steps[-1]`` of some tokens, read step by step, with the states of some layers.

        A kept prefix is used only if it was computed in exactly the steps in which it would be computed now: the last digits of
        a state depend on them, and a score must not depend on what was asked before.

        Parameters
        ----------
        tokens : tuple of int
        steps : sequence of int, rising
            How many of the tokens are read by the end of each step.
        chunk : int
            The largest number of tokens that are read at a time.
        """
        ways = [(tokens[:step], tuple(steps[: i + 1]), chunk) for i, step in enumerate(steps) if step]
        prefix, missing = Prefix((), chunk, [], {}), len(ways)
        for n_before, way in reversed(list(enumerate(ways))):
            kept = self._kept.get(way)
            if kept is not None and kept.hidden.keys() >= set(layers):
                prefix, missing = kept, len(ways) - 1 - n_before
                break
        if missing:
            self._forget(ways)  # before there is more
        for way in ways[len(ways) - missing :]:
            prefix = self._kept[way] = self._extended(prefix, way[0], layers, hidden)
        # The first step last of all: more calls can use it than what follows it.
        for way in reversed(ways):
            if way in self._kept:
                self._kept.move_to_end(way)
        self._forget(ways)
        return prefix

    def release(self) -> None:
        """Nothing is in use any more: what does not fit goes."""
        self._forget(())

    def _forget(self, in_use: Sequence[_Way]) -> None:
        for way in [way for way in self._kept if way not in in_use]:
            if len(self._kept) <= self._most_kept and self._n_bytes() <= self._most_bytes:
                return
            del self._kept[way]

    def _n_bytes(self) -> int:
        return sum(
            tensor.nbytes
            for prefix in self._kept.values()
            for tensor in (*(t for pair in prefix.attended for t in pair), *prefix.hidden.values())
        )

    def _extended(
        self, prefix: Prefix, tokens: tuple[int, ...], layers: Sequence[int], hidden: HiddenStates | None
    ) -> Prefix:
        # An empty prefix has no states, of whatever layer.
        states = {layer: [prefix.hidden[layer]] if prefix.tokens else [] for layer in layers}
        attended = prefix.attended
        room: KeysAndValues = []  # for all tokens: a longer copy for each piece would take the square of a long text
        for start in range(len(prefix.tokens), len(tokens), prefix.chunk):
            so_far = Prefix(tokens[:start], prefix.chunk, attended, {})
            new, more = self._read(so_far, tokens[start : start + prefix.chunk], layers, hidden)
            if not room:
                room = [(_with_room(key, len(tokens)), _with_room(value, len(tokens))) for key, value in new]
                _write(room, prefix.attended, 0)
            _write(room, new, start)
            stop = min(start + prefix.chunk, len(tokens))
            attended = [(key[:, :, :stop], value[:, :, :stop]) for key, value in room]
            for layer, found in more.items():
                states[layer].append(found)
        whole = {layer: torch.cat(pieces) for layer, pieces in states.items() if pieces}
        return Prefix(tokens, prefix.chunk, attended, whole)


def _with_room(piece: torch.Tensor, n_tokens: int) -> torch.Tensor:
    """An empty tensor like a piece (1, heads, n, d), for so many tokens."""
    return piece.new_empty((*piece.shape[:2], n_tokens, piece.shape[3]))


def _write(room: KeysAndValues, pieces: KeysAndValues, start: int) -> None:
    """Write the keys and values of each layer from a token on; none where there is no layer yet."""
    for places, pair in zip(room, pieces, strict=False):
        for place, piece in zip(places, pair, strict=True):
            place[:, :, start : start + piece.shape[2]] = piece


class TriePasses:
    """The passes of one model; whoever calls one holds the model's lock.

    Parameters
    ----------
    calls : PlainCalls
    """

    def __init__(self, calls: PlainCalls) -> None:
        self._calls = calls
        self._model = calls.model
        self.longest_block = _LONGEST_BLOCK.get(calls.model.device.type)

    def forward(
        self, batch: Batch, prefix: KeysAndValues, n_prefix: int, reader: PassReader | None = None
    ) -> torch.Tensor:
        """The logits (predicted, vocabulary) of a batch after a shared prefix; `reader` takes hidden states."""
        context = TrieContext(batch.tiles, self._on_device(batch.positions), prefix, n_prefix)
        with nullcontext() if reader is None else reader.reading():
            return self.run(batch.tokens, context, batch.predicted)

    def read_on(
        self, prefix: Prefix, tokens: tuple[int, ...], layers: Sequence[int], hidden: HiddenStates | None
    ) -> tuple[KeysAndValues, dict[int, torch.Tensor]]:
        """Of the tokens that follow a prefix: keys and values, and the states (n, hidden) of some layers."""
        start, n_new = len(prefix.tokens), len(tokens)
        positions = self._on_device(np.arange(start, start + n_new))
        context = TrieContext(
            tiles([n_new], [_NO_LABELS], start, self.longest_block),
            positions,
            prefix.attended,
            start,
            is_text=True,
            recorded=[],
        )
        states: dict[int, torch.Tensor] = {}

        def keep(layer: int, found: torch.Tensor) -> None:
            # A copy: some layers write into what they are given.
            states[layer] = found[0].float().clone()

        with nullcontext() if hidden is None else hidden.reading(layers, keep):
            self.run(np.array(tokens, dtype=np.int64), context, np.array([n_new - 1]))
        assert context.recorded is not None
        return context.recorded, states

    def run(self, tokens: Integers, context: TrieContext, predicted: Integers) -> torch.Tensor:
        """The logits (predicted, vocabulary) of some columns."""
        self._calls.state.restore()
        places = torch.from_numpy(predicted).to(self._model.device)
        with torch.inference_mode(), attending(self._model, context):
            logits: torch.Tensor = self._model(
                input_ids=self._on_device(tokens),
                position_ids=context.positions,
                use_cache=False,
                logits_to_keep=places,
            ).logits[0]
        if context.n_calls == 0:
            raise ModelError(f"{type(self._model).__name__} does not let its attention be chosen")
        # Some architectures give all of them.
        return logits if len(logits) == len(places) else logits[places]

    def _on_device(self, columns: Integers) -> torch.Tensor:
        """As the model reads them: (1, T)."""
        return torch.from_numpy(columns[None]).to(self._model.device)
