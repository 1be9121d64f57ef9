"""Values on their way between SQL databases and data frames: plain Python objects on both sides."""

from __future__ import annotations

import base64
import datetime
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Context, Decimal
from functools import partial
from typing import Any
from uuid import UUID

import numpy as np
import pandas as pd

from ....errors import InputError, StoreError, type_of
from ....tables.values import is_missing

_PLAIN = frozenset(
    {
        bool,
        int,
        float,
        str,
        bytes,
        Decimal,
        datetime.datetime,
        datetime.date,
        datetime.time,
        datetime.timedelta,
        type(None),
    }
)
_SHOWN = ("uuid", "ipaddress", "psycopg", "psycopg2")
"""Modules whose values are texts in a database's eyes: UUIDs, network addresses, ranges."""


_ALL_DIGITS = Context(prec=10_000)


def plain_column(values: Sequence[Any], kind: str, name: str) -> list[Any]:
    """What a driver gave for a column, as plain Python objects.

    Parameters
    ----------
    values : sequence
    kind : "bool", "datetime", "date", "utc", "json" or ""
        What stored numbers, texts and times mean; a value that means no such thing stays as it is.
    name : str
        The column's.

    Raises
    ------
    InputError
        A value is of a type without a plain form.

    Examples
    --------
    >>> plain_column((1, None, "unknown"), "bool", "is_spam")
    [True, None, 'unknown']
    >>> plain_column((UUID(int=7), None), "", "id")
    ['00000000-0000-0000-0000-000000000007', None]
    """
    meant = _MEANINGS.get(kind)
    if meant is not None:
        return [meant(value) for value in values]
    if _PLAIN.issuperset(map(type, values)):
        return list(values)
    return [_as_plain(value, name) for value in values]


@dataclass(frozen=True)
class CellRules:
    """What a database can hold.

    Attributes
    ----------
    times_as_text, decimals_as_text : bool
        Whether it lacks types for them.
    may_hold_nul : bool
        Whether its texts may hold U+0000.
    infinite_floats : bool
    moments : (datetime, datetime) or None
        The first and the last timestamp with a time zone, where its type for them has no zone, and means UTC.
    """

    times_as_text: bool = False
    decimals_as_text: bool = False
    may_hold_nul: bool = True
    infinite_floats: bool = True
    moments: tuple[datetime.datetime, datetime.datetime] | None = None


class Cells:
    """Turns the rows of data frames into what a driver takes.

    Parameters
    ----------
    kinds : mapping
        Column name -> kind.
    rules : CellRules
    has_zone : mapping, optional
        Column name -> whether its timestamps have a time zone, where that is known before the first of them.
    digits : mapping, optional
        Column name -> the most digits of its decimals before and after the point, where they are limited.

    Examples
    --------
    >>> cells = Cells({"n": "int", "tags": "json"}, CellRules())
    >>> cells.rows(pd.DataFrame({"n": [1, 2], "tags": [["a"], None]}), 0, "the table")
    [(1, '["a"]'), (2, None)]
    """

    def __init__(
        self,
        kinds: Mapping[str, str],
        rules: CellRules,
        has_zone: Mapping[str, bool] | None = None,
        digits: Mapping[str, tuple[int, int]] | None = None,
    ) -> None:
        self._kinds = dict(kinds)
        self._rules = rules
        self._has_zone = dict(has_zone or {})
        self._digits = dict(digits or {})
        self._newly_zoned: list[str] = []

    def rows(
        self, frame: pd.DataFrame, first: int, where: str, texts: Mapping[str, list[Any]] | None = None
    ) -> list[tuple[Any, ...]]:
        """The rows of a frame.

        Parameters
        ----------
        frame : DataFrame
        first : int
            Number of its first row, for messages.
        where : str
            Name of the table, for messages.
        texts : mapping, optional
            The values of some columns as the database itself writes them.

        Raises
        ------
        InputError
            The frame has a column that was not planned.
        StoreError
            A value cannot be stored; its row and column are named.
        """
        odd = [name for name in frame.columns if name not in self._kinds]
        if odd:
            raise InputError(f"{where}: a column {odd[0]!r} came that was not planned; expected {list(self._kinds)!r}")
        ready = texts or {}
        columns = [ready[name] if name in ready else self._column(frame, name, first, where) for name in self._kinds]
        return list(zip(*columns, strict=True))

    def newly_zoned(self) -> list[str]:
        """The columns whose first timestamps came with the last rows and have a time zone; said once."""
        names, self._newly_zoned = self._newly_zoned, []
        return names

    def _column(self, frame: pd.DataFrame, name: str, first: int, where: str) -> list[Any]:
        if name not in frame.columns:
            return [None] * len(frame)
        values = frame[name].tolist()
        ready = _ready(values, self._kinds[name])
        if ready is not None:
            return ready
        convert = self._converter(name)
        stored: list[Any] = []
        value = None
        try:
            for value in values:
                stored.append(None if is_missing(value) else convert(value))
        except (TypeError, ValueError, OverflowError) as error:
            raise StoreError(
                f"{where} cannot be written: row {first + len(stored)}, column {name!r}, {type_of(value)}: {error}; "
                "change the value, or write a file"
            ) from None
        return stored

    def _converter(self, name: str) -> Callable[[Any], Any]:
        kind = self._kinds[name]
        by_kind: dict[str, Callable[[Any], Any]] = {
            "str": partial(_text, may_hold_nul=self._rules.may_hold_nul),
            "float": partial(_float, may_be_infinite=self._rules.infinite_floats),
            "datetime": partial(self._datetime, name),
            "date": partial(_date, as_text=self._rules.times_as_text),
            "decimal": partial(_decimal, digits=self._digits.get(name), as_text=self._rules.decimals_as_text),
        }
        others = {"bool": _bool, "int": _int, "bytes": _bytes, "json": _json}
        return by_kind.get(kind) or others[kind]

    def _datetime(self, name: str, value: Any) -> Any:
        if isinstance(value, np.datetime64):
            value = pd.Timestamp(value)
            if is_missing(value):
                return None
        if isinstance(value, pd.Timestamp):
            value = value.to_pydatetime(warn=False)
        if not isinstance(value, datetime.datetime):
            raise TypeError("expected a timestamp")
        if self._rules.times_as_text:
            return value.isoformat(" ")
        has_zone = value.utcoffset() is not None
        if name not in self._has_zone:
            self._has_zone[name] = has_zone
            if has_zone:
                self._newly_zoned.append(name)
        elif self._has_zone[name] != has_zone:
            raise ValueError(f"{'with' if has_zone else 'without'} a time zone, unlike the column's others")
        if has_zone and self._rules.moments is not None:
            first, last = self._rules.moments
            if not first <= value <= last:
                raise ValueError(f"a moment that is not between {first:%Y} and {last:%Y}")
            return value.astimezone(datetime.UTC).replace(tzinfo=None)
        return value


def _ready(values: list[Any], kind: str) -> list[Any] | None:
    """The values of a column that need no conversion one by one, or None: this is the usual case, and several times as fast."""
    types = set(map(type, values)) - {type(None)}
    if kind == "float" and types <= {float} and math.inf not in values and -math.inf not in values:
        return [None if value != value else value for value in values]
    if kind == "bool" and types <= {bool}:
        return values
    if kind == "int" and types <= {int} and all(v is None or -(2**63) <= v < 2**63 for v in values):
        return values
    if kind == "str" and types <= {str} and all(v is None or (v.isascii() and "\0" not in v) for v in values):
        return values
    return None


def _bool(value: Any) -> bool:
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError("expected True or False")
    return bool(value)


def _int(value: Any) -> int:
    if isinstance(value, float) and value.is_integer():  # pandas' integers beside missing values
        value = int(value)
    if not isinstance(value, (int, np.integer)):
        raise TypeError("expected an integer")
    if not -(2**63) <= value < 2**63:
        raise OverflowError("more than 64 bits")
    return int(value)


def _float(value: Any, *, may_be_infinite: bool) -> float:
    if not isinstance(value, (int, float, np.integer, np.floating)):
        raise TypeError("expected a number")
    number = float(value)
    if math.isinf(number) and not may_be_infinite:
        raise ValueError("an infinite number, which the database cannot store")
    return number


def _text(value: Any, *, may_hold_nul: bool) -> str:
    if not isinstance(value, str):
        raise TypeError("expected text")
    if not may_hold_nul and "\0" in value:
        raise ValueError(f"a NUL character (U+0000) at position {value.index(chr(0))}, which PostgreSQL cannot store")
    if not value.isascii():
        value.encode()  # UTF-8 cannot hold half a surrogate pair
    return str.__str__(value)  # the text of a subclass, whatever it shows


def _date(value: Any, *, as_text: bool) -> Any:
    if type(value) is not datetime.date:
        raise TypeError("expected a date")
    return value.isoformat() if as_text else value


def _decimal(value: Any, *, digits: tuple[int, int] | None, as_text: bool) -> Any:
    if not isinstance(value, Decimal):
        raise TypeError("expected a decimal")
    if digits is not None:
        value = value.normalize(_ALL_DIGITS)
        exponent = value.as_tuple().exponent
        if not isinstance(exponent, int) or -exponent > digits[1] or (value and value.adjusted() >= digits[0]):
            raise ValueError(f"more than {digits[0]} digits before the point, or {digits[1]} behind it")
    return str(value) if as_text else value


def _bytes(value: Any) -> bytes:
    if not isinstance(value, (bytes, bytearray, memoryview)):
        raise TypeError("expected bytes")
    return bytes(value)


def _json(value: Any) -> str:
    try:
        text = json.dumps(value, ensure_ascii=False, default=_json_value)
        text.encode()
    except UnicodeEncodeError:  # half a surrogate pair: JSON has a form for it, UTF-8 has none
        return json.dumps(value, default=_json_value)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    return text


def _json_value(value: Any) -> Any:
    if isinstance(value, (np.generic, np.ndarray)):
        return value.tolist()
    if is_missing(value):
        return None
    if isinstance(value, (datetime.date, datetime.time)):
        return value.isoformat()
    if isinstance(value, (Decimal, datetime.timedelta, UUID)):
        return str(value)
    if isinstance(value, (bytes, bytearray, memoryview)):
        return base64.b64encode(bytes(value)).decode()
    raise TypeError(f"{type_of(value)} has no JSON form")


def _as_plain(value: Any, name: str) -> Any:
    if type(value) in _PLAIN:
        return value
    if isinstance(value, (list, tuple)):
        return [_as_plain(item, name) for item in value]
    if isinstance(value, dict):
        return {str(key): _as_plain(item, name) for key, item in value.items()}
    if isinstance(value, (bytearray, memoryview)):
        return bytes(value)
    if type(value).__module__.partition(".")[0] in _SHOWN:
        return str(value)
    raise InputError(
        f"the column {name!r} holds a value of the type {type(value).__name__}, which cannot be read; "
        "make a view that casts it to text, and give that as table"
    )


def _as_bool(value: Any) -> Any:
    return bool(value) if type(value) is int and value in (0, 1) else value


def _as_datetime(value: Any) -> Any:
    try:
        return datetime.datetime.fromisoformat(value) if isinstance(value, str) else value
    except ValueError:
        return value


def _as_date(value: Any) -> Any:
    try:
        return datetime.date.fromisoformat(value) if isinstance(value, str) else value
    except ValueError:
        return value


def _as_utc(value: Any) -> Any:
    return value.replace(tzinfo=datetime.UTC) if isinstance(value, datetime.datetime) else value


def _as_json(value: Any) -> Any:
    return json.loads(value) if isinstance(value, str) else value


_MEANINGS: dict[str, Callable[[Any], Any]] = {
    "bool": _as_bool,
    "datetime": _as_datetime,
    "date": _as_date,
    "utc": _as_utc,
    "json": _as_json,
}
