"""What is decided from corrected scores: the most probable class of each row, how sure that is, and whether it suffices."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..arrays import Floats, Integers
from ..labels import LabelSet
from ..logits import softmax


@dataclass(frozen=True, eq=False)
class Decisions:
    """What is said of n rows; what nobody asks for is not computed.

    Attributes
    ----------
    labels : LabelSet
        The K classes.
    log_scores : ndarray (n, K)
        After all corrections; NaN in rows that could not be scored.
    undecided : ndarray of bool (n,)
        Whether the bounds on the scores leave open which class is the most probable.
    threshold : float or None
        Rows at least as confident are accepted.
    """

    labels: LabelSet
    log_scores: Floats
    undecided: NDArray[np.bool_]
    threshold: float | None = None

    def __repr__(self) -> str:
        """How many rows, and how many of them could not be scored."""
        n_rows, n_classes = self.log_scores.shape
        return (
            f"<Decisions on {n_rows} rows between {n_classes} classes; {int(self.missing.sum())} could not be scored>"
        )

    @cached_property
    def missing(self) -> NDArray[np.bool_]:
        """Whether the row could not be scored (n,)."""
        missing: NDArray[np.bool_] = np.asarray(np.isnan(self.log_scores).any(axis=1))
        return missing

    @cached_property
    def columns(self) -> Integers:
        """The most probable class (n,) by its number, the first of them where several are; 0 in rows that are missing."""
        columns: Integers = np.argmax(np.where(self.missing[:, None], 0.0, self.log_scores), axis=1)
        return columns

    @property
    def label(self) -> NDArray[Any]:
        """The most probable class (n,); None in rows that are missing."""
        label: NDArray[Any] = self.labels.array[self.columns]
        if self.missing.any():
            label = label.astype(object)
            label[self.missing] = None
        return label

    @cached_property
    def probabilities(self) -> Floats:
        """Probability (n, K) of every class; NaN in rows that are missing."""
        return softmax(self.log_scores)

    @cached_property
    def confidence(self) -> Floats:
        """Probability (n,) of the most probable class; NaN in rows that are missing."""
        return np.where(self.missing, np.nan, self.probabilities.max(axis=1))

    @property
    def accepted(self) -> NDArray[np.bool_] | None:
        """Whether the confidence reaches the threshold (n,), never in rows that are missing; None without a threshold."""
        return None if self.threshold is None else ~self.missing & (self.confidence >= self.threshold)
