"""Worlds from which a pilot may have been drawn: as like it as its few rows can tell."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit

from ...arrays import Floats, Integers
from .pilot import Pilot

_CENTRE = np.array([0.0, 0.8])  # intercept and slope of classifiers, which are rather surer than right
_SPREAD = np.array([1.0, 0.5])  # standard deviations of them; they keep few rows near the centre


@dataclass(frozen=True, eq=False)
class World:
    """A population that is like a pilot.

    Attributes
    ----------
    pilot : Pilot
    shares : ndarray (n,)
        Which share of the population is like each row of the pilot.
    unlike : float
        Which share of the labels is like none of the pilot's.
    centre : ndarray (2,)
        Where the reliability would be without the pilot.
    """

    pilot: Pilot
    shares: Floats
    unlike: float
    centre: Floats

    @classmethod
    def likeliest(cls, pilot: Pilot) -> World:
        """The pilot itself, enlarged."""
        return cls(pilot, pilot.shares, 0.0, _CENTRE)

    @classmethod
    def drawn(cls, pilot: Pilot, generator: np.random.Generator) -> World:
        """One of the worlds that the pilot leaves possible, as often as it does.

        The shares are those of the Bayesian bootstrap (Rubin 1981, "The Bayesian bootstrap"), in which one more row, that was not
        seen, has its part, too; what is known beforehand of the reliability is drawn likewise.
        """
        drawn = generator.exponential(size=int(pilot.units.max()) + 1)[pilot.units] * pilot.shares
        unseen = generator.exponential() / pilot.effective_size
        total = drawn.sum()
        return cls(pilot, drawn / total, unseen / (unseen + total), generator.normal(_CENTRE, _SPREAD))

    @cached_property
    def reliability(self) -> tuple[float, float]:
        """Intercept and slope of the log-odds of being right over those of the confidence."""
        log_odds = self.pilot.log_odds
        design = np.column_stack([np.ones(len(log_odds)), log_odds])
        weights = self.shares * self.pilot.effective_size
        signs = 2.0 * self.pilot.is_right - 1.0

        def loss(coefficients: Floats) -> tuple[float, Floats]:
            margins = signs * (design @ coefficients)
            away = (coefficients - self.centre) / _SPREAD**2
            value = weights @ np.logaddexp(0.0, -margins) + 0.5 * away @ (coefficients - self.centre)
            return float(value), away - design.T @ (weights * signs * expit(-margins))

        found = minimize(loss, self.centre, jac=True, method="BFGS", options={"gtol": 1e-6 * len(signs)})
        return float(found.x[0]), float(found.x[1])

    def rows(self, size: int, generator: np.random.Generator) -> Integers:
        """Places of rows of the pilot (size,), drawn with replacement."""
        return generator.choice(len(self.shares), size=size, p=self.shares)

    def labels(self, rows: Integers, column: int | None, generator: np.random.Generator) -> NDArray[np.intp]:
        """The labels of such rows, as columns.

        Of the labels that are like none of the pilot's, the probabilities say nothing: half of them are of the class that is
        asked for, or as many of every class.
        """
        columns = self.pilot.columns[rows]
        others = np.flatnonzero(generator.random(len(rows)) < self.unlike)
        n_classes = self.pilot.proba.shape[1]
        if column is None:
            columns[others] = generator.integers(n_classes, size=len(others))
        else:
            steps = generator.integers(1, n_classes, size=len(others))
            columns[others] = np.where(generator.random(len(others)) < 0.5, column, (column + steps) % n_classes)
        return columns

    def confidences(self, size: int, generator: np.random.Generator) -> tuple[Floats, Floats]:
        """Confidences (size,) distributed like those of the pilot, and whether these rows are right.

        Copies of the pilot's rows would make its lucky thresholds lucky for ever. So the confidences are drawn between those of
        the rows, too, and whether a row is right from the reliability.
        """
        drawn = np.interp(generator.random(size), *self._quantiles)
        return expit(drawn), (generator.random(size) < self.accuracy(drawn)).astype(np.float64)

    def accuracy(self, log_odds: Floats) -> Floats:
        """How often rows (...) of such confidences are right.

        Of those that are like none of the pilot's, the confidence says nothing: they are right as often as all rows together.
        """
        intercept, slope = self.reliability
        usual = expit(intercept + slope * log_odds)
        result: Floats = usual + self.unlike * (self.shares @ self.pilot.is_right - usual)
        return result

    @cached_property
    def _quantiles(self) -> tuple[Floats, Floats]:
        """Shares of the population, and the log-odds below which they lie."""
        order = np.argsort(self.pilot.log_odds)
        return np.cumsum(self.shares[order]) - self.shares[order] / 2.0, self.pilot.log_odds[order]
