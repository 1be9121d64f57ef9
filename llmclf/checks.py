"""Internal: is a value a number, and is it in range? Written once, so that every package refuses the same values.

A bool is not a number here, although Python counts it as one: ``n_bins=True`` is a mistake. numpy's numbers are numbers.
"""

from __future__ import annotations

import math
import reprlib
from collections.abc import Mapping
from numbers import Integral, Real
from typing import Any, TypeGuard

import numpy as np

from .arrays import Floats
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


def check_truth(name: str, value: Any) -> None:
    """Refuse what is neither True nor False: of the word "no", Python would make True.

    Raises
    ------
    InputError

    Examples
    --------
    >>> check_truth("recalibrate", True)
    """
    if not isinstance(value, (bool, np.bool_)) and not (is_whole_number(value) and value in (0, 1)):
        raise InputError(f"{name}={value!r}; expected True or False")


def random_generator(random_state: Any) -> np.random.Generator:
    """numpy's generator of random numbers for a seed, or the generator that was given.

    Raises
    ------
    InputError
        It is neither.

    Examples
    --------
    >>> random_generator(0).integers(100) == random_generator(0).integers(100)
    np.True_
    """
    try:
        return np.random.default_rng(random_state)
    except (TypeError, ValueError):
        raise InputError(
            f"random_state={random_state!r}; expected a whole number of at least 0, a numpy Generator, or None"
        ) from None


def checked_numbers(values: Any, shape: tuple[int | None, ...], name: str) -> Floats:
    """Finite numbers as an array: a list of them, a list of such lists, or an array of floats.

    Parameters
    ----------
    values : list or ndarray
    shape : tuple of int, the first may be None
        None: any length of at least 1.
    name : str
        Of the values, for the error.

    Raises
    ------
    InputError
        They are something else; nothing is converted, such as text or truth values.

    Examples
    --------
    >>> checked_numbers([[1, 2.5], [3, 4]], (None, 2), "table").tolist()
    [[1.0, 2.5], [3.0, 4.0]]
    """

    def fits(size: int, wanted: int | None) -> bool:
        return size > 0 if wanted is None else size == wanted

    def is_valid(part: Any, sizes: tuple[int | None, ...]) -> bool:
        if not sizes:
            return is_finite_number(part)
        is_list = isinstance(part, (list, tuple)) and fits(len(part), sizes[0])
        return is_list and all(is_valid(inner, sizes[1:]) for inner in part)

    if isinstance(values, np.ndarray):
        is_sound = values.ndim == len(shape) and all(map(fits, values.shape, shape))
        is_sound = is_sound and values.dtype.kind == "f" and bool(np.isfinite(values).all())
    else:
        is_sound = is_valid(values, shape)
    if not is_sound:
        size = " lists of ".join("any number of" if one is None else str(one) for one in shape)
        raise InputError(f"{name}={reprlib.repr(values)}; expected a list of {size} finite numbers")
    return np.array(values, dtype=np.float64)


def checked_names(values: Any, name: str) -> tuple[str, ...]:
    """A list of different texts as a tuple.

    Raises
    ------
    InputError
        It is something else; the message names it `name`.

    Examples
    --------
    >>> checked_names(["a", "b"], "columns")
    ('a', 'b')
    """
    is_sound = isinstance(values, (list, tuple)) and all(isinstance(one, str) for one in values)
    if not is_sound or len(set(values)) < len(values):
        raise InputError(f"{name}={reprlib.repr(values)}; expected a list of different texts")
    return tuple(values)


def checked_pairs(values: Any, name: str) -> list[tuple[Any, Any]]:
    """A list of lists of two values, as JSON keeps pairs.

    Raises
    ------
    InputError
        It is something else; the message names it `name`.

    Examples
    --------
    >>> checked_pairs([["a", 1], ["b", 2]], "numbers")
    [('a', 1), ('b', 2)]
    """
    is_list = isinstance(values, (list, tuple))
    if not is_list or not all(isinstance(pair, (list, tuple)) and len(pair) == 2 for pair in values):
        raise InputError(f"{name}={reprlib.repr(values)}; expected a list of pairs")
    return [(first, second) for first, second in values]


def check_keys(mapping: Any, expected: list[str], name: str) -> None:
    """Refuse what is not a mapping with exactly these keys.

    Raises
    ------
    InputError
        The message names the mapping `name`.

    Examples
    --------
    >>> check_keys({"a": 1}, ["a"], "the description")
    """
    if not isinstance(mapping, Mapping) or set(mapping) != set(expected):
        given = repr(sorted(map(str, mapping))) if isinstance(mapping, Mapping) else reprlib.repr(mapping)
        raise InputError(f"{name} holds {given}; expected exactly the entries {sorted(expected)}")
