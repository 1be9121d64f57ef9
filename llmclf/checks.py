"""Internal: is a value a number, and is it in range? Written once, so that every package refuses the same values.

A bool is not a number here, although Python counts it as one: ``n_bins=True`` is a mistake. numpy's numbers are numbers.
"""

from __future__ import annotations

import math
from numbers import Integral, Real
from typing import Any, TypeGuard

from .errors import InputError


def is_number(value: Any) -> TypeGuard[float]:
    """Whether a value is a real number, infinity and NaN included.

    Examples
    --------
    >>> is_number(0.5), is_number(True), is_number("0.5")
    (True, False, False)
    """
    return isinstance(value, Real) and not isinstance(value, bool)


def is_finite_number(value: Any) -> TypeGuard[float]:
    """Whether a value is a real number other than infinity and NaN, and within the range of a float.

    Examples
    --------
    >>> is_finite_number(3), is_finite_number(float("inf")), is_finite_number(10**400)
    (True, False, False)
    """
    try:
        return is_number(value) and math.isfinite(value)
    except OverflowError:
        return False


def is_whole_number(value: Any, least: int | None = None) -> TypeGuard[int]:
    """Whether a value is an integer, and at least `least`.

    Examples
    --------
    >>> import numpy as np
    >>> is_whole_number(np.int64(3), 1), is_whole_number(0, 1), is_whole_number(3.0), is_whole_number(True)
    (True, False, False, False)
    """
    return isinstance(value, Integral) and not isinstance(value, bool) and (least is None or int(value) >= least)


def check_whole_number(name: str, value: Any, least: int) -> int:
    """The value as an int.

    Raises
    ------
    InputError
        It is not a whole number, or less than `least`.

    Examples
    --------
    >>> check_whole_number("n_bins", 15, 1)
    15
    """
    if not is_whole_number(value, least):
        raise InputError(f"{name}={value!r}; expected a whole number of at least {least}")
    return int(value)


def check_open_share(name: str, value: Any, example: str) -> float:
    """The value as a float.

    Raises
    ------
    InputError
        It is not a number above 0 and below 1; the message gives `example`.

    Examples
    --------
    >>> check_open_share("confidence", 0.95, "0.95")
    0.95
    """
    if not is_number(value) or not 0 < value < 1:
        raise InputError(f"{name}={value!r}; expected a number between 0 and 1, such as {example}")
    return float(value)
