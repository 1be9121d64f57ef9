"""Hidden states of the tokens of some rows, read from the very passes that score them.

Architectures name their layers as they like. So where a state stands is found by looking: in one plain call of a short text, the
first input or output of a module that is the state which transformers shows with ``output_hidden_states=True``. From then on it
is read there, whatever else the pass computes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...errors import ModelError
from ..requests import INSTEAD_OF_STATES, StatePart
from ..tokens.codec import TokenRow
from .route_checks import REFUSALS

if TYPE_CHECKING:
    import torch

    from .plain_calls import PlainCalls

TOLERANCE = 1e-4
"""By which no state may differ from that of a plain call, times its own size and that of the states around it; see `agree`."""

Taken = dict[int, NDArray[np.float32]]
"""Of each row, by its place, its states end to end."""

SAMPLE_LENGTH = 24
"""Tokens of the text in which the states are looked for."""


class _Site(NamedTuple):
    """Where a state stands in a pass: which tensor of which call of a module."""

    module: Any
    is_output: bool
    call: int
    tensor: int


class HiddenStates:
    """The places at which a model's states can be read during a pass.

    Parameters
    ----------
    calls : PlainCalls
    sample : sequence of int
        A short text.
    """

    def __init__(self, calls: PlainCalls, sample: Sequence[int]) -> None:
        self._name = type(calls.model).__name__
        self._calls = calls
        try:
            shown = calls.hidden_states(sample)
            self._sites = _find(calls, sample, shown)
        except REFUSALS:
            shown, self._sites = [], {}
        self.n_layers = max(0, len(shown) - 1)

    def check(self, sample: Sequence[int], score: Callable[[Sequence[TokenRow], int, Taken], Any]) -> None:
        """Leave out the layers whose states, as `score` takes them, are not those of plain calls.

        Compared are two rows of different lengths that share a beginning, with text in it and behind it.

        Parameters
        ----------
        sample : sequence of `SAMPLE_LENGTH` tokens
        score : function (rows, batch_tokens, taken)
        """
        layers = sorted(self._sites)
        parts = tuple(StatePart(tokens, layer / self.n_layers) for layer in layers for tokens in ("last", "text"))
        end = (tuple(sample[20:23]), (sample[21],))
        rows = [
            TokenRow(tuple(sample[:20]), end, states=parts, text_tokens=((2, 6), (8, 15))),
            TokenRow((*sample[:7], *sample[13:17]), end, states=parts, text_tokens=((1, 9),)),
        ]
        for batch_tokens in (5, 64):
            taken: Taken = {}
            try:
                score(rows, batch_tokens, taken)
                vectors = [plain_states(self._calls, row, self.n_layers) for row in rows]
            except REFUSALS:
                self._sites.clear()
                return
            for place, vector in enumerate(vectors):
                pairs = zip(np.split(taken[place], len(parts)), np.split(vector, len(parts)), strict=True)
                for i, (ours, plain) in enumerate(pairs):
                    if not agree(ours, plain):
                        self._sites.pop(layers[i // 2], None)

    def layer(self, part: StatePart) -> int:
        """The layer of a part, as transformers numbers hidden states: 0 is the embeddings.

        Raises
        ------
        ModelError
            Its states cannot be read.
        """
        layer = layer_of(part, self.n_layers)
        if layer not in self._sites:
            raise ModelError(
                f"{self._name} shows no hidden states that are those of plain calls at depth {part.depth:g}; "
                f"{INSTEAD_OF_STATES}, or another model"
            )
        return layer

    @contextmanager
    def reading(self, layers: Sequence[int], take: Callable[[int, torch.Tensor], None]) -> Iterator[None]:
        """Give `take` the states (B, L, hidden) of some layers, in one pass within the block."""
        with ExitStack() as stack:
            for layer in layers:
                stack.enter_context(_watched(self._sites[layer], layer, take))
            yield


class PassReader:
    """What some rows want of one pass.

    Parameters
    ----------
    hidden : HiddenStates
    rows : sequence of TokenRow (B,)
    starts : sequence of int (B,)
        The column of each row's first token in the pass; its others follow.
    n_prefix : int
        Tokens of each context that were read before this pass.
    prefix : mapping of a layer to its states (n_prefix, hidden)
        Of the layers of which text in the prefix is wanted.
    """

    def __init__(
        self,
        hidden: HiddenStates,
        rows: Sequence[TokenRow],
        starts: Sequence[int] = (0,),
        n_prefix: int = 0,
        prefix: Mapping[int, torch.Tensor] | None = None,
    ) -> None:
        self._hidden = hidden
        self._rows = rows
        self._starts = starts
        self._prefix = prefix or {}
        self._parts = [[(part.tokens, hidden.layer(part)) for part in row.states] for row in rows]
        self._wanted = {part for parts in self._parts for part in parts}
        self._found: dict[tuple[str, int], list[torch.Tensor]] = {}
        # The share of each token in the mean, in this pass and before it.
        self._own = [np.zeros(len(row.context) - n_prefix, dtype=np.float32) for row in rows]
        self._before = np.zeros((len(rows), n_prefix), dtype=np.float32)
        for b, row in enumerate(rows):
            if any(part.tokens == "text" for part in row.states):
                self._share(b, row, n_prefix)

    def _share(self, b: int, row: TokenRow, n_prefix: int) -> None:
        n_tokens = sum(stop - start for start, stop in row.text_tokens)
        if not n_tokens:
            self._own[b][-1] = 1.0
        for start, stop in row.text_tokens:
            self._before[b, start : min(stop, n_prefix)] = 1.0 / n_tokens
            self._own[b][max(start - n_prefix, 0) : max(stop - n_prefix, 0)] = 1.0 / n_tokens

    def reading(self) -> Any:
        """A block in which one pass is made."""
        return self._hidden.reading(sorted({layer for _, layer in self._wanted}), self._take)

    def _take(self, layer: int, states: torch.Tensor) -> None:
        import torch

        # Each row by itself: one that is not finite must not spoil another.
        of_rows = [
            states[0, start : start + len(own)].float() for start, own in zip(self._starts, self._own, strict=True)
        ]
        if ("last", layer) in self._wanted:
            self._found["last", layer] = [some[-1].clone() for some in of_rows]
        if ("text", layer) in self._wanted:
            means = [torch.from_numpy(own).to(some.device) @ some for own, some in zip(self._own, of_rows, strict=True)]
            if self._before.any():
                before = torch.from_numpy(self._before).to(states.device) @ self._prefix[layer]
                means = [own + shared for own, shared in zip(means, before, strict=True)]
            self._found["text", layer] = means

    def vectors(self) -> list[NDArray[np.float32] | None]:
        """Of each row, its states end to end; None where it wants none."""
        import torch

        values = {part: torch.stack(found).cpu().numpy() for part, found in self._found.items()}
        return [
            np.concatenate([values[part][b] for part in parts]).astype(np.float32) if parts else None
            for b, parts in enumerate(self._parts)
        ]


def text_layers(hidden: HiddenStates, rows: Sequence[TokenRow]) -> tuple[int, ...]:
    """The layers at which rows want the mean over their text."""
    return tuple(sorted({hidden.layer(part) for row in rows for part in row.states if part.tokens == "text"}))


def agree(ours: NDArray[np.float32], plain: NDArray[np.float32]) -> bool:
    """Whether states are those of a plain call.

    No number may differ by more than 1e-4 times 1 + its own size + the root mean square of the whole state: what is added up to
    large numbers is rounded like them.
    """
    size = 1.0 + np.abs(plain) + np.sqrt(np.mean(np.square(plain, dtype=np.float64)))
    # Broken weights give NaN however they are read; that is each row's error.
    return bool(np.all((np.abs(ours - plain) <= TOLERANCE * size) | (np.isnan(ours) & np.isnan(plain))))


def layer_of(part: StatePart, n_layers: int) -> int:
    """The layer of a part, as transformers numbers hidden states: 0 is the embeddings, `n_layers` follows the final norm.

    Examples
    --------
    >>> [layer_of(StatePart("last", depth), 30) for depth in (0.8, 0.6, 1.0, 0.001)]
    [24, 18, 30, 1]
    """
    return max(1, round(part.depth * n_layers))


def plain_states(calls: PlainCalls, row: TokenRow, n_layers: int) -> NDArray[np.float32]:
    """A row's states by one plain call of its context alone: their definition."""
    states = calls.hidden_states(row.context)
    text = [i for start, stop in row.text_tokens for i in range(start, stop)] or [-1]
    places = {"last": [-1], "text": text}
    parts = [states[layer_of(part, n_layers)][0, places[part.tokens]].float().mean(dim=0) for part in row.states]
    return np.concatenate([part.cpu().numpy() for part in parts])


def _find(calls: PlainCalls, sample: Sequence[int], shown: Sequence[torch.Tensor]) -> dict[int, _Site]:
    """Where the states of each layer stand first in a plain call."""
    import torch

    sites: dict[int, _Site] = {}
    lasts = [float(states.flatten()[-1]) for states in shown]

    def look(site: _Site, tensor: torch.Tensor) -> None:
        if tensor.shape not in {states.shape for states in shown}:
            return
        last = float(tensor.flatten()[-1])
        for layer in range(1, len(shown)):
            if layer in sites or (last != lasts[layer] and last == last):
                continue
            if tensor.shape == shown[layer].shape and torch.allclose(tensor, shown[layer], equal_nan=True):
                sites[layer] = site

    n_calls: Counter[tuple[int, bool]] = Counter()

    def note(module: Any, values: Any, is_output: bool) -> None:
        call = n_calls[id(module), is_output]
        n_calls[id(module), is_output] += 1
        for place, tensor in enumerate(_tensors(values)):
            if tensor.dim() == 3:
                look(_Site(module, is_output, call, place), tensor)

    with ExitStack() as stack:
        for module in calls.model.modules():
            before = module.register_forward_pre_hook(
                lambda m, args, named: note(m, (args, named), False), with_kwargs=True
            )
            after = module.register_forward_hook(lambda m, args, output: note(m, output, True))
            stack.callback(before.remove)
            stack.callback(after.remove)
        calls.logits([sample], len(sample))
    return sites


@contextmanager
def _watched(site: _Site, layer: int, take: Callable[[int, torch.Tensor], None]) -> Iterator[None]:
    n_calls = 0

    def note(values: Any) -> None:
        nonlocal n_calls
        if n_calls == site.call:
            take(layer, _tensors(values)[site.tensor])
        n_calls += 1

    if site.is_output:
        handle = site.module.register_forward_hook(lambda module, args, output: note(output))
    else:
        handle = site.module.register_forward_pre_hook(
            lambda module, args, named: note((args, named)), with_kwargs=True
        )
    try:
        yield
    finally:
        handle.remove()


def _tensors(values: Any) -> list[torch.Tensor]:
    """The tensors among what a module is given or gives, in their order."""
    import torch

    if isinstance(values, torch.Tensor):
        return [values]
    if isinstance(values, Mapping):
        values = values.values()
    elif not isinstance(values, (tuple, list)):
        return []
    return [tensor for value in values for tensor in _tensors(value)]
