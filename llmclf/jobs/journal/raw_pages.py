"""The records of a damaged SQLite file, page by page: what SQLite itself no longer finds.

Each page of a file, and each in its write-ahead log, is looked at by itself (https://www.sqlite.org/fileformat2.html). Nothing
here is believed: whoever reads records checks each, since a page may be old, torn or no page at all.
"""

from __future__ import annotations

import mmap
import struct
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

TABLE_LEAF: Final = 0x0D
INDEX_LEAF: Final = 0x0A  # of a table WITHOUT ROWID
_PAGE_SIZE = 4096  # SQLite's own default, where the beginning of the file is damaged
_HEADER, _WAL_HEADER, _FRAME_HEADER = 100, 32, 24  # bytes
_LONGEST = 1 << 24  # bytes of a record
_DAMAGE = (IndexError, ValueError, KeyError, struct.error, OverflowError)

Record = tuple[int, list[Any]]
"""The number of a row (0 in a table without them) and its values: None, int, float, bytes, or the bytes of a text."""


class RawPages:
    """All pages of a file and of the log beside it.

    Parameters
    ----------
    file, log : path
        The log need not exist.
    """

    def __init__(self, file: Path, log: Path) -> None:
        self._data, self._log = _content(file), _content(log)
        size = int.from_bytes(self._data[16:18], "big")
        size = 65536 if size == 1 else size
        self._size = size if size >= 512 and not size & (size - 1) else _PAGE_SIZE
        self._frames = self._whole_frames()
        # Of several versions of a page in the log the last one counts.
        self._latest = dict(self._frames)

    def records(self, kind: int) -> Iterator[Record]:
        """The records of all leaves of a kind, oldest first; what cannot be one is left out."""
        for start in range(0, len(self._data) - self._size + 1, self._size):
            yield from self._of_page(self._data[start : start + self._size], _HEADER if not start else 0, kind)
        for number, start in self._frames:
            page = self._log[start : start + self._size]
            yield from self._of_page(page, _HEADER if number == 1 else 0, kind)

    def _whole_frames(self) -> Sequence[tuple[int, int]]:
        """Number and place of the pages in the log, of the log's last beginning."""
        step = _FRAME_HEADER + self._size
        starts = range(_WAL_HEADER, len(self._log) - step + 1, step)
        salts = Counter(self._log[start + 8 : start + 16] for start in starts)
        salt = salts.most_common(1)[0][0] if salts else b""
        return [
            (int.from_bytes(self._log[start : start + 4], "big"), start + _FRAME_HEADER)
            for start in starts
            if self._log[start + 8 : start + 16] == salt
        ]

    def _of_page(self, page: bytes, begin: int, kind: int) -> Iterator[Record]:
        if page[begin] != kind:
            return
        (n_cells,) = struct.unpack_from(">H", page, begin + 3)
        for place in range(min(n_cells, self._size // 4)):
            try:
                (start,) = struct.unpack_from(">H", page, begin + 8 + 2 * place)
                yield self._cell(page, start, kind)
            except _DAMAGE:
                continue

    def _cell(self, page: bytes, start: int, kind: int) -> Record:
        size, start = _varint(page, start)
        number = 0
        if kind == TABLE_LEAF:
            number, start = _varint(page, start)
        if not 0 < size <= _LONGEST:
            raise ValueError(size)
        usable = self._size
        most = usable - 35 if kind == TABLE_LEAF else (usable - 12) * 64 // 255 - 23
        least = (usable - 12) * 32 // 255 - 23
        local = size
        if size > most:
            local = least + (size - least) % (usable - 4)
            local = local if local <= most else least
        payload = page[start : start + local]
        if size > local:
            (following,) = struct.unpack_from(">I", page, start + local)
            payload += self._overflow(following, size - local)
        if len(payload) != size:
            raise ValueError(size)
        return number, _values(payload)

    def _overflow(self, number: int, size: int) -> bytes:
        parts: list[bytes] = []
        while size > 0:
            if number in self._latest:
                start, data = self._latest[number], self._log
            else:
                start, data = (number - 1) * self._size, self._data
            page = data[start : start + self._size]
            (number,) = struct.unpack_from(">I", page)
            parts.append(page[4 : 4 + size])
            size -= len(parts[-1])
            if not parts[-1]:
                raise ValueError(number)
        return b"".join(parts)


def _content(file: Path) -> bytes | mmap.mmap:
    """What a file holds, read from the disk as it is needed; nothing where there is none."""
    if not file.is_file() or not file.stat().st_size:
        return b""
    with file.open("rb") as stream:
        return mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)


def _varint(data: bytes, start: int) -> tuple[int, int]:
    value = 0
    for place in range(start, start + 8):
        value = value << 7 | data[place] & 0x7F
        if data[place] < 0x80:
            return value, place + 1
    return value << 8 | data[start + 8], start + 9


def _values(payload: bytes) -> list[Any]:
    end, place = _varint(payload, 0)
    kinds: list[int] = []
    while place < end:
        kind, place = _varint(payload, place)
        kinds.append(kind)
    values: list[Any] = []
    place = end
    for kind in kinds:
        size = (0, 1, 2, 3, 4, 6, 8, 8, 0, 0)[kind] if kind < 10 else (kind - 12) // 2
        part = payload[place : place + size]
        if len(part) != size:
            raise ValueError(kind)
        if kind in (0, 10, 11):
            values.append(None)
        elif kind == 7:
            values.append(struct.unpack(">d", part)[0])
        elif kind < 10:
            values.append(kind - 8 if kind > 7 else int.from_bytes(part, "big", signed=True))
        else:
            values.append(part)
        place += size
    if place != len(payload):
        raise ValueError(place)
    return values
