"""From texts or a table, as callers pass them, to rows of named fields; a bad row is refused with its number."""

from __future__ import annotations

import reprlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import narwhals.stable.v2 as nw
import numpy as np
from narwhals.exceptions import DuplicateError

from ..errors import InputError, type_of
from ..prompts import TEXT_FIELD
from .values import is_missing, rows_named

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Rows:
    """Rows with the same fields.

    Attributes
    ----------
    records : list of dict
        One dict per row: field name -> value.
    field_names : tuple of str
    is_table : bool
        False where the input was a plain sequence of texts, whose one field is called ``text``.
    """

    records: list[Row]
    field_names: tuple[str, ...]
    is_table: bool

    def __len__(self) -> int:
        return len(self.records)

    def take(self, positions: Iterable[int]) -> Rows:
        """The rows at the given positions, in that order."""
        return Rows([self.records[i] for i in positions], self.field_names, self.is_table)


def read_rows(X: Any) -> Rows:
    """Read texts or a table.

    Parameters
    ----------
    X : list, tuple, 1-D array or Series of str; or DataFrame (pandas, polars, pyarrow), 2-D array, list of dicts
        The columns of a 2-D array are called ``x0``, ``x1``, ...

    Raises
    ------
    InputError
        `X` is empty or of another type, holds a value that is not a text, or its rows have different fields.

    Examples
    --------
    >>> read_rows(["fine", "bad"]).records
    [{'text': 'fine'}, {'text': 'bad'}]
    """
    if isinstance(X, (str, bytes)):
        raise InputError(f"X is the single text {X[:40]!r}; expected a list of texts, so write [text]")
    if isinstance(X, Mapping):
        raise InputError("X is one dict; expected a list of dicts (one per row) or a DataFrame")
    try:
        native = nw.from_native(X, pass_through=True, allow_series=True)
    except DuplicateError as error:
        raise InputError("X has two columns of the same name; rename one of them") from error
    if isinstance(native, nw.Series):
        return _read_texts(native.to_list())
    if isinstance(native, nw.DataFrame):
        return _read_records(native.columns, native.iter_rows(named=True), len(native))
    if isinstance(X, np.ndarray):
        return _read_array(X)
    if isinstance(X, (list, tuple)):
        if X and isinstance(X[0], Mapping):
            return _read_dicts(X)
        if X and isinstance(X[0], (list, tuple, np.ndarray)):
            return _read_array(np.asarray(X, dtype=object))
        return _read_texts(X)
    raise InputError(
        f"X is {type_of(X)}; expected texts (list, 1-D array or Series of str) or a table "
        "(DataFrame, 2-D array or list of dicts)"
    )


def check_fields(rows: Rows, names: Sequence[str], text_field: str | None) -> None:
    """Refuse missing values in the fields that a prompt uses, and a blank text.

    Raises
    ------
    InputError
        Names all rows without a value, and the field.
    """
    for name in names:
        values = [record[name] for record in rows.records]
        of_field = f", field {name!r}" if rows.is_table else ""
        _check_none_missing(values, of_field)
        blank = [
            number
            for number, value in enumerate(values)
            if name == text_field and isinstance(value, str) and not value.strip()
        ]
        if blank:
            where = f"{rows_named(blank)}{of_field}: {values[blank[0]]!r}"
            raise InputError(f"X contains a blank text ({where}); drop these rows or fill them in")


def _check_none_missing(values: Sequence[Any], of_field: str = "") -> None:
    missing = [number for number, value in enumerate(values) if is_missing(value)]
    if missing:
        where = f"{rows_named(missing)}{of_field}: {_missing_name(values[missing[0]])}"
        raise InputError(f"X contains a missing value ({where}); drop these rows or fill them in")


def _missing_name(value: Any) -> str:
    return "NaN" if isinstance(value, (float, np.floating)) else str(value)


def _read_texts(values: Sequence[Any]) -> Rows:
    if len(values) == 0:
        raise InputError("X is empty: found 0 sample(s), expected at least one text")
    _check_none_missing(values)
    for number, value in enumerate(values):
        if not isinstance(value, str):
            raise InputError(
                f"row {number} of X is {reprlib.repr(value)}, {type_of(value)}; expected a str. Texts must be "
                "strings in one dimension. Reshape your data to two dimensions if it is a table"
            )
    return Rows([{TEXT_FIELD: str(value)} for value in values], (TEXT_FIELD,), False)


def _read_array(X: np.ndarray) -> Rows:
    if X.ndim == 1:
        return _read_texts(X.tolist())
    if X.ndim != 2:
        raise InputError(f"X is an array of {X.ndim} dimensions; expected 1 (texts) or 2 (a table)")
    names = tuple(f"x{j}" for j in range(X.shape[1]))
    return _read_records(names, (dict(zip(names, row, strict=True)) for row in X.tolist()), len(X))


def _read_dicts(records: Sequence[Any]) -> Rows:
    names = list(records[0])
    for number, record in enumerate(records):
        if not isinstance(record, Mapping):
            raise InputError(f"row {number} of X is {type_of(record)}; expected a dict like the first row")
        if set(record) != set(names):
            odd = sorted(set(record) ^ set(names), key=str)
            raise InputError(f"row {number} of X has other fields than row 0: {odd[0]!r} is in only one of them")
    return _read_records(names, (dict(record) for record in records), len(records))


def _read_records(names: Iterable[Any], records: Iterable[Row], n_rows: int) -> Rows:
    names = tuple(names)
    if n_rows == 0:
        raise InputError("X is empty: found 0 sample(s), expected at least one row")
    if not names:
        raise InputError(f"X is empty: found 0 feature(s) (shape=({n_rows}, 0)) while a minimum of 1 is required.")
    if not any(isinstance(name, str) for name in names):
        # Numbered columns, which pandas gives an array, get the same names as the columns of an array.
        positions = tuple(f"x{j}" for j in range(len(names)))
        renamed = dict(zip(names, positions, strict=True))
        return Rows([{renamed[name]: value for name, value in record.items()} for record in records], positions, True)
    odd = [name for name in names if not isinstance(name, str)]
    if odd:
        raise InputError(f"the column name {odd[0]!r} is {type_of(odd[0])}; expected str, so rename the columns")
    return Rows(list(records), names, True)
