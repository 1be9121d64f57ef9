"""What rows are labelled for, and where a label then says most: a class and a doubt per row, in cells that can be counted.

A table of any size becomes counts of rows per cell. From these alone follow the strata and how many rows each gets, so that the
rows themselves are never held together in memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..arrays import Floats, Integers
from ..checks import check_open_share
from ..errors import InputError

GOALS = ("share", "threshold", "calibration", "accuracy")
N_LEVELS = 300
"""Levels of doubt; the bins of calibration errors, of equal width, consist of whole levels."""


@dataclass(frozen=True)
class Goal:
    """What the labels are for.

    Attributes
    ----------
    name : str
        One of `GOALS`.
    column : int or None
        Of goal ``share``: the one class whose share matters; None for all alike.
    max_error : float
        Of goal ``threshold``: the largest share of errors that is to be allowed.
    """

    name: str
    column: int | None = None
    max_error: float = 0.05

    @classmethod
    def checked(cls, name: Any, column: int | None = None, max_error: Any = 0.05) -> Goal:
        """The goal that a caller names.

        Raises
        ------
        InputError

        Examples
        --------
        >>> Goal.checked("share").name
        'share'
        """
        if name not in GOALS:
            raise InputError(f"goal={name!r}; expected one of {', '.join(map(repr, GOALS))}")
        if column is not None and name != "share":
            raise InputError(f"pos_label belongs to goal='share', and the goal is {name!r}; leave it out")
        return cls(str(name), column, check_open_share("max_error", max_error, "0.05"))

    def n_cells(self, n_classes: int) -> int:
        """How many cells there are, the last of them for rows without probabilities."""
        return n_classes * N_LEVELS + 1

    def read(self, proba: Floats) -> tuple[Integers, Floats]:
        """Cell and variance of each row (n,).

        The cell is that of the predicted class and the level of doubt. The variance is that of what a label would add, if the
        probabilities are right: of being one class or another for shares, of being right for all other goals. It is NaN for
        rows without probabilities.

        Parameters
        ----------
        proba : ndarray (n, K)
            Rows of NaN could not be scored.
        """
        known: NDArray[np.bool_] = np.asarray(~np.isnan(proba).any(axis=1))
        p = np.where(known[:, None], proba, 1.0 / proba.shape[1])
        columns, confidence = p.argmax(axis=1), p.max(axis=1)
        if self.name == "share":
            if self.column is None:
                variance = np.maximum(0.0, 1.0 - np.einsum("nk,nk->n", p, p))
                doubt = np.sqrt(variance)
            else:
                variance = p[:, self.column] * (1.0 - p[:, self.column])
                doubt = 2.0 * np.sqrt(variance)
                columns = (columns == self.column).astype(np.intp)
        else:
            variance = confidence * (1.0 - confidence)
            # Steps become finer towards certainty, where most rows of a sure model are; a bin of a calibration error is one
            # of equal width.
            doubt = 1.0 - confidence if self.name == "calibration" else np.sqrt(1.0 - confidence)
        levels = np.minimum((doubt * N_LEVELS + 1e-9).astype(np.int64), N_LEVELS - 1)
        cells = columns * N_LEVELS + levels
        cells[~known] = proba.shape[1] * N_LEVELS
        return cells.astype(np.int64), np.where(known, variance, np.nan)

    def residual_squares(self, proba: Floats, columns: NDArray[np.intp]) -> Floats:
        """What labelled rows (n,) with these true columns show of the variance that `read` expects."""
        truth = np.zeros_like(proba)
        truth[np.arange(len(columns)), columns] = 1.0
        if self.name == "share":
            gaps = (truth - proba) ** 2
            result: Floats = gaps.sum(axis=1) if self.column is None else gaps[:, self.column]
            return result
        chosen = proba.argmax(axis=1)
        confidence: Floats = proba[np.arange(len(chosen)), chosen]
        return (np.asarray(columns == chosen, dtype=np.float64) - confidence) ** 2


@dataclass(eq=False)
class CellCounts:
    """How many rows lie in each cell, and the sums of what is expected of them.

    Attributes
    ----------
    rows, variance, errors : ndarray (C,)
        Number of rows, and the sums of their variances and of their probabilities of being wrong.
    """

    rows: Integers
    variance: Floats
    errors: Floats

    @classmethod
    def empty(cls, n_cells: int) -> CellCounts:
        """No rows yet."""
        return cls(np.zeros(n_cells, dtype=np.int64), np.zeros(n_cells), np.zeros(n_cells))

    def add(self, cells: Integers, variance: Floats, confidence: Floats) -> None:
        """Count more rows (n,), by their cells, variances and confidences; NaN where they have no probabilities."""
        size = len(self.rows)
        # A row of which nothing is known differs as much as a row can.
        self.rows += np.bincount(cells, minlength=size)
        self.variance += np.bincount(cells, np.where(np.isnan(variance), 0.25, variance), minlength=size)
        self.errors += np.bincount(cells, np.where(np.isnan(confidence), 1.0, 1.0 - confidence), minlength=size)
