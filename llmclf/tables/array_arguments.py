"""Arrays as callers give them: numbers, labels and classes, with everything that cannot be used named, and no type guessed."""

from __future__ import annotations

import math
import reprlib
from collections.abc import Iterable, Mapping, MappingView, Set, Sized
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..arrays import Floats
from ..checks import is_number
from ..errors import InputError, type_of
from .values import is_missing


def as_array(values: Any, name: str) -> NDArray[Any]:
    """What numpy makes of the values.

    Raises
    ------
    InputError
        They have no order or can be read only once, or rows have different lengths.

    Examples
    --------
    >>> as_array([[0.5, 0.5], [1.0]], "proba")
    Traceback (most recent call last):
    ...
    llmclf.errors.InputError: proba[1] has another length than proba[0], 1 in place of 2; expected rows of one length
    """
    has_order = hasattr(values, "__array__") or not isinstance(values, (Mapping, Set, MappingView))
    if not has_order or (isinstance(values, Iterable) and not isinstance(values, Sized)):
        raise InputError(f"{name} is {type_of(values)}; expected a list or an array")
    try:
        return np.asarray(values)
    except (TypeError, ValueError):
        raise InputError(f"{name}{_uneven(values, name)}; expected rows of one length") from None


def _uneven(values: Any, name: str) -> str:
    sizes = [len(value) if isinstance(value, Sized) and not isinstance(value, str) else None for value in values]
    for place, size in enumerate(sizes):
        if size != sizes[0]:
            many, few = ("one value" if one is None else f"{one}" for one in (size, sizes[0]))
            return f"[{place}] has another length than {name}[0], {many} in place of {few}"
    return " holds lists of different lengths"


def as_numbers(values: ArrayLike, name: str) -> Floats:
    """Numbers of any type as floats, missing ones as NaN.

    Raises
    ------
    InputError
        Something is not a number, such as a word, a date or a complex number; or as `as_array`.

    Examples
    --------
    >>> as_numbers([1, None, "2.5"], "weights").tolist()
    [1.0, nan, 2.5]
    """
    given = as_array(values, name)
    if given.dtype.kind in "fiub":
        return given.astype(np.float64, copy=False)
    if given.dtype.kind not in "OUS":
        raise InputError(f"{name} holds values of type {given.dtype}; expected numbers")
    try:
        return given.astype(np.float64)
    except (TypeError, ValueError, OverflowError):
        pass
    result = np.full(given.shape, math.nan)
    for place, value in np.ndenumerate(given):
        if is_missing(value):
            continue
        try:
            result[place] = float(value)
        except (TypeError, ValueError, OverflowError):
            at = f"[{', '.join(map(str, place))}]" if place else ""
            value = value.item() if isinstance(value, np.generic) else value
            raise InputError(f"{name}{at}={reprlib.repr(value)} is not a number; expected numbers") from None
    return result


def as_labels(values: ArrayLike, name: str = "y") -> NDArray[Any]:
    """Labels with their own types, where numpy would make the text "1" of the number in [1, "b"].

    Whole numbers and truth values among Python objects, as a column of a table may hold them, are numbers and truth values.

    Raises
    ------
    InputError
        As `as_array`.

    Examples
    --------
    >>> as_labels([1, "b"]).tolist(), as_labels(np.array([1, 0], dtype=object)).dtype.kind
    ([1, 'b'], 'i')
    """
    given = as_array(values, name)
    if given.ndim != 1:
        return given
    if given.dtype.kind in "mM" and not isinstance(values, np.ndarray):
        return np.asarray(values, dtype=object)  # of a column of a table: its own dates
    if given.dtype.kind == "O":
        items = given.tolist()
        if items and all(isinstance(item, (bool, np.bool_)) for item in items):
            return given.astype(bool)
        if items and all(is_number(item) and not isinstance(item, np.generic) for item in items):
            numbers = np.asarray(items)
            return numbers if numbers.dtype.kind in "iuf" else given
        return given
    if given.dtype.kind in "US" and not isinstance(values, np.ndarray):
        objects = np.asarray(values, dtype=object)
        # numpy makes text of numbers among words, and drops null characters at the end of a word.
        if objects.tolist() != given.tolist():
            return objects
    return given


def check_labels_present(labels: NDArray[Any], name: str, classes: Iterable[Any] | None = None) -> None:
    """Refuse labels (n,) of which one is missing: None, NaN, blank text, and the text that numpy makes of NaN among words.

    Text that is one of `classes` is a label.

    Raises
    ------
    InputError

    Examples
    --------
    >>> check_labels_present(np.array(["a", None], dtype=object), "y")
    Traceback (most recent call last):
    ...
    llmclf.errors.InputError: y[1]=None is missing; leave rows without a label out...
    """
    if labels.dtype.kind in "biu" or (labels.dtype.kind == "f" and not np.isnan(labels).any()):
        return
    known = set() if classes is None else {label for label in classes if isinstance(label, str)}
    for place, label in enumerate(labels.tolist()):
        text = label if isinstance(label, str) and label not in known else None
        is_nan = text == "nan" and labels.dtype.kind == "U"
        if is_nan or is_missing(label) or (text is not None and not text.strip()):
            how = " (numpy makes this word of NaN; name the class in classes= if it is one)" if is_nan else ""
            raise InputError(
                f"{name}[{place}]={label!r} is missing{how}; leave rows without a label out. If labels are missing for a reason "
                "that has to do with the class, no estimate is safe"
            )


def class_list(classes: Any) -> list[Any]:
    """The classes of the columns, in their order, each of which can be a class.

    Raises
    ------
    InputError
        They have no order, or one is missing or cannot be compared.

    Examples
    --------
    >>> class_list(np.array([1, 0])), class_list("ab")
    Traceback (most recent call last):
    ...
    llmclf.errors.InputError: classes='ab'; expected a list of the classes in the order of the columns
    """
    if isinstance(classes, (str, bytes, Mapping, Set)) or not isinstance(classes, Iterable):
        raise InputError(f"classes={reprlib.repr(classes)}; expected a list of the classes in the order of the columns")
    known = classes.tolist() if isinstance(classes, np.ndarray) else list(classes)
    known = [label.item() if isinstance(label, np.generic) else label for label in known]
    for place, label in enumerate(known):
        if is_missing(label):
            raise InputError(f"classes[{place}]={label!r} is missing; expected the name of a class for each column")
        try:
            hash(label)
        except TypeError:
            raise InputError(
                f"classes[{place}]={reprlib.repr(label)} is {type_of(label)}; expected text or a number for each column"
            ) from None
    return known
