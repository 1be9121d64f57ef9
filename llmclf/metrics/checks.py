"""One place where every metric has its arguments checked and brought into one form."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import InputError

TOLERANCE = 1e-6
"""How far a row's sum may be from 1, and a probability outside [0, 1], and still count as rounding."""


def checked_predictions(
    y: ArrayLike, proba: ArrayLike, classes: ArrayLike | None = None, sample_weight: ArrayLike | None = None
) -> tuple[NDArray[np.intp], NDArray[np.float64], NDArray[np.float64]]:
    """True columns (n,), probabilities (n, K) and weights (n,), as every metric wants them.

    Parameters
    ----------
    y, proba, classes, sample_weight
        As in `expected_calibration_error`.

    Returns
    -------
    columns : ndarray of int (n,)
    probabilities : ndarray (n, K)
        In [0, 1]. A one-dimensional `proba` has become the columns ``1 - p`` and ``p``.
    weights : ndarray (n,)

    Raises
    ------
    InputError
        No rows, one column, NaN, values outside [0, 1], rows that do not sum to 1 within 1e-6, labels that are no
        class, lengths that differ, or weights that `row_weights` refuses.

    Examples
    --------
    >>> checked_predictions(["b"], [0.75], classes=["a", "b"])
    (array([1]), array([[0.25, 0.75]]), array([1.]))
    """
    probabilities = checked_probability_rows(proba)
    n_rows, n_columns = probabilities.shape
    columns = label_columns(y, n_columns, classes)
    if columns.size != n_rows:
        raise InputError(f"y has {columns.size} labels and proba {n_rows} rows; expected as many")
    return columns, probabilities, row_weights(sample_weight, n_rows)


def checked_probability_rows(proba: ArrayLike) -> NDArray[np.float64]:
    """Probabilities (n, K) whose rows sum to 1; one dimension has become the columns ``1 - p`` and ``p``.

    Raises
    ------
    InputError
        As `checked_predictions`.

    Examples
    --------
    >>> checked_probability_rows([0.75])
    array([[0.25, 0.75]])
    """
    probabilities = checked_probabilities(proba, "proba", ndim=2 if np.ndim(proba) != 1 else 1)
    if probabilities.ndim == 1:
        probabilities = np.column_stack([1.0 - probabilities, probabilities])
    if probabilities.shape[1] < 2:
        raise InputError(
            f"proba has {probabilities.shape[1]} column; expected at least two classes, or P(class 1) in one dimension"
        )
    sums = probabilities.sum(axis=1)
    off = np.flatnonzero(np.abs(sums - 1.0) > TOLERANCE)
    if off.size:
        raise InputError(
            f"row {off[0]} of proba sums to {sums[off[0]]:.9g}; expected 1 within {TOLERANCE:g}. "
            "Divide each row by its sum if the rows are meant as shares"
        )
    return probabilities


def checked_event(
    y: ArrayLike,
    proba: ArrayLike,
    classes: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    pos_label: Any = None,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """The event that a calibration error speaks about: its probability, whether it happened, and the rows' weights.

    Parameters
    ----------
    y, proba, classes, sample_weight
        As in `checked_predictions`.
    pos_label : class, optional
        None: the event is that the most probable class is the true one, its probability the confidence. A class: the
        event is that this class is the true one, its probability that column.

    Returns
    -------
    probability, event, weights : ndarray (n_kept,)
        Rows of weight 0 are left out; `event` holds 0.0 and 1.0.

    Raises
    ------
    InputError
        As `checked_predictions`, or `pos_label` is no class.

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
    """The column of one class, found as `label_columns` finds those of `y`.

    Examples
    --------
    >>> class_column("spam", ["spam", "ham"], 2)
    1
    """
    try:
        return int(label_columns([*np.asarray(y, dtype=object).tolist(), label], n_columns, classes)[-1])
    except InputError:
        raise InputError(
            f"pos_label={label!r} is none of the classes; expected one of y's labels, of classes=, or a column number"
        ) from None


def label_columns(y: ArrayLike, n_columns: int, classes: ArrayLike | None = None) -> NDArray[np.intp]:
    """The column that belongs to each label.

    Parameters
    ----------
    y : array-like (n,)
        With `classes`, each label is one of them. Without, whole numbers are column numbers from 0, and labels of
        any other kind are matched to the columns in sorted order, if there are exactly `n_columns` different ones.
    n_columns : int
        K.
    classes : array-like (K,), optional
        The class of each column; classes that are absent from `y` are allowed.

    Returns
    -------
    ndarray of int (n,), in 0 .. K-1

    Raises
    ------
    InputError
        `y` is not one-dimensional, or a label belongs to no column; `classes` are not K different ones.

    Examples
    --------
    >>> label_columns(["spam", "ham"], 3, classes=["ham", "other", "spam"]).tolist()
    [2, 0]
    """
    given = np.asarray(y)
    if given.ndim != 1:
        raise InputError(f"y has shape {given.shape}; expected one label per row")
    if classes is None:
        if given.dtype.kind in "buif":
            with np.errstate(invalid="ignore"):
                outside = np.flatnonzero(~((given >= 0) & (given < n_columns) & (given == np.floor(given))))
            if outside.size:
                raise InputError(
                    f"y[{outside[0]}]={given[outside[0]].item()!r} is no column number of 0 .. {n_columns - 1}; "
                    "give the classes of the columns as classes="
                )
            return given.astype(np.intp)
        try:
            known = sorted(set(given.tolist()))
        except TypeError:
            raise InputError("the labels in y cannot be sorted; give the classes of the columns as classes=") from None
        if len(known) != n_columns:
            raise InputError(
                f"y holds {len(known)} different labels for {n_columns} columns; "
                "give the class of each column, in order, as classes="
            )
    else:
        # As objects: numpy would turn the classes [1, "a"] into two strings.
        known = np.asarray(classes, dtype=object).tolist()
        if np.ndim(classes) != 1 or len(known) != n_columns:
            raise InputError(f"got {len(known)} classes for {n_columns} columns; expected one class per column")
        given = np.asarray(y, dtype=object)
    column_of = {label: column for column, label in enumerate(known)}
    if len(column_of) != n_columns:
        raise InputError(f"classes={known} repeats a class; expected {n_columns} different ones")
    labels = given.tolist()
    try:
        return np.fromiter((column_of[label] for label in labels), dtype=np.intp, count=len(labels))
    except KeyError:
        row, label = next((row, label) for row, label in enumerate(labels) if label not in column_of)
        raise InputError(f"y[{row}]={label!r} is none of the classes {known}") from None


def row_weights(sample_weight: ArrayLike | None, n_rows: int) -> NDArray[np.float64]:
    """The weights of the rows in float64, 1 each where none are given.

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
    >>> row_weights(None, 2).tolist()
    [1.0, 1.0]
    """
    if sample_weight is None:
        return np.ones(n_rows)
    weights = np.asarray(sample_weight, dtype=np.float64)
    if weights.shape != (n_rows,):
        raise InputError(f"sample_weight has shape {weights.shape}; expected ({n_rows},), one weight per row")
    bad = np.flatnonzero(~(np.isfinite(weights) & (weights >= 0)))
    if bad.size:
        raise InputError(f"sample_weight[{bad[0]}]={weights[bad[0]]}; expected finite weights of at least 0")
    if not weights.any():
        raise InputError("all sample weights are zero; expected at least one row of positive weight")
    return weights


def checked_probabilities(values: ArrayLike, name: str, ndim: int) -> NDArray[np.float64]:
    """`values` as float64 in [0, 1], of `ndim` dimensions and with at least one row; `name` stands in the errors."""
    p = np.asarray(values, dtype=np.float64)
    if p.ndim != ndim:
        raise InputError(f"{name} has shape {p.shape}; expected {ndim} dimension{'s' if ndim > 1 else ''}")
    if p.shape[0] == 0:
        raise InputError(f"{name} is empty; expected at least one row")
    # A NaN anywhere makes both extremes NaN.
    if not (p.min() >= -TOLERANCE and p.max() <= 1.0 + TOLERANCE):
        bad = np.argwhere(~((p >= -TOLERANCE) & (p <= 1.0 + TOLERANCE)))
        raise InputError(
            f"row {bad[0][0]} of {name} holds {p[tuple(bad[0])]}; expected probabilities in [0, 1]. "
            "Scores become probabilities by llmclf.logits.softmax"
        )
    result: NDArray[np.float64] = p.clip(0.0, 1.0)
    return result
