"""Codes for options, none of which can be taken for another or for a number."""

from __future__ import annotations

_LETTERS = "ABCDEFGHJKLMNPQRSTUVWXYZ"  # without I and O, which look like 1 and 0


def codes(n: int) -> tuple[str, ...]:
    """`n` different codes of one length, so that none begins another.

    Examples
    --------
    >>> codes(3), codes(30)[22:26], len(set(codes(600)))
    (('A', 'B', 'C'), ('AY', 'AZ', 'BA', 'BB'), 600)
    """
    length = 1
    while len(_LETTERS) ** length < n:
        length += 1
    return tuple(_code(number, length) for number in range(n))


def _code(number: int, length: int) -> str:
    letters = []
    for _ in range(length):
        number, letter = divmod(number, len(_LETTERS))
        letters.append(_LETTERS[letter])
    return "".join(reversed(letters))
