"""Labels of several annotators for the same rows: read in either form, and combined into one label or a share per class."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ...arrays import Floats, Integers
from ...checks import random_generator
from ...errors import InputError, listed
from ...numerics.class_matching import is_hashable, match_classes
from ...numerics.groups import group_numbers
from ...tables.array_arguments import class_list
from ...tables.values import is_missing
from ..sample_checks import once_for_all

_TIES = ("missing", "random")


@dataclass(frozen=True, eq=False)
class Judgements:
    """Who said what about which row.

    Attributes
    ----------
    codes : ndarray of int (n, A)
        The column of the class that each of the A annotators gave to each of the n rows; -1 where there is none.
    classes : tuple of K objects
    rows : tuple of n objects
        What the caller calls each row.
    annotators : tuple of A objects
    """

    codes: Integers
    classes: tuple[Any, ...]
    rows: tuple[Any, ...]
    annotators: tuple[Any, ...]

    def counts(self) -> Integers:
        """How often each class was given to each row (n, K)."""
        counts = np.zeros((len(self.codes), len(self.classes)), dtype=np.int64)
        rows, annotators = np.nonzero(self.codes >= 0)
        np.add.at(counts, (rows, self.codes[rows, annotators]), 1)
        return counts


@dataclass(frozen=True, eq=False)
class CombinedLabels:
    """One label per row, and the share of each class, from several annotators.

    Attributes
    ----------
    rows : tuple of n objects
        What the caller calls each row, in order of first appearance.
    classes : tuple of K objects
    counts : ndarray of int (n, K)
        How many annotators gave each class to each row.
    soft : ndarray (n, K)
        Their shares; NaN in rows that nobody judged. They sum to 1, so they can be the targets of a fit with weights.
    majority : ndarray of objects (n,)
        The class that most annotators gave; None in rows that nobody judged, and where classes share the first place unless
        ties were broken.
    is_tied : ndarray of bool (n,)
        Whether two or more classes share the first place, however that was settled.
    """

    rows: tuple[Any, ...]
    classes: tuple[Any, ...]
    counts: Integers
    soft: Floats
    majority: NDArray[Any]
    is_tied: NDArray[np.bool_]

    def to_frame(self) -> Any:
        """A pandas DataFrame with one line per row: ``label``, ``n_judgements``, ``is_tied`` and the shares ``share_CLASS``."""
        import pandas as pd

        frame = pd.DataFrame(
            {"label": self.majority, "n_judgements": self.counts.sum(axis=1), "is_tied": self.is_tied},
            index=pd.Index(list(self.rows), name="row"),
        )
        shares = pd.DataFrame(self.soft, index=frame.index, columns=[f"share_{label}" for label in self.classes])
        return pd.concat([frame, shares], axis=1)


def combine_labels(
    labels: Any,
    *,
    rows: ArrayLike | None = None,
    annotators: ArrayLike | None = None,
    classes: ArrayLike | None = None,
    ties: str = "missing",
    random_state: Any = None,
) -> CombinedLabels:
    """The majority label of each row, and the share of the annotators that gave each class.

    Parameters
    ----------
    labels : DataFrame or array-like (n, A), or (m,) with `rows` and `annotators`
        One line per row and one column per annotator; or one judgement per entry, with the row and the annotator that each
        belongs to. None, NaN and blank text are judgements that were not made.
    rows, annotators : array-like (m,), optional
        Of each judgement in the long form; both or neither.
    classes : array-like (K,), optional
        None: those that were given, sorted.
    ties : {"missing", "random"}
        What becomes of a row in which several classes share the first place: no majority label (None), or one of these classes
        at random. To take the first of them always would favour some classes.
    random_state : None, int or numpy Generator
        Of the random choice.

    Returns
    -------
    CombinedLabels

    Raises
    ------
    InputError
        An argument cannot be used.

    Examples
    --------
    >>> combined = combine_labels([["good", "good", "bad"], ["bad", "good", None]])
    >>> combined.majority.tolist(), combined.is_tied.tolist()
    (['good', None], [False, True])
    >>> combined.classes, combined.soft.round(2).tolist()
    (('bad', 'good'), [[0.33, 0.67], [0.5, 0.5]])
    """
    if ties not in _TIES:
        raise InputError(f"ties={ties!r}; expected one of {', '.join(map(repr, _TIES))}")
    judgements = read_judgements(labels, rows=rows, annotators=annotators, classes=classes)
    counts = judgements.counts()
    totals = counts.sum(axis=1)
    leads = (counts == counts.max(axis=1, keepdims=True)) & (totals > 0)[:, None]
    is_tied: NDArray[np.bool_] = leads.sum(axis=1) > 1
    places = np.where(totals > 0, counts.argmax(axis=1), -1)
    if ties == "random":
        draws = random_generator(random_state).random(counts.shape)
        places = np.where(is_tied, np.where(leads, draws, -1.0).argmax(axis=1), places)
    else:
        places = np.where(is_tied, -1, places)
    majority = np.empty(len(counts), dtype=object)
    majority[:] = [None if place < 0 else judgements.classes[place] for place in places.tolist()]
    soft = np.full(counts.shape, np.nan)
    np.divide(counts, totals[:, None], out=soft, where=totals[:, None] > 0)
    return CombinedLabels(judgements.rows, judgements.classes, counts, soft, majority, is_tied)


def read_judgements(
    labels: Any, *, rows: Any = None, annotators: Any = None, classes: ArrayLike | None = None
) -> Judgements:
    """Judgements in either form, checked; the arguments are those of `combine_labels`.

    Raises
    ------
    InputError
        The forms are mixed, a row has two judgements of one annotator, a label is not a class, there are fewer than two
        annotators, or nobody judged anything.

    Examples
    --------
    >>> read = read_judgements(["a", "b", "a"], rows=[1, 1, 2], annotators=["ann", "bob", "ann"])
    >>> read.codes.tolist(), read.annotators
    ([[0, 1], [0, -1]], ('ann', 'bob'))
    """
    if (rows is None) != (annotators is None):
        given, absent = ("rows", "annotators") if annotators is None else ("annotators", "rows")
        raise InputError(f"{given} are given without {absent}; give both, or a table with a column per annotator")
    if rows is None:
        table, row_names, annotator_names = _wide(labels)
    else:
        table, row_names, annotator_names = _long(labels, rows, annotators)
    twice = next((name for i, name in enumerate(annotator_names) if name in annotator_names[:i]), None)
    if twice is not None:
        raise InputError(f"two annotators are called {twice!r}; expected a name of its own for each column")
    if len(annotator_names) < 2:
        raise InputError(f"the labels come from {len(annotator_names)} annotator; agreement needs two at least")
    is_given = np.array([[not _is_absent(value) for value in line] for line in table.tolist()], dtype=bool)
    if not is_given.any():
        raise InputError("all judgements are missing; expected labels")
    values = table[is_given].tolist()
    known = _known(values, classes)
    codes = np.full(table.shape, -1, dtype=np.int64)
    codes[is_given] = match_classes(values, known, is_y=False)
    return Judgements(codes, tuple(known), tuple(row_names), tuple(annotator_names))


def _wide(labels: Any) -> tuple[NDArray[Any], Sequence[Any], Sequence[Any]]:
    names = rows = None
    if hasattr(labels, "columns") and hasattr(labels, "to_numpy"):  # a data frame of pandas or polars
        names = list(labels.columns)
        rows = list(labels.index) if hasattr(labels, "index") else None
        labels = labels.to_numpy()
    if isinstance(labels, np.ndarray) and labels.dtype.kind == "U" and (labels == "nan").any():
        raise InputError("labels hold the word 'nan', which numpy makes of NaN among words; give an array of objects")
    table = np.asarray(labels, dtype=object)
    if table.ndim != 2 or not len(table):
        raise InputError(
            f"labels have shape {table.shape}; expected (rows, annotators), or one judgement per entry with rows= and annotators="
        )
    return table, rows or range(len(table)), names or range(table.shape[1])


def _long(labels: Any, rows: Any, annotators: Any) -> tuple[NDArray[Any], Sequence[Any], Sequence[Any]]:
    if not isinstance(labels, Iterable) or isinstance(labels, (str, bytes)):
        raise InputError(f"labels={labels!r}; expected one judgement per entry of rows and annotators")
    labels, rows, annotators = (once_for_all(given) for given in (labels, rows, annotators))
    values = np.empty(len(labels), dtype=object)
    values[:] = labels
    row_of, who = (
        group_numbers(given, len(values), name) for given, name in ((rows, "rows"), (annotators, "annotators"))
    )
    row_names, who_names = _firsts(rows, row_of), _firsts(annotators, who)
    places = row_of * len(who_names) + who
    order = np.argsort(places, kind="stable")
    again = order[1:][np.diff(places[order]) == 0]
    if again.size:
        first = int(again.min())
        raise InputError(
            f"row {row_names[row_of[first]]!r} has two judgements of annotator {who_names[who[first]]!r}; expected one at most"
        )
    table = np.full((len(row_names), len(who_names)), None, dtype=object)
    table[row_of, who] = values
    return table, row_names, who_names


def _firsts(values: list[Any], numbers: Integers) -> list[Any]:
    """What each group is called."""
    names = [values[place] for place in np.unique(numbers, return_index=True)[1]]
    return [name.item() if isinstance(name, np.generic) else name for name in names]


def _is_absent(value: Any) -> bool:
    return is_missing(value) or (isinstance(value, str) and not value.strip())


def _known(values: list[Any], classes: ArrayLike | None) -> list[Any]:
    if classes is not None:
        known = class_list(classes)
        if len(set(map(repr, known))) < len(known) or len(known) < 2:
            raise InputError(f"classes={known}; expected at least two different classes")
        return known
    bad = next((value for value in values if not is_hashable(value)), None)
    if bad is not None:
        raise InputError(f"the judgement {bad!r} cannot be a class; expected text or a number")
    distinct = {
        # A gap turns a column of whole numbers into one of floats.
        int(value) if isinstance(value, float) and value.is_integer() else value
        for value in values
    }
    try:
        known = sorted(distinct)
    except TypeError:
        raise InputError(
            f"the labels {listed(map(repr, distinct))} cannot be sorted; give the classes in their order as classes="
        ) from None
    return known
