"""How many wrong rows among the most confident ones still show that few future rows are wrong: jointly for all ranks.

Whoever looks at many thresholds and takes the best of them is misled by luck. The numbers tolerated here are so small that rows
with an error rate of just the limit stay above all of them at once, but for a given probability. That probability is computed
exactly, by following the number of wrong rows from rank to rank, so nested ranks do not count as separate chances.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from scipy.stats import binom

from ..arrays import Integers

_SPENDING_POWER = 0.5  # of the rank; experiments/threshold_power.md compares other ones
_WIDTH = 9.0  # standard deviations of the number of wrong rows that are followed


@lru_cache(maxsize=64)
def tolerated_errors(n_rows: int, max_error: float, alpha: float) -> Integers:
    r"""The largest number of wrong rows among the first r that is tolerated, for r = 0 to n; -1 where none is.

    If each row is wrong with probability `max_error`, independently, the number of wrong rows is at or below the number tolerated
    at *any* rank with probability at most `alpha`. This probability is spent rank by rank: up to rank r at most
    :math:`\alpha \sqrt{r / n}` of it (an error-spending function, Lan & DeMets 1983, "Discrete sequential boundaries for clinical
    trials", over ranks in place of time).

    The numbers rise by at most 1 from rank to rank. So with fewer wrong rows or more right ones, a rank that passes still passes.
    `select_threshold` needs this: it makes the case of one error rate at all confidences the worst case.

    Parameters
    ----------
    n_rows : int
    max_error, alpha : float in (0, 1)

    Returns
    -------
    ndarray of int (n_rows + 1,), not to be changed

    Examples
    --------
    >>> tolerated = tolerated_errors(200, 0.05, 0.05)
    >>> np.flatnonzero(np.diff(tolerated)) + 1  # from here on none, one, two ... wrong rows are tolerated
    array([ 69, 117, 154, 187])
    """
    tolerated = np.full(n_rows + 1, -1, dtype=np.int64)
    width = int(_WIDTH * math.sqrt(n_rows * max_error * (1.0 - max_error))) + 50
    # chance[i]: that i of the rows so far are wrong, and that no rank so far has passed.
    chance = np.zeros(n_rows + width + 2)
    chance[0] = 1.0
    spent, limit = 0.0, -1
    for rank in range(1, n_rows + 1):
        part = chance[limit + 1 : limit + width + 2]
        moved = part * (1.0 - max_error)
        moved[1:] += max_error * part[:-1]
        part[:] = moved
        # A rank that passes with one wrong row more than tolerated so far passes with just that number.
        passing = float(part[0])
        if spent + passing <= alpha * (rank / n_rows) ** _SPENDING_POWER:
            spent += passing
            limit += 1
            chance[limit] = 0.0
        tolerated[rank] = limit
    tolerated.setflags(write=False)
    return tolerated


def local_level(tolerated: Integers, rank: int, max_error: float) -> float:
    """The probability of passing at this rank alone, for rows of which each is wrong with probability `max_error`.

    Examples
    --------
    >>> [round(local_level(tolerated_errors(100, 0.05, 0.05), rank, 0.05), 3) for rank in (62, 63, 100)]
    [0.0, 0.039, 0.006]
    """
    return float(binom.cdf(tolerated[rank], rank, max_error)) if tolerated[rank] >= 0 else 0.0
