"""The classes of a task and the words that stand for them."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import narwhals.stable.v2 as nw
import numpy as np
from numpy.typing import NDArray
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import assert_all_finite, column_or_1d

from .arrays import Floats, Integers
from .errors import InputError
from .numerics.class_array import class_array
from .tables.values import is_missing


@dataclass(frozen=True)
class LabelSet:
    """Classes in the order of the columns of every score matrix.

    Attributes
    ----------
    classes : tuple
        The caller's own objects, sorted if they can be sorted (as scikit-learn's metrics expect), else as they were given.
    words : tuple of tuples of str
        The words of each class; their probabilities add.
    """

    classes: tuple[Any, ...]
    words: tuple[tuple[str, ...], ...]

    @property
    def array(self) -> NDArray[Any]:
        """The classes as an array whose items are the caller's objects (or numpy's equal of them)."""
        return class_array(self.classes)

    @property
    def first_words(self) -> list[str]:
        return [words[0] for words in self.words]

    @property
    def all_words(self) -> list[str]:
        return [word for words in self.words for word in words]

    @property
    def class_of(self) -> list[int]:
        """The class index of each of `all_words`."""
        return [k for k, words in enumerate(self.words) for _ in words]

    def indices(self, y: Iterable[Any]) -> Integers:
        """The column of each value of `y`.

        Where no class is a number, whole numbers from 0 to K - 1 are taken for columns: scikit-learn's `cross_val_predict`
        hands over the places of the sorted classes in place of the classes.

        Raises
        ------
        InputError
            Names the first value that is not a class.
        """
        place = {label: k for k, label in enumerate(self.classes)}
        if not any(isinstance(label, (int, float, np.number)) for label in self.classes):
            place |= {k: k for k in range(len(self.classes))}
        columns = []
        for number, value in enumerate(y):
            if not _hashable(value) or value not in place:
                raise InputError(
                    f"y has the value {value!r} (row {number}), which is not one of the labels {list(self.classes)!r}; "
                    "add it to labels or drop the row"
                )
            columns.append(place[value])
        return np.array(columns, dtype=np.int64)


def label_set(
    labels: Mapping[Any, str | Sequence[str]] | Iterable[Any],
    words: Mapping[Any, str | Sequence[str]] | None = None,
) -> LabelSet:
    """Check labels and find their words.

    Parameters
    ----------
    labels : iterable of classes, or dict class -> word or list of words
    words : dict, optional
        Words for some classes when `labels` is not a dict; the others are written as ``str(class)``.

    Raises
    ------
    InputError
        Fewer than two labels, a duplicate, an empty word, or one word for two classes.

    Examples
    --------
    >>> label_set({1: ["good", "great"], 0: "bad"})
    LabelSet(classes=(0, 1), words=(('bad',), ('good', 'great')))
    """
    if isinstance(labels, (str, bytes)) or not isinstance(labels, Iterable):
        raise InputError(f"labels={labels!r}: expected a list of classes or a dict class -> words")
    given = list(labels)
    for label in given:
        if not _hashable(label) or isinstance(label, bytes) or is_missing(label):
            raise InputError(
                f"the label {label!r} is a {type(label).__name__}; expected a str, int, bool or enum member"
            )
    if len(set(given)) < len(given):
        twice = next(label for i, label in enumerate(given) if label in given[:i])
        raise InputError(f"the label {twice!r} appears twice in labels; every class must be named once")
    if len(given) < 2:
        raise InputError(f"labels has {len(given)} class ({given!r}); a classifier needs at least two classes")
    if words and isinstance(labels, Mapping):
        raise InputError("labels is a dict with words, and Prompt(words=...) gives words too; leave one of them out")
    chosen: dict[Any, Any] = dict(labels) if isinstance(labels, Mapping) else {}
    if not isinstance(labels, Mapping):
        extra = [label for label in (words or {}) if label not in set(given)]
        if extra:
            raise InputError(f"Prompt(words=...) has words for {extra[0]!r}, which is not one of the labels {given!r}")
        chosen = {label: (words or {}).get(label, _default_word(label)) for label in given}
    ordered = _sorted(given)
    result = LabelSet(tuple(ordered), tuple(_words(label, chosen[label]) for label in ordered))
    owner: dict[str, Any] = {}
    for label, class_words in zip(result.classes, result.words, strict=True):
        for word in class_words:
            if word in owner:
                raise InputError(
                    f"the word {word!r} stands for {owner[word]!r} and for {label!r}; every word must be used once"
                )
            owner[word] = label
    return result


def label_prior(prior: str | Mapping[Any, float] | None, labels: LabelSet) -> Floats | None:
    """Log-probability (K,) of each class where the classifier will be used; None where nothing is known.

    Raises
    ------
    InputError
        A class is unknown or lacks a probability, or they do not sum to 1.
    """
    if prior is None:
        return None
    if isinstance(prior, str) and prior == "uniform":
        return np.full(len(labels.classes), -np.log(len(labels.classes)))
    if not isinstance(prior, Mapping):
        raise InputError(f"prior={prior!r}: expected 'uniform', a dict class -> probability, or None")
    odd = [label for label in prior if label not in labels.classes]
    absent = [label for label in labels.classes if label not in prior]
    if odd or absent:
        raise InputError(f"prior must name every class once; unknown: {odd!r}, without a probability: {absent!r}")
    try:
        values = np.array([float(prior[label]) for label in labels.classes])
    except (TypeError, ValueError) as error:
        raise InputError(f"prior={dict(prior)!r}: expected a number for every class ({error})") from error
    if not (np.isfinite(values).all() and (values > 0).all() and abs(values.sum() - 1) < 1e-6):
        raise InputError(
            f"prior={dict(prior)!r}: expected positive probabilities that sum to 1 (sum: {values.sum():g})"
        )
    log_prior: Floats = np.log(values)
    return log_prior


def read_classes(y: Any, n_rows: int) -> NDArray[Any]:
    """The class of every row as a 1-D array.

    Raises
    ------
    ValueError
        A class is missing, `y` is not a list of classes (continuous numbers, two columns), or has another length than `X`.
    """
    native = nw.from_native(y, pass_through=True, allow_series=True)
    values = native.to_list() if isinstance(native, nw.Series) else y
    if isinstance(values, (str, bytes)) or not (isinstance(values, Sequence) or hasattr(values, "__array__")):
        raise InputError(f"y is a {type(values).__name__}; expected a list, 1-D array or Series with one class per row")
    if isinstance(values, np.ndarray) and values.ndim == 1 and values.dtype.kind in "OT":
        values = values.tolist()
    if isinstance(values, (list, tuple)):
        for number, value in enumerate(values):
            if is_missing(value):
                raise InputError(f"y contains NaN or None (row {number}: {value!r}); drop these rows")
            if not _hashable(value):
                raise InputError(
                    f"y has the value {value!r} (row {number}), a {type(value).__name__}; expected a class"
                )
        array = class_array(values)
    else:
        array = column_or_1d(values, warn=True)
    if array.dtype.kind == "f":
        assert_all_finite(array, input_name="y")
    if array.dtype.kind != "O" or all(isinstance(value, str) for value in array):
        check_classification_targets(array)
    if len(array) != n_rows:
        raise InputError(
            f"X has {n_rows} rows and y has {len(array)}; expected one class per row (inconsistent numbers of samples)"
        )
    return array


def _words(label: Any, words: Any) -> tuple[str, ...]:
    several = (words,) if isinstance(words, str) else tuple(words) if isinstance(words, (list, tuple)) else None
    if several is None or not several or not all(isinstance(word, str) for word in several):
        raise InputError(f"the words of label {label!r} are {words!r}; expected a str or a list of str")
    for word in several:
        if not word.strip():
            raise InputError(
                f"label {label!r} has the empty word {word!r}; give every label at least one visible character"
            )
    return several


def _default_word(label: Any) -> str:
    """How a class without words is written; an enum member by its value if that is text, else by its name."""
    if isinstance(label, enum.Enum):
        return label.value if isinstance(label.value, str) else label.name
    return str(label)


def _sorted(labels: list[Any]) -> list[Any]:
    try:
        return sorted(labels)
    except TypeError:  # enum members, or str beside int: no order that the caller could expect but his own
        return labels


def _hashable(value: Any) -> bool:
    try:
        hash(value)
    except TypeError:
        return False
    return True
