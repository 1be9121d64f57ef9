"""Which tokens hold some characters of a text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ...prompts.rendered import Span

Ranges = tuple[tuple[int, int], ...]
"""Ranges (start, stop) of characters or of tokens, in their order."""


def tokens_of(offsets: Sequence[tuple[int, int]], ranges: Ranges) -> Ranges:
    """The tokens that hold a character of some ranges, where each token's characters are known.

    Examples
    --------
    >>> tokens_of([(0, 3), (3, 5), (5, 5), (5, 9)], ((4, 6),))
    ((1, 2), (3, 4))
    """
    holds = [
        place
        for place, (first, last) in enumerate(offsets)
        if any(first < stop and start < last for start, stop in ranges) and first < last
    ]
    return _merged((place, place + 1) for place in holds)


def tokens_between(ids: Sequence[int], beginnings: Sequence[Sequence[int]]) -> Ranges:
    """The same where only texts can be tokenised: `beginnings` are the ids of the text up to each range's start and stop.

    A beginning's tokens are the text's up to where they differ: the next token of the text holds characters past the beginning.

    Examples
    --------
    >>> tokens_between([5, 6, 7, 8], [[5], [5, 6, 9]])  # the third token reaches over the end of the range
    ((1, 3),)
    """
    found = []
    for before, through in zip(beginnings[::2], beginnings[1::2], strict=True):
        n_whole = common_prefix(through, ids)
        found.append((common_prefix(before, ids), min(n_whole + (n_whole < len(through)), len(ids))))
    return _merged(found)


def shifted(ranges: Ranges, by: int, low: int, high: int) -> Ranges:
    """Ranges moved by some places, and what of them lies within ``[low, high)``.

    Examples
    --------
    >>> shifted(((0, 2), (4, 9)), 1, 2, 8)
    ((2, 3), (5, 8))
    """
    moved = ((max(start + by, low), min(stop + by, high)) for start, stop in ranges)
    return tuple((start, stop) for start, stop in moved if start < stop)


def first_characters(spans: Sequence[Span], n: int) -> tuple[Span, ...]:
    """The first `n` characters of a text of spans."""
    kept = []
    for span in spans:
        kept.append(Span(span.text[:n], span.is_data))
        n -= len(span.text)
        if n <= 0:
            break
    return tuple(kept)


def common_prefix(first: Sequence[int], second: Sequence[int]) -> int:
    """How many elements two sequences have in common at their beginning."""
    length = min(len(first), len(second))
    for place in range(length):
        if first[place] != second[place]:
            return place
    return length


def _merged(ranges: Iterable[tuple[int, int]]) -> Ranges:
    merged: list[tuple[int, int]] = []
    for start, stop in ranges:
        if start >= stop:
            continue
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(stop, merged[-1][1]))
        else:
            merged.append((start, stop))
    return tuple(merged)
