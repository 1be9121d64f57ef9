"""From texts or a table, as callers pass them, to rows of named fields."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import narwhals.stable.v2 as nw
import numpy as np
from narwhals.exceptions import DuplicateError

from ..errors import InputError, type_of
from ..prompts import TEXT_FIELD
from .bad_rows import Problem, check_problems, text_problem, value_problem
from .values import is_missing

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
    problems : dict
        Row number -> why it cannot be asked about, as far as that shows without a prompt.
    dtypes : dict
        Field name -> the type that its column has in a pandas data frame.
    """

    records: list[Row]
    field_names: tuple[str, ...]
    is_table: bool
    problems: Mapping[int, Problem] = field(default_factory=dict)
    dtypes: Mapping[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        """How many rows, and their fields."""
        return f"<Rows: {len(self)} of the fields {', '.join(map(repr, self.field_names))}>"

    def __len__(self) -> int:
        return len(self.records)

    def placed(self, problem: Problem) -> Problem:
        """A problem as an error names it: where there is one field only, that goes without saying."""
        return problem if self.is_table else problem.without_field

    def take(self, positions: Iterable[int]) -> Rows:
        """The rows at the given positions, in that order."""
        positions = list(positions)
        problems = {new: self.problems[old] for new, old in enumerate(positions) if old in self.problems}
        return replace(self, records=[self.records[i] for i in positions], problems=problems)


def read_rows(X: Any, *, keep_bad: bool = False) -> Rows:
    """Read texts or a table.

    Parameters
    ----------
    X : list, tuple, 1-D array or Series of str; or DataFrame (pandas, polars, pyarrow), 2-D array, list of dicts
        The columns of a 2-D array are called ``x0``, ``x1``, ...
    keep_bad : bool
        Note a row that is not a text, or not a dict with the others' fields, in `Rows.problems` instead of refusing it.

    Raises
    ------
    InputError
        `X` is empty or of another type, holds a value that is not a text, or its rows have different fields.

    Examples
    --------
    >>> read_rows(["fine", "bad"]).records
    [{'text': 'fine'}, {'text': 'bad'}]
    """
    rows = _read(X, keep_bad)
    if not keep_bad:
        check_problems(rows.problems)
    return rows


def _read(X: Any, keep_bad: bool) -> Rows:
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
        rows = _read_records(native.columns, native.iter_rows(named=True), len(native))
        return replace(rows, dtypes=dict(X.dtypes)) if nw.dependencies.is_pandas_dataframe(X) else rows
    if isinstance(X, np.ndarray):
        return _read_array(X)
    if isinstance(X, (list, tuple)):
        if keep_bad and 2 * sum(isinstance(row, Mapping) for row in X) > sum(not is_missing(row) for row in X):
            return _read_uneven_dicts(X)
        if X and isinstance(X[0], Mapping) and not keep_bad:
            return _read_dicts(X)
        if X and all(isinstance(row, (list, tuple, np.ndarray)) for row in X):
            return _read_array(np.asarray(X, dtype=object))
        return _read_texts(X)
    raise InputError(
        f"X is {type_of(X)}; expected texts (list, 1-D array or Series of str) or a table "
        "(DataFrame, 2-D array or list of dicts)"
    )


def field_problem(record: Row, names: Sequence[str], text_field: str | None) -> Problem | None:
    """Why a row cannot be asked about by a prompt that uses these fields; None if it can.

    Parameters
    ----------
    record : Row
    names : sequence of str
        None of these fields may be missing.
    text_field : str or None
        The one of them that may not be blank.
    """
    for name in names:
        problem = value_problem(record.get(name), name, is_text=name == text_field)
        if problem is not None:
            return problem
    return None


def check_fields(rows: Rows, names: Sequence[str], text_field: str | None) -> None:
    """Refuse missing values in the fields that a prompt uses, and a blank text.

    Raises
    ------
    InputError
        Names the bad rows, with field and value.
    """
    found = ((number, field_problem(record, names, text_field)) for number, record in enumerate(rows.records))
    problems = {number: problem for number, problem in found if problem is not None}
    check_problems({number: rows.placed(problem) for number, problem in problems.items()})


def _read_texts(values: Sequence[Any]) -> Rows:
    if len(values) == 0:
        raise InputError("X is empty: found 0 sample(s), expected at least one text")
    found = ((number, text_problem(value)) for number, value in enumerate(values))
    problems = {number: problem for number, problem in found if problem is not None}
    records: list[Row] = [
        {TEXT_FIELD: value if number in problems else str(value)} for number, value in enumerate(values)
    ]
    return Rows(records, (TEXT_FIELD,), False, problems)


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


def _read_uneven_dicts(records: Sequence[Any]) -> Rows:
    """Dicts with the fields that most of them have; the others are bad rows."""
    counts = Counter(frozenset(record) for record in records if isinstance(record, Mapping))
    usual = counts.most_common(1)[0][0]
    names = list(next(record for record in records if isinstance(record, Mapping) and usual == set(record)))
    problems = {}
    for number, record in enumerate(records):
        if not isinstance(record, Mapping):
            reason = f"the row is {type_of(record)}; expected a dict"
        elif not usual <= set(record):
            reason = f"the row lacks the field {min(usual - set(record), key=str)!r}"
        else:
            continue
        problems[number] = Problem("other", reason, reason)
    filled = ({name: None if i in problems else record[name] for name in names} for i, record in enumerate(records))
    return replace(_read_records(names, filled, len(records)), problems=problems)


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
