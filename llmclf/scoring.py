"""From token log-probabilities to one score per class: sums, means, per byte, pointwise mutual information."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from .backends.base import RowScores
from .errors import InputError
from .logits import logsumexp

SCORINGS = ("sum", "mean", "bytes", "pmi")


def class_scores(
    rows: Sequence[RowScores],
    class_of: Sequence[int],
    n_classes: int,
    scoring: str = "sum",
    *,
    words: Sequence[Sequence[str]] | None = None,
    unconditional: Sequence[RowScores] | None = None,
    side: str = "sums",
) -> NDArray[np.float64]:
    """Log-score of every class for every row.

    Parameters
    ----------
    rows : sequence of RowScores, length n
    class_of : sequence of int, one per completion
        The class that each completion belongs to; the completions of one class add their probabilities.
    n_classes : int
    scoring : {"sum", "mean", "bytes", "pmi"}
        ``sum``: log p(words | prompt), the only one of the four that is the logarithm of a probability. ``mean``: divided
        by the number of tokens; ``bytes``: divided by the UTF-8 bytes of the words; ``pmi``: log p(class | prompt) minus
        log p(class | unconditional prompt) (Holtzman et al. 2021, "Surface form competition").
    words : per row, the words of each completion; needed for ``bytes``.
    unconditional : per row, the scores after the unconditional prompt; needed for ``pmi``.
    side : {"sums", "lower", "upper"}
        Which numbers of each row: the scores, or their lower or upper bounds.

    Returns
    -------
    ndarray (n, n_classes), in nats; NaN in rows that could not be scored.
    """
    if scoring not in SCORINGS:
        raise InputError(f"scoring={scoring!r}: expected one of {', '.join(map(repr, SCORINGS))}")
    # What is subtracted bounds the difference from the other side.
    opposite = {"sums": "sums", "lower": "upper", "upper": "lower"}[side]
    scores = np.full((len(rows), n_classes), np.nan)
    for i, row in enumerate(rows):
        if row.error is not None:
            continue
        values = np.array(getattr(row, side))
        if scoring == "mean":
            values = values / [len(tokens) for tokens in row.token_logprobs]
        elif scoring == "bytes":
            assert words is not None
            values = values / [len(word.encode("utf-8", "surrogatepass")) for word in words[i]]
        scores[i] = _add_words(values, class_of, n_classes)
        if scoring == "pmi":
            assert unconditional is not None
            # A row that failed without its text has no score either: NaN spreads.
            before = unconditional[i]
            taken = math.nan if before.error else _add_words(np.array(getattr(before, opposite)), class_of, n_classes)
            scores[i] -= taken
    return scores


def _add_words(values: NDArray[np.float64], class_of: Sequence[int], n_classes: int) -> NDArray[np.float64]:
    """Log of the summed probabilities of each class's words."""
    if list(class_of) == list(range(n_classes)):
        return values
    table = np.full((n_classes, len(values)), -np.inf)
    table[np.asarray(class_of), np.arange(len(values))] = values
    result: NDArray[np.float64] = logsumexp(table, axis=1)
    return result
