"""Statistics of rows in groups, such as copies of a text: what stands for a group, and how much the groups are worth."""

from __future__ import annotations

import numpy as np

from ..arrays import Floats, Integers


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
