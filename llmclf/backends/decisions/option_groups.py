"""Distributions over many options, put together from questions about groups of them.

A server that takes few options at once is asked about groups of them, and then about the groups' winners. Where its answers
are independent of irrelevant alternatives (the ratio of two options' probabilities does not depend on which others are
offered; Luce, Individual Choice Behavior, 1959), the groups can be put together exactly:

    p(o) ∝ p(o | group) / p(winner | group) * p(winner | winners)

A softmax over scores that each depend on a single option has that property. A model that reads all options before it judges
one has it approximately.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from ...arrays import Floats
from .shares import Shares


def rotations(n: int, k: int) -> list[int]:
    """By how many places n options are turned in each of k orders, evenly spread; never the same order twice.

    Examples
    --------
    >>> rotations(6, 3), rotations(2, 5)
    ([0, 2, 4], [0, 1])
    """
    k = min(n, k)
    return [i * n // k for i in range(k)]


def groups(n: int, cap: int | None) -> list[slice]:
    """As few groups of at most `cap` of n options as will do, of about the same size.

    Examples
    --------
    >>> groups(7, 3)
    [slice(0, 3, None), slice(3, 5, None), slice(5, 7, None)]
    """
    number = 1 if cap is None else -(-n // cap)
    size, larger = divmod(n, number)
    ends = [size * (i + 1) + min(i + 1, larger) for i in range(number)]
    return [slice(start, end) for start, end in zip([0, *ends], ends, strict=False)]


def winner(part: Shares) -> int:
    """The index of the most probable option; the first of several."""
    return int(np.argmax(part.logp))


def link(parts: Sequence[Shares], winners: Shares) -> Shares:
    """One distribution from those within groups, and that of the groups' winners.

    Parameters
    ----------
    parts : sequence of Shares
        log p(option | its group).
    winners : Shares
        log p(winner of group i | the groups' winners).

    Returns
    -------
    Shares
        In the order of the groups. Exact where the answers are independent of irrelevant alternatives; the bounds then follow
        from those of the parts.

    Examples
    --------
    >>> from llmclf.backends.decisions.shares import shares
    >>> first, second = shares([0.6, 0.4], rounded=False), shares([0.2, 0.8], rounded=False)
    >>> np.exp(link([first, second], shares([0.3, 0.7], rounded=False)).logp).round(4).tolist()
    [0.2182, 0.1455, 0.1273, 0.5091]
    """
    weights, lows, highs = [], [], []
    for i, part in enumerate(parts):
        best = winner(part)
        weights.append(part.logp - part.logp[best] + winners.logp[i])
        low = part.lower - part.upper[best] + winners.lower[i]
        high = part.upper - part.lower[best] + winners.upper[i]
        low[best], high[best] = winners.lower[i], winners.upper[i]  # its ratio to itself is known
        lows.append(low)
        highs.append(high)
    weight = np.concatenate(weights)
    logp = np.minimum(weight - np.logaddexp.reduce(weight), 0.0)
    if winners.is_exact and all(part.is_exact for part in parts):
        return Shares(logp, logp, logp)
    low, high = np.concatenate(lows), np.concatenate(highs)
    return Shares(logp, np.minimum(_share(low, high), logp), np.maximum(_share(high, low), logp))


def _share(logs: Floats, others: Floats) -> Floats:
    """log(exp(logs[i]) / (exp(logs[i]) + sum of exp(others[j]) over all other j)); 0 where `logs` has no limit."""
    table = np.tile(others, (len(logs), 1))
    np.fill_diagonal(table, logs)
    with np.errstate(invalid="ignore"):
        result: Floats = logs - np.logaddexp.reduce(table, axis=1)
    return np.minimum(np.where(logs == np.inf, 0.0, result), 0.0)


def smaller_cap(message: str, n: int) -> int:
    """How many options to try after n were refused: the largest smaller number in the server's message, else half of n.

    Examples
    --------
    >>> smaller_cap("criteria: Dictionary should have at most 64 items after validation, not 100", 100)
    64
    >>> smaller_cap("too many options", 100)
    50
    """
    named = [int(number) for number in re.findall(r"(?<![\w.])\d{1,6}(?!\w|\.\d)", message)]
    return max((number for number in named if 2 <= number < n), default=(n + 1) // 2)
