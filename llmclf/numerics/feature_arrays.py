"""Arrays of numbers, from whatever form a transformer gives them in."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from ..errors import InputError, type_of


def dense_numbers(values: Any, name: str) -> NDArray[Any]:
    """An array of floats, from whatever has an array's form and holds numbers; what is missing or masked is NaN.

    Parameters
    ----------
    values : array-like, or data frame
    name : str
        For errors.

    Raises
    ------
    InputError
        It holds something else: texts are none, even if they could be read as numbers.

    Examples
    --------
    >>> dense_numbers([[1, None]], "mine").tolist()
    [[1.0, nan]]
    """
    try:
        if np.ma.isMaskedArray(values):
            values = np.ma.filled(values.astype(np.float64), np.nan)
        array = np.asarray(values)
    except (TypeError, ValueError) as error:
        raise InputError(f"features {name!r} are no numbers ({error}); expected an array (n, d)") from error
    if array.dtype.kind == "O":
        floats = np.array([_number(value, name) for value in array.reshape(-1).tolist()], np.float64)
        array = floats.reshape(array.shape)
    numbers: NDArray[Any] = _floats(array, name)
    return numbers


def _number(value: Any, name: str) -> float:
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return float("nan")
    try:
        if not isinstance(value, (str, bytes)):  # which `float` would read
            return float(value)
        odd: Any = f"{value[:30]!r} is {type_of(value)}"
    except (TypeError, ValueError, OverflowError) as error:
        odd = error
    raise InputError(f"features {name!r} are no numbers ({odd}); expected an array (n, d)")


def _floats(array: Any, name: str) -> Any:
    """A dense or sparse array as floats: whole numbers of few bits would overflow in squares."""
    if array.dtype.kind not in "biuf":
        raise InputError(f"features {name!r} are no numbers (dtype {array.dtype}); expected an array (n, d)")
    return array if array.dtype.kind == "f" else array.astype(np.float64)


def sparse_numbers(values: Any, name: str) -> Any:
    """A sparse array of any format by rows, each place once."""
    matrix = sparse.csr_array(_floats(values, name))
    if not matrix.has_canonical_format:
        matrix = matrix.copy()
        matrix.sum_duplicates()
    return matrix


def column_names(values: Any, n: int) -> tuple[str, ...]:
    """The names of a data frame's columns."""
    columns = getattr(values, "columns", None)
    names = () if columns is None else tuple(columns)
    return names if len(names) == n and all(isinstance(one, str) for one in names) else ()
