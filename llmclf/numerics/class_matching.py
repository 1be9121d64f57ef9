"""Which class a value means: the one place where the values of a column meet the classes of a task.

A value may have changed its type on the way: a column with gaps comes back as floats (1.0 for 1), a CSV file holds texts
("1", "True"). Such a value still means its class. What could mean two classes, or a class only by its place, is refused.
"""

from __future__ import annotations

import decimal
import math
import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from ..arrays import Integers
from ..errors import InputError, listed

_NUMBER = re.compile(r"[+-]?\d+(\.\d*)?", re.ASCII)
_TRUTHS = {"true": True, "false": False}
_ENCODING_TOOLS = (
    "scikit-learn's cross_val_predict(method='predict_proba'), VotingClassifier, StackingClassifier and BaggingClassifier hand "
    "over the places of the sorted classes"
)


def match_classes(
    values: Iterable[Any],
    classes: Sequence[Any],
    *,
    named_order: Sequence[int] | None = None,
    is_y: bool = True,
) -> Integers:
    """The column of the class that each value means.

    A value means the class that is equal to it and of its type; else the class that differs in type alone: 1, 1.0, "1" and
    "1.0" are the same, and so are True, "True" and "true", and True and 1 where the classes are truth values or 0 and 1.

    Where the classes are words and `is_y`, whole numbers mean places. They do so only if every reading agrees: they are exactly
    0 to K - 1, so that no absent class has shifted them, and the classes were named in sorted order, so that the places in the
    caller's order are those of scikit-learn's `LabelEncoder`.

    Parameters
    ----------
    values : iterable (n,)
    classes : sequence (K,)
        In the order of the columns.
    named_order : sequence of int (K,), optional
        The columns in the order in which the caller named the classes; None where it is unknown.
    is_y : bool
        Whether the values are a `y`, which scikit-learn's tools may have encoded, and not a column or names.

    Returns
    -------
    ndarray of int (n,), in 0 .. K - 1

    Raises
    ------
    InputError
        Names the first value that is not a class, or that could be more than one, and the cure.

    Examples
    --------
    >>> match_classes([1.0, "2", 1], ["1", "2"]).tolist()
    [0, 1, 0]
    >>> match_classes([0, 1, 1], ["bad", "good"], named_order=[0, 1]).tolist()
    [0, 1, 1]
    >>> match_classes([0, 1, 1], ["bad", "good"], named_order=[1, 0])
    Traceback (most recent call last):
    ...
    llmclf.errors.InputError: y holds the numbers 0 and 1, and the labels are words in the order 'good' and 'bad': ...
    """
    values, classes = _plain(values), _plain(classes)
    first_row: dict[tuple[type, Any], int] = {}
    for row, value in enumerate(values):
        if not is_hashable(value):
            raise InputError(_unknown(value, row, classes))
        first_row.setdefault((type(value), value), row)
    meaning = _Meaning(classes, is_y)
    columns = {key: meaning.column(key[1], row) for key, row in first_row.items()}
    distinct = [value for _, value in first_row]
    if is_y and not meaning.has_numbers and _could_be_places(distinct, len(classes)):
        columns = _checked_places(distinct, columns, classes, named_order)
    elif is_y and meaning.has_numbers:
        _refuse_shifted(distinct, classes)
    for key, row in first_row.items():
        if columns[key] is None:
            raise InputError(_unknown(key[1], row, classes))
    return np.array([columns[type(value), value] for value in values], dtype=np.int64)


def as_code(value: Any) -> Any:
    """The number or the truth value that a value is, or that a text writes; None for everything else.

    Examples
    --------
    >>> as_code("1.0"), as_code("true"), as_code("one")
    (1, True, None)
    """
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    if isinstance(value, str):
        text = str(value)
        if _NUMBER.fullmatch(text):
            whole, _, rest = text.partition(".")
            # A float would make two long identifiers one.
            return int(whole) if not rest.strip("0") and len(whole) < 1000 else float(text)
        return _TRUTHS.get(text.casefold())
    if isinstance(value, (int, float, decimal.Decimal, np.number)) and not isinstance(value, np.complexfloating):
        number = value.item() if isinstance(value, np.generic) else value
        return number if math.isfinite(number) else None
    return None


def is_hashable(value: Any) -> bool:
    """Whether a value can be a class at all."""
    try:
        hash(value)
    except TypeError:
        return False
    return True


def _plain(values: Iterable[Any]) -> list[Any]:
    return [value.item() if isinstance(value, np.generic) else value for value in values]


class _Meaning:
    """The classes, and how values find them."""

    def __init__(self, classes: list[Any], is_y: bool) -> None:
        self.classes = classes
        codes = [as_code(label) for label in self.classes]
        self.has_numbers = any(
            code is not None and not isinstance(label, str) for label, code in zip(classes, codes, strict=True)
        )
        self.exact = {(_kind(label), label): k for k, label in enumerate(self.classes)}
        self.texts: dict[str, list[int]] = {}
        self.numbers: dict[Any, list[int]] = {}
        self.truths: dict[bool, list[int]] = {}
        plain = {code for code in codes if code is not None and not isinstance(code, bool)}
        for k, (label, code) in enumerate(zip(self.classes, codes, strict=True)):
            if not isinstance(label, str):
                self.texts.setdefault(str(label), []).append(k)
            if isinstance(code, bool):
                self.truths.setdefault(code, []).append(k)
                # Of a text "true", 1 is one reading; that it is the second class of a list may be another.
                if not isinstance(label, str) or not is_y:
                    self.numbers.setdefault(int(code), []).append(k)
            elif code is not None:
                self.numbers.setdefault(code, []).append(k)
                if plain <= {0, 1}:
                    self.truths.setdefault(bool(code), []).append(k)

    def column(self, value: Any, row: int) -> int | None:
        """The column of a value, None if it is none.

        Raises
        ------
        InputError
            It could be more than one class.
        """
        if (_kind(value), value) in self.exact:
            return self.exact[_kind(value), value]
        code = as_code(value)
        if isinstance(code, bool):
            found = self.truths.get(code, [])
        elif code is not None:
            found = self.numbers.get(code, [])
        elif isinstance(value, str):
            found = self.texts.get(str(value), [])
        else:
            found = [k for k, label in enumerate(self.classes) if isinstance(label, str) and str(value) == label]
        if len(found) > 1:
            could = " or ".join(repr(self.classes[k]) for k in found)
            raise InputError(
                f"y has the value {value!r} (row {row}), which could be {could}; give the classes themselves"
            )
        return found[0] if found else None


def _kind(value: Any) -> str:
    """What a value is, where Python would call True, 1 and 1.0 equal."""
    if isinstance(value, (bool, np.bool_)):
        return "truth"
    return "number" if isinstance(value, (int, float, decimal.Decimal, np.number)) else "other"


def _is_place(value: Any, n_classes: int) -> bool:
    return _kind(value) == "number" and 0 <= value < n_classes and value == int(value)


def _could_be_places(values: Sequence[Any], n_classes: int) -> bool:
    return bool(values) and all(_is_place(value, n_classes) for value in values)


def _refuse_shifted(values: Sequence[Any], classes: Sequence[Any]) -> None:
    """Refuse numbers that are classes, and could as well be the places of other classes: 0 and 1, of -1, 0 and 1.

    Raises
    ------
    InputError
    """
    places = sorted({int(value) for value in values}) if _could_be_places(values, len(classes)) else []
    if not places or len(places) == len(classes) or places != list(range(len(places))):
        return
    kinds = {_kind(label) for label in classes}
    ordered = sorted(classes) if kinds == {"number"} else []
    if ordered and all(place in classes for place in places) and ordered[: len(places)] != places:
        raise InputError(
            f"y holds only the numbers {listed(map(repr, places))} of the labels {list(classes)!r}, which could also be the "
            f"places of {listed(map(repr, ordered[: len(places)]))} ({_ENCODING_TOOLS}); give rows of every class, or labels "
            "that are words, and y as words"
        )


def _checked_places(
    values: Sequence[Any],
    columns: dict[tuple[type, Any], int | None],
    classes: Sequence[Any],
    named_order: Sequence[int] | None,
) -> dict[tuple[type, Any], int | None]:
    """The columns of numbers that may be places: as they are by value, or as places where that is the only reading."""
    by_value = [column for column in columns.values() if column is not None]
    if len(by_value) == len(values):
        odd = [(value, k) for (_, value), k in columns.items() if isinstance(value, int) and k not in (None, value)]
        if not odd:
            return columns
        number, k = odd[0]
        raise InputError(
            f"y has the number {number}, which could be the label {classes[k or 0]!r} or the place of {classes[number]!r} "
            f"among the sorted labels ({_ENCODING_TOOLS}); give y as texts, or numbers as labels: labels={{number: word, ...}}"
        )
    if by_value or any(as_code(label) is not None for label in classes):
        return columns  # the labels read as numbers themselves, so a number that is none of them is a mistake
    numbers = sorted({int(value) for value in values})
    shown, example = listed(map(repr, numbers)), "labels={0: 'word', 1: 'word', ...}"
    cure = f"give y as the labels themselves, or say which number is which: {example}"
    if named_order is None:
        raise InputError(f"y holds the numbers {shown}, and the labels are words: {listed(map(repr, classes))}; {cure}")
    if list(named_order) != list(range(len(classes))) or not _is_sorted(classes):
        named = listed(repr(classes[k]) for k in named_order)
        raise InputError(
            f"y holds the numbers {shown}, and the labels are words in the order {named}: as places in this order they mean "
            f"other labels than as places in sorted order, which scikit-learn's tools count; {cure}. If one of these tools made "
            "the numbers, name the labels in sorted order"
        )
    if numbers != list(range(len(classes))):
        raise InputError(
            f"y holds the numbers {shown}, and there are {len(classes)} labels: as places they would be 0 to "
            f"{len(classes) - 1}, and an absent class shifts the places of all that follow it; {cure}. If one of scikit-learn's "
            "tools made the numbers, every label must have rows, in each training fold, too"
        )
    return {(type(value), value): int(value) for value in values}


def _is_sorted(classes: Sequence[Any]) -> bool:
    try:
        return sorted(classes) == list(classes)
    except TypeError:
        return False


def _unknown(value: Any, row: int, classes: Sequence[Any]) -> str:
    message = (
        f"y has the value {value!r} (row {row}), which is not one of the labels {list(classes)!r}; add it to labels or drop "
        "the row"
    )
    if not is_hashable(value):
        return message
    if _kind(value) == "truth":
        return f"{message}, or say what the truth values stand for: labels={{True: 'word', False: 'word'}}"
    if _is_place(value, len(classes)) and all(as_code(label) is not None for label in classes):
        return (
            f"{message}. {_ENCODING_TOOLS}, from 0; with such a tool use labels that are no numbers, as in "
            "labels={'1 star': '1', '2 stars': '2', ...}"
        )
    if as_code(value) is not None and all(as_code(label) is None for label in classes):
        return f"{message}, or say what {value!r} stands for: labels={{{value!r}: 'word', ...}} (--labels '{value}=word,...')"
    return message
