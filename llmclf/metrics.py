"""How good are the probabilities: proper scores, accuracy, and binned calibration errors.

Every function takes the true classes `y` and the probabilities `proba`, checks both in one place, and works in float64.
Where several columns share the largest probability, the first of them is the predicted class.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .errors import InputError

TOLERANCE = 1e-6
"""How far a row's sum may be from 1, and a probability outside [0, 1], and still count as rounding."""


@dataclass(frozen=True, eq=False)
class ReliabilityCurve:
    """Probability against frequency, bin by bin; empty bins are left out.

    Attributes
    ----------
    lower, upper : ndarray (n_filled,)
        The bin is ``(lower, upper]``; the first one also holds probability 0.
    confidence : ndarray (n_filled,)
        Weighted mean probability of the rows in the bin.
    accuracy : ndarray (n_filled,)
        Weighted share of those rows where the event happened: the prediction was right.
    weight : ndarray (n_filled,)
        Sum of the rows' weights.
    count : ndarray of int (n_filled,)
        Number of rows of positive weight.
    """

    lower: NDArray[np.float64]
    upper: NDArray[np.float64]
    confidence: NDArray[np.float64]
    accuracy: NDArray[np.float64]
    weight: NDArray[np.float64]
    count: NDArray[np.intp]

    def error(self, norm: str = "l1") -> float:
        """Distance between probability and frequency over all bins, in [0, 1].

        Parameters
        ----------
        norm : {"l1", "l2", "max"}
            The weighted mean of ``|accuracy - confidence|``, its root mean square, or its maximum.

        Raises
        ------
        InputError
            `norm` is none of the three.
        """
        gap = np.abs(self.accuracy - self.confidence)
        share = self.weight / self.weight.sum()
        if norm == "l1":
            return float(share @ gap)
        if norm == "l2":
            return float(np.sqrt(share @ gap**2))
        if norm == "max":
            return float(gap.max())
        raise InputError(f"norm={norm!r} is unknown; expected 'l1', 'l2' or 'max'")


def expected_calibration_error(
    y: ArrayLike,
    proba: ArrayLike,
    *,
    n_bins: int = 15,
    strategy: str = "uniform",
    norm: str = "l1",
    classes: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
) -> float:
    r"""Gap between the confidence in the predicted class and how often that class is right.

    With confidence :math:`c_i = \max_k p_{ik}`, bins :math:`B_m` of it, and weight shares :math:`W_m / W`, this is
    :math:`(\sum_m W_m/W \, |acc(B_m) - conf(B_m)|^p)^{1/p}` (Guo et al. 2017, "On Calibration of Modern Neural
    Networks", equation 3, with p = 1). It is biased upwards on few rows: a perfectly calibrated model does not reach 0.

    Parameters
    ----------
    y : array-like (n,)
        The true class of each row; see `label_columns`.
    proba : array-like (n, K) or (n,)
        Probabilities, rows summing to 1; one dimension is P(class 1) of two classes. The confidence is the larger of
        the two then also; for the error of P(class 1) itself see `binned_calibration`.
    n_bins : int
        Number of bins, at least 1.
    strategy : {"uniform", "mass"}
        Bins of equal width, or of equal weight without ever splitting equal confidences.
    norm : {"l1", "l2", "max"}
        ECE, root mean square calibration error, or maximum calibration error.
    classes : array-like (K,), optional
        The class of each column.
    sample_weight : array-like (n,), optional
        Non-negative; a weight of 2 is the row twice.

    Returns
    -------
    float in [0, 1]

    Raises
    ------
    InputError
        Any argument cannot be used.

    Examples
    --------
    >>> round(expected_calibration_error([0, 1, 1, 0], [[0.9, 0.1], [0.1, 0.9], [0.9, 0.1], [0.9, 0.1]]), 6)
    0.15
    """
    curve = reliability_curve(y, proba, n_bins=n_bins, strategy=strategy, classes=classes, sample_weight=sample_weight)
    return curve.error(norm)


def reliability_curve(
    y: ArrayLike,
    proba: ArrayLike,
    *,
    n_bins: int = 15,
    strategy: str = "uniform",
    classes: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
) -> ReliabilityCurve:
    """Accuracy against confidence in the predicted class, bin by bin.

    Parameters
    ----------
    y, proba, n_bins, strategy, classes, sample_weight
        As in `expected_calibration_error`.

    Returns
    -------
    ReliabilityCurve
        The non-empty bins, by rising confidence.

    Raises
    ------
    InputError
        Any argument cannot be used.

    Examples
    --------
    >>> curve = reliability_curve([0, 1, 1], [[0.9, 0.1], [0.2, 0.8], [0.9, 0.1]], n_bins=10)
    >>> curve.confidence.round(6).tolist(), curve.accuracy.tolist(), curve.count.tolist()
    ([0.8, 0.9], [1.0, 0.5], [1, 2])
    """
    columns, probabilities, weights = checked_predictions(y, proba, classes, sample_weight)
    return binned_calibration(
        probabilities.max(axis=1),
        probabilities.argmax(axis=1) == columns,
        n_bins=n_bins,
        strategy=strategy,
        sample_weight=weights,
    )


def binned_calibration(
    probability: ArrayLike,
    event: ArrayLike,
    *,
    n_bins: int = 15,
    strategy: str = "uniform",
    sample_weight: ArrayLike | None = None,
) -> ReliabilityCurve:
    """Probability of any yes-or-no event against how often it happened, bin by bin.

    Parameters
    ----------
    probability : array-like (n,)
        In [0, 1]: of the positive class, of one class of several, of being right.
    event : array-like (n,)
        Whether it happened: booleans, or 0 and 1.
    n_bins, strategy, sample_weight
        As in `expected_calibration_error`. Bins are closed on the right; the first one also holds probability 0.

    Returns
    -------
    ReliabilityCurve

    Raises
    ------
    InputError
        Any argument cannot be used.

    Examples
    --------
    >>> curve = binned_calibration([0.0, 0.5, 0.5, 1.0], [False, False, True, False], n_bins=2)
    >>> curve.confidence.round(6).tolist(), curve.accuracy.round(6).tolist(), round(curve.error(), 6)
    ([0.333333, 1.0], [0.333333, 0.0], 0.25)
    """
    p = _checked_probabilities(probability, "probability", ndim=1)
    happened = np.asarray(event)
    if happened.shape != p.shape:
        raise InputError(f"event has shape {happened.shape}; expected {p.shape}, one entry per probability")
    if not np.isin(happened, (0, 1)).all():
        raise InputError("event holds values other than 0 and 1; expected booleans, or 0 and 1")
    if isinstance(n_bins, bool) or not isinstance(n_bins, (int, np.integer)) or n_bins < 1:
        raise InputError(f"n_bins={n_bins!r}; expected a positive integer")
    weights = row_weights(sample_weight, p.size)
    kept = weights > 0
    p, happened, weights = p[kept], happened[kept].astype(np.float64), weights[kept]

    if strategy == "uniform":
        edges = np.linspace(0.0, 1.0, n_bins + 1)
        # Comparing with the edges themselves: floor(p * n_bins) puts 0.3 in the wrong one of ten bins.
        bins = np.searchsorted(edges[1:-1], p, side="left")
        filled, members = np.unique(bins, return_inverse=True)
        lower, upper = edges[filled], edges[filled + 1]
    elif strategy == "mass":
        bins = _equal_mass_bins(p, weights, int(n_bins))
        filled, members = np.unique(bins, return_inverse=True)
        upper = np.zeros(filled.size)
        np.maximum.at(upper, members, p)
        upper[-1] = 1.0
        lower = np.concatenate([[0.0], upper[:-1]])
    else:
        raise InputError(f"strategy={strategy!r} is unknown; expected 'uniform' or 'mass'")

    weight = np.bincount(members, weights)
    return ReliabilityCurve(
        lower=lower,
        upper=upper,
        confidence=np.bincount(members, weights * p) / weight,
        accuracy=np.bincount(members, weights * happened) / weight,
        weight=weight.astype(np.float64),
        count=np.bincount(members),
    )


def log_loss(
    y: ArrayLike, proba: ArrayLike, *, classes: ArrayLike | None = None, sample_weight: ArrayLike | None = None
) -> float:
    """Mean of ``-log`` of the probability given to the true class.

    Parameters
    ----------
    y, proba, classes, sample_weight
        As in `expected_calibration_error`.

    Returns
    -------
    float, at least 0, in nats
        Infinite where a true class was given probability 0: that is what the score says, so nothing is clipped.

    Raises
    ------
    InputError
        Any argument cannot be used.

    Examples
    --------
    >>> round(log_loss(["no", "yes"], [0.2, 0.7], classes=["no", "yes"]), 6)
    0.289909
    """
    columns, probabilities, weights = checked_predictions(y, proba, classes, sample_weight)
    # Rows of weight 0 are left out first: 0 times an infinite loss is no number.
    kept = weights > 0
    with np.errstate(divide="ignore"):
        losses = -np.log(probabilities[kept, columns[kept]])
    return float(np.average(losses, weights=weights[kept]))


def brier_score(
    y: ArrayLike, proba: ArrayLike, *, classes: ArrayLike | None = None, sample_weight: ArrayLike | None = None
) -> float:
    """Mean squared distance between the row of probabilities and the true class, summed over all K columns.

    Parameters
    ----------
    y, proba, classes, sample_weight
        As in `expected_calibration_error`.

    Returns
    -------
    float in [0, 2]
        Brier's own definition (1950). For two classes it is twice the mean of ``(P(class 1) - [y is class 1])**2``.

    Raises
    ------
    InputError
        Any argument cannot be used.

    Examples
    --------
    >>> round(brier_score([0, 1], [[0.8, 0.2], [0.3, 0.7]]), 6)
    0.13
    """
    columns, probabilities, weights = checked_predictions(y, proba, classes, sample_weight)
    distance = probabilities.copy()
    distance[np.arange(columns.size), columns] -= 1.0
    return float(np.average((distance**2).sum(axis=1), weights=weights))


def accuracy(
    y: ArrayLike, proba: ArrayLike, *, classes: ArrayLike | None = None, sample_weight: ArrayLike | None = None
) -> float:
    """Share of rows whose most probable class is the true one; the first of equally probable classes counts.

    Parameters
    ----------
    y, proba, classes, sample_weight
        As in `expected_calibration_error`.

    Returns
    -------
    float in [0, 1]

    Raises
    ------
    InputError
        Any argument cannot be used.

    Examples
    --------
    >>> accuracy([0, 1, 1], [[0.8, 0.2], [0.3, 0.7], [0.5, 0.5]], sample_weight=[1, 1, 2])
    0.5
    """
    columns, probabilities, weights = checked_predictions(y, proba, classes, sample_weight)
    return float(np.average(probabilities.argmax(axis=1) == columns, weights=weights))


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
    probabilities = _checked_probabilities(proba, "proba", ndim=2 if np.ndim(proba) != 1 else 1)
    if probabilities.ndim == 1:
        probabilities = np.column_stack([1.0 - probabilities, probabilities])
    n_rows, n_columns = probabilities.shape
    if n_columns < 2:
        raise InputError(f"proba has {n_columns} column; expected at least two classes, or P(class 1) in one dimension")
    sums = probabilities.sum(axis=1)
    off = np.flatnonzero(np.abs(sums - 1.0) > TOLERANCE)
    if off.size:
        raise InputError(
            f"row {off[0]} of proba sums to {sums[off[0]]:.9g}; expected 1 within {TOLERANCE:g}. "
            "Divide each row by its sum if the rows are meant as shares"
        )
    columns = label_columns(y, n_columns, classes)
    if columns.size != n_rows:
        raise InputError(f"y has {columns.size} labels and proba {n_rows} rows; expected as many")
    return columns, probabilities, row_weights(sample_weight, n_rows)


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
            outside = np.flatnonzero(~np.isin(given, np.arange(n_columns)))
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


def _checked_probabilities(values: ArrayLike, name: str, ndim: int) -> NDArray[np.float64]:
    p = np.asarray(values, dtype=np.float64)
    if p.ndim != ndim:
        raise InputError(f"{name} has shape {p.shape}; expected {ndim} dimension{'s' if ndim > 1 else ''}")
    if p.shape[0] == 0:
        raise InputError(f"{name} is empty; expected at least one row")
    bad = np.argwhere(~((p >= -TOLERANCE) & (p <= 1.0 + TOLERANCE)))
    if bad.size:
        raise InputError(
            f"row {bad[0][0]} of {name} holds {p[tuple(bad[0])]}; expected probabilities in [0, 1]. "
            "Scores become probabilities by llmclf.logits.softmax"
        )
    result: NDArray[np.float64] = p.clip(0.0, 1.0)
    return result


def _equal_mass_bins(p: NDArray[np.float64], weights: NDArray[np.float64], n_bins: int) -> NDArray[np.intp]:
    """Bin number of each row, equal probabilities always in one bin, whatever the order of the rows."""
    _, members = np.unique(p, return_inverse=True)
    mass = np.bincount(members, weights)
    before = np.concatenate([[0.0], np.cumsum(mass)[:-1]])
    # A cut falls after the value that reaches j/n_bins of the weight. The small number keeps that true where the sum of
    # fractional weights falls short of it by rounding.
    bin_of_value = np.floor(before * n_bins / mass.sum() + 1e-9).astype(np.intp)
    result: NDArray[np.intp] = bin_of_value[members]
    return result
