"""A model of transformers in this process whose last hidden states are pooled: encoders and decoders alike."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..base import Embedder
from ..handle import Handle
from ..options import describe_options, one_of, option, positive_count, whole_number
from .pooling import POOLINGS, LoadedBody, open_body


@describe_options
@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class LocalEmbedder(Handle, Embedder):
    """Vectors of texts by a model in this process: its last hidden states, pooled.

    Weights are loaded at the first call, once per process, however many handles describe the same model. Threads that share a
    model take turns.

    Parameters
    ----------
    name : str
        ``"smollm2"``, ``"hf:org/name[@revision]"``, ``"hf:folder"`` or ``"gguf:path"``.
    """

    pooling: str = option(
        "mean",
        help='What becomes of the states of a text\'s tokens: their "mean", the "last" one, or the first one ("cls").',
        check=one_of(*POOLINGS),
    )
    batch_size: int = option(
        32,
        help="Largest number of texts in one forward pass. More does not change a vector.",
        moves_scores=False,
        check=whole_number(1),
    )
    device: str | None = option(
        None,
        help='"cpu", "cuda", "cuda:1" or "mps"; by default the first of cuda, mps and cpu that is there.',
        moves_scores=False,
    )
    dtype: str | None = option(
        None,
        help='"float32", "bfloat16" or "float16"; by default float32 on a CPU, else what the weights are stored in.',
        check=one_of("float32", "bfloat16", "float16"),
    )
    context_length: int | None = option(
        None,
        help="Largest number of tokens the model may read; by default what its configuration says.",
        check=positive_count,
    )

    @property
    def _loaded(self) -> LoadedBody:
        return self.open_once(lambda: open_body(self.name, self.device, self.dtype))

    def identity(self) -> dict[str, Any]:
        loaded = self._loaded
        return {
            "embedder": "local",
            "model": self.name,
            "weights": loaded.weights_hash,
            "dtype": loaded.dtype_name,
            "pooling": self.pooling,
            "context_length": self.context_length,
        }

    def embed(self, texts: Sequence[str]) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """The vector (d,) of every text.

        Raises
        ------
        ModelError
            The model gives NaN or infinite states.

        Warns
        -----
        TruncationWarning
            Texts are longer than the model reads; their ends were left out.
        """
        if len(texts):
            yield from self._loaded.embed(texts, self.pooling, self.batch_size, self.context_length)
