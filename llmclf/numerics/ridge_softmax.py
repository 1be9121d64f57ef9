"""Multinomial logistic regression with a ridge, by the inner products of rows: few rows may have any number of features."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.optimize import minimize

from ..arrays import Floats
from ..logits import log_softmax

VARIANCES = tuple(float(v) for v in 10.0 ** np.arange(-1.5, 2.75, 0.5))
"""The variances of the coefficients that are tried, rising: each is the inverse of a ridge, where rows have inner products of
the order of 1. 0.03 leaves the offset nearly as it is, 300 separates nearly anything."""

INTERCEPT_VARIANCE = 1.0
"""The variance of the intercepts: the offset knows the classes' frequencies, or a model's preferences, already."""

_RANK = 1e-10  # eigenvalues below this share of the largest are rounding
_COMMON = 0.1  # share of the rows that have a feature
_TOLERANCE = 1e-6
_MAX_STEPS = 500


class RowSpan:
    """The space that rows of features span, by the eigenvectors of X X' or of X' X, whichever is smaller.

    Parameters
    ----------
    parts : sequence of ndarray or sparse array (n, d)
        Of X, side by side. Rows of X have inner products of the order of 1.

    Attributes
    ----------
    values : ndarray (r,)
        The eigenvalues that are more than rounding.
    rows : ndarray (n, r)
        The rows in the directions of the eigenvectors: their inner products are those of X.
    """

    def __init__(self, parts: Sequence[Any]) -> None:
        n_rows, n_features = parts[0].shape[0], sum(part.shape[1] for part in parts)
        self._parts = parts
        self._is_dual = n_rows <= n_features
        if self._is_dual:
            self.values, vectors = _eigen(np.sum([_gram(part) for part in parts], axis=0))
            # Z = U sqrt(L), and X' U / sqrt(L) leads from it to the features.
            self.rows = vectors * np.sqrt(self.values)
            self._basis = vectors / np.sqrt(self.values)
        else:
            whole = np.hstack([_dense(part) for part in parts])
            self.values, self._basis = _eigen(whole.T @ whole)
            self.rows = whole @ self._basis

    def on_features(self, coefficients: Floats) -> Floats:
        """Coefficients (d, K) of the features from those (r, K) of the directions."""
        inner = self._basis @ coefficients
        return np.concatenate([_dense(part.T @ inner) for part in self._parts]) if self._is_dual else inner


class RidgeSoftmax:
    r"""The coefficients B and intercepts c that minimise a penalised NLL of q = softmax(offset + X B + c).

    The objective is :math:`\sum_i w_i (- \log q_{i y_i}) + |B|^2 / (2 v) + |c|^2 / 2`, with v the variance of the coefficients.
    It is convex. B lies in the span of the rows, so it is sought there, where the bound of the Hessian by Boehning (1992,
    "Multinomial logistic regression algorithm") is diagonal and makes all directions equally long for the optimiser.

    Parameters
    ----------
    span : RowSpan
        Of X.
    columns : ndarray of int (n,)
        The true column of each row.
    weights : ndarray (n,)
        Positive.
    offset : ndarray (n, K)
        Log-probabilities, or what else stands before the features say anything.

    Examples
    --------
    >>> problem = RidgeSoftmax(RowSpan([np.array([[1.0], [-1.0]])]), np.array([0, 1]), np.ones(2), np.zeros((2, 2)))
    >>> coefficients, intercepts = problem.fit(1.0)
    >>> coefficients.round(3).tolist(), bool(np.allclose(intercepts, 0.0))
    ([[0.521, -0.521]], True)
    """

    def __init__(self, span: RowSpan, columns: NDArray[np.intp], weights: Floats, offset: Floats) -> None:
        self._span = span
        self._design = np.column_stack([span.rows, np.ones(len(columns))])
        self._columns, self._weights, self._offset = columns, weights, offset
        self._every = np.arange(len(columns))
        # The Hessian of the log-sum-exp is at most half the identity.
        self._curvature = 0.5 * np.append(weights.max() * span.values, weights.sum())
        self._parameters: Floats = np.zeros((self._design.shape[1], offset.shape[1]))

    def fit(self, variance: float) -> tuple[Floats, Floats]:
        """Coefficients (d, K) and intercepts (K,) for one variance; a fit begins where the last one ended.

        Parameters
        ----------
        variance : float
            v, positive.
        """
        penalty = np.full(len(self._curvature), 1.0 / variance)
        penalty[-1] = 1.0 / INTERCEPT_VARIANCE
        unit = np.sqrt(self._curvature + penalty)[:, None]
        shape = self._parameters.shape

        def objective(flat: Floats) -> tuple[float, Floats]:
            parameters = flat.reshape(shape) / unit
            logs = log_softmax(self._design @ parameters + self._offset)
            value = -self._weights @ logs[self._every, self._columns]
            value += 0.5 * float((penalty[:, None] * parameters**2).sum())
            excess = np.exp(logs)
            excess[self._every, self._columns] -= 1.0
            gradient = self._design.T @ (self._weights[:, None] * excess) + penalty[:, None] * parameters
            return float(value), (gradient / unit).ravel()

        result = minimize(
            objective,
            (self._parameters * unit).ravel(),
            jac=True,
            method="L-BFGS-B",
            options={"maxiter": _MAX_STEPS, "gtol": _TOLERANCE, "ftol": 1e-13, "maxcor": 12},
        )
        self._parameters = result.x.reshape(shape) / unit
        return self._span.on_features(self._parameters[:-1]), self._parameters[-1]


def _dense(values: Any) -> Floats:
    dense: Floats = values.toarray() if hasattr(values, "toarray") else np.asarray(values)
    return dense


def _gram(part: Any) -> Floats:
    """The inner products (n, n) of rows."""
    if not sparse.issparse(part):
        products: Floats = part @ part.T
        return products
    # What many rows have in common is faster by dense products.
    table = sparse.csc_array(part)
    is_common = np.diff(table.indptr) > _COMMON * table.shape[0]
    common = table[:, is_common].toarray()
    rare = table[:, ~is_common].tocsr()
    result: Floats = common @ common.T + _dense(rare @ rare.T)
    return result


def _eigen(gram: Floats) -> tuple[Floats, Floats]:
    """The eigenvalues that are more than rounding, and their eigenvectors."""
    values, vectors = np.linalg.eigh(gram)
    kept = values > max(_RANK * float(values[-1]), 1e-12)
    return values[kept], vectors[:, kept]
