"""The classes of a task and the words that stand for them."""

from __future__ import annotations

import enum
import reprlib
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import narwhals.stable.v2 as nw
import numpy as np
from numpy.typing import NDArray
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import assert_all_finite, column_or_1d

from .arrays import Floats, Integers
from .checks import is_whole_number
from .errors import InputError, LabelWordWarning, listed, type_of, warn
from .numerics.class_array import class_array
from .numerics.class_matching import as_code, is_hashable, match_classes
from .tables.values import is_missing, rows_named

_MOST_CLASSES = 100_000


@dataclass(frozen=True)
class LabelSet:
    """Classes in the order of the columns of every score matrix.

    Attributes
    ----------
    classes : tuple
        The caller's own objects, sorted if they can be sorted (as scikit-learn's metrics expect), else as they were given.
    words : tuple of tuples of str
        The words of each class; their probabilities add.
    named_order : tuple of int, optional
        The columns in the order in which the caller named the classes; None where nobody named them.
    """

    classes: tuple[Any, ...]
    words: tuple[tuple[str, ...], ...]
    # Two ways to write down the same task are the same task.
    named_order: tuple[int, ...] | None = field(default=None, compare=False, repr=False)

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

    @property
    def as_named(self) -> dict[Any, list[str]]:
        """Class -> words, in the order in which the caller named the classes."""
        order = range(len(self.classes)) if self.named_order is None else self.named_order
        return {self.classes[k]: list(self.words[k]) for k in order}

    def indices(self, y: Iterable[Any]) -> Integers:
        """The column of each value of `y`; see `llmclf.numerics.class_matching.match_classes`.

        Raises
        ------
        InputError
            Names the first value that is not a class, or that could be more than one.
        """
        return match_classes(y, self.classes, named_order=self.named_order)

    def indices_by_value(self, y: Iterable[Any]) -> Integers:
        """The column of each value of `y`: by what the values say where they say it, else as `indices`.

        For labels that judge a fitted classifier, which no tool has encoded unless those of the fit were encoded, too.

        Raises
        ------
        InputError
            As `indices`.
        """
        values = list(y)
        try:
            return match_classes(values, self.classes, is_y=False)
        except InputError:
            return self.indices(values)

    def is_task_of(self, other: LabelSet) -> bool:
        """Whether both have the same classes, told apart as `match_classes` does (1 is "1"), and the same words for them."""
        if len(self.classes) != len(other.classes):
            return False
        try:
            columns = match_classes(self.classes, other.classes, is_y=False).tolist()
        except InputError:
            return False
        return len(set(columns)) == len(columns) and all(
            words == other.words[k] for words, k in zip(self.words, columns, strict=True)
        )


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
    _check_classes(given)
    if words and isinstance(labels, Mapping):
        raise InputError("labels is a dict with words, and Prompt(words=...) gives words too; leave one of them out")
    chosen: dict[Any, Any] = dict(labels) if isinstance(labels, Mapping) else {}
    if not isinstance(labels, Mapping):
        extra = [label for label in (words or {}) if label not in set(given)]
        if extra:
            raise InputError(f"Prompt(words=...) has words for {extra[0]!r}, which is not one of the labels {given!r}")
        chosen = {label: (words or {}).get(label, _default_word(label)) for label in given}
    # A set stands in no order of its own, and not in the same one twice.
    return _with_words(chosen, _sorted(given) if isinstance(labels, (set, frozenset)) else given)


def labels_of_classes(
    classes: Iterable[Any],
    words: Mapping[Any, str | Sequence[str]] | None = None,
    *,
    are_asked: bool = True,
) -> LabelSet:
    """The labels of a task whose classes nobody named, from the classes of its rows.

    Parameters
    ----------
    classes : iterable
        The class of every row.
    words : dict, optional
        Words for these classes, and perhaps for others that no row has.
    are_asked : bool
        Whether the model is asked for the classes' own words; False where each row brings its own choices.

    Raises
    ------
    InputError
        As `label_set`; or the classes are numbers or truth values without words, which are more often codes of something
        than what a model should answer.

    Examples
    --------
    >>> labels_of_classes(["good", "bad", "good"]).classes
    ('bad', 'good')
    >>> labels_of_classes([0, 1, 1])
    Traceback (most recent call last):
    ...
    llmclf.errors.InputError: y holds the numbers 0 and 1, and no words for them; ...
    """
    seen = list(dict.fromkeys(classes))
    _check_classes(seen)
    words = words or {}
    bare = [label for label in seen if label not in words]
    unseen = [label for label in words if label not in set(seen)]
    if bare and unseen:
        raise InputError(f"Prompt(words=...) has words for {unseen[0]!r}, which is not one of the labels {seen!r}")
    if are_asked and bare:
        _check_that_words_are_meant(bare)
    chosen = {label: words.get(label, _default_word(label)) for label in seen}
    return replace(_with_words(chosen, seen), named_order=None)


def saved_labels(classes: Any, words: Any, named_order: Any = None) -> LabelSet:
    """The labels that a saved classifier names.

    Parameters
    ----------
    classes : list of K classes
    words : list of K lists of str
    named_order : list of int, optional
        See `LabelSet`.

    Raises
    ------
    InputError
        No caller can have given these, or the columns stand in another order than `label_set` gives them.

    Examples
    --------
    >>> saved_labels(["neg", "pos"], [["bad"], ["good"]])
    LabelSet(classes=('neg', 'pos'), words=(('bad',), ('good',)))
    >>> saved_labels(["pos", "neg"], [["good"], ["bad"]])
    Traceback (most recent call last):
    ...
    llmclf.errors.InputError: classes=['pos', 'neg'] are not in the order of their columns; expected ['neg', 'pos']
    """
    if not isinstance(classes, list) or not isinstance(words, list) or len(classes) != len(words):
        raise InputError(
            f"classes={classes!r}, words={words!r}; expected a list of classes, and a list of the words of each"
        )
    if not all(isinstance(own, list) for own in words):
        raise InputError(f"words={words!r}; expected a list of words for each class")
    _check_classes(classes)
    order = list(range(len(classes))) if named_order is None else named_order
    if (
        not isinstance(order, list)
        or not all(map(is_whole_number, order))
        or sorted(order) != list(range(len(classes)))
    ):
        raise InputError(f"named_order={named_order!r}; expected each of the columns 0 to {len(classes) - 1} once")
    labels = _with_words(dict(zip(classes, words, strict=True)), [classes[k] for k in order])
    if list(labels.classes) != classes:
        raise InputError(
            f"classes={classes!r} are not in the order of their columns; expected {list(labels.classes)!r}"
        )
    return labels if named_order is not None else replace(labels, named_order=None)


def _check_classes(given: list[Any]) -> None:
    for label in given:
        if not is_hashable(label) or isinstance(label, bytes) or is_missing(label):
            raise InputError(f"the label {label!r} is {type_of(label)}; expected a str, int, bool or enum member")
    if len(given) > _MOST_CLASSES:
        raise InputError(f"labels has {len(given):,} classes; expected at most {_MOST_CLASSES:,}")
    seen: set[Any] = set()
    for label in given:
        if label in seen:
            raise InputError(f"the label {label!r} appears twice in labels; every class must be named once")
        seen.add(label)
    if len(given) < 2:
        raise InputError(f"labels has {len(given)} class ({given!r}); a classifier needs at least two classes")


def _check_that_words_are_meant(classes: list[Any]) -> None:
    """Refuse to ask a model for digits, or for True and False, that nobody asked for."""
    readable = {label: as_code(_default_word(label)) for label in classes}
    codes = [label for label, code in readable.items() if code is not None]
    if len(codes) < len(classes) and all(isinstance(label, str) for label in codes):
        return
    ordered = _sorted(codes)
    are_truths = all(isinstance(readable[label], bool) for label in ordered)
    shown = listed([repr(label) for label in ordered])
    example = ", ".join(f"{label!r}: 'word'" for label in ordered[:2])
    raise InputError(
        f"y holds {'the truth values' if are_truths else 'the numbers'} {shown}, and no words for them; say what they stand "
        f"for, labels={{{example}, ...}} (--labels '{ordered[0]}=word,...'), or name them, labels={ordered!r}, if the model "
        "shall answer in these very words. scikit-learn's own tools hand over numbers in place of classes where labels is None"
    )


def _with_words(chosen: Mapping[Any, Any], given: list[Any]) -> LabelSet:
    ordered = _sorted(given)
    columns = {label: column for column, label in enumerate(ordered)}
    result = LabelSet(
        tuple(ordered),
        tuple(_words(label, chosen[label]) for label in ordered),
        tuple(columns[label] for label in given),
    )
    owner: dict[str, Any] = {}
    for label, class_words in zip(result.classes, result.words, strict=True):
        for word in class_words:
            if word in owner:
                raise InputError(
                    f"the word {word!r} stands for {owner[word]!r} and for {label!r}; every word must be used once"
                )
            owner[word] = label
    return result


def warn_of_descriptions(labels: LabelSet) -> None:
    """Warn where the word of a class looks like what describes the class, which no model answers.

    Warns
    -----
    LabelWordWarning
        Names the first such word, how many there are, and where descriptions belong.
    """
    found = [
        (label, word)
        for label, words in zip(labels.classes, labels.words, strict=True)
        for word in words
        if _looks_like_a_description(word, label)
    ]
    if found:
        label, word = found[0]
        many = f" (and those of {len(found) - 1} more)" if len(found) > 1 else ""
        warn(
            f"the word {reprlib.repr(word)} of label {label!r}{many} looks like a description, and what is scored is how "
            "probable exactly this text is as the model's answer; give a short word, labels={class: word}, and put "
            "descriptions into the prompt's text or its instruction, Prompt(..., instruction=...)",
            LabelWordWarning,
        )


def _looks_like_a_description(word: str, label: Any) -> bool:
    """Whether an answer has the length or the punctuation of an explanation; names of classes may be long, but not so long."""
    text = word.strip()
    # Scripts without spaces: about two characters to a word.
    wide = sum(unicodedata.east_asian_width(character) in "WF" for character in text)
    n_words = len(text.split()) + wide // 2
    is_name = _letters(text) == _letters(_default_word(label))
    is_sentence = text.endswith((".", "!", "?", "。")) or any(mark in text for mark in (",", ";", ":", "(", "、", "，"))
    if is_name:
        return n_words >= 12 or (n_words >= 6 and text.endswith((".", "。")))
    return n_words >= 6 or (n_words >= 5 and is_sentence)


def _letters(text: str) -> str:
    return "".join(character for character in text.casefold() if character.isalnum())


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


def read_known_classes(y: Any, n_rows: int) -> tuple[list[int], NDArray[Any]]:
    """The places of the rows that have a class, and their classes, of a `y` in which others have None or NaN.

    Raises
    ------
    ValueError
        `y` has another length, no class at all, or classes that `read_classes` refuses.

    Examples
    --------
    >>> places, classes = read_known_classes(["a", None, "b"], 3)
    >>> places, classes.tolist()
    ([0, 2], ['a', 'b'])
    """
    native = nw.from_native(y, pass_through=True, allow_series=True)
    if isinstance(y, (str, bytes)) or not (isinstance(native, (Sequence, nw.Series)) or hasattr(native, "__array__")):
        raise InputError(f"y is {type_of(y)}; expected a list, 1-D array or Series with one class per row")
    values = native.to_list() if isinstance(native, nw.Series) else list(native)
    if len(values) != n_rows:
        raise InputError(
            f"y has {len(values)} entries for {n_rows} rows; expected one per row, None where it has no class"
        )
    places = [place for place, value in enumerate(values) if not is_missing(value)]
    if not places:
        raise InputError("no row has a class in y; expected some, such as a random sample of the rows")
    return places, read_classes([values[place] for place in places], len(places))


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
        raise InputError(f"y is {type_of(values)}; expected a list, 1-D array or Series with one class per row")
    if isinstance(values, np.ndarray) and values.ndim == 1 and values.dtype.kind in "OT":
        values = values.tolist()
    if isinstance(values, (list, tuple)):
        _check_none_missing(values)
        for number, value in enumerate(values):
            if not is_hashable(value):
                raise InputError(f"y has the value {value!r} (row {number}), {type_of(value)}; expected a class")
        array = class_array(values)
    else:
        array = column_or_1d(values, warn=True)
    if array.dtype.kind == "f":
        _check_none_missing(array.tolist())
        assert_all_finite(array, input_name="y")
    if array.dtype.kind != "O" or all(isinstance(value, str) for value in array):
        check_classification_targets(array)
    if len(array) != n_rows:
        raise InputError(
            f"X has {n_rows} rows and y has {len(array)}; expected one class per row (inconsistent numbers of samples)"
        )
    return array


def _check_none_missing(values: Sequence[Any]) -> None:
    missing = [number for number, value in enumerate(values) if is_missing(value)]
    if missing:
        shown = f": {values[missing[0]]!r}" if len(missing) == 1 else ""
        raise InputError(f"y contains NaN or None ({rows_named(missing)}{shown}); drop these rows")


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
