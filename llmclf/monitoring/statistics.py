"""What is looked at in rows without labels, and where a row lies among the rows of the certificate."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..arrays import Floats, Integers
from .decisions import NO_LABEL, UNKNOWN, DecisionColumns

if TYPE_CHECKING:
    from ..certificates import ReferenceRows

MIN_KNOWN = 20
"""A statistic that is known in fewer rows of the certificate is not looked at."""
_MAX_BINS = 10
_ROWS_PER_BIN = 20
_MAX_CATEGORIES = 15
_ROWS_PER_CATEGORY = 5


@dataclass(frozen=True)
class Statistic:
    """A number per row.

    Attributes
    ----------
    name : str
        In reports and gauges.
    title : str
        For people.
    is_category : bool
        Whether its values are 0, 1, ... of which any share may change, and not numbers on a scale.
    values : callable
        Columns of n rows to an array (n,), NaN where a row has none.
    """

    name: str
    title: str
    is_category: bool
    values: Callable[[DecisionColumns], Floats]


def _classes(rows: DecisionColumns) -> Floats:
    return np.where(rows.labels == NO_LABEL, np.nan, rows.labels)


def _accepted(rows: DecisionColumns) -> Floats:
    return np.where(rows.accepted == UNKNOWN, np.nan, rows.accepted)


def _undecided(rows: DecisionColumns) -> Floats:
    return np.where(rows.labels == NO_LABEL, np.nan, rows.undecided)


def _errors(rows: DecisionColumns) -> Floats:
    return np.array([error is not None for error in rows.errors], dtype=np.float64)


STATISTICS = (
    Statistic("confidence", "Confidence", False, lambda rows: rows.confidence),
    Statistic("classes", "Shares of the classes", True, _classes),
    Statistic("accepted", "Share accepted", True, _accepted),
    Statistic("label_mass", "Label mass", False, lambda rows: rows.label_mass),
    Statistic("undecided", "Share undecided", True, _undecided),
    Statistic("errors", "Share without an answer", True, _errors),
)


def columns_of_reference(reference: ReferenceRows) -> DecisionColumns:
    """The rows of a certificate as decisions; those that could not be scored have the error "unscored"."""
    n = len(reference)
    missing: NDArray[np.bool_] = np.asarray(np.isnan(reference.probabilities).any(axis=1))
    labels = np.where(missing, NO_LABEL, np.nan_to_num(reference.probabilities).argmax(axis=1)).astype(np.int64)
    return DecisionColumns(
        ("",) * n,
        np.full(n, np.nan),
        labels,
        reference.probabilities,
        np.where(missing, UNKNOWN, reference.accepted).astype(np.int8),
        reference.label_mass,
        reference.undecided,
        tuple("unscored" if gone else None for gone in missing),
    )


class ReferenceBins:
    """Ranges among the n values of the certificate's rows, into which a later value falls with known probability.

    All values are in a strict order, with ties broken by random numbers, so the later value has one of n + 1 places among them. A
    bin is a range of places. Numbers have bins of equally many places, categories one each; rare ones, and those that no row of
    the certificate has, share the last.

    Parameters
    ----------
    values : ndarray (n,)
        Without NaN.
    is_category : bool
    generator : numpy Generator
        For ties, of these values and later ones.

    Attributes
    ----------
    sizes : ndarray (B,)
        Places in each bin; they sum to n + 1.
    """

    def __init__(self, values: Floats, is_category: bool, generator: np.random.Generator) -> None:
        self._generator = generator
        n = len(values)
        if is_category:
            counts = np.bincount(values.astype(np.int64))
            self._by_count = np.argsort(-counts, kind="stable")
            counts = counts[self._by_count]
            n_own = min(max(1, int((counts >= _ROWS_PER_CATEGORY).sum())), _MAX_CATEGORIES)
            edges = np.concatenate([[0], counts.cumsum()[:n_own]])
            values = self._ranked(values)
        else:
            self._by_count = np.empty(0, dtype=np.int64)
            n_bins = max(2, min(_MAX_BINS, n // _ROWS_PER_BIN))
            edges = np.linspace(0, n + 1, n_bins + 1)[:-1].astype(np.int64)
        self._edges = edges
        self._values = np.sort(values)
        below = np.searchsorted(self._values, self._values, side="left")
        # The place of a value's equals, and one of them at random.
        self._keys = np.sort(below + generator.random(n))
        self.sizes: Floats = np.diff(np.append(edges, n + 1)).astype(np.float64)

    def bins(self, values: Floats) -> Integers:
        """The bin of each of m later values (m,), which come in their order."""
        if len(self._by_count):
            values = self._ranked(values)
        low = np.searchsorted(self._values, values, side="left")
        is_tied = np.searchsorted(self._values, values, side="right") > low
        draws = self._generator.random(len(values))
        places = np.where(is_tied, np.searchsorted(self._keys, low + draws), low)
        return np.searchsorted(self._edges, places, side="right") - 1

    def _ranked(self, values: Floats) -> Floats:
        """Categories by how many rows of the certificate have them; those that none has come last."""
        ranks = np.full(max(len(self._by_count), int(values.max(initial=0)) + 1), len(self._by_count))
        ranks[self._by_count] = np.arange(len(self._by_count))
        result: Floats = ranks[values.astype(np.int64)].astype(np.float64)
        return result
