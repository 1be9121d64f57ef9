"""Of rows that were drawn with unequal probabilities, some that were all drawn with the same one.

A row that was drawn with the probability :math:`\\pi_i` and is then kept with :math:`\\pi_{min} / \\pi_i` is among those kept
with the probability :math:`\\pi_{min}`, like every other. So whatever holds for rows that are drawn evenly, exact numbers and
tests included, holds for them.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..arrays import Floats

_EQUAL = 1.0 - 1e-9


def evenly_drawn(inclusion: Floats, seed: int) -> NDArray[np.bool_]:
    """Which of the rows (n,) to keep, so that all have been drawn with the least of the probabilities.

    Examples
    --------
    >>> evenly_drawn(np.array([0.2, 0.2, 0.2]), seed=0).tolist()
    [True, True, True]
    >>> bool(200 < evenly_drawn(np.array([0.1] + [0.4] * 999), seed=0).sum() < 300)
    True
    """
    share = inclusion.min() / inclusion
    kept: NDArray[np.bool_] = (share > _EQUAL) | (np.random.default_rng(seed).random(len(share)) < share)
    return kept


class EvenPrefix(NamedTuple):
    """How many of the first rows to look at, and which of them (r,) to keep."""

    n_rows: int
    kept: NDArray[np.bool_]


def even_prefix(inclusion: Floats, ends: NDArray[np.intp], seed: int) -> EvenPrefix:
    """The first rows of an order of which most can be kept, if all that are kept have been drawn with the same probability.

    To look at fewer rows can leave more of them, where the later ones were seldom drawn. The labels have no say in the choice.

    Parameters
    ----------
    inclusion : ndarray (n,)
        In an order that was not chosen by the labels.
    ends : ndarray of int (m,)
        The numbers of rows after which one may stop, rising.
    seed : int

    Examples
    --------
    >>> prefix = even_prefix(np.array([0.4] * 100 + [0.1] * 20), np.arange(1, 121), seed=0)
    >>> prefix.n_rows, bool(prefix.kept.all())
    (100, True)
    """
    expected = (np.minimum.accumulate(inclusion) * np.cumsum(1.0 / inclusion))[ends - 1]
    best = int(np.flatnonzero(expected >= expected.max() * _EQUAL)[-1])
    n_rows = int(ends[best])
    return EvenPrefix(n_rows, evenly_drawn(inclusion[:n_rows], seed))
