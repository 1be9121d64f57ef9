"""What predict and label added to a table, read back."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import EstimationWarning, InputError, listed, warn
from .values import is_missing

_DECIMAL_COMMA = re.compile(r"0,\d+|[0-9],\d+[eE]-\d+")
"""Numbers whose comma cannot separate thousands, as a spreadsheet of another country writes probabilities."""


def read_probabilities(frame: Any, path: Path, prefix: str) -> tuple[list[str], Any]:
    """The classes and their probabilities (n, K), NaN in rows that could not be scored."""
    columns = [name for name in frame.columns if name.startswith(f"{prefix}p_")]
    if len(columns) < 2:
        raise InputError(
            f"{str(path)!r} has no columns {prefix}p_CLASS with the probabilities of at least two classes, as predict adds "
            f"them; its columns: {', '.join(map(repr, frame.columns))}"
        )
    values = [[read_number(value, name, i) for i, value in enumerate(frame[name])] for name in columns]
    return [name.removeprefix(f"{prefix}p_") for name in columns], np.array(values).T


def read_number(value: Any, column: str, row: int) -> float:
    """The number in a cell; NaN where it is empty.

    Examples
    --------
    >>> read_number("0.25", "p_good", 0), read_number("0,25", "p_good", 0), read_number("2,5E-07", "p_good", 0)
    (0.25, 0.25, 2.5e-07)
    """
    if is_missing(value) or (isinstance(value, str) and not value.strip()):
        return float("nan")
    if isinstance(value, str) and _DECIMAL_COMMA.fullmatch(value.strip()):
        value = value.replace(",", ".")
    try:
        return float(value)
    except (TypeError, ValueError):
        raise InputError(f"column {column!r}, row {row}: {value!r} is not a number") from None


def audited_rows(frame: Any, prefix: str, is_labelled: Any, truth: str) -> Any:
    """Which rows the audit has drawn; labels of others cannot be used, since nobody knows how they came to be labelled.

    Raises
    ------
    InputError
        The column `truth` of the labels is empty in all that were drawn.
    """
    name = f"{prefix}audit"
    if name not in frame.columns:
        return np.ones(len(frame), dtype=bool)
    drawn = np.array([str(value).strip().casefold() in ("true", "1", "1.0") for value in frame[name]])
    extra, missing = int((is_labelled & ~drawn).sum()), int((drawn & ~is_labelled).sum())
    if not drawn.any():
        found = sorted({str(value).strip() for value in frame[name] if not is_missing(value)})
        raise InputError(
            f"{name!r} is True in no row, and holds {listed(map(repr, found), 3) or 'nothing'}; give the table as label --audit "
            "N wrote it, with the labels by hand. Where a spreadsheet has translated the words, write True and False again"
        )
    if not (drawn & is_labelled).any():
        other = "; labels of other rows cannot be used, as how they were chosen is not known" if extra else ""
        rows = "row" if missing == 1 else f"{missing:,} rows"
        raise InputError(f"fill in {truth!r} in the {rows} where {name} is True{other}")
    if extra:
        warn(
            f"{extra} labelled rows are not among those that --audit drew and are left out: how they came to be labelled is not "
            "known",
            EstimationWarning,
        )
    warn_of_unlabelled(missing, int(drawn.sum()), "--audit drew")
    return drawn


def warn_of_unlabelled(n_missing: int, n_drawn: int, whence: str) -> None:
    """Say that some of the rows that were drawn, as `whence` has it, have no label."""
    if n_missing:
        warn(
            f"{n_missing} of {n_drawn} rows that {whence} have no label; what follows from the others holds if these are missing "
            "by chance, and not because they were hard",
            EstimationWarning,
        )
