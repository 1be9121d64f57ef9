"""The bytes of a table's file as text and back: compression by the file's ending, encodings, and lines that end."""

from __future__ import annotations

import codecs
import gzip
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import TextIOWrapper
from pathlib import Path
from typing import Any

from ..errors import InputError, MissingDependencyError

LONGEST = 1 << 26
"""Characters of the longest line and cell that are read: more is no text that a model could be shown."""
DAMAGE = (EOFError, zlib.error)
"""What the readers of compressed files raise besides OSError where one is cut or damaged."""
_OF_PYARROW = {".bz2": "bz2", ".zst": "zstd"}  # Python's own bz2 takes damage behind the first member for the end
_DELIMITERS = (",", ";", "\t", "|")
_UTF8 = frozenset({"utf-8", "utf-8-sig"})
_MARKS = {codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}


@dataclass(frozen=True)
class TextFormat:
    """How the text of CSV, TSV and JSONL files is to be read.

    Parameters
    ----------
    delimiter : str, optional
        Between the cells of CSV and TSV files: one character, or ``\\t`` written out for a tab. By default the comma of CSV
        and the tab of TSV.
    encoding : str, optional
        A name that Python knows; UTF-8 by default.
    unescape_formulas : bool
        Whether the files were written with escaped formulas, which are to be read as they were before.

    Raises
    ------
    InputError
        The delimiter is more than a character, or one that cannot stand between cells; the encoding is not known.

    Examples
    --------
    >>> TextFormat(delimiter=";", encoding="cp1252")
    TextFormat(delimiter=';', encoding='cp1252', unescape_formulas=False)
    >>> TextFormat(delimiter="\\\\t").delimiter
    '\\t'
    """

    delimiter: str | None = None
    encoding: str | None = None
    unescape_formulas: bool = False

    def __post_init__(self) -> None:
        if self.delimiter is not None:
            object.__setattr__(self, "delimiter", _checked_delimiter(self.delimiter))
        if self.encoding is not None:
            _check_encoding(self.encoding)


USUAL_TEXT = TextFormat()
"""UTF-8, with the usual delimiter of each format."""


def _checked_delimiter(delimiter: Any) -> str:
    wanted = "\t" if delimiter == "\\t" else delimiter
    if not isinstance(wanted, str) or len(wanted) != 1 or wanted in '"\r\n\0':
        raise InputError(
            f"delimiter={delimiter!r} cannot stand between cells; expected one character, as in ';' or '|', and no quote or line "
            "break"
        )
    return wanted


def _check_encoding(encoding: Any) -> None:
    try:
        # Python's codecs that are none of texts (base64, rot13) say so here.
        "".encode(encoding)
    except (LookupError, TypeError, ValueError) as error:
        raise InputError(
            f"encoding={encoding!r} is not known; expected a name such as 'utf-8', 'utf-16', 'cp1252' or 'shift_jis'"
        ) from error


def other_delimiter(names: Sequence[Any]) -> str:
    """A hint, as the end of a sentence, if the names of a table's columns look as if they were separated by another character.

    Examples
    --------
    >>> other_delimiter(["id;text"]), other_delimiter(["id", "text"])
    ("; if ';' separates the cells, give delimiter=';' (--delimiter ';')", '')
    """
    only = str(names[0]) if len(names) == 1 else ""
    found = max(_DELIMITERS, key=only.count)
    if not only.count(found):
        return ""
    shown = {"\t": r"\t"}.get(found, found)
    return f"; if '{shown}' separates the cells, give delimiter='{shown}' (--delimiter '{shown}')"


@contextmanager
def text_read(file: Path, compression: str, encoding: str | None) -> Iterator[TextIOWrapper]:
    """A file's text, with its line ends as they are; a byte order mark is no part of it.

    Raises
    ------
    InputError
        It has another encoding, said with the cure.
    MissingDependencyError
        A .bz2 or .zst file without pyarrow.
    """
    name = codecs.lookup(encoding or "utf-8").name
    try:
        with (
            _opened(file, compression) as stream,
            TextIOWrapper(stream, encoding="utf-8-sig" if name in _UTF8 else name, newline="") as text,
        ):
            yield text
    except UnicodeError as error:
        raise InputError(f"{str(file)!r} {_wrong_encoding(file, compression, name, error)}") from error


def _wrong_encoding(file: Path, compression: str, name: str, error: UnicodeError) -> str:
    if name not in _UTF8:
        return f"is not text of the encoding {name} ({error}); give another encoding= (--encoding)"
    with _opened(file, compression) as stream:
        start = stream.read(2)
    other = _MARKS.get(start)
    if other is not None:
        return f"is not UTF-8 text; its beginning is that of {other}: give encoding={other!r} (--encoding {other})"
    return (
        f"is not UTF-8 text ({error}); save it with the encoding UTF-8, or say its own: encoding= (--encoding), as in cp1252 for "
        "what Windows writes in Western Europe"
    )


def lines(stream: TextIOWrapper, file: Path) -> Iterator[str]:
    """The lines of a text.

    Raises
    ------
    InputError
        One is too long, as the lines of a file are that is no table, or was compressed to do harm.
    """
    number = 0
    while line := stream.readline(LONGEST + 1):
        number += 1
        if len(line) > LONGEST:
            raise InputError(
                f"line {number} of {str(file)!r} has more than {LONGEST:,} characters; no text of a table is so long"
            )
        yield line


@contextmanager
def bytes_written(file: Path, compression: str) -> Iterator[Any]:
    """A file to fill, with the same bytes at every time.

    Raises
    ------
    MissingDependencyError
        A .bz2 or .zst file without pyarrow.
    """
    if compression == ".gz":
        # Without the name and the time of writing, which its header would have.
        with (
            file.open("wb") as raw,
            gzip.GzipFile(filename="", mode="wb", fileobj=raw, compresslevel=6, mtime=0) as packed,
        ):
            yield packed
    elif compression:
        with _pyarrow(compression).output_stream(str(file), compression=_OF_PYARROW[compression]) as packed:
            yield packed
    else:
        with file.open("wb") as plain:
            yield plain


def _opened(file: Path, compression: str) -> Any:
    if compression == ".gz":
        return gzip.open(file, "rb")
    if compression:
        return _pyarrow(compression).input_stream(str(file), compression=_OF_PYARROW[compression])
    return file.open("rb")


def _pyarrow(compression: str) -> Any:
    try:
        import pyarrow
    except ImportError as error:
        raise MissingDependencyError(
            f"files that end with {compression} need pyarrow; run: pip install 'llmclf[parquet]'"
        ) from error
    return pyarrow
