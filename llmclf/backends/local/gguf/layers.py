"""Layers whose weights stay in a GGUF file: they are decoded for each product, and dropped after it."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.func import functional_call

from ..plain_calls import is_exact
from .decoders import Bytes, decode, decode_transposed

_SLAB = 1 << 24
"""Weights that are decoded for one product: 64 MB. A larger matrix is multiplied slab by slab, the output layer among them."""

_TILE = 1 << 19
"""Weights that one thread decodes at a time."""

_TILE_ROWS = 1024


class Workspace:
    """Where the layers of one model decode their weights, one layer at a time: some memory, and threads."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self._numbers = np.empty(0, dtype=np.float32)
        self._threads: ThreadPoolExecutor | None = None
        self._process = 0

    def decoded(self, matrix: FileMatrix, start: int, stop: int) -> torch.Tensor:
        """Some rows of a matrix as the columns (weights of a row, stop - start) of its transpose, until the next call."""
        size = matrix.n_columns * (stop - start)
        if len(self._numbers) < size:
            self._numbers = np.empty(size, dtype=np.float32)
        out = self._numbers[:size].reshape(matrix.n_columns, stop - start)
        step = max(1, min(_TILE_ROWS, _TILE // matrix.n_columns))
        tiles = [(at, min(at + step, stop)) for at in range(start, stop, step)]

        def decode_tile(tile: tuple[int, int]) -> None:
            at, end = tile
            decode_transposed(matrix.stored(slice(at, end)), matrix.type_name, out[:, at - start : end - start])

        for _ in self._pool().map(decode_tile, tiles):
            pass
        return torch.from_numpy(out)

    def _pool(self) -> ThreadPoolExecutor:
        # Threads do not survive a fork.
        if self._threads is None or self._process != os.getpid():
            self._threads = ThreadPoolExecutor(torch.get_num_threads(), thread_name_prefix="llmclf-decode")
            self._process = os.getpid()
        return self._threads


@dataclass(frozen=True)
class FileMatrix:
    """A matrix that stays in its file.

    Attributes
    ----------
    rows : uint8 array (n_rows, bytes of a row)
        Mapped from the file.
    type_name : str
        How they are stored, as gguf names it.
    n_columns : int
        Numbers of a row.
    order : int array (n_rows,), optional
        Which row of the file each row of the matrix is, where they stand in another order.
    """

    rows: Bytes
    type_name: str
    n_columns: int
    order: NDArray[np.int64] | None = None

    @property
    def n_rows(self) -> int:
        return len(self.rows)

    def stored(self, which: slice | NDArray[np.int64]) -> Bytes:
        """Some rows as they are stored."""
        found: Bytes = self.rows[which if self.order is None else self.order[which]]
        return found

    def numbers(self, which: slice | NDArray[np.int64]) -> torch.Tensor:
        """Some rows, (n, n_columns), in float32."""
        return torch.from_numpy(decode(self.stored(which), self.type_name))


class FileLinear(torch.nn.Module):
    """The product of a `torch.nn.Linear` whose weights stay in a file, for inference alone.

    Parameters
    ----------
    matrix : FileMatrix (out_features, in_features)
    bias : tensor (out_features,), optional
    dtype : torch.dtype
        What the weights are rounded to once they are decoded, and the states that meet them.
    workspace : Workspace
    """

    def __init__(self, matrix: FileMatrix, bias: torch.Tensor | None, dtype: torch.dtype, workspace: Workspace) -> None:
        super().__init__()
        self.out_features, self.in_features = matrix.n_rows, matrix.n_columns
        self.bias = None if bias is None else bias.detach()
        self._matrix = matrix
        self._dtype = dtype
        self._workspace = workspace

    @property
    def weight(self) -> torch.Tensor:
        """The whole matrix: some architectures read the weights of a layer instead of calling it."""
        return _rounded(self._matrix.numbers(slice(0, self.out_features)), self._dtype)

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        flat = states.reshape(-1, self.in_features)
        out = flat.new_empty((len(flat), self.out_features))
        is_rounded = flat.dtype != self._dtype and not is_exact()
        factor = flat.to(self._dtype) if is_rounded else flat
        step = max(1, _SLAB // self.in_features)
        for start in range(0, self.out_features, step):
            stop = min(start + step, self.out_features)
            with self._workspace.lock:
                weight = _rounded(self._workspace.decoded(self._matrix, start, stop), self._dtype)
                if is_rounded:
                    # The sums are float32 in the product; only its result is rounded, and the bias is not.
                    out[:, start:stop] = factor @ weight
                    if self.bias is not None:
                        out[:, start:stop] += self.bias[start:stop]
                elif self.bias is None:
                    torch.mm(flat, weight, out=out[:, start:stop])
                else:
                    torch.addmm(self.bias[start:stop], flat, weight, out=out[:, start:stop])
        return out.view(*states.shape[:-1], self.out_features)

    def extra_repr(self) -> str:
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}, "
            f"stored as {self._matrix.type_name}"
        )


class FileEmbedding(torch.nn.Module):
    """An embedding of which each call decodes the rows that it is asked for.

    Parameters
    ----------
    matrix : FileMatrix (num_embeddings, embedding_dim)
    inner : torch.nn.Embedding
        The layer in whose place this one stands. What it does besides looking rows up (to scale them, for example) it still does,
        with a table of the rows that are asked for. It loses its own weights.
    dtype : torch.dtype
    """

    def __init__(self, matrix: FileMatrix, inner: torch.nn.Embedding, dtype: torch.dtype) -> None:
        super().__init__()
        self.num_embeddings, self.embedding_dim = matrix.n_rows, matrix.n_columns
        self._matrix = matrix
        self._dtype = dtype
        inner.weight = torch.nn.Parameter(torch.empty((0, self.embedding_dim), dtype=dtype), requires_grad=False)
        inner.padding_idx = None  # it would have to be a row of the small table
        self.inner = inner

    @property
    def weight(self) -> torch.Tensor:
        """The whole table."""
        return _rounded(self._matrix.numbers(slice(0, self.num_embeddings)), self._dtype)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        wanted, places = torch.unique(ids, return_inverse=True)
        n = self.num_embeddings
        if len(wanted) and not 0 <= int(wanted[0]) <= int(wanted[-1]) < n:
            raise IndexError(f"a token is outside of the vocabulary of {n}: {int(wanted[0])} to {int(wanted[-1])}")
        table = _rounded(self._matrix.numbers(wanted.numpy()), self._dtype)
        found: Any = functional_call(self.inner, {"weight": table}, (places,))
        states: torch.Tensor = found
        return states


def reads_file(model: torch.nn.Module) -> bool:
    """Whether weights of a model stay in their file."""
    return any(isinstance(module, FileLinear) for module in model.modules())


def _rounded(numbers: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Weights in the type that they would be loaded in, also where `in_float32` widens whatever it is given."""
    with torch._C.DisableTorchFunction():
        return numbers.to(dtype)
