"""Internal: the columns of a table as a transformer saw them in the fit, whatever a job's source makes of their values.

A CSV file has texts only, an SQL table numbers for truth values, a Parquet file its own types; and a column of whole numbers
becomes one of floats where a value is missing. A transformer was fitted on one of these, so later tables are brought to it.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np

from ..errors import InputError, type_of
from ..files.bounded_json import parsed_json
from ..tables.bad_rows import Problem
from ..tables.rows import Row, Rows
from ..tables.values import is_missing

_SHOWN = 40  # characters of a value in a message
_WHOLE = re.compile(r"[+-]?[0-9]+")
_MISSING = frozenset(
    {"", "na", "n/a", "#n/a", "#na", "<na>", "nan", "-nan", "null", "none", "nat"}
)  # as pandas reads files, but for capitals
_TRUE, _FALSE = frozenset({"true", "t"}), frozenset({"false", "f"})


@dataclass(frozen=True)
class _Kind:
    """Values of one kind: what they are called, what is one, and how another form of one is read.

    `read` raises ValueError, TypeError or ArithmeticError where it is none; `cure` says what to write.
    """

    name: str
    holds: Callable[[Any], bool]
    read: Callable[[Any], Any]
    cure: str


@dataclass(frozen=True, eq=False)
class _Column:
    """One column as it was in the fit.

    Attributes
    ----------
    kind : str or None
        That of all values; None where they are of several kinds, or all missing.
    dtype : pandas dtype
    missing : None or NaN
        What stands for a missing value among texts and objects.
    blank_is_missing : bool
        Whether an empty text can only mean that a value is missing.
    """

    kind: str | None
    dtype: Any
    missing: Any
    blank_is_missing: bool

    @classmethod
    def of(cls, values: Sequence[Any], dtype: Any) -> _Column:
        there = [value for value in values if not is_missing(value)]
        kind = next((name for name, one in _KINDS.items() if there and all(map(one.holds, there))), None)
        gaps = [value for value in values if is_missing(value)]
        is_text = kind == "texts" or any(isinstance(value, str) for value in there)
        has_blank = any(isinstance(value, str) and not value for value in there)
        return cls(
            kind, dtype, None if not gaps or gaps[0] is None else np.nan, not is_text or bool(gaps and not has_blank)
        )

    def read(self, value: Any) -> Any:
        """A value as the fit has it; None where it is missing."""
        if is_missing(value):
            return None
        if isinstance(value, str) and not value and self.blank_is_missing:
            return None
        if self.kind is None or _KINDS[self.kind].holds(value):
            return value
        if isinstance(value, str) and value.strip().lower() in _MISSING:
            return None
        return _KINDS[self.kind].read(value)

    def series(self, values: Sequence[Any]) -> Any:
        """A column of the fit's type, as far as these values allow."""
        import pandas as pd

        if isinstance(self.dtype, pd.CategoricalDtype):
            known = list(self.dtype.categories)
            new = dict.fromkeys(value for value in values if value is not None and value not in set(known))
            return pd.Series(values, dtype=pd.CategoricalDtype([*known, *new], self.dtype.ordered))
        has_gaps = any(value is None for value in values)
        if self.dtype == object:
            return pd.Series([self.missing if value is None else value for value in values], dtype=object)
        if self.dtype == bool and has_gaps:
            return pd.Series(list(values), dtype=object)
        if isinstance(self.dtype, pd.DatetimeTZDtype):
            return pd.Series(pd.to_datetime(list(values), utc=True)).astype(self.dtype)
        is_whole = pd.api.types.is_integer_dtype(self.dtype)
        if is_whole and any(isinstance(value, float) and not value.is_integer() for value in values):
            return pd.Series(list(values), dtype="float64")
        if is_whole and has_gaps and not pd.api.types.is_extension_array_dtype(self.dtype):
            return pd.Series(list(values), dtype="float64")
        try:
            return pd.Series(list(values), dtype=self.dtype)
        except (OverflowError, ValueError):  # a number that is too large for the fit's type
            return pd.Series(list(values), dtype="float64" if self.kind == "numbers" else object)


@dataclass(frozen=True, eq=False)
class ColumnTypes:
    """The columns that a transformer was fitted with, in their order.

    Examples
    --------
    >>> rows = Rows([{"stars": 5, "place": "here"}, {"stars": 4, "place": None}], ("stars", "place"), True)
    >>> types = ColumnTypes.of(rows)
    >>> types.frame([{"place": "", "stars": "3"}]).to_dict("list")
    {'stars': [3], 'place': [nan]}
    >>> types.problem({"stars": "many", "place": "here"}).reason
    "column 'stars' holds 'many', a str, and held numbers in the fit; write numbers such as 2.5 there, or leave the cell empty"
    """

    columns: Mapping[str, _Column]

    @classmethod
    def of(cls, rows: Rows) -> ColumnTypes:
        """Those of the fit's rows."""
        frame = first_frame(rows)
        values = {name: [record[name] for record in rows.records] for name in rows.field_names}
        return cls({name: _Column.of(values[name], frame[name].dtype) for name in rows.field_names})

    def problem(self, record: Row) -> Problem | None:
        """Why a row cannot be brought to the fit's types; None where it can."""
        for name, column in self.columns.items():
            try:
                column.read(record[name])
            except (ValueError, TypeError, ArithmeticError):
                value, kind = record[name], _KINDS[column.kind or ""]
                shown = repr(value) if len(repr(value)) <= _SHOWN else f"{repr(value)[:_SHOWN]}..."
                reason = (
                    f"column {name!r} holds {shown}, {type_of(value)}, and held {kind.name} in the fit; {kind.cure}"
                )
                return Problem("other", reason, reason)
        return None

    def check(self, field_names: Sequence[str]) -> None:
        """Refuse a table that lacks a column.

        Raises
        ------
        InputError
        """
        absent = [name for name in self.columns if name not in field_names]
        if absent:
            raise InputError(f"X lacks the column {absent[0]!r}, which a transformer of features= was fitted with")

    def frame(self, records: Sequence[Row]) -> Any:
        """The table of some rows, as the transformer saw that of the fit.

        Raises
        ------
        InputError
            A value cannot be brought to the fit's type; see `problem`.
        """
        import pandas as pd

        try:
            read = {name: [column.read(record[name]) for record in records] for name, column in self.columns.items()}
        except (ValueError, TypeError, ArithmeticError) as error:
            problem = next(filter(None, map(self.problem, records)))
            raise InputError(problem.reason) from error
        made = {name: self.columns[name].series(values) for name, values in read.items()}
        return pd.DataFrame(made, columns=list(self.columns))


def first_frame(rows: Rows) -> Any:
    """The table of the fit, with the types that the caller's table has."""
    import pandas as pd

    frame = pd.DataFrame.from_records(rows.records, columns=list(rows.field_names))
    known = {name: rows.dtypes[name] for name in rows.field_names if name in rows.dtypes}
    return frame.astype({name: dtype for name, dtype in known.items() if frame[name].dtype != dtype})


def _number(value: Any) -> float | int:
    if isinstance(value, (bool, np.bool_)):
        return int(value)
    if isinstance(value, Decimal):
        return float(value)
    if not isinstance(value, str) or "_" in value:
        raise ValueError
    text = value.strip()
    return int(text) if _WHOLE.fullmatch(text) else float(text)


def _truth(value: Any) -> bool:
    if isinstance(value, str) and value.strip().lower() in _TRUE | _FALSE:
        return value.strip().lower() in _TRUE
    number = value if isinstance(value, (int, float, np.number)) else _number(value)
    if number not in (0, 1):
        raise ValueError
    return bool(number)


def _instant(value: Any, *, is_aware: bool) -> Any:
    import pandas as pd

    if isinstance(value, str):
        value = datetime.datetime.fromisoformat(value.strip())
    if not isinstance(value, (datetime.date, np.datetime64)):
        raise TypeError
    moment = pd.Timestamp(value)
    if (moment.tzinfo is not None) is not is_aware:
        raise ValueError
    return moment


def _day(value: Any) -> datetime.date:
    moment = _instant(value, is_aware=False)
    if moment != moment.normalize():
        raise ValueError
    day: datetime.date = moment.date()
    return day


def _duration(value: Any) -> Any:
    import pandas as pd

    if not isinstance(value, (str, np.timedelta64)):
        raise TypeError
    return pd.Timedelta(value)


def _decimal(value: Any) -> Decimal:
    if not isinstance(value, (str, int, float, np.number)):
        raise TypeError
    return Decimal(str(value).strip())


def _time(value: Any) -> datetime.time:
    if not isinstance(value, str):
        raise TypeError
    return datetime.time.fromisoformat(value.strip())


def _nested(value: Any) -> Any:
    if not isinstance(value, str):
        raise TypeError
    found = parsed_json(value)
    if not isinstance(found, (list, dict)):
        raise ValueError
    return found


def _no_text(value: Any) -> Any:
    raise TypeError


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, (bool, np.timedelta64))


def _is_instant(value: Any, *, is_aware: bool) -> bool:
    return isinstance(value, datetime.datetime) and (value.tzinfo is not None) is is_aware


def _is_naive(value: Any) -> bool:
    return _is_instant(value, is_aware=False)


def _is_aware(value: Any) -> bool:
    return _is_instant(value, is_aware=True)


def _naive(value: Any) -> Any:
    return _instant(value, is_aware=False)


def _aware(value: Any) -> Any:
    return _instant(value, is_aware=True)


def _is_day(value: Any) -> bool:
    return isinstance(value, datetime.date) and not isinstance(value, datetime.datetime)


def _is_truth(value: Any) -> bool:
    return isinstance(value, (bool, np.bool_))


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_duration(value: Any) -> bool:
    return isinstance(value, datetime.timedelta)


def _is_decimal(value: Any) -> bool:
    return isinstance(value, Decimal)


def _is_time(value: Any) -> bool:
    return isinstance(value, datetime.time)


def _is_nested(value: Any) -> bool:
    return isinstance(value, (list, tuple, dict, np.ndarray))


_OR_EMPTY = "there, or leave the cell empty"
_ALL_KINDS = (
    _Kind("truth values", _is_truth, _truth, f"write true or false, or 1 or 0, {_OR_EMPTY}"),
    _Kind("numbers", _is_number, _number, f"write numbers such as 2.5 {_OR_EMPTY}"),
    _Kind("texts", _is_text, _no_text, "give the column as texts, written as in the fit"),
    _Kind("decimal numbers", _is_decimal, _decimal, f"write numbers such as 2.50 {_OR_EMPTY}"),
    _Kind(
        "dates and times without a time zone", _is_naive, _naive, f"write them such as 2026-01-31T12:00:00 {_OR_EMPTY}"
    ),
    _Kind(
        "dates and times with a time zone",
        _is_aware,
        _aware,
        f"write them such as 2026-01-31T12:00:00+00:00 {_OR_EMPTY}",
    ),
    _Kind("dates", _is_day, _day, f"write them such as 2026-01-31 {_OR_EMPTY}"),
    _Kind("times", _is_time, _time, f"write them such as 12:00:00 {_OR_EMPTY}"),
    _Kind("durations", _is_duration, _duration, f"write them such as P1DT2H or 1 days 02:00:00 {_OR_EMPTY}"),
    _Kind("lists or dicts", _is_nested, _nested, f"write them as JSON {_OR_EMPTY}"),
)
_KINDS = {kind.name: kind for kind in _ALL_KINDS}
