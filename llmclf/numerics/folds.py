"""Folds for cross-validation that depend only on the contents of the rows, and never part rows that belong together."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..arrays import Floats, Integers
from ..logits import log_softmax

N_FOLDS = 5

MANY_SCORES = 20
"""With at least this many different rows of scores, equal ones are taken for copies of one text; with fewer, for rounded."""


def copies(scores: Floats, weights: Floats) -> Integers | None:
    """Groups (n,) of rows with equal scores, which are taken for copies of one text; None if all rows count for themselves.

    A row of weight 2 is a row and its copy. Scores of a model are long fractions, so texts that differ hardly ever have the same
    ones in all columns. Where there are fewer than 20 different rows, the scores were probably rounded or counted, and say
    nothing about texts.

    Examples
    --------
    >>> copies(np.arange(40.0).reshape(20, 2)[[0, 0, *range(20)]], np.ones(22))[:4].tolist()
    [0, 0, 0, 1]
    >>> copies(np.array([[0.0, 1.0], [0.0, 1.0]]), np.ones(2)) is None
    True
    """
    distinct, members = np.unique(scores, axis=0, return_inverse=True)
    if len(distinct) < MANY_SCORES or (len(distinct) == len(scores) and (weights == 1.0).all()):
        return None
    return members.reshape(-1).astype(np.int64)


def fold_weights(
    scores: Floats,
    columns: NDArray[np.intp],
    weights: Floats,
    n_folds: int = N_FOLDS,
    groups: Integers | None = None,
) -> Floats:
    """How much of each row's weight lies in each fold: stratified by class as evenly as possible, random within a class.

    Rows of one group stay in one fold. Where rows have no groups (the scores are rounded; see `copies`), a whole-number weight
    counts as that many rows, which go to different folds; any other weight stays in one fold. So a row of weight 2 is the same as
    the row twice, and neither the order of the rows nor that of the columns matters (except for rows that hold the same numbers
    in different columns).

    Parameters
    ----------
    scores : ndarray (n, K)
        Log-scores, finite.
    columns : ndarray of int (n,)
        The true column of each row.
    weights : ndarray (n,)
        Positive.
    n_folds : int
        At least 2.
    groups : ndarray of int (n,), optional
        None: the `copies` among the rows. Folds stay empty where there are fewer groups.

    Returns
    -------
    ndarray (n, n_folds), rows summing to `weights`

    Examples
    --------
    >>> scores = np.log([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3]])
    >>> fold_weights(scores, np.array([0, 0, 1]), np.array([1.0, 1.0, 2.0]), n_folds=2).sum(axis=0).tolist()
    [2.0, 2.0]
    """
    groups = copies(scores, weights) if groups is None else groups
    if groups is not None and (len(np.unique(groups)) < len(groups) or (weights != 1.0).any()):
        return _grouped(log_softmax(scores), columns, weights, n_folds, groups)
    table, members = np.unique(np.column_stack([columns, log_softmax(scores)]), axis=0, return_inverse=True)
    members = members.reshape(-1)
    true_class = table[:, 0].astype(np.intp)
    true_score = table[np.arange(len(table)), 1 + true_class]
    # These keys do not change when columns are permuted: the score of the true class, and all scores in increasing order.
    order = np.lexsort([*np.sort(table[:, 1:], axis=1).T, true_score])
    classes = [order[true_class[order] == k] for k in np.unique(true_class)]
    classes.sort(key=lambda own: (len(own), true_score[own[0]]))
    rank = np.empty(len(table), dtype=np.intp)
    rank[np.concatenate([np.random.default_rng(0).permutation(own) for own in classes])] = np.arange(len(table))

    sequence = np.argsort(rank[members], kind="stable")
    is_whole = weights == np.round(weights)
    units = np.where(is_whole, weights, 1.0)[sequence]
    unit_weight = np.where(is_whole, 1.0, weights)[sequence]
    before = np.cumsum(units) - units
    # If units are assigned to the folds in turn, fold f gets floor((m - f - 1) / n_folds) + 1 of the first m units.
    fold = np.arange(n_folds)
    n_units = (
        np.floor((before + units)[:, None] - fold - 1) // n_folds - np.floor(before[:, None] - fold - 1) // n_folds
    )
    result = np.empty((len(weights), n_folds))
    result[sequence] = unit_weight[:, None] * n_units
    return result


def _grouped(scores: Floats, columns: NDArray[np.intp], weights: Floats, n_folds: int, groups: Integers) -> Floats:
    """The largest group first, each group goes to the fold where its classes are rarest so far."""
    _, members = np.unique(groups, return_inverse=True)
    content: Floats = np.zeros((members.max() + 1, int(columns.max()) + 1))
    np.add.at(content, (members, columns), weights)
    order = _content_order(scores, columns, members)
    order = order[np.random.default_rng(0).permutation(len(order))]
    order = order[np.argsort(-content.sum(axis=1)[order].round(9), kind="stable")]
    total = np.maximum(content.sum(axis=0), 1e-300)
    filled = np.zeros((n_folds, content.shape[1]))
    fold_of = np.empty(len(content), dtype=np.intp)
    for group in order:
        # How much larger the sum of squares over folds becomes, each class in units of its own size; rounded, so that the
        # order of the classes, in which they are summed, does not decide between equal ones.
        growth = ((2.0 * filled + content[group]) * content[group] / total).sum(axis=1).round(9)
        fold = int(np.lexsort([filled.sum(axis=1).round(9), growth])[0])
        filled[fold] += content[group]
        fold_of[group] = fold
    result = np.zeros((len(weights), n_folds))
    result[np.arange(len(weights)), fold_of[members]] = weights
    return result


def _content_order(scores: Floats, columns: NDArray[np.intp], members: Integers) -> Integers:
    """The groups in an order that depends on their rows alone, not on the rows' order nor on that of the columns."""
    keys = np.column_stack([scores[np.arange(len(scores)), columns], np.sort(scores, axis=1)])
    _, kinds = np.unique(keys, axis=0, return_inverse=True)
    kinds = kinds.reshape(-1)
    contents: list[list[int]] = [[] for _ in range(int(members.max()) + 1)]
    for row in np.lexsort([kinds, members]):
        contents[members[row]].append(int(kinds[row]))
    return np.array(sorted(range(len(contents)), key=contents.__getitem__), dtype=np.int64)
