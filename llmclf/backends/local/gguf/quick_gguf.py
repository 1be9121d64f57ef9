"""The package gguf, several times as fast, for those parts of transformers that use it."""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

_LOCK = threading.RLock()


@contextmanager
def quick_gguf() -> Iterator[None]:
    """Let transformers read a file in seconds that would take it half a minute, within the block.

    gguf's reader makes an array of each word of a vocabulary, hundreds of thousands of them, and those of numpy's memory maps
    take ten times as long to make as plain ones. transformers asks for the table of all tensors' names once for each module of a
    model. Nothing else differs, so whoever else uses gguf at the time is not disturbed.
    """
    import gguf

    with _LOCK:  # two at a time could put one another's back
        reader, name_map = gguf.GGUFReader, gguf.get_tensor_name_map

        class QuickReader(reader):  # type: ignore[misc, valid-type]
            @property
            def data(self) -> Any:
                return self._data

            @data.setter
            def data(self, mapped: Any) -> None:
                self._data = np.asarray(mapped)

        gguf.GGUFReader, gguf.get_tensor_name_map = QuickReader, functools.cache(name_map)
        try:
            yield
        finally:
            gguf.GGUFReader, gguf.get_tensor_name_map = reader, name_map
