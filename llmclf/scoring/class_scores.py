"""From token log-probabilities to one score per class: sums, means, per byte, pointwise mutual information."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ..arrays import Floats
from ..backends.requests import RowScores
from ..errors import InputError
from ..logits import logsumexp

SCORINGS = ("sum", "mean", "bytes", "pmi")


@dataclass(frozen=True)
class ScoreTable:
    """Answers of n rows to C completions each, as arrays; NaN in rows that could not be scored.

    Attributes
    ----------
    sums, lower, upper : ndarray (n, C)
        Summed log-probabilities in nats, and their bounds.
    n_tokens : ndarray (n, C)
        Tokens of each completion.
    """

    sums: Floats
    lower: Floats
    upper: Floats
    n_tokens: Floats

    @property
    def is_exact(self) -> bool:
        """Whether every score is its own bound."""
        return not bool((self.lower < self.upper).any())

    @classmethod
    def of(cls, rows: Sequence[RowScores], n_completions: int) -> ScoreTable:
        """The table of some rows.

        Examples
        --------
        >>> ScoreTable.of([RowScores(((-1.0, -0.5), (-2.0,))), RowScores((), error="too long")], 2).sums.tolist()
        [[-1.5, -2.0], [nan, nan]]
        """
        sums, lower, upper, n_tokens = (np.full((len(rows), n_completions), np.nan) for _ in range(4))
        scored = [i for i, row in enumerate(rows) if row.error is None]
        if scored:
            answers = [rows[i] for i in scored]
            sums[scored] = [row.sums for row in answers]
            lower[scored] = [row.lower for row in answers]
            upper[scored] = [row.upper for row in answers]
            n_tokens[scored] = [[len(tokens) for tokens in row.token_logprobs] for row in answers]
        return cls(sums, lower, upper, n_tokens)


class ClassScores(NamedTuple):
    """Log-scores of n rows for K classes, in nats; NaN in rows that could not be scored.

    Attributes
    ----------
    values : ndarray (n, K)
    lower, upper : ndarray (n, K)
        The bounds between which they lie; the very same array as `values` where every score is exact.
    heads : mapping of name to ndarray (n, K), or None
        What each head of a pool makes of the rows' features; see `llmclf.calibration.StackedCalibrator.head_logits`.
    unread : mapping of int to str
        Rows whose features could not be read, and why; they have no score, though the model may have answered.
    """

    values: Floats
    lower: Floats
    upper: Floats
    heads: Mapping[str, Floats] | None = None
    unread: Mapping[int, str] = {}

    @classmethod
    def exact(cls, values: Floats) -> ClassScores:
        """Scores that are their own bounds.

        Examples
        --------
        >>> ClassScores.exact(np.array([[-1.0, -2.0]])).is_exact
        True
        """
        return cls(values, values, values)

    def with_heads(self, heads: Mapping[str, Floats], unread: Mapping[int, str] | None = None) -> ClassScores:
        """The same scores, with what heads make of the rows' features, and none where these could not be read."""
        if not unread:
            return self._replace(heads=heads)
        rows = list(unread)

        def without(values: Floats) -> Floats:
            values = values.copy()
            values[rows] = np.nan
            return values

        values = without(self.values)
        bounds = (values, values) if self.is_exact else (without(self.lower), without(self.upper))
        return ClassScores(values, *bounds, heads, dict(unread))

    def reasons(self, answers: Sequence[RowScores]) -> list[RowScores]:
        """The answers of the rows, with why there is no score where their features could not be read."""
        return [
            RowScores((), error=self.unread[place]) if place in self.unread else answer
            for place, answer in enumerate(answers)
        ]

    @property
    def is_exact(self) -> bool:
        """Whether the scores are known to be their own bounds without comparing them."""
        return self.lower is self.values and self.upper is self.values


def bounded_class_scores(
    table: ScoreTable,
    class_of: Sequence[int],
    n_classes: int,
    scoring: str = "sum",
    *,
    words: Sequence[Sequence[str]] | None = None,
    unconditional: ScoreTable | None = None,
) -> ClassScores:
    """Log-score of every class for every row, and the bounds on it.

    Parameters
    ----------
    table, class_of, n_classes, scoring, words, unconditional : as `class_scores` has them

    Examples
    --------
    >>> table = ScoreTable.of([RowScores(((-1.0,), (-2.0,)), lower=(-1.5, -2.5), upper=(-0.5, -2.0))], 2)
    >>> bounded_class_scores(table, [0, 1], 2).lower.tolist()
    [[-1.5, -2.5]]
    """

    def side(name: str) -> Floats:
        return class_scores(table, class_of, n_classes, scoring, words=words, unconditional=unconditional, side=name)

    values = side("sums")
    if table.is_exact and (unconditional is None or unconditional.is_exact):
        return ClassScores.exact(values)
    return ClassScores(values, side("lower"), side("upper"))


def class_scores(
    rows: Sequence[RowScores] | ScoreTable,
    class_of: Sequence[int],
    n_classes: int,
    scoring: str = "sum",
    *,
    words: Sequence[Sequence[str]] | None = None,
    unconditional: Sequence[RowScores] | ScoreTable | None = None,
    side: str = "sums",
) -> Floats:
    """Log-score of every class for every row.

    Parameters
    ----------
    rows : sequence of RowScores, length n, or ScoreTable
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
    table = rows if isinstance(rows, ScoreTable) else ScoreTable.of(rows, len(class_of))
    values: Floats = getattr(table, side)
    if scoring == "mean":
        values = values / table.n_tokens
    elif scoring == "bytes":
        assert words is not None
        # A row that could not be scored may have no words.
        lengths = [
            [len(word.encode("utf-8", "surrogatepass")) for word in row_words] or [1] * len(class_of)
            for row_words in words
        ]
        values = values / np.array(lengths)
    scores = _add_words(values, class_of, n_classes)
    if scoring == "pmi":
        assert unconditional is not None
        # A row that failed without its text has no score either: NaN spreads.
        scores = scores - class_scores(unconditional, class_of, n_classes, side=opposite)
    return scores


def _add_words(values: Floats, class_of: Sequence[int], n_classes: int) -> Floats:
    """Log of the summed probabilities of each class's words: from completions (n, C) to classes (n, K)."""
    if list(class_of) == list(range(n_classes)):
        return values
    columns = np.asarray(class_of)
    return np.stack([logsumexp(values[:, columns == k], axis=1) for k in range(n_classes)], axis=1)
