"""The rows of a table, what a model says of all of them, and what people say of a few: checked once, for every estimate."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..arrays import Floats, Integers
from ..checks import check_whole_number
from ..metrics import label_columns
from ..numerics.class_array import class_array
from ..numerics.groups import group_numbers
from ..tables.array_arguments import as_labels, class_list
from .sample_checks import (
    check_counted,
    check_weights_beside_inclusion,
    checked_inclusion,
    checked_labels,
    checked_proba,
    checked_rows,
    checked_weights,
    once_for_all,
    sampling_fractions,
    warn_of_limits,
)


@dataclass(frozen=True, eq=False)
class LabelledSample:
    r"""N rows with the probabilities of a model, and n of them with labels by hand.

    The labelled rows were drawn with known probabilities, so that they speak for all N, whatever the model is worth. A labelled
    row i with the inclusion probability :math:`\pi_i` and the weight :math:`v_i` counts :math:`d_i = v_i / \pi_i`, and the mean
    of a value over all rows is estimated by :math:`\sum d_i z_i / \sum d_i` (Hájek 1971, "Comment on an essay on the logical
    foundations of survey sampling").

    Make one with `LabelledSample.checked`, which refuses what cannot be used. Indices: N rows, n of them labelled, K classes.

    Attributes
    ----------
    proba : ndarray (N, K)
        The model's probabilities.
    columns : ndarray of int (n,)
        The class of each labelled row, as a column of `proba`.
    rows : ndarray of int (n,)
        The places of the labelled rows among the N, without repetition.
    classes : ndarray (K,)
        The class of each column.
    inclusion : ndarray (n,)
        The probability with which each labelled row was drawn, in (0, 1].
    weights : ndarray (N,)
        What each row counts in the target; 1 each unless given.
    strata : ndarray of int (N,) or None
        From which part of the table each row was drawn.
    clusters : ndarray of int (N,) or None
        What each row belongs to, such as its author.
    has_known_inclusion : bool
        Whether the caller gave the inclusion probabilities, rather than that they follow from the numbers of rows.
    """

    proba: Floats
    columns: NDArray[np.intp]
    rows: Integers
    classes: NDArray[Any]
    inclusion: Floats
    weights: Floats
    strata: Integers | None
    clusters: Integers | None
    has_known_inclusion: bool

    @classmethod
    def checked(
        cls,
        proba: ArrayLike,
        y: ArrayLike,
        rows: ArrayLike,
        *,
        classes: ArrayLike | None = None,
        inclusion: ArrayLike | None = None,
        strata: Iterable[Any] | None = None,
        clusters: Iterable[Any] | None = None,
        weights: ArrayLike | None = None,
    ) -> LabelledSample:
        """A sample of what a caller gave, with everything wrong with it said before anything is computed.

        Parameters
        ----------
        proba : array-like (N, K) or (N,)
            Probabilities of the K classes for every row, each row summing to 1. One dimension: the probability of the second of
            two classes if the values are floats, otherwise the label that the model gave to each row.
        y : array-like (n,)
            The labels by hand.
        rows : array-like of int (n,), or of bool (N,)
            The places of the labelled rows among the N, from 0; or which of the rows are labelled, in the order of the table.
        classes : array-like (K,), optional
            The class of each column. By default whole numbers in `y` are column numbers, and other labels belong to the columns
            in sorted order, which needs labelled rows of every class; of predicted labels, all that occur, sorted.
        inclusion : array-like (n,) or (N,), optional
            With what probability each row was to be labelled; where N = n, in the order of the table. By default the labelled
            rows are a simple random sample, of each stratum if there are strata.
        strata : array-like (N,), optional
            From which part of the table each row was drawn, where the number drawn from each was fixed.
        clusters : array-like (N,), optional
            What each row belongs to, such as its author, where rows of one cluster were drawn together or are alike.
        weights : array-like (N,), optional
            What each row counts in the target, such as the number of readers of a text. They are not inclusion
            probabilities, nor their inverse.

        Raises
        ------
        InputError
            Labels of rows that are not among the N, or of one row twice; missing labels; probabilities that are none; inclusion
            probabilities outside (0, 1] or missing for a labelled row; a stratum without labelled rows; weights that repeat the
            inclusion probabilities; fewer than two labelled rows; anything of another length.

        Warns
        -----
        EstimationWarning
            Fewer than ten labelled rows, a class without any, all labels equal, a single row of a stratum, inclusion
            probabilities that do not fit the number of rows, or weights beside inclusion probabilities.

        Examples
        --------
        >>> sample = LabelledSample.checked([[0.9, 0.1]] * 60 + [[0.2, 0.8]] * 40, [0, 0, 1, 1] * 5, range(0, 100, 5))
        >>> sample.n_rows, sample.n_labelled, sample.n_classes, sample.inclusion[:2].tolist()
        (100, 20, 2, [0.2, 0.2])
        >>> sample.mean(sample.one_hot).tolist()
        [0.5, 0.5]
        """
        known = None if classes is None else class_list(classes)
        table, known = checked_proba(proba, as_labels(y), known)
        n_rows = len(table)
        places = checked_rows(rows, n_rows)
        labels = checked_labels(y, places, known)
        columns = label_columns(labels, table.shape[1], known)
        names = class_array(range(table.shape[1])) if known is None and labels.dtype.kind in "buif" else None
        if names is None:
            names = class_array(sorted(set(labels.tolist())) if known is None else known)
        v = checked_weights(weights, n_rows)
        check_counted(v[places])
        # Once for all: some are read only once.
        strata, clusters = (once_for_all(one) for one in (strata, clusters))
        stratum = None if strata is None else group_numbers(strata, n_rows, "strata")
        cluster = None if clusters is None else group_numbers(clusters, n_rows, "clusters")
        if inclusion is None:
            drawn = sampling_fractions(places, n_rows, stratum, strata)
        else:
            drawn = checked_inclusion(inclusion, places, n_rows)
            if weights is not None:
                check_weights_beside_inclusion(v[places], drawn)
        sample = cls(table, columns, places, names, drawn, v, stratum, cluster, inclusion is not None)
        warn_of_limits(sample, strata)
        return sample

    @property
    def n_rows(self) -> int:
        """N, how many rows there are."""
        return len(self.proba)

    @property
    def n_labelled(self) -> int:
        """n, how many of them are labelled by hand and have a weight above 0."""
        return int(np.count_nonzero(self.counted))

    @cached_property
    def counted(self) -> NDArray[np.bool_]:
        """Which of the labelled rows have a weight above 0; the others say how rows were drawn, and no more."""
        result: NDArray[np.bool_] = self.weights[self.rows] > 0
        return result

    @property
    def n_classes(self) -> int:
        """K."""
        return int(self.proba.shape[1])

    @cached_property
    def one_hot(self) -> Floats:
        """The labels by hand (n, K): 1 in the column of the class, else 0."""
        result = np.zeros((len(self.rows), self.n_classes))
        result[np.arange(len(self.rows)), self.columns] = 1.0
        return result

    @property
    def labelled_proba(self) -> Floats:
        """The model's probabilities (n, K) of the labelled rows."""
        return self.proba[self.rows]

    @cached_property
    def design_weights(self) -> Floats:
        """What each labelled row counts (n,): its weight over its inclusion probability, in units of the largest."""
        # Each part in units of its own first: weights may be so small that their squares are 0, or their sums endless.
        v = self.weights[self.rows]
        relative = (v / v.max()) * (self.inclusion.min() / self.inclusion)
        result: Floats = relative / relative.max()
        return result

    @cached_property
    def units(self) -> Integers:
        """Which labelled rows were drawn together (n,), as numbers 0, 1, ...: the rows of a cluster, or each row alone."""
        if self.clusters is None:
            return np.arange(len(self.rows))
        return group_numbers(self.clusters[self.rows], len(self.rows))

    @property
    def n_units(self) -> int:
        """How many clusters have labelled rows; without clusters, n."""
        return int(self.units.max()) + 1

    def target_mean(self, values: ArrayLike, domain: NDArray[np.bool_] | None = None) -> Floats:
        """The weighted mean over all rows of values (N,) or (N, M), or over those of a domain (N,): a number, or (M,)."""
        v = self.weights if domain is None else self.weights * domain
        result: Floats = v @ np.asarray(values, dtype=np.float64) / v.sum()
        return result

    def mean(self, values: ArrayLike, domain: NDArray[np.bool_] | None = None) -> Floats:
        r"""What the labelled rows say of the mean of a value over all rows: :math:`\sum d_i z_i / \sum d_i`.

        Parameters
        ----------
        values : array-like (n,) or (n, M)
        domain : ndarray of bool (n,), optional
            Which of the labelled rows belong to the part of the table whose mean is asked for.

        Returns
        -------
        ndarray () or (M,)
            NaN where the domain has no labelled rows.
        """
        d = self._domain_weights(domain)
        total = d.sum()
        z = np.asarray(values, dtype=np.float64)
        if not total:
            return np.full(z.shape[1:], math.nan)
        result: Floats = d @ z / total
        return result

    def contributions(
        self, values: ArrayLike, domain: NDArray[np.bool_] | None = None, *, finite_population: bool = True
    ) -> Floats:
        r"""What each unit adds to the covariance of the means: the covariance matrix is ``c.T @ c``.

        With the linearised values :math:`u_i = d_i (z_i - \bar z) / \sum d_i`, a unit (a row, or the sum of a cluster's rows)
        contributes :math:`\sqrt{(1 - \pi) m / (m - 1)} (u - \bar u)`, where m is the number of units of its stratum and
        :math:`\bar u` their mean; units outside of the domain have :math:`u = 0`, since how many of a stratum's units lie in it
        is chance, too. Without strata the mean is 0, and m the number of units in the domain. For a simple random sample, this is
        the textbook variance with the finite population correction :math:`1 - n / N`; for unequal probabilities that of Hájek
        (1964, "Asymptotic theory of rejective sampling"); for clusters that of units drawn with replacement, reduced by the
        smallest :math:`1 - \pi` that is certain for all rows of the unit. See Särndal, Swensson & Wretman 1992, "Model assisted
        survey sampling", sections 2.8, 5.6 and 5.7. The only unit of a stratum is compared with the mean of all units.

        Contributions of several domains belong to the same units, so that the covariances between them are products, too.

        Parameters
        ----------
        values : array-like (n, M)
        domain : ndarray of bool (n,), optional
        finite_population : bool
            Whether rows that were likely to be drawn count less, since little is unknown of such rows: the factor
            :math:`1 - \pi`. Without, the covariance is that of means of as many rows from an endless table like this one.

        Returns
        -------
        ndarray (number of units, M)
            NaN where the domain has fewer than two units, unless all of its rows were certain to be drawn.
        """
        z = np.asarray(values, dtype=np.float64)
        d = self._domain_weights(domain)
        inside = d > 0
        units = np.unique(self.units[inside])
        certain = bool((self.inclusion[inside] >= 1.0).all())
        result = np.zeros((self.n_units, z.shape[1]))
        if len(units) < 2 and not (len(units) and certain and finite_population):
            return np.full_like(result, math.nan)
        u = (d / d.sum())[:, None] * (z - self.mean(z, domain))
        if self.clusters is None:
            result[:], left = u, 1.0 - self.inclusion
        else:
            np.add.at(result, self.units, u)
            left = np.zeros(self.n_units)
            np.maximum.at(left, self.units, 1.0 - self.inclusion)
        if self.strata is not None:
            units = np.arange(self.n_units)
        for members in self._strata_units(units):
            m = len(members)
            if m > 1:
                result[members] -= result[members].mean(axis=0)
                result[members] *= math.sqrt(m / (m - 1))
        if finite_population:
            result[units] *= np.sqrt(left[units])[:, None]
        return result

    def variance(self, values: ArrayLike, domain: NDArray[np.bool_] | None = None) -> Floats:
        """The variances (M,) of the means of values (n, M), due to which rows were drawn; see `contributions`."""
        c = self.contributions(values, domain)
        result: Floats = np.einsum("um,um->m", c, c)
        return result

    def degrees_of_freedom(self, domain: NDArray[np.bool_] | None = None) -> int:
        """The number of units with labelled rows less the number of strata that they lie in, at least 1."""
        inside = self._domain_weights(domain) > 0
        n_strata = 1 if self.strata is None else len(np.unique(self.strata[self.rows[inside]]))
        return max(1, len(np.unique(self.units[inside])) - n_strata)

    def folds(self, n_folds: int = 5) -> Integers:
        """The fold (n,) of each labelled row, for cross-fitting: drawn at random, classes spread evenly, and clusters kept whole.

        At random, since what the rows of a fold say on average has to be what all rows say: folds that depended on the
        probabilities, if only to keep equal ones together, would bias whatever is compared across them. The draw is the same
        for the same rows, in whatever order they are given. With fewer units than folds, some stay empty.

        Examples
        --------
        >>> proba = np.random.default_rng(0).dirichlet([1, 1], 100)
        >>> sample = LabelledSample.checked(proba, [0, 1] * 10, range(20))
        >>> np.bincount(sample.folds(5)).tolist()
        [4, 4, 4, 4, 4]
        """
        check_whole_number("n_folds", n_folds, 2)
        by_place = np.argsort(self.rows, kind="stable")
        units, firsts = np.unique(self.units[by_place], return_index=True)
        # Units in the order of their first rows, so that their numbers do not matter.
        order = np.argsort(firsts, kind="stable")
        drawn = np.random.default_rng(0).permutation(len(units))
        classes = self.columns[by_place][firsts[order]]
        # Classes in the order in which they appear, so that their columns do not matter.
        _, first_seen, number = np.unique(classes, return_index=True, return_inverse=True)
        dealt = np.lexsort((drawn, first_seen[number]))
        of_unit = np.empty(len(units), dtype=np.int64)
        of_unit[order[dealt]] = np.arange(len(units)) % n_folds
        fold: Integers = of_unit[np.searchsorted(units, self.units)]
        return fold

    def _domain_weights(self, domain: NDArray[np.bool_] | None) -> Floats:
        return self.design_weights if domain is None else self.design_weights * domain

    def _strata_units(self, units: Integers) -> list[Integers]:
        """The units of each stratum; a cluster of several strata belongs to that of its first row."""
        if self.strata is None:
            return [units]
        _, first = np.unique(self.units, return_index=True)
        stratum = self.strata[self.rows[first]][units]
        return [units[stratum == h] for h in np.unique(stratum)]
