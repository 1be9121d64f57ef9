"""The coefficients of a regression, under the names that statsmodels gives them, and beside them what else one might report."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import t as t_distribution

from ...arrays import Floats
from ...checks import check_open_share
from .fit import Fit


class Summary(str):
    """A text that shows as it is printed, without quotes."""

    def __repr__(self) -> str:
        return str(self)


@dataclass(frozen=True, eq=False)
class Coefficients:
    """Coefficients with their uncertainty; the names are those of statsmodels.

    Attributes
    ----------
    names : list of str (p,)
    fit : Fit
    confidence_level : float
    """

    names: list[str]
    fit: Fit
    confidence_level: float

    @property
    def params(self) -> pd.Series:
        """The coefficients."""
        return self._series(self.fit.params)

    @property
    def bse(self) -> pd.Series:
        """Their standard errors."""
        return self._series(np.sqrt(np.diag(self.fit.covariance)))

    @property
    def df(self) -> pd.Series:
        """The degrees of freedom of their t distributions."""
        return self._series(self.fit.degrees)

    @property
    def tvalues(self) -> pd.Series:
        """Coefficients over standard errors."""
        return self.params / self.bse

    @property
    def pvalues(self) -> pd.Series:
        """Two-sided p-values of the hypothesis that a coefficient is 0."""
        return self._series(2.0 * t_distribution.sf(np.abs(self.tvalues), self.fit.degrees))

    def cov_params(self) -> pd.DataFrame:
        """The covariance matrix of the coefficients."""
        return pd.DataFrame(self.fit.covariance, index=self.names, columns=self.names)

    def conf_int(self, alpha: float | None = None) -> pd.DataFrame:
        """Confidence intervals, each for one coefficient.

        Parameters
        ----------
        alpha : float in (0, 1), optional
            1 minus the confidence level; by default that of the estimate.

        Returns
        -------
        DataFrame (p, 2)
            Columns 0 and 1: the lower and the upper end.
        """
        tail = 1.0 - self.confidence_level if alpha is None else check_open_share("alpha", alpha, "0.05")
        reach = self.bse * t_distribution.ppf(1.0 - tail / 2.0, self.fit.degrees)
        return pd.DataFrame({0: self.params - reach, 1: self.params + reach})

    def _series(self, values: Any) -> pd.Series:
        return pd.Series(np.asarray(values, dtype=np.float64), index=self.names)


@dataclass(frozen=True, eq=False)
class RegressionResult(Coefficients):
    """A regression with a label that people gave to some rows and a model to all.

    Attributes
    ----------
    names, fit, confidence_level
        As in `Coefficients`.
    by_hand : Coefficients
        The regression on the labelled rows alone.
    naive : Coefficients
        The regression on all rows that takes the most probable class for the label. Its intervals do not hold.
    model : {"linear", "logistic"}
    outcome : str
    target : {"population", "rows"}
    nobs, n_labelled : int
        N and n.
    """

    by_hand: Coefficients
    naive: Coefficients
    model: str
    outcome: str
    target: str
    nobs: int
    n_labelled: int

    @property
    def tuning(self) -> pd.Series:
        """How far each coefficient relies on the predictions: 0 for hand labels alone, 1 for predictions with a correction."""
        return self._series(self.fit.tuning)

    @property
    def worth(self) -> pd.Series:
        """How many hand labels alone would estimate each coefficient so well: n times the ratio of the variances, at most N."""
        return (self.n_labelled * (self.by_hand.bse / self.bse) ** 2).clip(upper=float(self.nobs))

    def to_frame(self) -> pd.DataFrame:
        """One row per coefficient, with the interval, and the estimates by hand alone and naive beside it.

        Returns
        -------
        DataFrame
            Columns term, estimate, low, high, std_error, p_value, tuning, worth, by_hand, by_hand_low, by_hand_high,
            naive, naive_low, naive_high.
        """
        ends, of_hand, of_naive = (one.conf_int().to_numpy() for one in (self, self.by_hand, self.naive))
        return pd.DataFrame(
            {
                "term": self.names,
                "estimate": self.fit.params,
                "low": ends[:, 0],
                "high": ends[:, 1],
                "std_error": self.bse.to_numpy(),
                "p_value": self.pvalues.to_numpy(),
                "tuning": self.fit.tuning,
                "worth": self.worth.to_numpy(),
                "by_hand": self.by_hand.fit.params,
                "by_hand_low": of_hand[:, 0],
                "by_hand_high": of_hand[:, 1],
                "naive": self.naive.fit.params,
                "naive_low": of_naive[:, 0],
                "naive_high": of_naive[:, 1],
            }
        )

    def summary(self) -> Summary:
        """A table as text, with a line on what it is about."""
        frame = self.to_frame()
        width = max(len("coefficient"), *(len(name) for name in self.names))
        level = f"{100 * self.confidence_level:g} % interval"
        by_hand = f"{'by hand':>9} {level:>20} {'naive':>9}"
        head = f"{'coefficient':<{width}} {'estimate':>9} {level:>20} {'p':>7} {'worth':>6} {by_hand}"
        lines = [
            f"{self.model.capitalize()} regression of {self.outcome} on {self.nobs:,} rows, "
            f"{self.n_labelled:,} of them labelled by hand",
            f"Target: {_TARGETS[self.target]}",
            "",
            head,
            "-" * len(head),
        ]
        for row in frame.itertuples():
            own, hand = _interval(row.low, row.high), _interval(row.by_hand_low, row.by_hand_high)
            lines.append(
                f"{row.term:<{width}} {_number(row.estimate):>9} {own:>20} {_probability(row.p_value):>7} "
                f"{_count(row.worth):>6} {_number(row.by_hand):>9} {hand:>20} {_number(row.naive):>9}"
            )
        lines += [
            "",
            "worth: how many hand labels alone would give the same standard error.",
            "naive: predicted labels taken for true; shown for comparison, not to be reported.",
        ]
        return Summary("\n".join(lines))

    def __str__(self) -> str:
        return str(self.summary())

    def __repr__(self) -> str:
        return f"<RegressionResult: {self.model} regression of {self.outcome} on {len(self.names)} columns>"


_TARGETS = {
    "population": "the population that these rows are a sample of",
    "rows": "these rows alone",
}


def _number(value: float) -> str:
    return f"{value:.4g}" if math.isfinite(value) else "-"


def _interval(low: float, high: float) -> str:
    return f"[{_number(low)}, {_number(high)}]"


def _probability(value: float) -> str:
    if not math.isfinite(value):
        return "-"
    return "< .001" if value < 0.001 else f"{value:.3f}".lstrip("0")


def _count(value: float) -> str:
    return f"{value:,.0f}" if math.isfinite(value) else "-"


def unscaled(fit: Fit, scale: Floats) -> Fit:
    """A fit in the units of the caller's columns, which had been divided by `scale` (p,)."""
    return Fit(fit.params / scale, fit.covariance / np.outer(scale, scale), fit.degrees, fit.tuning)
