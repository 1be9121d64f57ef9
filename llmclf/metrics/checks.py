"""Checks of the arguments of all metrics, which bring them into one form."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..arrays import Floats
from ..errors import InputError
from ..numerics.class_matching import is_hashable
from ..tables.array_arguments import as_array, as_labels, as_numbers, check_labels_present, class_list

TOLERANCE = 1e-6
"""How far a row's sum may deviate from 1, or a probability lie outside [0, 1], and still count as rounding."""

_LARGEST_REPETITION = 1e9
"""Above this a whole number is a coincidence of floating point, or of another unit, rather than a count of rows."""


def checked_predictions(
    y: ArrayLike, proba: ArrayLike, classes: ArrayLike | None = None, sample_weight: ArrayLike | None = None
) -> tuple[NDArray[np.intp], Floats, Floats]:
    """True columns (n,), probabilities (n, K) and weights (n,), as every metric needs them.

    Parameters
    ----------
    y, proba, classes, sample_weight
        As in `expected_calibration_error`.

    Returns
    -------
    columns : ndarray of int (n,)
    probabilities : ndarray (n, K)
        In [0, 1]. A one-dimensional `proba` becomes the columns ``1 - p`` and ``p``.
    weights : ndarray (n,)

    Raises
    ------
    InputError
        There are no rows, only one column, NaN, values outside [0, 1], rows that do not sum to 1 within 1e-6, labels that
        are not classes, different lengths, or weights that `row_weights` refuses.

    Examples
    --------
    >>> checked_predictions(["b"], [0.75], classes=["a", "b"])
    (array([1]), array([[0.25, 0.75]]), array([1.]))
    """
    probabilities = checked_probability_rows(proba)
    n_rows, n_columns = probabilities.shape
    columns = label_columns(y, n_columns, classes)
    if columns.size != n_rows:
        raise InputError(f"y has {columns.size} labels and proba {n_rows} rows; expected the same number")
    return columns, probabilities, row_weights(sample_weight, n_rows)


def checked_probability_rows(proba: ArrayLike) -> Floats:
    """Probabilities (n, K) whose rows sum to 1; one dimension becomes the columns ``1 - p`` and ``p``.

    Raises
    ------
    InputError
        As `checked_predictions`.

    Examples
    --------
    >>> checked_probability_rows([0.75])
    array([[0.25, 0.75]])
    """
    given = as_numbers(proba, "proba")
    probabilities = checked_probabilities(given, "proba", ndim=2 if given.ndim != 1 else 1)
    if probabilities.ndim == 1:
        probabilities = np.column_stack([1.0 - probabilities, probabilities])
    if probabilities.shape[1] < 2:
        raise InputError(
            f"proba has {probabilities.shape[1]} column; expected at least two classes, or P(class 1) in one dimension"
        )
    sums = probabilities.sum(axis=1)
    bad = np.flatnonzero(np.abs(sums - 1.0) > TOLERANCE)
    if bad.size:
        raise InputError(
            f"row {bad[0]} of proba sums to {sums[bad[0]]:.9g}; expected 1 within {TOLERANCE:g}. "
            "Divide each row by its sum if the rows are meant as shares"
        )
    return probabilities


def checked_event(
    y: ArrayLike,
    proba: ArrayLike,
    classes: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    pos_label: Any = None,
) -> tuple[Floats, Floats, Floats]:
    """The event that a calibration error measures: its probability, whether it happened, and the rows' weights.

    Parameters
    ----------
    y, proba, classes, sample_weight
        As in `checked_predictions`.
    pos_label : class, optional
        None: the event is that the most probable class is the true one, and its probability is the confidence. A class:
        the event is that this class is the true one, and its probability is that column.

    Returns
    -------
    probability, event, weights : ndarray (n_kept,)
        Rows with weight 0 are left out; `event` holds 0.0 and 1.0.

    Raises
    ------
    InputError
        As `checked_predictions`, or `pos_label` is not a class.

    Examples
    --------
    >>> checked_event([0, 1], [[0.7, 0.3], [0.6, 0.4]])
    (array([0.7, 0.6]), array([1., 0.]), array([1., 1.]))
    >>> checked_event([0, 1], [[0.7, 0.3], [0.6, 0.4]], pos_label=1)
    (array([0.3, 0.4]), array([0., 1.]), array([1., 1.]))
    """
    columns, probabilities, weights = checked_predictions(y, proba, classes, sample_weight)
    kept = weights > 0
    if not kept.all():
        columns, probabilities, weights = columns[kept], probabilities[kept], weights[kept]
    if pos_label is None:
        chosen = probabilities.argmax(axis=1)
        p = probabilities[np.arange(chosen.size), chosen]
    else:
        chosen = class_column(pos_label, y, probabilities.shape[1], classes)
        p = probabilities[:, chosen]
    return p, (columns == chosen).astype(np.float64), weights


def class_column(label: Any, y: ArrayLike, n_columns: int, classes: ArrayLike | None = None) -> int:
    """The column of one class, determined as `label_columns` does for `y`.

    Examples
    --------
    >>> class_column("spam", ["spam", "ham"], 2)
    1
    """
    try:
        return int(label_columns([*np.asarray(y, dtype=object).tolist(), label], n_columns, classes)[-1])
    except InputError:
        raise InputError(
            f"pos_label={label!r} is not one of the classes; expected one of y's labels, of classes=, or a column number"
        ) from None


def label_columns(y: ArrayLike, n_columns: int, classes: ArrayLike | None = None) -> NDArray[np.intp]:
    """The column that belongs to each label.

    Parameters
    ----------
    y : array-like (n,)
        With `classes`, each label is one of them. Without, whole numbers are column numbers from 0, and any other labels
        are matched to the columns in sorted order, provided that there are exactly `n_columns` different ones.
    n_columns : int
        K.
    classes : array-like (K,), optional
        The class of each column; classes absent from `y` are allowed.

    Returns
    -------
    ndarray of int (n,), in 0 .. K-1

    Raises
    ------
    InputError
        `y` is not one-dimensional, a label is missing or does not belong to any column, or `classes` are not K different ones.

    Examples
    --------
    >>> label_columns(["spam", "ham"], 3, classes=["ham", "other", "spam"]).tolist()
    [2, 0]
    """
    labels = as_labels(y)
    if labels.ndim != 1:
        raise InputError(f"y has shape {labels.shape}; expected one label per row")
    known = None if classes is None else class_list(classes)
    if known is not None and len(known) != n_columns:
        raise InputError(f"got {len(known)} classes for {n_columns} columns; expected one class per column")
    check_labels_present(labels, "y", known)
    if known is None:
        if labels.dtype.kind in "buif":
            bad = np.flatnonzero(~((labels >= 0) & (labels < n_columns) & (labels == np.floor(labels))))
            if bad.size:
                raise InputError(
                    f"y[{bad[0]}]={labels[bad[0]].item()!r} is not a column number in 0 .. {n_columns - 1}; "
                    "give the classes of the columns as classes="
                )
            return labels.astype(np.intp)
        try:
            known = sorted(set(labels.tolist()))
        except TypeError:
            raise InputError("the labels in y cannot be sorted; give the classes of the columns as classes=") from None
        if len(known) != n_columns:
            raise InputError(
                f"y holds {len(known)} different labels for {n_columns} columns; "
                "give the class of each column, in order, as classes="
            )
    column_of = {label: column for column, label in enumerate(known)}
    if len(column_of) != n_columns:
        raise InputError(f"classes={known} repeats a class; expected {n_columns} different ones")
    values = labels.tolist()
    try:
        return np.fromiter((column_of[label] for label in values), dtype=np.intp, count=len(values))
    except (KeyError, TypeError):
        row, label = next((i, one) for i, one in enumerate(values) if not is_hashable(one) or one not in column_of)
        raise InputError(f"y[{row}]={label!r} is not one of the classes {known}") from None


def row_weights(sample_weight: ArrayLike | None, n_rows: int) -> Floats:
    """The weights of the rows in float64, in units of one row; 1 each if none are given.

    Weights that are all whole numbers are repetitions: a weight of 2 is the row twice. Of all other weights only the ratios
    matter, as of importance weights; together they count as as many rows as :math:`(\\sum w)^2 / \\sum w^2` rows of equal weight
    (Kish 1965, "Survey sampling"). So 1 / n each is the same as 1 each, whatever depends on the number of rows.

    Parameters
    ----------
    sample_weight : array-like (n_rows,) or None
    n_rows : int

    Raises
    ------
    InputError
        The weights are not `n_rows` finite numbers of at least 0, or all of them are 0.

    Examples
    --------
    >>> row_weights(None, 2).tolist(), row_weights([2, 1], 2).tolist()
    ([1.0, 1.0], [2.0, 1.0])
    >>> row_weights([0.25, 0.25, 0.5, 0.0], 4).round(3).tolist()
    [0.667, 0.667, 1.333, 0.0]
    """
    if sample_weight is None:
        return np.ones(n_rows)
    weights = as_numbers(sample_weight, "sample_weight")
    if weights.shape != (n_rows,):
        raise InputError(f"sample_weight has shape {weights.shape}; expected ({n_rows},), one weight per row")
    bad = np.flatnonzero(~(np.isfinite(weights) & (weights >= 0)))
    if bad.size:
        raise InputError(f"sample_weight[{bad[0]}]={weights[bad[0]]}; expected finite weights of at least 0")
    if not weights.any():
        raise InputError("all sample weights are zero; expected at least one row with positive weight")
    largest = weights.max()
    if largest <= _LARGEST_REPETITION and (weights == np.floor(weights)).all():
        return weights
    # Divided by the largest first, so that no square overflows, whatever the unit of the weights.
    relative = weights / largest
    total, squares = relative.sum(), relative @ relative
    counts: Floats = relative * (total / squares)
    return counts


def inclusion_weights(inclusion: ArrayLike, n_rows: int) -> Floats:
    """The weights of rows that were drawn with these probabilities, in units of one row; see `row_weights`.

    A row that was drawn with the probability :math:`\\pi` stands for :math:`1 / \\pi` rows of the table (Horvitz & Thompson
    1952, "A generalization of sampling without replacement from a finite universe"). It is still one row, so these weights are
    never taken for repetitions, as ``sample_weight=1 / inclusion`` would be where all of them are whole numbers.

    Parameters
    ----------
    inclusion : array-like (n_rows,)
    n_rows : int

    Raises
    ------
    InputError
        There is not one probability above 0 and at most 1 per row.

    Examples
    --------
    >>> inclusion_weights([0.1, 0.1, 0.1], 3).tolist()
    [1.0, 1.0, 1.0]
    >>> inclusion_weights([0.5, 0.5, 0.1, 0.1], 4).round(3).tolist()
    [0.231, 0.231, 1.154, 1.154]
    """
    pi = as_numbers(inclusion, "inclusion")
    if pi.shape != (n_rows,):
        raise InputError(
            f"inclusion has shape {pi.shape}; expected ({n_rows},), the probability with which each row was drawn"
        )
    bad = np.flatnonzero(~((pi > 0) & (pi <= 1)))
    if bad.size:
        raise InputError(
            f"inclusion[{bad[0]}]={pi[bad[0]]:g}; expected probabilities above 0 and at most 1. A row that cannot be "
            f"drawn is one "
            "about which no label says anything"
        )
    relative = pi.min() / pi
    weights: Floats = relative * (relative.sum() / (relative @ relative))
    return np.ones(n_rows) if np.ptp(weights) < 1e-9 else weights


def either_weights(sample_weight: ArrayLike | None, inclusion: ArrayLike | None, y: ArrayLike) -> ArrayLike | None:
    """The weights of rows, from weights or from inclusion probabilities.

    Raises
    ------
    InputError
        Both are given, or `inclusion_weights` refuses the probabilities.
    """
    if inclusion is None:
        return sample_weight
    if sample_weight is not None:
        raise InputError(
            "sample_weight and inclusion are both given; give inclusion alone if the weights say how rows were drawn"
        )
    return inclusion_weights(inclusion, len(as_array(y, "y")))


def counts_rows(sample_weight: ArrayLike | None) -> bool:
    """Whether every row counts once or not at all: exact intervals of shares are about such rows alone.

    Examples
    --------
    >>> counts_rows(None), counts_rows([1, 0, 1]), counts_rows([0.5, 0.5])
    (True, True, False)
    """
    return sample_weight is None or bool(np.isin(as_numbers(sample_weight, "sample_weight"), (0.0, 1.0)).all())


def checked_probabilities(values: ArrayLike, name: str, ndim: int) -> Floats:
    """`values` as float64 in [0, 1], with `ndim` dimensions and at least one row; errors name it `name`."""
    p = as_numbers(values, name)
    if p.ndim != ndim:
        raise InputError(f"{name} has shape {p.shape}; expected {ndim} dimension{'s' if ndim > 1 else ''}")
    if not p.size:
        raise InputError(f"{name} is empty, of shape {p.shape}; expected at least one row, and a column for each class")
    # A NaN anywhere makes both extremes NaN.
    if not (p.min() >= -TOLERANCE and p.max() <= 1.0 + TOLERANCE):
        bad = np.argwhere(~((p >= -TOLERANCE) & (p <= 1.0 + TOLERANCE)))
        raise InputError(
            f"row {bad[0][0]} of {name} holds {p[tuple(bad[0])]}; expected probabilities in [0, 1]. "
            "Convert scores with llmclf.logits.softmax"
        )
    result: Floats = p.clip(0.0, 1.0)
    return result
