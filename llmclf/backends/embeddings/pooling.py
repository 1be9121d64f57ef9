"""The body of a transformers model, and vectors made of its last hidden states.

Texts of one length are read together, so nothing is padded: a vector is that of a plain call for every architecture, also for
those that have no mask, or whose positions a padding token would move.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...errors import EmbeddingError, InputError, TruncationWarning, warn
from ...prompts.rendered import Span
from ..local.loaded_model import BATCH_TOKENS
from ..local.model_kinds import BODY
from ..local.weights import load, usable_device
from ..tokens.codec import find
from ..tokens.transformers_encoder import TokenizerEncoder, model_context_length

if TYPE_CHECKING:
    import torch

POOLINGS = ("mean", "last", "cls")
"""What becomes of the states of a text's tokens."""

_PROBE = "a"
_UNLIMITED = 1 << 30  # tokenizers that know no limit state a number beyond this


class LoadedBody:
    """Loaded weights without a head. Threads that share it take turns."""

    def __init__(self, model: Any, tokenizer: Any, weights_hash: str) -> None:
        from ..local.plain_calls import ModuleState

        model.config.use_cache = False  # nothing is read on
        self.model = model
        self._state = ModuleState(model)
        self.weights_hash = weights_hash
        self.dtype_name = str(model.dtype).removeprefix("torch.")
        self.lock = threading.Lock()
        self._encoder = TokenizerEncoder(tokenizer)
        self._longest = min(_most_positions(model), _stated_limit(tokenizer))
        whole = list(tokenizer(_PROBE)["input_ids"])
        inner = self._encoder.encode([[Span(_PROBE, True)]])[0]
        at = find(whole, inner)
        self._head, self._tail = whole[:at], whole[at + len(inner) :]

    def embed(
        self, texts: Sequence[str], pooling: str, batch_size: int, context_length: int | None
    ) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """The vector of every text, the longest first, at most `batch_size` of one length at a time."""
        rows = self._encode(texts, min(self._longest, context_length or self._longest))
        by_length: dict[int, list[int]] = {}
        for place, row in enumerate(rows):
            by_length.setdefault(len(row), []).append(place)
        budget = BATCH_TOKENS[self.model.device.type]
        for length, places in sorted(by_length.items(), reverse=True):
            size = min(batch_size, max(1, budget // length))
            for start in range(0, len(places), size):
                some = places[start : start + size]
                vectors = self._pooled([rows[place] for place in some], pooling)
                if not np.isfinite(vectors).all():
                    raise EmbeddingError("the model gave NaN or infinite states for a text; its weights may be broken")
                yield from zip(some, vectors, strict=True)

    def _encode(self, texts: Sequence[str], longest: int) -> list[list[int]]:
        """The tokens of every text between what the tokenizer puts around it; control tokens in a text stay text."""
        room = longest - len(self._head) - len(self._tail)
        if room < 1:
            raise InputError(
                f"context_length={longest} leaves no room for a text: {len(self._head) + len(self._tail)} tokens stand around it"
            )
        rows = self._encoder.encode([[Span(text, True)] for text in texts])
        n_cut = sum(len(row) > room for row in rows)
        if n_cut:
            warn(
                f"{n_cut} of {len(rows)} texts are longer than the {longest} tokens that the model reads, and their ends were "
                "left out of the embeddings; shorten them, or use a model that reads more",
                TruncationWarning,
            )
        whole = [[*self._head, *row[:room], *self._tail] for row in rows]
        if not all(whole):
            raise InputError("a text has no tokens in this model's vocabulary; leave it out")
        return whole

    def _pooled(self, rows: Sequence[Sequence[int]], pooling: str) -> NDArray[np.float32]:
        """The vectors (n, d) of texts of one length."""
        import torch

        with self.lock, torch.inference_mode():
            self._state.restore()
            states: torch.Tensor = self.model(input_ids=torch.tensor(rows, device=self.model.device)).last_hidden_state
            kept = {"mean": states.float().mean(dim=1), "last": states[:, -1], "cls": states[:, 0]}[pooling]
            vectors: NDArray[np.float32] = kept.float().cpu().numpy()
        return vectors


def _most_positions(model: Any) -> int:
    """The tokens that a model has positions for; RoBERTa and its kin leave out those up to that of the padding token."""
    import torch

    longest = model_context_length(model)
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Embedding) and "position" in name and module.padding_idx is not None:
            longest = min(longest, module.num_embeddings - module.padding_idx - 1)
    return longest


def _stated_limit(tokenizer: Any) -> int:
    limit = tokenizer.model_max_length
    return int(limit) if 0 < limit < _UNLIMITED else _UNLIMITED


_LOCK = threading.Lock()
_BODIES: weakref.WeakValueDictionary[tuple[Any, ...], LoadedBody] = weakref.WeakValueDictionary()
_LATEST: list[LoadedBody] = []


def open_body(name: str, device: str | None, dtype: str | None) -> LoadedBody:
    """Load the body of a model, or share one that is open already; the last one opened stays open."""
    chosen = usable_device(device)
    with _LOCK:
        loaded = _BODIES.get((name, chosen, dtype))
        if loaded is None:
            loaded = LoadedBody(*load(name, chosen, dtype, kind=BODY))
            _BODIES[name, chosen, dtype] = loaded
        _LATEST[:] = [loaded]
        return loaded
