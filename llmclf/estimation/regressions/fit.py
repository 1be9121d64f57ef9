"""Coefficients and their covariance matrix: prediction-powered, by hand alone, and with predicted labels taken for true."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.special import expit

from ...arrays import Floats
from ..labelled_sample import LabelledSample
from .estimating_equations import EstimatingEquations, LabelDesign, NoSolutionError
from .sandwich import Influence, influence, tuned

_GRID = 20  # tunings between 0 and 1, so that coefficients share solutions
_ROUNDS = 2
_UNSEEN_UNITS = 2.0
"""How many units of which the predictions know nothing count beside those that were labelled; as in `estimate_shares`."""


class Fit(NamedTuple):
    """Coefficients (p,), their covariance matrix (p, p), degrees of freedom (p,) and tunings (p,)."""

    params: Floats
    covariance: Floats
    degrees: Floats
    tuning: Floats

    @classmethod
    def missing(cls, size: int) -> Fit:
        """Where there is none."""
        nan = np.full(size, np.nan)
        return cls(nan, np.full((size, size), np.nan), nan, nan)


def fit_by_hand(
    equations: EstimatingEquations, sample: LabelledSample, *, of_rows_alone: bool, reduce_bias: bool
) -> Fit:
    """The regression on the hand labels alone.

    Raises
    ------
    NoSolutionError
    """
    beta = equations.solve(0.0, _firth(equations) if reduce_bias else None)
    found = influence(equations, sample, 0.0, beta, is_tuned=False)
    return Fit(beta, *found.covariance(of_rows_alone), np.zeros(beta.size))


def fit_powered(
    equations: EstimatingEquations,
    sample: LabelledSample,
    start: Floats,
    tuning: float | None,
    *,
    of_rows_alone: bool,
    reduce_bias: bool,
) -> Fit:
    """The regression on the hand labels and the predictions; a tuning of None is estimated for each coefficient.

    Raises
    ------
    NoSolutionError
        Of a logistic regression.
    """
    size, spread = start.size, _firth(equations) if reduce_bias else None
    if tuning is not None:
        beta, pooled, each = equations.solve(tuning, spread), tuning, np.full(size, tuning)
    else:
        beta, pooled, each = _tuned_start(equations, sample, start, spread)
    if spread is not None:
        covariance, _ = influence(equations, sample, pooled, beta, is_tuned=False).covariance(False)
        spread = _spread(covariance, equations.inverse_slope(pooled, beta), _kish(equations), sample.n_rows)
    params, parts, used = np.empty(size), [], np.empty(size)
    for value in np.unique(each):
        columns = np.flatnonzero(each == value)
        solution, final = _solved(equations, float(value), spread, beta, tuning is not None)
        found = influence(equations, sample, final, solution, is_tuned=tuning is None, columns=columns)
        params[columns], used[columns] = solution[columns], final
        parts.append((found, columns))
    return Fit(params, *Influence.joined(parts).covariance(of_rows_alone), used)


def with_unseen_errors(powered: Fit, by_hand: Fit, n_units: int) -> Fit:
    """The fit with a variance for errors of the predictions that no label has shown, as if two more units were all wrong.

    Two of n units without predictions have the variance of the labels alone times 2 / n, of which a coefficient meets as much as
    its tuning relies on predictions. It makes no interval wider than that of the labels alone. Where these have no solution,
    nothing is added.
    """
    if np.isnan(by_hand.covariance).any():
        return powered
    room = 1.0 - np.diag(powered.covariance) / np.maximum(np.diag(by_hand.covariance), 1e-300)
    part = powered.tuning * np.sqrt(np.clip(room, 0.0, _UNSEEN_UNITS / n_units))
    covariance = powered.covariance + part[:, None] * by_hand.covariance * part
    return Fit(powered.params, covariance, powered.degrees, powered.tuning)


def fit_naive(design: LabelDesign, sample: LabelledSample, *, is_logistic: bool, reduce_bias: bool) -> Fit:
    """The regression that takes the most probable class of every row for its label."""
    everything = np.arange(sample.n_rows)
    codes = sample.proba.argmax(axis=1)
    nothing = np.zeros((0, sample.n_classes))
    shares = sample.weights / sample.weights.sum()
    equations = EstimatingEquations(design, is_logistic, nothing, nothing, codes, everything, shares, shares)
    try:
        beta = equations.solve(0.0, _firth(equations) if reduce_bias else None)
        inverse = np.linalg.inv(equations.slope(0.0, beta))
    except (NoSolutionError, np.linalg.LinAlgError):
        return Fit.missing(design.X.shape[1])
    X, y = design.observed(codes, everything)
    mu = expit(X @ beta) if is_logistic else X @ beta
    contributions = X * (shares * (y - mu))[:, None] @ inverse.T
    if sample.clusters is not None:
        sums = np.zeros((int(sample.clusters.max()) + 1, beta.size))
        np.add.at(sums, sample.clusters, contributions)
        contributions = sums
    degrees = np.full(beta.size, float(max(1, len(contributions) - beta.size)))
    return Fit(beta, contributions.T @ contributions, degrees, np.full(beta.size, np.nan))


def _tuned_start(
    equations: EstimatingEquations, sample: LabelledSample, by_hand: Floats, spread: Floats | None
) -> tuple[Floats, float, Floats]:
    """A solution with the pooled tuning, that tuning, and those of each coefficient, on the grid."""
    beta, pooled = by_hand, 0.0
    for first in (1.0, 0.5, 0.0):
        try:
            beta, pooled = equations.solve(first, spread), first
            break
        except NoSolutionError:
            if first == 0.0:
                raise
    for _ in range(_ROUNDS):
        _, wanted = tuned(equations, sample, pooled, beta)
        wanted = round(wanted * _GRID) / _GRID
        try:
            beta, pooled = equations.solve(wanted, spread, beta), wanted
        except NoSolutionError:
            break
    each, _ = tuned(equations, sample, pooled, beta)
    return beta, pooled, np.round(each * _GRID) / _GRID


def _solved(
    equations: EstimatingEquations, tuning: float, spread: Floats | None, start: Floats, is_given: bool
) -> tuple[Floats, float]:
    """A solution, and the tuning for which there is one: the nearest below, if not the one asked for."""
    while True:
        try:
            return equations.solve(tuning, spread, start), tuning
        except NoSolutionError:
            if is_given or tuning <= 0.0:
                raise
            tuning = tuning - 0.1 if tuning > 0.1 else 0.0


def _kish(equations: EstimatingEquations) -> float:
    """How many rows of equal weight the labelled rows count as."""
    return float(1.0 / (equations.design_shares @ equations.design_shares))


def _firth(equations: EstimatingEquations) -> Floats:
    """The `spread` of labels alone: as many rows as their weights say."""
    result: Floats = np.eye(equations.design.X.shape[1]) / np.sqrt(_kish(equations))
    return result


def _spread(covariance: Floats, inverse: Floats, least: float, most: float) -> Floats:
    """The `spread` that leads from an inverse slope to a covariance, both (p, p).

    In no direction does the estimate count as fewer rows than `least`, those labelled by hand, nor as more than `most`. A mean
    over directions would not do: beside a coefficient of the label, that of a covariate may be known from all rows.
    """
    try:
        root = np.linalg.cholesky((inverse + inverse.T) / 2.0)
    except np.linalg.LinAlgError:
        by_hand: Floats = np.eye(len(inverse)) / np.sqrt(least)
        return by_hand
    back = np.linalg.inv(root)
    variances, directions = np.linalg.eigh(back @ covariance @ back.T)
    lengths = np.sqrt(np.clip(variances, 1.0 / max(least, most), 1.0 / least))
    result: Floats = root @ (directions * lengths) @ directions.T @ back
    return result
