"""Distributions over options, as servers state them: rounded, asked in several orders, or in groups of options.

A server that takes few options at once is asked about groups of them, and then about the groups' winners. Where its answers
are independent of irrelevant alternatives (the ratio of two options' probabilities does not depend on which others are
offered; Luce, Individual Choice Behavior, 1959), the groups can be put together exactly:

    p(o) ∝ p(o | group) / p(winner | group) * p(winner | winners)

A softmax over scores that each depend on one option alone has that property. A model that reads all options before it judges
one has it approximately.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

FLOOR = 1e-4
"""The least probability that is believed: a server that states less says "very unlikely", not how unlikely."""

_STEP = 0.01  # what the coarsest servers round to
_SUM_TOLERANCE = 0.05  # of the sum of probabilities, for all other reasons


@dataclass(frozen=True, eq=False)
class Shares:
    """Log-probabilities (n,) of n options that exclude each other and leave nothing out, and bounds on them, in nats."""

    logp: NDArray[np.float64]
    lower: NDArray[np.float64]
    upper: NDArray[np.float64]

    @property
    def is_exact(self) -> bool:
        """Whether the bounds leave no room."""
        return np.array_equal(self.lower, self.upper)


def is_rounded(probabilities: ArrayLike) -> bool:
    """Whether all of some probabilities are whole hundredths, as they are where a server rounds.

    Examples
    --------
    >>> is_rounded([0.07, 0.93]), is_rounded([0.071, 0.929])
    (True, False)
    """
    steps = np.asarray(probabilities, dtype=np.float64) / _STEP
    return bool((np.abs(steps - np.round(steps)) < 1e-6).all())


def sums_to_one(probabilities: ArrayLike, rounded: bool) -> bool:
    """Whether probabilities (n,) sum to 1 as well as can be expected: to 0.05, or to n times half of what they are rounded to."""
    values = np.asarray(probabilities, dtype=np.float64)
    tolerance = max(_SUM_TOLERANCE, len(values) * _STEP / 2) if rounded else _SUM_TOLERANCE
    return bool(values.sum() > 0.0 and abs(values.sum() - 1.0) <= tolerance + 1e-9)


def shares(probabilities: ArrayLike, rounded: bool) -> Shares:
    """Log-probabilities and bounds from what a server states.

    Parameters
    ----------
    probabilities : (n,)
        That sum to about 1.
    rounded : bool
        The server rounds to hundredths: the probabilities lie up to 0.005 away.

    Returns
    -------
    Shares
        The probabilities, raised to at least 1e-4, divided by their sum. Where a server rounds, what its options miss to one
        is shared by those that it shows as 0.00 (each up to 0.005), so that 250 small options do not lift the large one. The
        bounds hold what was stated, what rounding may have hidden, and what is returned.

    Examples
    --------
    >>> some = shares([0.98, 0.02, 0.0], rounded=True)
    >>> np.exp(some.logp).round(4).tolist(), np.exp(some.lower).round(4).tolist(), np.exp(some.upper).round(4).tolist()
    ([0.9799, 0.02, 0.0001], [0.975, 0.015, 0.0], [0.985, 0.025, 0.005])
    """
    stated = np.asarray(probabilities, dtype=np.float64)
    raised = np.maximum(stated, FLOOR)
    room = _STEP / 2 if rounded else 0.0
    if rounded and (hidden := stated < room).any():
        raised[hidden] = np.clip((1.0 - stated.sum()) / hidden.sum(), FLOOR, room)
    logp = np.log(raised / raised.sum())
    if not rounded and (stated >= FLOOR).all():
        return Shares(logp, logp, logp)
    with np.errstate(divide="ignore"):
        lower, upper = np.log(np.maximum(stated - room, 0.0)), np.log(np.clip(stated + room, FLOOR, 1.0))
    # Raising the small ones and dividing by the sum may move a probability by more than the rounding did.
    return Shares(logp, np.minimum(lower, logp), np.maximum(upper, logp))


def average(answers: Sequence[Shares]) -> Shares:
    """The arithmetic mean of probabilities, option by option, and of their bounds."""
    if len(answers) == 1:
        return answers[0]

    def mean(logs: list[NDArray[np.float64]]) -> NDArray[np.float64]:
        result: NDArray[np.float64] = np.logaddexp.reduce(logs, axis=0) - np.log(len(logs))
        return np.minimum(result, 0.0)

    logp = mean([answer.logp for answer in answers])
    if all(answer.is_exact for answer in answers):
        return Shares(logp, logp, logp)
    return Shares(logp, mean([answer.lower for answer in answers]), mean([answer.upper for answer in answers]))


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
    """The place of the most probable option; the first of several."""
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


def _share(own: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    """log(exp(own[i]) / (exp(own[i]) + sum of exp(others[j]) over all other j)); 0 where `own` has no limit."""
    table = np.tile(others, (len(own), 1))
    np.fill_diagonal(table, own)
    with np.errstate(invalid="ignore"):
        result: NDArray[np.float64] = own - np.logaddexp.reduce(table, axis=1)
    return np.minimum(np.where(own == np.inf, 0.0, result), 0.0)


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
