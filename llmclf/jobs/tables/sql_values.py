"""Values on their way between SQL databases and data frames: plain Python objects on both sides."""

from __future__ import annotations

import base64
import datetime
import json
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from functools import partial
from typing import Any
from uuid import UUID

import numpy as np
import pandas as pd

from ...errors import InputError, StoreError, type_of
from ...tables.values import is_missing

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


def plain_column(values: Sequence[Any], kind: str, name: str) -> list[Any]:
    """What a driver gave for a column, as plain Python objects.

    Parameters
    ----------
    values : sequence
    kind : "bool", "datetime", "date" or ""
        What SQLite's stored numbers and texts mean; a value that means no such thing stays as it is.
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
    meant = {"bool": _as_bool, "datetime": _as_datetime, "date": _as_date}.get(kind)
    if meant is not None:
        return [meant(value) for value in values]
    if _PLAIN.issuperset(map(type, values)):
        return list(values)
    return [_as_plain(value, name) for value in values]


class Cells:
    """Turns the rows of data frames into what a driver takes.

    Parameters
    ----------
    kinds : mapping
        Column name -> kind.
    dialect : "postgresql" or "sqlite"

    Examples
    --------
    >>> cells = Cells({"n": "int", "tags": "json"}, "sqlite")
    >>> cells.rows(pd.DataFrame({"n": [1, 2], "tags": [["a"], None]}), 0, "the table")
    [(1, '["a"]'), (2, None)]
    """

    def __init__(self, kinds: Mapping[str, str], dialect: str) -> None:
        self._kinds = dict(kinds)
        self._is_sqlite = dialect == "sqlite"
        self._has_zone: dict[str, bool] = {}
        self._newly_zoned: list[str] = []

    def rows(self, frame: pd.DataFrame, first: int, where: str) -> list[tuple[Any, ...]]:
        """The rows of a frame.

        Parameters
        ----------
        frame : DataFrame
        first : int
            Number of its first row, for messages.
        where : str
            Name of the table, for messages.

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
        columns = [self._column(frame, name, first, where) for name in self._kinds]
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
            "str": partial(_text, may_hold_nul=self._is_sqlite),
            "datetime": partial(self._datetime, name),
            "date": partial(_date, as_text=self._is_sqlite),
            "decimal": partial(_decimal, as_text=self._is_sqlite),
        }
        others = {"bool": _bool, "int": _int, "float": _float, "bytes": _bytes, "json": _json}
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
        if self._is_sqlite:
            return value.isoformat(" ")
        has_zone = value.utcoffset() is not None
        if name not in self._has_zone:
            self._has_zone[name] = has_zone
            if has_zone:
                self._newly_zoned.append(name)
        elif self._has_zone[name] != has_zone:
            raise ValueError(f"{'with' if has_zone else 'without'} a time zone, unlike those before it")
        return value


def _ready(values: list[Any], kind: str) -> list[Any] | None:
    """The values of a column that need no conversion one by one, or None: this is the usual case, and several times as fast."""
    types = set(map(type, values)) - {type(None)}
    if kind == "float" and types <= {float}:
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


def _float(value: Any) -> float:
    if not isinstance(value, (int, float, np.integer, np.floating)):
        raise TypeError("expected a number")
    return float(value)


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


def _decimal(value: Any, *, as_text: bool) -> Any:
    if not isinstance(value, Decimal):
        raise TypeError("expected a decimal")
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
