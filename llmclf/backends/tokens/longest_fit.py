"""How many characters of a text fit into a number of tokens, found by tokenising few of its beginnings."""

from __future__ import annotations

from collections.abc import Callable, Sequence

_LOOKAHEAD = 8
_CLOSE = 8
"""Characters between two lengths from where halving is as quick as anything."""


def longest_fit(
    n_tokens: Callable[[Sequence[int]], Sequence[int]], limit: int, longest: int, guess: int | None = None
) -> int:
    """The largest number of characters, from 1 to `longest`, whose tokens are at most `limit`; 0 if none is.

    Tokens grow about evenly with characters, so each length that is tried is guessed from the two before it. One character more
    may join two tokens, so the lengths next to the last that fits are tried, too: none of the eight that follow it fits.

    Parameters
    ----------
    n_tokens : function: numbers of characters -> the number of tokens of each
    limit, longest : int
    guess : int, optional
        The length to try first.

    Examples
    --------
    >>> longest_fit(lambda lengths: [7 + n // 4 for n in lengths], limit=100, longest=200_000, guess=300)
    375
    """
    low, high = 0, longest + 1  # the longest that is known to fit, and the shortest that is known not to
    place = min(max(guess or longest, 1), longest)
    before: tuple[int, int] | None = None
    width, n_slow = high, 0
    while high - low > 1:
        n = n_tokens([place])[0]
        if n <= limit:
            low = place
        else:
            high = place
        per_token = place / max(n, 1)
        if before is not None and n != before[1]:
            per_token = max((place - before[0]) / (n - before[1]), 0.25)
        before = place, n
        # The guess aims past the border, so that it is closed in from both sides.
        aim = place + round((limit - n + (n <= limit)) * per_token)
        is_measured = low > 0 and high <= longest
        n_slow = 0 if (high - low) * 2 <= width else n_slow + 1
        width = high - low
        if (is_measured and n_slow > 1) or width <= _CLOSE:
            aim = (low + high) // 2
        elif high > longest:
            aim = min(aim, 2 * low)
        place = min(max(aim, low + 1), high - 1)
    first = 2  # one more is known not to fit
    while 0 < low < longest:
        further = range(low + first, min(low + _LOOKAHEAD, longest) + 1)
        fitting = [place for place, n in zip(further, n_tokens(further), strict=True) if n <= limit] if further else []
        if not fitting:
            break
        low, first = fitting[-1], 1
    return low
