"""Reading a distribution that a model states: strictly, since a guess about what it meant would look like a score.

Shares are percentages, one for each code. They come as a JSON object or as lines ``A: 12.5``, nothing else beside them: a code
that is missing, unknown or repeated, text around them, a number below 0 or above 100, and a sum that is off by more than
`SUM_TOLERANCE` make the answer unusable.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any

import numpy as np

from ...errors import type_of
from .draws import LogShares

SUM_TOLERANCE = 5
"""Percentage points by which stated shares may miss 100 together."""
_COARSE = 5  # percentage points: models like to state multiples of it
_MOST_DECIMALS = 6
_LINE = re.compile(r"([A-Z]+): ?([0-9]{1,3}(?:\.[0-9]{1,20})?) ?%?")


class UnusableAnswerError(Exception):
    """An answer does not say what was asked for; the message says what is wrong with it, without its text."""


def read_json(text: str, codes: Sequence[str]) -> list[Decimal]:
    """The percentages of an answer that is a JSON object, in the order of the codes.

    Raises
    ------
    UnusableAnswerError

    Examples
    --------
    >>> read_json('{"B": 30, "A": 70}', ["A", "B"])
    [Decimal('70'), Decimal('30')]
    """

    def without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len({name for name, _ in pairs}) < len(pairs):
            raise UnusableAnswerError("it states a label twice")
        return dict(pairs)

    def refuse(name: str) -> Any:
        raise UnusableAnswerError(f"it states {name} as a share")

    try:
        stated = json.loads(
            text, object_pairs_hook=without_repeats, parse_float=Decimal, parse_int=Decimal, parse_constant=refuse
        )
    except (ValueError, ArithmeticError, RecursionError):  # a number may be too large or too small for any
        raise UnusableAnswerError("it is not a JSON object and nothing else") from None
    if not isinstance(stated, dict):
        raise UnusableAnswerError(f"it is {type_of(stated)} in JSON; expected an object")
    for value in stated.values():
        if not isinstance(value, Decimal):
            raise UnusableAnswerError(f"it states {type_of(value)} as a share; expected a number")
    return _in_order(list(stated.items()), codes)


def read_lines(text: str, codes: Sequence[str]) -> list[Decimal]:
    """The percentages of an answer of lines, in the order of the codes.

    Raises
    ------
    UnusableAnswerError

    Examples
    --------
    >>> read_lines("A: 70%\\nB: 30", ["A", "B"])
    [Decimal('70'), Decimal('30')]
    """
    pairs = []
    for line in text.strip().splitlines():
        found = _LINE.fullmatch(line.strip())
        if found is None:
            raise UnusableAnswerError("it has a line that is not a letter, a colon and a number")
        pairs.append((found[1], Decimal(found[2])))
    return _in_order(pairs, codes)


Reader = Callable[[str, Sequence[str]], list[Decimal]]
"""`read_json` or `read_lines`."""


def _in_order(pairs: Sequence[tuple[str, Decimal]], codes: Sequence[str]) -> list[Decimal]:
    stated = dict(pairs)
    if len(stated) < len(pairs):
        raise UnusableAnswerError("it states a label twice")
    n_missing = sum(code not in stated for code in codes)
    if n_missing:
        raise UnusableAnswerError(f"it states no share for {n_missing} of {len(codes)} labels")
    if len(stated) > len(codes):
        raise UnusableAnswerError(f"it states shares for {len(stated)} labels; expected {len(codes)}")
    values = [stated[code] for code in codes]
    if not all(value.is_finite() and 0 <= value <= 100 for value in values):
        raise UnusableAnswerError("it states a share that is not between 0 and 100")
    total = sum(values, Decimal(0))
    if abs(total - 100) > SUM_TOLERANCE:
        raise UnusableAnswerError(f"its shares add up to {float(total):.4g}; expected about 100")
    return values


def log_shares(percentages: Sequence[Decimal]) -> LogShares:
    """Log-probabilities from stated percentages, with bounds that hold what rounding may hide.

    Parameters
    ----------
    percentages : sequence of K Decimal
        As `read_json` and `read_lines` give them.

    Returns
    -------
    LogShares
        Numbers that are all multiples of 5 count as rounded to 5, whole ones as rounded to 1, others as rounded to their last
        decimal. Whoever rounds so that the sum stays 100 moves a number by up to one such step, so the bounds lie a step away.
        A label that is stated as 0 gets a quarter of a step; its lower bound is minus infinity. The shares are divided by their
        sum.

    Examples
    --------
    >>> found = log_shares([Decimal(95), Decimal(5), Decimal(0)])
    >>> np.exp(found.logp).round(4).tolist()
    [0.9383, 0.0494, 0.0123]
    >>> np.exp(found.lower).round(4).tolist(), np.exp(found.upper).round(4).tolist()
    ([0.9, 0.0, 0.0], [1.0, 0.1, 0.05])
    """
    step = _step(percentages) / 100.0
    stated = np.array([float(value) for value in percentages]) / 100.0
    raised = np.where(stated > 0.0, stated, step / 4.0)
    logp = np.log(raised / raised.sum())
    with np.errstate(divide="ignore"):
        lower = np.log(np.maximum(stated - step, 0.0))
    upper = np.log(np.minimum(stated + step, 1.0))
    # Raising the small ones and dividing by the sum may move a share by more than the rounding did.
    return LogShares(logp, np.minimum(lower, logp), np.maximum(upper, logp))


def _step(percentages: Sequence[Decimal]) -> float:
    """What the numbers are rounded to, in percentage points."""
    if all(value % _COARSE == 0 for value in percentages):
        return float(_COARSE)
    decimals = 0
    while decimals < _MOST_DECIMALS and any(value * 10**decimals % 1 for value in percentages):
        decimals += 1
    return float(10.0**-decimals)
