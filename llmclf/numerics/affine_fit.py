"""The fit of a matrix and a bias to log-probabilities: convex, and solved to the last digits."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from ..arrays import Floats
from ..logits import log_softmax
from .newton import polished


def fit_affine(
    logs: Floats,
    columns: NDArray[np.intp],
    weights: Floats,
    ridge: float,
    ridge_off_diagonal: float | None,
    centre: float = 1.0,
    centre_bias: Floats | None = None,
) -> tuple[Floats, Floats]:
    r"""The M and b that minimise the weighted mean NLL of softmax(M logs + b), with a penalty that pulls to M = c I, b = d.

    The penalty is :math:`(r \sum_k (M_{kk} - c)^2 + r \sum_k (b_k - d_k)^2 + r' \sum_{k \ne j} M_{kj}^2) / \sum_i w_i`,
    and the problem is convex.

    Parameters
    ----------
    logs : ndarray (n, K)
        Log-probabilities.
    columns, weights
        As in `fit_temperature`.
    ridge, ridge_off_diagonal : float
        r and r', at least 0; if r' is None, the matrix is diagonal.
    centre : float
        c.
    centre_bias : ndarray (K,), optional
        d; 0 by default.

    Returns
    -------
    matrix : ndarray (K, K)
    bias : ndarray (K,)
        Sum 0.

    Examples
    --------
    >>> logs = np.log([[0.8, 0.2], [0.3, 0.7]] * 10)
    >>> matrix, bias = fit_affine(logs, np.array([0, 1] * 10), np.ones(20), ridge=1e9, ridge_off_diagonal=1e9)
    >>> bool(np.allclose(matrix, np.eye(2), atol=1e-6)), bool(np.allclose(bias, 0.0, atol=1e-6))
    (True, True)
    """
    middle = np.zeros(logs.shape[1]) if centre_bias is None else centre_bias
    problem = _AffineProblem(logs, columns, weights, ridge, ridge_off_diagonal, centre * logs + middle)
    start = np.zeros(problem.rows.size)
    result = minimize(
        problem.value_and_gradient, start, jac=True, method="L-BFGS-B", options={"maxiter": 5000, "gtol": 1e-9}
    )
    parameters: Floats = result.x
    if start.size <= _NEWTON_PARAMETERS:
        parameters = polished(problem.value_and_gradient, problem.hessian, parameters)
    dense = problem.dense(parameters)
    bias = middle + dense[:, -1]
    return centre * np.eye(logs.shape[1]) + dense[:, :-1], bias - bias.mean()


_NEWTON_PARAMETERS = 200
"""Up to this many parameters the Hessian is cheap, so Newton steps give the last digits."""


class _AffineProblem:
    """The problem of `fit_affine` as offsets from the logits `middle`.

    Each parameter multiplies one column of logs, or 1, in one logit.
    """

    def __init__(
        self,
        logs: Floats,
        columns: NDArray[np.intp],
        weights: Floats,
        ridge: float,
        ridge_off_diagonal: float | None,
        middle: Floats,
    ) -> None:
        n_classes = logs.shape[1]
        total = weights.sum()
        penalty = np.full((n_classes, n_classes + 1), ridge / total)
        used = np.eye(n_classes, n_classes + 1, dtype=bool)
        used[:, -1] = True
        if ridge_off_diagonal is not None:
            penalty[~used] = ridge_off_diagonal / total
            used[:] = True
        self.middle = middle
        self.features = np.column_stack([logs, np.ones(len(logs))])
        self.rows, self.feature_columns = np.nonzero(used)
        self.penalty = penalty[used]
        self.columns = columns
        self.shares = weights / total

    def dense(self, parameters: Floats) -> Floats:
        result = np.zeros((self.middle.shape[1], self.features.shape[1]))
        result[self.rows, self.feature_columns] = parameters
        return result

    def log_proba(self, parameters: Floats) -> Floats:
        return log_softmax(self.middle + self.features @ self.dense(parameters).T)

    def value_and_gradient(self, parameters: Floats) -> tuple[float, Floats]:
        log_q = self.log_proba(parameters)
        every = np.arange(self.columns.size)
        value = -self.shares @ log_q[every, self.columns] + self.penalty @ parameters**2
        excess = np.exp(log_q)
        excess[every, self.columns] -= 1.0
        gradient = ((self.shares[:, None] * excess).T @ self.features)[self.rows, self.feature_columns]
        return float(value), gradient + 2.0 * self.penalty * parameters

    def hessian(self, parameters: Floats) -> Floats:
        q = np.exp(self.log_proba(parameters))
        features = self.features[:, self.feature_columns]
        weighted = features * q[:, self.rows]
        result: Floats = -(self.shares[:, None] * weighted).T @ weighted
        same = self.rows[:, None] == self.rows[None, :]
        result += np.where(same, (self.shares[:, None] * weighted).T @ features, 0.0)
        result[np.diag_indices_from(result)] += 2.0 * self.penalty
        return result
