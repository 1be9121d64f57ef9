"""A single value of a table: its form in JSON, and whether it is missing."""

from __future__ import annotations

import base64
import datetime
import decimal
import enum
import json
import math
import reprlib
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..errors import InputError, type_of

PLAIN = frozenset({str, int, bool, type(None)})
"""Types whose values are JSON as they are; a float is so if it is finite."""


def json_value(value: Any) -> Any:
    """A value as JSON has it, with all that it holds.

    Missing values are null, wherever they stand. Dates, times and durations are text as ISO 8601 has it, decimals are text since
    a JSON number would not keep their digits, and bytes are text in base64. Infinite numbers, which JSON lacks, are
    ``"Infinity"`` and ``"-Infinity"``, from which `float` makes them again.

    Raises
    ------
    TypeError
        The value has no JSON form: a set, an object with keys that are no texts and cannot be told apart as such.

    Examples
    --------
    >>> json_value({"when": [datetime.date(2026, 1, 2), None], "share": float("nan")})
    {'when': ['2026-01-02', None], 'share': None}
    """
    kind = type(value)
    if kind in PLAIN:
        return value
    if is_missing(value):  # before dates, which NaT claims to be
        return None
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    if isinstance(value, (float, np.floating)):
        number = float(value)
        return number if math.isfinite(number) else "Infinity" if number > 0 else "-Infinity"
    if isinstance(value, (datetime.timedelta, np.timedelta64)):  # before integers, which numpy's are
        import pandas as pd

        return pd.Timedelta(value).isoformat()
    if isinstance(value, (int, np.integer)):
        return int(value)
    if isinstance(value, str):
        return str(value)
    if isinstance(value, Mapping):
        return {_json_key(key, value): json_value(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [json_value(item) for item in value]
    if isinstance(value, np.ndarray):
        return json_value(value.tolist())
    if isinstance(value, (datetime.date, datetime.time, np.datetime64)):
        return str(value) if isinstance(value, np.datetime64) else value.isoformat()
    if isinstance(value, (decimal.Decimal, uuid.UUID)):
        return str(value)
    if isinstance(value, (bytes, bytearray, memoryview)):
        return base64.b64encode(value).decode()
    if isinstance(value, enum.Enum):
        return json_value(value.value)
    import pandas as pd

    if isinstance(value, (pd.Period, pd.Interval)):
        return str(value)
    raise TypeError(f"{reprlib.repr(value)} is {type_of(value)} and has no JSON form; choose another suffix")


def _json_key(key: Any, mapping: Mapping[Any, Any]) -> str:
    if type(key) is str:
        return key
    form = json_value(key)
    text = form if isinstance(form, str) else json.dumps(form)
    if isinstance(form, (list, dict)) or text in mapping:
        raise TypeError(f"the key {reprlib.repr(key)} of {type_of(mapping)} has no JSON form of its own")
    return text


def plain(value: Any, what: str) -> Any:
    """A value that JSON gives back as it was; `what` names it in the error.

    Raises
    ------
    InputError
        The value is of another type (an enum member, a date, an array).
    """
    value = value.item() if isinstance(value, np.generic) else value
    if type(value) in (str, int, float, bool) or value is None:
        return value
    if isinstance(value, (list, tuple)):
        return [plain(item, what) for item in value]
    raise InputError(f"{what} {value!r} is {type_of(value)} and has no JSON form; use str, int, float or bool")


def is_missing(value: Any) -> bool:
    """Whether a value means "missing" in any of the table libraries."""
    if value is None:
        return True
    if isinstance(value, (float, np.floating)):
        return math.isnan(value)
    if isinstance(value, (np.datetime64, np.timedelta64)):
        return bool(np.isnat(value))
    if isinstance(value, decimal.Decimal):
        return value.is_nan()
    return type(value).__name__ in {"NAType", "NaTType"}


def rows_named(numbers: Sequence[int]) -> str:
    """Row numbers as messages name them: the first ten, and how many there are.

    Examples
    --------
    >>> rows_named([3]), rows_named([3, 5])
    ('row 3', 'row 3, row 5: 2 rows')
    >>> rows_named(range(2, 100))
    'row 2, row 3, row 4, row 5, row 6, row 7, row 8, row 9, row 10, row 11, ...: 98 rows'
    """
    shown = ", ".join(f"row {number}" for number in numbers[:10])
    more = ", ..." if len(numbers) > 10 else ""
    return shown if len(numbers) == 1 else f"{shown}{more}: {len(numbers)} rows"
