"""Sampling of tokens from logits."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..arrays import Floats
from ..checks import is_whole_number
from ..errors import InputError
from .checks import checked_count, checked_logits
from .softmax import softmax

AT_ONCE = 2**21
"""How many random numbers the method "gumbel" holds in memory at once, unless one draw needs more. It changes no result."""


def sample(
    logits: ArrayLike,
    seed: int | np.random.Generator | None = None,
    *,
    size: int | None = None,
    method: str = "inverse",
) -> NDArray[np.intp]:
    """Token ids sampled from the softmax distribution of each row; masked tokens are never sampled.

    Parameters
    ----------
    logits : array-like (..., vocabulary)
    seed : int, numpy Generator or None
        An int gives the same ids each time. A Generator is used and so changes its state. None uses a new seed each time.
    size : int or None
        The number of independent draws per row. None is one draw, without an axis for it.
    method : {"inverse", "gumbel"}
        "inverse" takes one random number for each draw and finds it in the cumulative distribution. "gumbel" takes one for
        every token, adds ``-log(-log(u))`` to its logit and takes the largest (Gumbel 1954): it is slower, but does not need
        normalised probabilities. Both sample from the same distribution; with the same seed, their ids differ.

    Returns
    -------
    ndarray of int (...), or (size, ...)

    Raises
    ------
    InputError
        `seed`, `size` or `method` cannot be used, or the logits have NaN, ``+inf`` or a row of only ``-inf``.

    Examples
    --------
    >>> sample([0.0, -np.inf, 1.0], seed=0, size=8).tolist()
    [2, 2, 0, 0, 2, 2, 2, 2]
    >>> sample([[0.0, -np.inf], [-np.inf, 0.0]], seed=0).tolist()
    [0, 1]
    """
    x = checked_logits(logits, "sample")
    n = 1 if size is None else checked_count(size, "sample", "size")
    random = _generator(seed)
    if method == "inverse":
        ids = _by_inverse(x, random, n)
    elif method == "gumbel":
        ids = _by_gumbel(x, random, n)
    else:
        raise InputError(f"sample: method={method!r}; expected 'inverse' or 'gumbel'")
    return ids.reshape(x.shape[:-1] if size is None else (n, *x.shape[:-1]))


def _generator(seed: Any) -> np.random.Generator:
    if not isinstance(seed, np.random.Generator | None) and not is_whole_number(seed, 0):
        raise InputError(f"sample: seed={seed!r}; expected a whole number of at least 0, a numpy Generator or None")
    return np.random.default_rng(seed)


def _by_inverse(x: Floats, random: np.random.Generator, n: int) -> NDArray[np.intp]:
    """(n, rows): how many tokens end at or below a random point of the cumulative distribution."""
    ends = np.cumsum(softmax(x), axis=-1).reshape(-1, x.shape[-1])
    # In float64 too, a number below 1 times the last end is below that end, and a masked token ends where the token before it
    # does. So a first token that ends above the point always exists, and is not masked.
    points = random.random((n, len(ends))) * ends[:, -1]
    ids = np.empty(points.shape, dtype=np.intp)
    for row, row_ends in enumerate(ends):
        ids[:, row] = row_ends.searchsorted(points[:, row], side="right")
    return ids


def _by_gumbel(x: Floats, random: np.random.Generator, n: int) -> NDArray[np.intp]:
    """(n, ...): the token with the largest noisy logit."""
    ids = np.empty((n, *x.shape[:-1]), dtype=np.intp)
    step = max(1, AT_ONCE // max(1, x.size))
    for start in range(0, n, step):
        part = ids[start : start + step]
        part[...] = (x + random.gumbel(size=(len(part), *x.shape))).argmax(axis=-1)
    return ids
