"""What tells the rows of a table apart: the values of a column that the caller names."""

from __future__ import annotations

from typing import Any

import pandas as pd

from ..errors import InputError
from ..tables.text_files import other_delimiter
from ..tables.values import is_missing


def row_ids(frame: pd.DataFrame, column: str, start: int, where: str = "") -> list[str]:
    """The ids of a piece of a table, as text.

    Parameters
    ----------
    frame : DataFrame
    column : str
    start : int
        The number of its first row, for messages.
    where : str
        Which part of the table it belongs to, for messages.

    Raises
    ------
    InputError
        The table has no such column, or a row has no id.

    Examples
    --------
    >>> row_ids(pd.DataFrame({"id": [7, 8]}), "id", 0)
    ['7', '8']
    """
    if column not in frame.columns:
        hint = other_delimiter(list(frame.columns))
        raise InputError(
            f"the table has no column {column!r} (--id-column); its columns: {list(frame.columns)!r}{hint}"
        )
    values: list[Any] = frame[column].tolist()
    if set(map(type, values)) == {str} and all(map(str.strip, values)):
        return values
    for number, value in enumerate(values, start=start):
        if is_missing(value) or (isinstance(value, str) and not value.strip()):
            place = f"row {number}{where and f' of {where}'}"
            raise InputError(
                f"the id in column {column!r} is missing in {place} (counted from 0); every row needs one, or give no id column"
            )
    return [str(value) for value in values]
