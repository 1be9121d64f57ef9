"""Statistics of rows in groups, such as copies of a text: what stands for a group, and how much the groups are worth."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from ..arrays import Floats, Integers
from ..numerics.groups import group_numbers
from .checks import row_weights


def kept_groups(groups: ArrayLike | None, n_rows: int, sample_weight: ArrayLike | None) -> Integers | None:
    """The groups of the rows that count, those of positive weight, as numbers; None without groups.

    Raises
    ------
    InputError
        `groups` does not name the group of every row.

    Examples
    --------
    >>> kept_groups(["ann", "bob", "bob"], 3, [0, 1, 1]).tolist()
    [0, 0]
    """
    if groups is None:
        return None
    numbers = group_numbers(groups, n_rows)
    if sample_weight is None:
        return numbers
    kept = numbers[row_weights(sample_weight, n_rows) > 0]
    return group_numbers(kept, kept.size)


def row_worth(groups: Integers | None, weights: Floats) -> float:
    """How many independent rows a unit of weight counts for: 1, or less where groups hold several rows.

    The total is the squared weight of all rows over the sum of the squared weights of the groups, as in
    `llmclf.numerics.groups.effective_number`: as if the rows of a group said all the same.

    Parameters
    ----------
    groups : ndarray of int (n,) or None
    weights : ndarray (n,)
        Positive.

    Examples
    --------
    >>> row_worth(np.array([0, 0, 1, 1]), np.ones(4)), row_worth(None, np.ones(4))
    (0.5, 1.0)
    """
    if groups is None:
        return 1.0
    sizes = np.bincount(groups, weights)
    return min(1.0, float(sizes.sum() / (sizes @ sizes)))


def group_values(values: Floats, weights: Floats, groups: Integers) -> Floats:
    """One value per group whose plain mean is the weighted mean of all rows, and whose spread is that of the mean.

    With the sums t and s of the group's values and weights and the mean m of all rows it is :math:`m + (t - m s) / \\bar s`, the
    linearised ratio (Cochran 1977, "Sampling techniques", section 6.5). Groups of one size have their means.

    Parameters
    ----------
    values, weights : ndarray (n,)
    groups : ndarray of int (n,)

    Returns
    -------
    ndarray (number of groups,)

    Examples
    --------
    >>> group_values(np.array([1.0, 0.0, 3.0, 3.0]), np.ones(4), np.array([0, 0, 1, 1])).tolist()
    [0.5, 3.0]
    """
    _, members = np.unique(groups, return_inverse=True)
    sizes, totals = np.bincount(members, weights), np.bincount(members, weights * values)
    mean = totals.sum() / sizes.sum()
    result: Floats = mean + (totals - mean * sizes) / sizes.mean()
    return result
