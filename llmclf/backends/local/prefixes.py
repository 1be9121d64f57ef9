"""The beginnings that rows share: what the model keeps of them, computed once, a few tokens at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import torch

    from .hidden_states import HiddenStates

KeysAndValues = list[tuple["torch.Tensor", "torch.Tensor"]]
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
    [Prefix, tuple[int, ...], Sequence[int], "HiddenStates | None"], tuple[KeysAndValues, "dict[int, torch.Tensor]"]
]
"""Keys and values, and states of some layers, of the tokens that follow a prefix."""


class Prefixes:
    """The last chain of prefixes, each of which begins the next.

    Parameters
    ----------
    read : function (prefix, tokens, layers, hidden) -> keys and values, states
        See `llmclf.backends.local.trie_passes.TriePasses.read_on`.
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
        import torch

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
