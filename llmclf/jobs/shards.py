"""Parts of a table that machines label on their own: which rows are whose follows from the rows' ids alone."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..errors import InputError
from .ids import row_ids
from .tables.sources import Part, Source

_WRITTEN = re.compile(r"([0-9]{1,9})/([0-9]{1,9})", re.ASCII)


@dataclass(frozen=True)
class Shard:
    """One of several parts of a table.

    A row belongs to part ``1 + h % of``, where h is the number in the first eight bytes (the highest first) of the SHA-256 of its
    id in UTF-8. So the parts stay what they are when rows are added or put in another order, and every machine sees the same.

    Attributes
    ----------
    number : int
        From 1.
    of : int
        How many parts there are.
    id_column : str
        The column with the ids.
    """

    number: int
    of: int
    id_column: str

    @classmethod
    def parsed(cls, text: str, id_column: str | None) -> Shard:
        """The shard that a caller names.

        Raises
        ------
        InputError

        Examples
        --------
        >>> Shard.parsed("3/8", "id")
        Shard(number=3, of=8, id_column='id')
        """
        match = _WRITTEN.fullmatch(text) if isinstance(text, str) else None
        if match is None or not 1 <= int(match[1]) <= int(match[2]):
            raise InputError(
                f"shard={text!r}: expected a number and how many there are, such as '3/8'; the first is '1/8', the last '8/8'"
            )
        if id_column is None:
            raise InputError(f"shard={text!r} needs id_column= (--id-column COLUMN): a row belongs to a part by its id")
        return cls(int(match[1]), int(match[2]), id_column)

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"

    def holds(self, ids: Sequence[str]) -> NDArray[np.bool_]:
        """Which rows are of this part, by their ids."""
        ours = self.number - 1
        return np.fromiter((_place(one) % self.of == ours for one in ids), dtype=bool, count=len(ids))

    def of_source(self, source: Source) -> Source:
        """The rows of this part. Where a table has several files, each keeps its name, and may have no rows."""
        parts = tuple(replace(part, read=self._reader(part, len(source.parts) > 1)) for part in source.parts)
        return replace(source, name=f"{source.name} (shard {self})", parts=parts)

    def mask(self, source: Source) -> NDArray[np.bool_]:
        """Which rows of a whole table are of this part."""
        return np.concatenate([self.holds(row_ids(frame, self.id_column, 0)) for frame in source.chunks()])

    def _reader(self, part: Part, is_one_of_several: bool) -> Callable[[int], Iterator[pd.DataFrame]]:
        def read(size: int) -> Iterator[pd.DataFrame]:
            n_rows = 0
            for frame in part.read(size):
                ours = self.holds(row_ids(frame, self.id_column, n_rows, part.name if is_one_of_several else ""))
                n_rows += len(frame)
                if ours.any():
                    yield frame[ours].reset_index(drop=True)

        return read


def _place(one: str) -> int:
    return int.from_bytes(hashlib.sha256(one.encode("utf-8", "surrogatepass")).digest()[:8], "big")
