r"""How much the coefficients of a regression vary: a sandwich that holds for few labels.

The influence of a labelled unit (a row, or the rows of a cluster) on the coefficients is what leaving it out changes, so that
units of great leverage count more (HC3 of MacKinnon & White 1985, CR3 of Bell & McCaffrey 2002). To it come:

- that the tuning is estimated from the same labels: the influence of a unit on it (as the g-weights of Särndal, Swensson &
  Wretman 1992, "Model assisted survey sampling", section 6.6), and its leverage in it;
- where few labels show how far the predictions are off, how far they say themselves that they are off;
- the degrees of freedom of a t distribution, by the rule of Satterthwaite 1946, from the leverages (as Bell & McCaffrey) and from
  the kurtosis of the influences, whichever are fewer.

experiments/regression_coverage.md has the coverage.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...arrays import Floats, Integers
from ..labelled_sample import LabelledSample
from .estimating_equations import EstimatingEquations

PRIOR_UNITS = 30.0
"""How many labelled units the residuals that the predictions expect count as, where they are greater than those seen."""

_LARGEST_LEVERAGE = 0.95


@dataclass(frozen=True, eq=False)
class Influence:
    """What rows and labels contribute to p coefficients; each coefficient may have a tuning of its own.

    Attributes
    ----------
    population : ndarray (C, p)
        Of every cluster, or row, as one of a larger population.
    drawn : ndarray (g, p)
        Of every labelled unit, as one that was drawn.
    left : ndarray (g,)
        Which part of the latter's variance is left where so many rows are labelled: 1 minus the inclusion probability.
    units : ndarray of int (g,)
        The place of each labelled unit among the C.
    leverage_degrees : ndarray (p,)
        Degrees of freedom by the leverages.
    extra : ndarray (p,)
        What is added to the variances for few labels.
    """

    population: Floats
    drawn: Floats
    left: Floats
    units: Integers
    leverage_degrees: Floats
    extra: Floats

    @classmethod
    def joined(cls, parts: list[tuple[Influence, Integers]]) -> Influence:
        """Several influences as one, each with the coefficients (m,) that it is about; together they are all p."""
        first = parts[0][0]
        p = sum(len(columns) for _, columns in parts)
        population, drawn = np.empty((len(first.population), p)), np.empty((len(first.drawn), p))
        degrees, extra = np.empty(p), np.empty(p)
        for part, columns in parts:
            population[:, columns], drawn[:, columns] = part.population, part.drawn
            degrees[columns], extra[columns] = part.leverage_degrees, part.extra
        return cls(population, drawn, first.left, first.units, degrees, extra)

    def covariance(self, of_rows_alone: bool) -> tuple[Floats, Floats]:
        """The covariance matrix (p, p) of the coefficients, and their degrees of freedom (p,).

        Parameters
        ----------
        of_rows_alone : bool
            Whether the coefficients are those of these N rows, not of a population that they come from.
        """
        if of_rows_alone:
            drawn = self.drawn * np.sqrt(self.left)[:, None]
            covariance = drawn.T @ drawn
        else:
            drawn, total = self.drawn, self.population.copy()
            total[self.units] += drawn
            covariance = total.T @ total
        own = np.einsum("ij,ij->j", drawn, drawn)
        variances = np.diag(covariance).copy()
        # A diagonal that is too small is stretched together with the covariances, so that the matrix stays one.
        stretch = np.sqrt(1.0 + self.extra / np.maximum(variances, 1e-300))
        covariance *= np.outer(stretch, stretch)
        shares = drawn**2 / np.maximum(own, 1e-300)
        kurtosis = np.maximum((shares**2).sum(axis=0) - 1.0 / len(drawn), 1e-12)
        degrees = np.minimum(self.leverage_degrees, 2.0 / kurtosis)
        # What comes from all N rows, or is added, has many degrees of freedom.
        share_of_own = own / np.maximum(np.maximum(np.diag(covariance), own), 1e-300)
        degrees = degrees / np.maximum(share_of_own, 1e-3) ** 2
        return covariance, np.maximum(degrees, 1.0)


def influence(
    equations: EstimatingEquations,
    sample: LabelledSample,
    tuning: float,
    beta: Floats,
    *,
    is_tuned: bool,
    columns: Integers | None = None,
) -> Influence:
    """The influences on the coefficients `beta` (p,) that solve the equations with this tuning, or on the `columns` of them."""
    kept = np.arange(beta.size) if columns is None else columns
    inverse = equations.inverse_slope(tuning, beta)
    d, unit = equations.design_shares, sample.units
    psi, expected = equations.seen_scores(beta)
    rest = psi - tuning * expected
    middle = _stratum_means(rest, sample)
    away = _unit_sums(d[:, None] * (rest - middle[0]), sample) @ inverse.T
    slopes = _unit_sums(equations.seen_slopes(tuning, beta), sample)
    drawn = np.asarray(
        np.linalg.solve(np.eye(beta.size) - inverse @ _capped(inverse, slopes), away[:, :, None])[:, :, 0]
    )
    drawn *= _few_units(sample)[:, None]
    drawn = drawn[:, kept]
    all_scores = equations.all_scores(beta, inverse[kept]) if tuning else np.zeros((len(equations.design.X), len(kept)))
    if is_tuned and 0.0 < tuning < 1.0:
        z = (expected @ inverse.T)[:, kept]
        gap = equations.shares @ all_scores - d @ z
        z = _unit_sums(d[:, None] * (z - d @ z), sample)
        squares = np.maximum(np.einsum("ij,ij->j", z, z), 1e-300)
        drawn *= (1.0 + z * gap / squares) / (1.0 - np.minimum(z**2 / squares, _LARGEST_LEVERAGE))
    population = equations.shares[:, None] * (tuning * all_scores + middle[1] @ inverse[kept].T)
    if sample.clusters is not None:
        sums = np.zeros((int(sample.clusters.max()) + 1, len(kept)))
        np.add.at(sums, sample.clusters, population)
        population = sums
    places = np.zeros(sample.n_units, dtype=np.int64)
    places[unit] = sample.rows if sample.clusters is None else sample.clusters[sample.rows]
    left = np.zeros(sample.n_units)
    np.maximum.at(left, unit, 1.0 - sample.inclusion)
    # The residuals that the predictions expect, by the variance of the label under them.
    z = expected @ inverse[kept].T
    squares = equations.expected_squares(beta, inverse[kept]) - (2.0 * tuning - tuning**2) * z**2
    supposed = (d[:, None] ** 2 * squares).sum(axis=0) * sample.n_units / max(sample.n_units - 1, 1)
    missing = np.maximum(supposed - np.einsum("ij,ij->j", drawn, drawn), 0.0)
    extra: Floats = tuning * missing * PRIOR_UNITS / (PRIOR_UNITS + sample.n_units)
    degrees = _leverage_degrees(equations, sample, beta, inverse)[kept]
    return Influence(population, drawn, left, places, degrees, extra)


def tuned(equations: EstimatingEquations, sample: LabelledSample, tuning: float, beta: Floats) -> tuple[Floats, float]:
    """With which tuning each coefficient would vary least, and with which all of them, relative to their own variances.

    Power tuning (Angelopoulos, Duchi & Zrnic 2023) within [0, 1], near a solution `beta` of the equations with `tuning`.

    Returns
    -------
    each : ndarray (p,)
    pooled : float
    """
    inverse = equations.inverse_slope(tuning, beta)
    psi, expected = equations.seen_scores(beta)
    a, b = sample.contributions(psi @ inverse.T), sample.contributions(expected @ inverse.T)
    squares = np.maximum(np.einsum("ij,ij->j", a, a), 1e-300)
    both, of_expected = np.einsum("ij,ij->j", a, b) / squares, np.einsum("ij,ij->j", b, b) / squares
    each = np.clip(both / np.maximum(of_expected, 1e-300), 0.0, 1.0)
    pooled = float(np.clip(both.sum() / max(float(of_expected.sum()), 1e-300), 0.0, 1.0))
    return each, pooled


def _unit_sums(values: Floats, sample: LabelledSample) -> Floats:
    """Sums (g, ...) over the labelled rows of each unit of values (n, ...)."""
    if sample.clusters is None:
        return values
    sums = np.zeros((sample.n_units, *values.shape[1:]))
    np.add.at(sums, sample.units, values)
    return sums


def _stratum_means(values: Floats, sample: LabelledSample) -> tuple[Floats, Floats]:
    """The means over each stratum, for its labelled rows (n, p) and for all of its rows (N or 1, p)."""
    if sample.strata is None:
        mean = sample.mean(values)[None, :]
        return np.broadcast_to(mean, values.shape), mean
    stratum = sample.strata[sample.rows]
    d = sample.design_weights
    n_strata = int(sample.strata.max()) + 1
    totals = np.zeros((n_strata, values.shape[1]))
    np.add.at(totals, stratum, d[:, None] * values)
    counted = np.bincount(stratum, d > 0, minlength=n_strata)
    means = totals / np.where(counted > 0, np.bincount(stratum, d, minlength=n_strata), 1.0)[:, None]
    # The only labelled row of a stratum is compared with the mean of all.
    means[counted < 2] = sample.mean(values)
    return means[stratum], means[sample.strata]


def _few_units(sample: LabelledSample) -> Floats:
    """What the deviations of m units from their own mean are multiplied by (g,): sqrt(m / (m - 1))."""
    if sample.strata is None:
        m = np.full(sample.n_units, sample.n_units)
    else:
        _, first = np.unique(sample.units, return_index=True)
        stratum = sample.strata[sample.rows[first]]
        m = np.bincount(stratum)[stratum]
    result: Floats = np.sqrt(m / np.maximum(m - 1, 1))
    return result


def _capped(inverse: Floats, slopes: Floats) -> Floats:
    """The parts (g, p, p) that units have in the slope, reduced where a unit nearly determines a coefficient alone."""
    root = np.linalg.cholesky((inverse + inverse.T) / 2.0)
    largest = np.linalg.eigvalsh(root.T @ slopes @ root)[:, -1]
    result: Floats = slopes * np.minimum(1.0, _LARGEST_LEVERAGE / np.maximum(largest, 1e-300))[:, None, None]
    return result


def _leverage_degrees(equations: EstimatingEquations, sample: LabelledSample, beta: Floats, inverse: Floats) -> Floats:
    """Degrees of freedom (p,) if residuals vary as the model says, and all in a cluster alike."""
    X, _ = equations.design.observed(equations.codes, equations.rows)
    mu = equations.mean(X @ beta)
    spread = np.sqrt(mu * (1.0 - mu)) if equations.is_logistic else np.ones_like(mu)
    size = _unit_sums(X @ inverse.T * (equations.design_shares * spread)[:, None], sample) ** 2
    degrees: Floats = size.sum(axis=0) ** 2 / np.maximum((size**2).sum(axis=0), 1e-300)
    return np.minimum(degrees, float(sample.degrees_of_freedom()))
