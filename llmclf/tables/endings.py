"""What the name of a table's file says: its format, and how it is compressed."""

from __future__ import annotations

import os
from pathlib import PurePath

from ..errors import InputError

FORMATS = (".csv", ".tsv", ".jsonl", ".parquet")
COMPRESSIONS = (".gz", ".bz2", ".zst")
TEXTS = (".csv", ".tsv")
"""Formats whose cells are texts between delimiters."""
EXPECTED = f"{', '.join(FORMATS)}, or the first three with {', '.join(COMPRESSIONS)} behind it, as in table.csv.gz"
_SHEETS = (".xlsx", ".xls", ".xlsm", ".xlsb", ".ods", ".numbers", ".gsheet")
_ARCHIVES = (".zip", ".7z", ".rar", ".tar", ".tgz")


def split_suffix(suffix: str) -> tuple[str, str]:
    """The format and the compression, which may be "".

    Examples
    --------
    >>> split_suffix(".csv.gz"), split_suffix(".parquet")
    (('.csv', '.gz'), ('.parquet', ''))
    """
    kind, compression = os.path.splitext(suffix) if suffix.endswith(COMPRESSIONS) else (suffix, "")
    return kind, compression


def table_suffix(name: str) -> str | None:
    """The ending of a table's name, in lower case; None if it is not that of a table.

    Examples
    --------
    >>> table_suffix("January.CSV.gz"), table_suffix("a.parquet"), table_suffix("a.parquet.gz"), table_suffix("notes.gz")
    ('.csv.gz', '.parquet', None, None)
    """
    kind = PurePath(name).suffix.lower()
    if kind not in COMPRESSIONS:
        return kind if kind in FORMATS else None
    inner = PurePath(PurePath(name).stem).suffix.lower()
    return f"{inner}{kind}" if inner in FORMATS and inner != ".parquet" else None


def is_table_name(name: str) -> bool:
    """Whether a file of a folder is one of its tables; a name that begins with . or _ is that of a program's own file.

    Examples
    --------
    >>> [is_table_name(name) for name in ("a.csv.gz", "_SUCCESS", ".a.csv", "notes.txt")]
    [True, False, False, False]
    """
    return table_suffix(name) is not None and not name.startswith((".", "_"))


def check_suffix(path: str | os.PathLike[str], shown: str | None = None) -> str:
    """The ending of a table's file, in lower case; an error shows the path, or what is given instead.

    Raises
    ------
    InputError
        It is not one of `EXPECTED`.
    """
    suffix = table_suffix(os.path.basename(os.fspath(path)))
    if suffix is None:
        raise InputError(f"{(shown or str(path))!r} {_cure(PurePath(path))}")
    return suffix


def _cure(path: PurePath) -> str:
    suffixes = [suffix.lower() for suffix in path.suffixes]
    last = suffixes[-1] if suffixes else ""
    if last in _SHEETS:
        return (
            "is a spreadsheet, whose cells are what a program makes of them; save its sheet as CSV (in Excel: the type "
            "'CSV UTF-8') and give that"
        )
    if suffixes[-2:-1] == [".parquet"] and last in COMPRESSIONS:
        return f"ends with '.parquet{last}', and Parquet files are compressed within; unpack it, and give the .parquet file"
    if last in _ARCHIVES or suffixes[-2:-1] == [".tar"]:
        return "is an archive, which may hold several files; unpack it, and give the file or the folder of the tables"
    if last == ".json":
        return "ends with '.json'; write one object a line, and call it .jsonl"
    return f"ends with {last!r}; expected {EXPECTED}"
