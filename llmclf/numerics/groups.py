"""Groups of rows that belong together, such as the copies of one text or the messages of one author."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from ..arrays import Floats, Integers
from ..errors import InputError


def group_numbers(groups: ArrayLike | Iterable[Any], n_rows: int, name: str = "groups") -> Integers:
    """The groups of rows as numbers 0, 1, ... in the order in which the groups first occur.

    Parameters
    ----------
    groups : array-like (n_rows,)
        The group of each row: text, numbers, or any other values that can be compared.
    n_rows : int
    name : str
        What an error calls them.

    Returns
    -------
    ndarray of int (n_rows,)

    Raises
    ------
    InputError
        There is not one group per row, a group is missing, or a value cannot be compared.

    Examples
    --------
    >>> group_numbers(["ann", "bob", "ann"], 3).tolist()
    [0, 1, 0]
    """
    if isinstance(groups, (str, bytes)) or not isinstance(groups, Iterable):
        raise InputError(f"{name}={groups!r}; expected one group per row, such as the author of each text")
    values = groups.tolist() if isinstance(groups, np.ndarray) else list(groups)
    if len(values) != n_rows:
        raise InputError(f"{name} has {len(values)} entries for {n_rows} rows; expected one group per row")
    number_of: dict[Any, int] = {}
    numbers = np.empty(n_rows, dtype=np.int64)
    for row, value in enumerate(values):
        if _is_missing(value):
            raise InputError(
                f"{name}[{row}]={value!r} is missing; give the row a group, one of its own if it belongs to no other row"
            )
        try:
            numbers[row] = number_of.setdefault(value, len(number_of))
        except TypeError:
            raise InputError(
                f"{name}[{row}]={value!r} is a {type(value).__name__}; expected text or a number that names the group"
            ) from None
    return numbers


def joined_groups(*partitions: Integers) -> Integers:
    """The groups that result if rows belong together wherever any of the partitions puts them together.

    Parameters
    ----------
    *partitions : ndarray of int (n,)
        At least one; numbers as `group_numbers` gives them.

    Returns
    -------
    ndarray of int (n,)

    Examples
    --------
    >>> joined_groups(np.array([0, 0, 1, 2]), np.array([0, 1, 1, 2])).tolist()
    [0, 0, 0, 1]
    """
    n_rows = len(partitions[0])
    rows = np.arange(n_rows)
    sizes = [int(numbers.max(initial=-1)) + 1 for numbers in partitions]
    starts = n_rows + np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    ends = np.concatenate([start + numbers for start, numbers in zip(starts, partitions, strict=False)])
    links = coo_array(
        (np.ones(len(ends), dtype=np.int8), (np.tile(rows, len(partitions)), ends)), shape=(starts[-1], starts[-1])
    )
    return group_numbers(connected_components(links, directed=False)[1][:n_rows], n_rows)


def effective_number(groups: Integers | None, n_rows: int) -> float:
    """How many independent rows the rows of these groups are worth if the rows of a group say all the same.

    It is the squared number of rows over the sum of the squared sizes of the groups (Kish 1965, "Survey sampling"), and so the
    number of groups where all are of one size.

    Examples
    --------
    >>> effective_number(np.array([0, 0, 1, 1]), 4), effective_number(np.array([0, 0, 0, 1]), 4)
    (2.0, 1.6)
    """
    if groups is None or not n_rows:
        return float(n_rows)
    sizes = np.bincount(groups).astype(np.float64)
    return float(n_rows**2 / (sizes @ sizes))


def effective_numbers(groups: Integers) -> Floats:
    """`effective_number` of the first, the first two, ... of the rows (n,).

    Examples
    --------
    >>> effective_numbers(np.array([0, 1, 1])).round(2).tolist()
    [1.0, 2.0, 1.8]
    """
    order = np.argsort(groups, kind="stable")
    starts = np.flatnonzero(np.diff(groups[order], prepend=-1))
    sizes = np.diff(np.append(starts, len(groups)))
    earlier = np.empty(len(groups), dtype=np.int64)  # rows of the same group before this one
    earlier[order] = np.arange(len(groups)) - np.repeat(starts, sizes)
    rows = np.arange(1.0, len(groups) + 1.0)
    numbers: Floats = rows**2 / np.cumsum(2.0 * earlier + 1.0)
    return numbers


def _is_missing(value: Any) -> bool:
    if value is None or (isinstance(value, str) and not value.strip()):  # an empty cell of a text file is blank text
        return True
    try:
        return bool(value != value)
    except (TypeError, ValueError):  # pandas.NA is neither equal to itself nor unequal; arrays are no groups
        return not isinstance(value, (list, tuple, dict, set, np.ndarray))


def first_members(groups: Integers | None, n_rows: int) -> Integers:
    """The place of one row of each group, in order; of all `n_rows` rows where there are no groups."""
    if groups is None:
        return np.arange(n_rows)
    return np.sort(np.unique(groups, return_index=True)[1])
