"""How many labels a share needs where nothing is known of a classifier: the labels alone, of rows drawn at random."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.stats import binom

from ...arrays import Floats
from ...errors import InputError
from ...metrics import exact_bounds
from .search import sizes_between

_LEAST = 2
_NEGLIGIBLE = 1e-9  # of the chances of a number of cases


class ByHand(NamedTuple):
    """A number of labels, what it is for, and what numbers around it give, as `LabelPlan` has it."""

    goal: str
    n_labels: int
    sizes: tuple[tuple[int, float, float, float, float], ...]


def plan_by_hand(
    half_width: float, share: float, n_rows: int | None, confidence_level: float, chance: float, max_labels: int
) -> ByHand:
    """The least number of labels whose exact interval (Clopper & Pearson 1934) for the share is narrow enough.

    Where there are `n_rows` in all, n labels say as much as :math:`n (N - 1) / (N - n)` of an endless number of rows (Cochran
    1977, "Sampling techniques", section 2.6).

    Raises
    ------
    InputError
        More than `max_labels` would be needed.
    """
    most = max_labels if n_rows is None else min(max_labels, n_rows)
    tail = (1.0 - confidence_level) / 2.0

    def fulfilled(size: int) -> float:
        widths, chances = _half_widths(size, share, n_rows, tail)
        return float(chances[widths <= half_width + 1e-12].sum())

    goal = f"a {confidence_level:.4g} interval of a share of about {share:.4g} of ±{half_width:.4g}"
    if fulfilled(most) < chance:
        raise InputError(
            f"{most:,} labels by hand alone do not give {goal} with a probability of {chance:.4g}; ask for less, or give a "
            f"larger max_labels={max_labels}"
        )
    low, high = _LEAST - 1, most
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if fulfilled(middle) >= chance else (middle, high)
    sizes = []
    for size in sizes_between(max(_LEAST, high // 4), min(most, 4 * high)):
        widths, chances = _half_widths(int(size), share, n_rows, tail)
        order = np.argsort(widths)
        below = np.cumsum(chances[order])
        places = np.searchsorted(below, [0.5, 0.1, 0.9]).clip(max=len(order) - 1)
        middle, lower, upper = widths[order][places].tolist()
        sizes.append((int(size), middle, lower, upper, fulfilled(int(size))))
    return ByHand(goal, high, tuple(sizes))


def _half_widths(size: int, share: float, n_rows: int | None, tail: float) -> tuple[Floats, Floats]:
    """The half-widths for each number of cases that may be, and their chances."""
    least, most = binom.ppf([_NEGLIGIBLE, 1.0 - _NEGLIGIBLE], size, share)
    cases = np.arange(int(least), int(most) + 1)
    chances: Floats = binom.pmf(cases, size, share)
    if n_rows is not None and size >= n_rows:
        return np.zeros(len(cases)), chances
    factor = 1.0 if n_rows is None else (n_rows - 1) / (n_rows - size)
    low, high = exact_bounds(cases * factor, np.full(len(cases), size * factor), tail)
    return (high - low) / 2.0, chances
