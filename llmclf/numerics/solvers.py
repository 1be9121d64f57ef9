"""The optimisation behind the calibrators: convex losses, solved to the last digits, with a warning if the fit is doubtful.

All functions of scores take log-scores whose row maximum is 0, the true column of each row, and positive weights.

Few labelled rows may all be right by luck, and the likelihood alone then wants a temperature of 0. So the scores as they are
speak, too: ``prior_rows`` is the number of labelled rows that their own probabilities, softmax(scores), count as. The penalty is
the cross-entropy from these to the fitted ones, which is convex, lowest at temperature 1, and bounded where the temperature
grows. Its weight does not grow with n, so it vanishes where there are many rows.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq, minimize
from scipy.special import expit

from ..arrays import Floats
from ..logits import log_softmax, logsumexp
from .newton import polished

LOWEST_TEMPERATURE, HIGHEST_TEMPERATURE = 1e-3, 1e3
"""The bounds of the search; a fit that ends at one of them warns."""

MOST_STEPS = 5000
"""After so many the search for an even bias ends."""

_EVEN = 1e-12

PRIOR_ROWS = 8.0
"""How many labelled rows the scores as they are count as, unless ``prior_rows=`` says otherwise.

Enough that on calibrated scores the mean log loss stays within .03 nats of raw from 20 rows on, and so few that scores of another
scale lose little; experiments/temperature_prior.md has both.
"""


def fit_temperature(
    scores: Floats, columns: NDArray[np.intp], weights: Floats, prior_rows: float = 0.0
) -> tuple[float, str]:
    r"""The beta = 1/T that minimises the weighted NLL of q = softmax(beta * scores), with a prior around 1.

    With p = softmax(scores), m the prior rows and n the sum of the weights, this is the minimum of
    :math:`\sum_i w_i (- \log q_{i y_i} - (m / n) \sum_k p_{ik} \log q_{ik})`. The derivative is
    :math:`\sum_i w_i ((1 + m / n) \sum_k q_{ik} s_{ik} - s_{i y_i} - (m / n) \sum_k p_{ik} s_{ik})`, which never falls as
    beta grows. Its root is bracketed in log(beta).

    Parameters
    ----------
    scores : ndarray (n, K)
        Row maximum 0.
    columns : ndarray of int (n,)
        The true column of each row.
    weights : ndarray (n,)
        Positive.
    prior_rows : float
        m, at least 0.

    Returns
    -------
    beta : float
    warning : str
        Why beta is a bound of the search, or what the rows do not tell; empty if neither.

    Examples
    --------
    >>> fit_temperature(np.log([[0.8, 0.2]] * 5), np.array([0, 0, 0, 0, 1]), np.ones(5))[0].__round__(6)
    1.0
    >>> all_right = np.log([[0.8, 0.2]] * 5), np.zeros(5, dtype=int), np.ones(5)
    >>> [round(fit_temperature(*all_right, prior_rows)[0], 2) for prior_rows in (0.0, 5.0)]
    [1000.0, 1.58]
    """
    shares = weights / weights.sum()
    prior_share = prior_rows / float(weights.sum())
    of_true_class = shares @ scores[np.arange(columns.size), columns]
    # With one class per row of memory, the sums run over contiguous blocks. No score is above 0, so nothing overflows.
    by_class = np.ascontiguousarray(scores.T)
    mass = np.empty_like(by_class)

    def mean_score(beta: float) -> float:
        np.exp(np.multiply(by_class, beta, out=mass), out=mass)
        total = mass.sum(axis=0)
        return float(shares @ (np.einsum("kn,kn->n", mass, by_class) / total))

    wanted = float(of_true_class + (prior_share * mean_score(1.0) if prior_share else 0.0))

    def slope(beta: float) -> float:
        return float((1.0 + prior_share) * mean_score(beta) - wanted)

    low, high = 1.0 / HIGHEST_TEMPERATURE, 1.0 / LOWEST_TEMPERATURE
    if slope(low) >= 0:
        return low, _NO_SIGNAL if mean_score(0.0) <= of_true_class else _AGAINST
    is_separable = mean_score(high) <= of_true_class
    if slope(high) <= 0:
        # Probabilities that are 0, 1 or tied but for rounding do not say how much sharper is too sharp: scores stay as they are.
        return (1.0, _PRIOR_DECIDES) if prior_share else (high, _SEPARABLE)
    root = brentq(lambda u: slope(math.exp(u)), math.log(low), math.log(high), xtol=1e-14, rtol=1e-14, maxiter=200)
    return math.exp(root), _PRIOR_DECIDES if is_separable else ""


def fit_bias_temperature(
    scores: Floats, columns: NDArray[np.intp], weights: Floats, ridge: float, prior_rows: float = 0.0
) -> tuple[float, Floats, str]:
    """The (beta, b) that minimise the weighted mean NLL of softmax(beta * scores + b) plus ridge / sum(w) * sum(b^2).

    The prior rows of `fit_temperature` are added. They know nothing of b: a bias is no matter of the temperature.

    Parameters
    ----------
    scores, columns, weights, prior_rows
        As in `fit_temperature`.
    ridge : float
        At least 0; if 0, every column must be the true column of some row.

    Returns
    -------
    beta : float
    bias : ndarray (K,)
        Sum 0.
    warning : str
        Why beta is a bound of the search, or what the rows do not tell; empty if neither.

    Examples
    --------
    >>> scores = np.log([[0.9, 0.1], [0.6, 0.4]] * 5)
    >>> columns = np.array([0, 1] * 4 + [1, 0])
    >>> beta, bias, warning = fit_bias_temperature(scores, columns, np.ones(10), ridge=0.0)
    >>> round(beta, 4), bias.round(4).tolist()
    (1.5474, [-1.0069, 1.0069])
    """
    # In units of the scores' standard deviation, beta is near 1 and the problem is well conditioned at any scale.
    centred = scores - scores.mean(axis=1, keepdims=True)
    scale = float(np.sqrt(np.average((centred**2).mean(axis=1), weights=weights))) or 1.0
    problem = _BiasTemperatureProblem(centred / scale, columns, weights, ridge, prior_rows, scale)
    low, high = scale / HIGHEST_TEMPERATURE, scale / LOWEST_TEMPERATURE
    # If the scores are equal within every row, beta is arbitrary: keep the bound with the least confident probabilities.
    solution = problem.solve(low, high if centred.any() else low)
    warning = ""
    if solution[0] <= low:
        without_scores = problem.solve(0.0, 0.0)
        warning = _NO_SIGNAL if problem.value_and_gradient(without_scores)[1][0] <= 1e-12 else _AGAINST
    elif prior_rows > 0:
        if problem.value_and_gradient(np.concatenate([[high], solution[1:]]))[1][0] <= 0:
            # As in `fit_temperature`: probabilities that are 0, 1 or tied do not say how much sharper is too sharp.
            solution = problem.solve(scale, scale)
        unbiased = np.eye(1, solution.size).reshape(-1)
        warning = _PRIOR_DECIDES if problem.all_right(unbiased) or problem.all_right(solution) else ""
    elif ridge == 0 and problem.all_right(solution):
        # Without ridge, if every row is right, the loss falls without end as beta and b grow together.
        solution *= high / solution[0]
        warning = _SEPARABLE
    elif problem.value_and_gradient(np.concatenate([[high], solution[1:]]))[1][0] <= 0:
        # The loss still falls, or is flat at 0, at the upper bound. The solver stopped earlier, where it was flat enough.
        solution = problem.solve(high, high)
        warning = _SEPARABLE
    bias = solution[1:] - solution[1:].mean()
    return float(solution[0]) / scale, bias, warning


_SEPARABLE = (
    "every labelled row has the right class on top, so the sharper the probabilities, the better the fit; "
    f"the temperature {LOWEST_TEMPERATURE:g}, the bound of the search, is kept. Label more rows"
)
_PRIOR_DECIDES = (
    "every labelled row has the right class on top, so the rows alone would want ever sharper probabilities; how sharp they "
    "are rests on prior_rows, which trusts the scores as they are. Label more rows"
)
_NO_SIGNAL = (
    f"the scores say nothing about the labels; the temperature {HIGHEST_TEMPERATURE:g}, "
    "the bound of the search, is kept. Check that rows and labels belong together"
)
_AGAINST = (
    "the scores contradict the labels, so the best temperature would be negative; "
    f"the temperature {HIGHEST_TEMPERATURE:g}, the bound of the search, is kept. Check that rows and labels belong together "
    "and, of scores of your own, the order of the columns"
)


class _BiasTemperatureProblem:
    """The convex problem of `fit_bias_temperature` in the parameters (beta, b_1 .. b_K)."""

    def __init__(
        self,
        scores: Floats,
        columns: NDArray[np.intp],
        weights: Floats,
        ridge: float,
        prior_rows: float,
        unit: float,
    ) -> None:
        # One row per class: sums over classes then add long contiguous rows, which is several times as fast.
        self.by_class = np.ascontiguousarray(scores.T)
        self.columns = columns
        self.shares = weights / weights.sum()
        self.penalty = ridge / weights.sum()
        self.prior_share = prior_rows / weights.sum()
        # The mean score that the probabilities of the scores as they are, at beta = unit, expect.
        self.expected_by_prior = self.unbiased(unit)[1] if prior_rows else 0.0
        observed = self.shares @ scores[np.arange(columns.size), columns]
        frequencies = np.bincount(columns, self.shares, minlength=scores.shape[1])
        self.observed = np.concatenate([[observed], frequencies])

    def logits(self, parameters: Floats) -> Floats:
        result: Floats = parameters[0] * self.by_class
        result += parameters[1:, None]
        return result

    def all_right(self, parameters: Floats) -> bool:
        logits = self.logits(parameters)
        return bool((logits[self.columns, np.arange(self.columns.size)] >= logits.max(axis=0)).all())

    def probabilities(self, parameters: Floats) -> tuple[Floats, Floats]:
        """The softmax (K, n) of the logits, and the log of its normaliser (n,)."""
        q = self.logits(parameters)
        top = q.max(axis=0)
        q -= top
        np.exp(q, out=q)
        total = q.sum(axis=0)
        q /= total
        return q, top + np.log(total)

    def unbiased(self, beta: float) -> tuple[float, float, float]:
        """The mean log-normaliser, mean score and mean variance of the scores under softmax(beta * scores)."""
        parameters = np.zeros(len(self.by_class) + 1)
        parameters[0] = beta
        q, normaliser = self.probabilities(parameters)
        means = np.einsum("kn,kn->n", q, self.by_class)
        variances = np.einsum("kn,kn->n", q, (self.by_class - means) ** 2)
        return float(self.shares @ normaliser), float(self.shares @ means), float(self.shares @ variances)

    def value_and_gradient(self, parameters: Floats) -> tuple[float, Floats]:
        q, normaliser = self.probabilities(parameters)
        bias = parameters[1:]
        value = self.shares @ normaliser - self.observed @ parameters + self.penalty * bias @ bias
        expected = np.concatenate([[self.shares @ np.einsum("kn,kn->n", q, self.by_class)], q @ self.shares])
        gradient = expected - self.observed
        gradient[1:] += 2.0 * self.penalty * bias
        if self.prior_share:
            mean_normaliser, mean_score, _ = self.unbiased(parameters[0])
            value += self.prior_share * (mean_normaliser - parameters[0] * self.expected_by_prior)
            gradient[0] += self.prior_share * (mean_score - self.expected_by_prior)
        return float(value), gradient

    def hessian(self, parameters: Floats) -> Floats:
        q, _ = self.probabilities(parameters)
        weighted = q * self.shares
        deviation = self.by_class - np.einsum("kn,kn->n", q, self.by_class)
        n_classes = len(q)
        result = np.empty((n_classes + 1, n_classes + 1))
        result[0, 0] = np.einsum("kn,kn,kn->", weighted, deviation, deviation)
        if self.prior_share:
            result[0, 0] += self.prior_share * self.unbiased(parameters[0])[2]
        result[0, 1:] = result[1:, 0] = np.einsum("kn,kn->k", weighted, deviation)
        result[1:, 1:] = np.diag(weighted.sum(axis=1) + 2.0 * self.penalty) - weighted @ q.T
        return result

    def solve(self, low: float, high: float) -> Floats:
        """The minimum with beta in [low, high]."""
        n_classes = len(self.by_class)
        start = np.zeros(n_classes + 1)
        start[0] = min(max(1.0, low), high)
        bounds = [(low, high)] + [(None, None)] * n_classes
        result = minimize(
            self.value_and_gradient, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 1000}
        )
        lows, highs = np.full(n_classes + 1, -np.inf), np.full(n_classes + 1, np.inf)
        lows[0], highs[0] = low, high
        return polished(self.value_and_gradient, self.hessian, result.x, lows, highs)


def fit_even_bias(logs: Floats, shares: Floats, prior: Floats) -> tuple[Floats, bool]:
    """The bias b (K,), of sum 0, with which the mean of softmax(logs + b) is `prior`, and whether the search came to an end.

    The fixed-point iteration of Estienne et al. 2023 ("Unsupervised calibration through prior adaptation for text classification
    using large language models"), which minimises a convex function by coordinate descent.

    Parameters
    ----------
    logs : ndarray (n, K)
        Log-probabilities.
    shares : ndarray (n,)
        Positive weights of the rows, which sum to 1.
    prior : ndarray (K,)
        Positive, which sums to 1.

    Examples
    --------
    >>> bias, _ = fit_even_bias(np.log([[0.8, 0.2]]), np.ones(1), np.array([0.5, 0.5]))
    >>> bias.round(4).tolist()
    [-0.6931, 0.6931]
    """
    bias, is_done = np.zeros(len(prior)), False
    for _ in range(MOST_STEPS):
        excess = logsumexp(log_softmax(logs + bias) + np.log(shares)[:, None], axis=0) - np.log(prior)
        bias = bias - excess
        is_done = bool(np.abs(excess).max() < _EVEN)
        if is_done:
            break
    return bias - bias.mean(), is_done


def fit_logistic(features: Floats, targets: Floats, weights: Floats, lowest: float = -np.inf) -> Floats:
    """The coefficients and the intercept that minimise the weighted mean cross-entropy of sigmoid(features @ a + c).

    Parameters
    ----------
    features : ndarray (n, d)
    targets : ndarray (n,)
        In [0, 1].
    weights : ndarray (n,)
        Positive.
    lowest : float
        A lower bound on the coefficients; the intercept is unbounded.

    Returns
    -------
    ndarray (d + 1,)
        a, then c. A coefficient is at most 1000 divided by the standard deviation of its feature, in absolute value.

    Examples
    --------
    >>> x = np.array([[0.0], [0.0], [1.0], [1.0], [1.0]])
    >>> (fit_logistic(x, np.array([0.0, 1.0, 1.0, 1.0, 0.0]), np.ones(5)).round(4) + 0.0).tolist()
    [0.6931, 0.0]
    """
    shares = weights / weights.sum()
    middle = shares @ features
    scale = np.sqrt(shares @ (features - middle) ** 2)
    # A feature that is constant up to rounding gets a coefficient of 0.
    flat = scale <= 1e-12 * (1.0 + np.abs(middle))
    scale[flat] = 1.0
    design = np.column_stack([np.where(flat, 0.0, (features - middle) / scale), np.ones(len(features))])

    def value_and_gradient(parameters: Floats) -> tuple[float, Floats]:
        z = design @ parameters
        return float(shares @ (np.logaddexp(0.0, z) - targets * z)), design.T @ (shares * (expit(z) - targets))

    n_features = features.shape[1]
    low, high = np.full(n_features, lowest * scale if np.isfinite(lowest) else -1e3), np.full(n_features, 1e3)
    bounds = [*zip(low, high, strict=True), (None, None)]
    start = np.zeros(n_features + 1)
    start[:-1] = np.clip(0.0, low, high)
    optimum = minimize(
        value_and_gradient, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 2000, "gtol": 1e-12}
    )

    def hessian(parameters: Floats) -> Floats:
        q = expit(design @ parameters)
        result: Floats = (design * (shares * q * (1.0 - q))[:, None]).T @ design
        return result

    parameters = polished(value_and_gradient, hessian, optimum.x, np.append(low, -np.inf), np.append(high, np.inf))
    coefficients = parameters[:-1] / scale
    return np.append(coefficients, parameters[-1] - coefficients @ middle)
