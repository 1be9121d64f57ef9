"""Folds for cross-validation that depend only on the contents of the rows."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..arrays import Floats
from ..logits import log_softmax

N_FOLDS = 5


def fold_weights(
    scores: Floats,
    columns: NDArray[np.intp],
    weights: Floats,
    n_folds: int = N_FOLDS,
) -> Floats:
    """How much of each row's weight lies in each fold: stratified by class as evenly as possible, random within a class.

    A whole-number weight counts as that many rows, which go to different folds; any other weight stays in one fold. So a row
    of weight 2 is the same as the row twice, and neither the order of the rows nor that of the columns matters (except for
    rows that hold the same numbers in different columns).

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

    Returns
    -------
    ndarray (n, n_folds), rows summing to `weights`

    Examples
    --------
    >>> scores = np.log([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3]])
    >>> fold_weights(scores, np.array([0, 0, 1]), np.array([1.0, 1.0, 2.0]), n_folds=2).sum(axis=0).tolist()
    [2.0, 2.0]
    """
    table, members = np.unique(np.column_stack([columns, log_softmax(scores)]), axis=0, return_inverse=True)
    members = members.reshape(-1)
    true_class = table[:, 0].astype(np.intp)
    true_score = table[np.arange(len(table)), 1 + true_class]
    # These keys do not change when columns are permuted: the score of the true class, and all scores in increasing order.
    order = np.lexsort([*np.sort(table[:, 1:], axis=1).T, true_score])
    groups = [order[true_class[order] == k] for k in np.unique(true_class)]
    groups.sort(key=lambda group: (len(group), true_score[group[0]]))
    rank = np.empty(len(table), dtype=np.intp)
    rank[np.concatenate([np.random.default_rng(0).permutation(group) for group in groups])] = np.arange(len(table))

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
