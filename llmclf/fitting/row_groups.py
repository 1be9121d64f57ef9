"""Which rows belong together: copies of one text, and what the caller says."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Collection, Iterable, Sequence
from typing import Any

import numpy as np

from ..arrays import Integers
from ..errors import InputError
from ..numerics.groups import group_numbers, joined_groups
from ..tables.rows import Row, Rows


def same_texts(records: Iterable[Row], fields: Sequence[str]) -> Integers:
    """The rows (n,) in groups of which the model sees the same, whatever the other fields hold.

    Case, kinds of space and their number, and Unicode's ways to write one character make no difference: a text copied with
    another line break is no other text.

    Examples
    --------
    >>> same_texts([{"text": "Fine  film"}, {"text": "fine film"}, {"text": "Fine films"}], ["text"]).tolist()
    [0, 0, 1]
    """
    keys = text_keys(records, fields)
    return group_numbers(keys, len(keys))


def text_keys(records: Iterable[Row], fields: Sequence[str]) -> list[str]:
    """What stands for the text of each row, the same for rows that `same_texts` puts together.

    Examples
    --------
    >>> text_keys([{"text": "Fine  film", "id": 3}], ["text"])
    ['["fine film"]']
    """
    names = sorted(fields)
    return [json.dumps([_plain(record.get(name)) for name in names], default=repr) for record in records]


def read_groups(groups: Any, rows: Rows, name: str = "groups") -> Integers | None:
    """The groups that a caller gives (n,): one value per row, or the name of a table's column; None for None.

    Raises
    ------
    InputError
        They cannot be used; the error calls them `name`.
    """
    if groups is None:
        return None
    if isinstance(groups, str):
        if not rows.is_table or groups not in rows.field_names:
            known = (
                f"a column of the table; its columns: {list(rows.field_names)!r}" if rows.is_table else "one per text"
            )
            raise InputError(f"{name}={groups!r}; expected one group per row, or {known}")
        groups = [record[groups] for record in rows.records]
    return group_numbers(groups, len(rows), name)


def row_groups(
    rows: Rows, fields: Sequence[str], *given: Integers | None, without_text: Collection[int] = ()
) -> Integers:
    """The groups of rows (n,): copies of a text, and whatever any of the other partitions puts together.

    Parameters
    ----------
    rows : Rows
    fields : sequence of str
        What the model sees of a row.
    *given : ndarray of int (n,) or None
    without_text : collection of int
        Rows that cannot be asked about: two blank texts are no copies, and must not join the authors that they are from.
    """
    texts = same_texts(rows.records, fields)
    texts[list(without_text)] = -1
    return joined_groups(alone_where_unknown(texts), *(numbers for numbers in given if numbers is not None))


def alone_where_unknown(numbers: Integers) -> Integers:
    """The groups with one of its own for each row of number -1.

    Examples
    --------
    >>> alone_where_unknown(np.array([-1, 3, 3, -1])).tolist()
    [4, 3, 3, 5]
    """
    result, unknown = numbers.copy(), numbers < 0
    result[unknown] = numbers.max(initial=-1) + 1 + np.arange(np.count_nonzero(unknown))
    return result


def _plain(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    return " ".join(unicodedata.normalize("NFKC", value).casefold().split())
