"""Which labels occur together on the same rows, and the statistics of agreement for any weights of the rows.

Rows whose labels are the same in number and kind form a cell, so what is computed depends on the number of different cells, not
on that of the rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array

from ...arrays import Floats, Integers


@dataclass(frozen=True, eq=False)
class Coincidences:
    """Cells of rows with the same labels, and three cells more for rows that were not seen.

    Attributes
    ----------
    cell_of : ndarray of int (n,)
        The cell of each row.
    counts : ndarray of int (cells, K)
        How often each class was given to a row of the cell.
    first, second : ndarray of int (cells,) or None
        The two labels in the order of two annotators.
    worst, best : ndarray (cells,)
        The weights of what is worst and best for agreement among rows that were not seen; each sums to 1.
    values : ndarray (K,) or None
        The number that each class stands for; NaN: its rank. None: all disagreements are equally large.
    """

    cell_of: Integers
    counts: Integers
    first: Integers | None
    second: Integers | None
    worst: Floats
    best: Floats
    values: Floats | None

    @classmethod
    def of(cls, counts: Integers, values: Floats | None) -> Coincidences:
        """From how often each class was given to each row (n, K), at least two labels per row."""
        n_classes = max(2, counts.shape[1])
        if counts.shape[1] < n_classes:  # a second class, which nobody gave, for rows that were not seen
            counts = np.pad(counts, ((0, 0), (0, 1)))
            values = None if values is None else np.append(values, values + 1.0)
        distinct, cell_of = np.unique(counts, axis=0, return_inverse=True)
        a, b = _extremes(counts.sum(axis=0), values)
        unseen = np.zeros((3, n_classes), dtype=np.int64)
        unseen[0, a] += 1
        unseen[0, b] += 1
        unseen[1, a] = unseen[2, b] = 2
        worst, best = np.zeros((2, len(distinct) + 3))
        worst[-3], best[-2:] = 1.0, 0.5
        return cls(cell_of.reshape(-1), np.vstack([distinct, unseen]), None, None, worst, best, values)

    @classmethod
    def of_two(cls, first: Integers, second: Integers, n_classes: int) -> Coincidences:
        """From the labels (n,) that each of two annotators gave to the same rows."""
        n_classes = max(2, n_classes)
        codes, cell_of = np.unique(first * n_classes + second, return_inverse=True)
        a, b = _extremes(np.bincount(np.concatenate([first, second]), minlength=n_classes), None)
        unseen = np.array([a * n_classes + b, b * n_classes + a, a * n_classes + a, b * n_classes + b])
        of_first, of_second = np.divmod(np.concatenate([codes, unseen]), n_classes)
        counts = np.zeros((len(of_first), n_classes), dtype=np.int64)
        np.add.at(counts, (np.arange(len(counts)), of_first), 1)
        np.add.at(counts, (np.arange(len(counts)), of_second), 1)
        worst, best = np.zeros((2, len(counts)))
        worst[-4:-2], best[-2:] = 0.5, 0.5
        return cls(cell_of.reshape(-1), counts, of_first, of_second, worst, best, None)

    @property
    def n_cells(self) -> int:
        return len(self.counts)

    @property
    def is_constant(self) -> bool:
        """Whether all labels are of one class."""
        return bool(np.count_nonzero(self.counts[self.cell_of].sum(axis=0)) == 1)

    def statistics(self, weights: Floats, n_rows: float) -> dict[str, Floats]:
        """The statistics for each of B sets of weights.

        Parameters
        ----------
        weights : ndarray (B, cells)
            Each line sums to 1.
        n_rows : float
            The number of rows that they stand for; alpha corrects for a small number of labels.

        Returns
        -------
        dict of name to ndarray (B,)
            NaN where a statistic is undefined.
        """
        counts, sizes = self.counts.astype(np.float64), self.counts.sum(axis=1)
        squares = (counts**2).sum(axis=1)
        agreement = weights @ ((squares - sizes) / (sizes * (sizes - 1.0)))
        if self.first is not None and self.second is not None:
            one, other = (weights @ np.eye(counts.shape[1])[codes] for codes in (self.first, self.second))
            return {"agreement": agreement, "cohen_kappa": _beyond(agreement, (one * other).sum(axis=1))}
        shares = weights @ (counts / sizes[:, None])
        found = {"agreement": agreement, "fleiss_kappa": _beyond(agreement, (shares**2).sum(axis=1))}
        scaled = weights * n_rows
        totals = scaled @ counts
        number = totals.sum(axis=1)
        disagreeing = scaled @ ((sizes**2 - squares) / (sizes - 1.0))
        found["alpha_nominal"] = _alpha(disagreeing, number**2 - (totals**2).sum(axis=1), number)
        if self.values is None:
            return found
        is_ordinal = bool(np.isnan(self.values).any())
        # The distance of two ranks is the number of labels between them, half of those at both ends included.
        values = np.cumsum(totals, axis=1) - totals / 2.0 if is_ordinal else np.tile(self.values, (len(weights), 1))
        ratio = sizes / (sizes - 1.0)
        products = _products(counts, sizes)
        quadratic = (scaled @ products).reshape(len(weights), *(counts.shape[1],) * 2)
        spread = ((scaled @ (counts * ratio[:, None])) * values**2).sum(axis=1)
        observed = 2.0 * (spread - np.einsum("bc,bck,bk->b", values, quadratic, values))
        expected = 2.0 * (number * (totals * values**2).sum(axis=1) - (totals * values).sum(axis=1) ** 2)
        found["alpha_ordinal" if is_ordinal else "alpha_interval"] = _alpha(observed, expected, number)
        return found


def _extremes(totals: Integers, values: Floats | None) -> tuple[int, int]:
    """The two classes whose disagreement is the worst: those furthest apart, or where all are alike the most frequent two."""
    if values is None:
        order = np.argsort(-totals, kind="stable")
        return int(order[0]), int(order[1])
    given = np.flatnonzero(totals)
    if len(given) < 2 or np.isnan(values).any():
        return 0, len(totals) - 1
    return int(given[np.argmin(values[given])]), int(given[np.argmax(values[given])])


def _products(counts: Floats, sizes: Floats) -> csr_array:
    """The products of the counts of every pair of classes, over the size less one (cells, K * K)."""
    n_classes = counts.shape[1]
    given = [np.flatnonzero(line) for line in counts]
    cells = np.repeat(np.arange(len(given)), [len(line) ** 2 for line in given])
    a = np.concatenate([np.repeat(line, len(line)) for line in given])
    b = np.concatenate([np.tile(line, len(line)) for line in given])
    values = counts[cells, a] * counts[cells, b] / (sizes[cells] - 1.0)
    return csr_array((values, (cells, a * n_classes + b)), shape=(len(counts), n_classes**2))


def _beyond(agreement: Floats, by_chance: Floats) -> Floats:
    """Agreement beyond chance as a share of what there could be."""
    left = 1.0 - by_chance
    with np.errstate(divide="ignore", invalid="ignore"):
        result: Floats = np.where(left > 1e-12, (agreement - by_chance) / left, np.nan)
    return result


def _alpha(observed: Floats, expected: Floats, number: Floats) -> Floats:
    with np.errstate(divide="ignore", invalid="ignore"):
        result: Floats = np.where(expected > 1e-12 * number**2, 1.0 - (number - 1.0) * observed / expected, np.nan)
    return result
