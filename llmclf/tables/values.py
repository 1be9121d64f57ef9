"""A single value of a table: its form in JSON, and whether it is missing."""

from __future__ import annotations

import datetime
import decimal
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..errors import InputError, type_of


def json_value(value: Any) -> Any:
    """The JSON form of a value whose type JSON lacks: the `default` of `json.dumps`.

    Raises
    ------
    TypeError
        The value has no JSON form.
    """
    if isinstance(value, (np.generic, np.ndarray)):
        return value.tolist()
    if isinstance(value, (datetime.date, datetime.time)):
        return value.isoformat()
    if isinstance(value, decimal.Decimal):
        return str(value)  # a JSON number would not keep its digits
    if is_missing(value):
        return None
    raise TypeError(f"{value!r} is {type_of(value)} and has no JSON form; choose another suffix")


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
