"""Shots: labelled rows that every prompt shows, drawn balanced over the classes."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
from sklearn.utils import check_random_state

from ..arrays import Integers
from ..errors import InputError
from ..scoring.scorer import Scorer
from ..tables.rows import Row, Rows


def draw_shots(
    n_shots: int, codes: Integers | None, n_classes: int, random_state: Any, bad: Collection[int] = ()
) -> list[int]:
    """Row numbers of the shots: one class after the other gives a random row, and their order is random.

    Parameters
    ----------
    n_shots : int
    codes : ndarray of int (n,) or None
        True columns; needed for shots.
    n_classes : int
    random_state : int, RandomState or None
    bad : collection of int
        Rows that cannot be shown.

    Raises
    ------
    InputError
        There are fewer rows.

    Examples
    --------
    >>> draw_shots(2, np.array([0, 0, 0, 1]), 2, random_state=0)
    [3, 0]
    """
    if not n_shots:
        return []
    assert codes is not None
    is_usable = np.ones(len(codes), dtype=bool)
    is_usable[list(bad)] = False
    if n_shots > is_usable.sum():
        usable = " that can be shown" if bad else ""
        raise InputError(
            f"n_shots={n_shots}, but there are only {is_usable.sum()} training rows{usable}; ask for fewer shots"
        )
    random = check_random_state(random_state)
    queues = [random.permutation(np.flatnonzero((codes == k) & is_usable)).tolist() for k in range(n_classes)]
    turns = random.permutation(n_classes)
    chosen: list[int] = []
    while len(chosen) < n_shots:
        chosen += [queues[k].pop() for k in turns if queues[k]]
    return [chosen[i] for i in random.permutation(n_shots)]


def answered_shots(scorer: Scorer, rows: Rows, codes: Integers | None, shots: list[int]) -> tuple[tuple[Row, str], ...]:
    """The rows of the shots with the words that answer them: the first of the class, or the row's own choice."""
    if codes is None:
        return ()
    records = [rows.records[i] for i in shots]
    if scorer.prompt.choices is not None:
        return tuple((record, scorer.words(record)[codes[i]]) for record, i in zip(records, shots, strict=True))
    return tuple((record, scorer.labels.words[codes[i]][0]) for record, i in zip(records, shots, strict=True))
