"""Folds for cross-validation that depend on what the rows hold, and on nothing else."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..logits import log_softmax

N_FOLDS = 5


def fold_weights(
    scores: NDArray[np.float64],
    columns: NDArray[np.intp],
    weights: NDArray[np.float64],
    n_folds: int = N_FOLDS,
) -> NDArray[np.float64]:
    """How much of each row's weight lies in each fold: as much of every class in each as can be, at random within the class.

    A weight that is a whole number is that many rows, which are dealt to different folds; any other weight stays together.
    So a row of weight 2 and the row twice are the same thing, and neither the order of the rows nor that of the columns
    matters (but for rows that hold the same numbers in other columns).

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
    own_class = table[:, 0].astype(np.intp)
    own_score = table[np.arange(len(table)), 1 + own_class]
    # What does not change when columns are renamed: the score of the true class, and all scores in rising order.
    order = np.lexsort([*np.sort(table[:, 1:], axis=1).T, own_score])
    groups = [order[own_class[order] == k] for k in np.unique(own_class)]
    groups.sort(key=lambda group: (len(group), own_score[group[0]]))
    rank = np.empty(len(table), dtype=np.intp)
    rank[np.concatenate([np.random.default_rng(0).permutation(group) for group in groups])] = np.arange(len(table))

    dealt = np.argsort(rank[members], kind="stable")
    whole = weights == np.round(weights)
    units = np.where(whole, weights, 1.0)[dealt]
    share = np.where(whole, 1.0, weights)[dealt]
    before = np.cumsum(units) - units
    # Of the first m units dealt in turn, fold f gets floor((m - f - 1) / n_folds) + 1.
    turns = np.arange(n_folds)
    got = np.floor((before + units)[:, None] - turns - 1) // n_folds - np.floor(before[:, None] - turns - 1) // n_folds
    result = np.empty((len(weights), n_folds))
    result[dealt] = share[:, None] * got
    return result
