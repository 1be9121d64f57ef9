"""Rows of a regression, and what is summed over them: one row of covariates each, or one for each class of its label."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from ...arrays import Floats, Integers


class Block(Protocol):
    """Rows with weights that may be negative; with c = 1, or as many columns as kinds of classes, `values` are (r, c)."""

    @property
    def y(self) -> Floats:
        """The outcomes (r, 1)."""

    @property
    def weight(self) -> Floats:
        """(r, c)"""

    def eta(self, beta: Floats) -> Floats:
        """What the coefficients (p,) add up to (r, c)."""

    def sums(self, values: Floats) -> Floats:
        """The sum (p,) of the covariates times values."""

    def gram(self, values: Floats) -> Floats:
        """The sum (p, p) of the covariates' products times values."""

    def row_sums(self, values: Floats, matrix: Floats | None = None) -> Floats:
        """Covariates times values, added up in each row (r, p); multiplied with a matrix (m, p) if there is one: (r, m)."""

    def row_squares(self, values: Floats, matrix: Floats) -> Floats:
        """The squares of the covariates after multiplication with a matrix (m, p), times values, added up (r, m)."""

    def row_grams(self, values: Floats) -> Floats:
        """The covariates' products times values, added up in each row (r, p, p)."""

    def leverage(self, inverse: Floats) -> Floats:
        """The covariates' squared lengths (r, c) under a symmetric matrix (p, p)."""


@dataclass(frozen=True, eq=False)
class PlainBlock:
    """Rows with one row of covariates each.

    Attributes
    ----------
    X : ndarray (r, p)
    y, weight : ndarray (r, 1)
    """

    X: Floats
    y: Floats
    weight: Floats

    def eta(self, beta: Floats) -> Floats:
        result: Floats = (self.X @ beta)[:, None]
        return result

    def sums(self, values: Floats) -> Floats:
        result: Floats = self.X.T @ values[:, 0]
        return result

    def gram(self, values: Floats) -> Floats:
        result: Floats = self.X.T @ (self.X * values)
        return result

    def row_sums(self, values: Floats, matrix: Floats | None = None) -> Floats:
        result: Floats = (self.X if matrix is None else self.X @ matrix.T) * values
        return result

    def row_squares(self, values: Floats, matrix: Floats) -> Floats:
        result: Floats = (self.X @ matrix.T) ** 2 * values
        return result

    def row_grams(self, values: Floats) -> Floats:
        result: Floats = np.einsum("i,ij,ik->ijk", values[:, 0], self.X, self.X)
        return result

    def leverage(self, inverse: Floats) -> Floats:
        result: Floats = np.einsum("ij,ij->i", self.X @ inverse, self.X)[:, None]
        return result


@dataclass(frozen=True, eq=False)
class ClassBlock:
    """Rows in which some covariates depend on the class alone: those of a class are kept once, not in each row.

    Attributes
    ----------
    fixed : ndarray (r, f)
        The other covariates.
    by_class : ndarray (c, v)
        Those that depend on the class.
    places, class_places : ndarray of int (f,), (v,)
        Which of the p columns these are.
    y : ndarray (r, 1)
    weight : ndarray (r, c)
    """

    fixed: Floats
    by_class: Floats
    places: Integers
    class_places: Integers
    y: Floats
    weight: Floats

    def eta(self, beta: Floats) -> Floats:
        result: Floats = (self.fixed @ beta[self.places])[:, None] + self.by_class @ beta[self.class_places]
        return result

    def sums(self, values: Floats) -> Floats:
        result = np.empty(len(self.places) + len(self.class_places))
        result[self.places] = self.fixed.T @ values.sum(axis=1)
        result[self.class_places] = values.sum(axis=0) @ self.by_class
        return result

    def gram(self, values: Floats) -> Floats:
        p = len(self.places) + len(self.class_places)
        result = np.empty((p, p))
        between = self.fixed.T @ values @ self.by_class
        result[np.ix_(self.places, self.places)] = self.fixed.T @ (self.fixed * values.sum(axis=1)[:, None])
        result[np.ix_(self.places, self.class_places)] = between
        result[np.ix_(self.class_places, self.places)] = between.T
        of_classes = self.by_class.T @ (self.by_class * values.sum(axis=0)[:, None])
        result[np.ix_(self.class_places, self.class_places)] = of_classes
        return result

    def row_sums(self, values: Floats, matrix: Floats | None = None) -> Floats:
        if matrix is not None:
            fixed, by_class = self._multiplied(matrix)
            result: Floats = fixed * values.sum(axis=1)[:, None] + values @ by_class
            return result
        whole = np.empty((len(values), len(self.places) + len(self.class_places)))
        whole[:, self.places] = self.fixed * values.sum(axis=1)[:, None]
        whole[:, self.class_places] = values @ self.by_class
        return whole

    def row_squares(self, values: Floats, matrix: Floats) -> Floats:
        fixed, by_class = self._multiplied(matrix)
        result: Floats = (
            fixed**2 * values.sum(axis=1)[:, None] + 2.0 * fixed * (values @ by_class) + values @ by_class**2
        )
        return result

    def row_grams(self, values: Floats) -> Floats:
        p = len(self.places) + len(self.class_places)
        result = np.empty((len(values), p, p))
        own = values @ self.by_class
        between = np.einsum("if,iv->ifv", self.fixed, own)
        square = np.einsum("i,if,ig->ifg", values.sum(axis=1), self.fixed, self.fixed)
        result[:, self.places[:, None], self.places] = square
        result[:, self.places[:, None], self.class_places] = between
        result[:, self.class_places[:, None], self.places] = between.transpose(0, 2, 1)
        products = np.einsum("kv,kw->kvw", self.by_class, self.by_class)
        result[:, self.class_places[:, None], self.class_places] = np.tensordot(values, products, axes=1)
        return result

    def leverage(self, inverse: Floats) -> Floats:
        square = inverse[np.ix_(self.places, self.places)]
        between = inverse[np.ix_(self.places, self.class_places)]
        of_classes = inverse[np.ix_(self.class_places, self.class_places)]
        result: Floats = (
            np.einsum("ij,ij->i", self.fixed @ square, self.fixed)[:, None]
            + 2.0 * self.fixed @ (between @ self.by_class.T)
            + np.einsum("kj,kj->k", self.by_class @ of_classes, self.by_class)
        )
        return result

    def _multiplied(self, matrix: Floats) -> tuple[Floats, Floats]:
        return self.fixed @ matrix[:, self.places].T, self.by_class @ matrix[:, self.class_places].T
