"""Distributions over options, as servers state them: rounded, or averaged over several orders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from ...arrays import Floats

FLOOR = 1e-4
"""The least probability that is believed: a server that states less says "very unlikely", not how unlikely."""


_STEP = 0.01  # what the coarsest servers round to


_SUM_TOLERANCE = 0.05  # of the sum of probabilities, for all other reasons


@dataclass(frozen=True, eq=False)
class Shares:
    """Log-probabilities (n,) of n options that exclude each other and leave nothing out, and bounds on them, in nats."""

    logp: Floats
    lower: Floats
    upper: Floats

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

    def mean(logs: list[Floats]) -> Floats:
        result: Floats = np.logaddexp.reduce(logs, axis=0) - np.log(len(logs))
        return np.minimum(result, 0.0)

    logp = mean([answer.logp for answer in answers])
    if all(answer.is_exact for answer in answers):
        return Shares(logp, logp, logp)
    return Shares(logp, mean([answer.lower for answer in answers]), mean([answer.upper for answer in answers]))
