r"""Internal: bets against a null hypothesis, whose winnings are evidence that may be looked at whenever one likes.

Start with a capital of 1 and stake parts of it on each row before its label is known, at odds that are fair or worse if the null
hypothesis holds. The capital is then a nonnegative supermartingale, an *e-process*: the probability that it *ever* reaches
:math:`1 / \alpha` is at most :math:`\alpha` (Ville 1939), however many looks there are and whenever one stops.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import logsumexp
from scipy.stats import binom

from ..arrays import Floats

FIRST = 0.5
"""The part of the capital that is staked from the first row on; the rest waits for a change that comes later."""
_LOG_ROOM = 200.0  # what is staked may grow or shrink by so much, as a logarithm, before its scale changes
_ODDS = np.array([1.25, 1.5, 2.0, 3.0, 6.0])


class BettingMixture:
    r"""The capital of a player who does not know which alternative is true, nor from which row on.

    The capital is divided among alternatives, and among the rows from which they may begin to hold: :math:`1 - r_0` is staked
    from the first row on, and after t rows :math:`r_t = r_0 / (1 + \log(1 + t / pace))` is still to be staked. What is staked
    is multiplied by the likelihood ratio of each row. A mixture of e-processes is an e-process, and it loses to the best of them
    at most the logarithm of its share (the method of mixtures, Robbins 1970; over times of change, Shin, Ramdas & Rinaldo 2024,
    "E-detectors").

    The memory is one number per alternative.

    Parameters
    ----------
    shares : ndarray (G,)
        Of the capital for each alternative; they sum to 1.
    pace : float
        The number of rows in which about two fifths of what is left begins to be staked.

    Examples
    --------
    >>> mixture = BettingMixture(np.array([1.0]))
    >>> mixture.log_value  # the capital at the beginning is 1
    0.0
    >>> mixture.bet(np.log([2.0]))  # half of it was staked, and is doubled
    >>> round(math.exp(mixture.log_value), 9)
    1.5
    """

    def __init__(self, shares: Floats, pace: float = 100.0) -> None:
        self._shares = shares
        self._pace = pace
        self._n = 0
        # What is staked, divided by a number that keeps it within the range of floats.
        self._staked = FIRST * shares
        self._log_scale = 0.0

    @property
    def log_value(self) -> float:
        """The logarithm of the capital."""
        reserve = self._reserve(self._n) * math.exp(-self._log_scale)
        return self._log_scale + math.log(float(self._staked.sum()) + reserve)

    @property
    def best(self) -> int:
        """The alternative that holds most of what is staked."""
        return int(self._staked.argmax())

    def bet(self, log_factors: Floats, n_rows: int = 1) -> None:
        """Multiply what is staked by what `n_rows` further rows pay.

        Parameters
        ----------
        log_factors : ndarray (G,)
            The logarithms of the likelihood ratios of the alternatives to the null hypothesis, or of other numbers whose
            expectation is at most 1 under it.
        n_rows : int
        """
        begins = self._reserve(self._n) - self._reserve(self._n + n_rows)
        self._n += n_rows
        with np.errstate(divide="ignore"):
            logs = np.log(self._staked) + log_factors
        most = float(logs.max())
        growth = max(most, -self._log_scale) if abs(most) > _LOG_ROOM else 0.0
        self._log_scale += growth
        self._staked = np.exp(logs - growth) + (begins * math.exp(-self._log_scale)) * self._shares

    def _reserve(self, n: int) -> float:
        return (1.0 - FIRST) / (1.0 + math.log1p(n / self._pace))


@dataclass(frozen=True)
class HorizonBet:
    r"""The capital of a player who stakes everything on one exact test at a horizon.

    The test rejects "at most a share `null` is wrong" if at least `n_wrong` of `n_rows` rows are wrong. Its capital after t rows
    with x wrong ones is :math:`\Pr(X \ge n\_wrong \mid t, x) / \Pr(X \ge n\_wrong)`, both under `null`. For simple hypotheses no
    other test of the level is more powerful at the horizon (Neyman & Pearson 1933); and as each wrong row pays and each right row
    costs, it is an e-process for every smaller share of errors, and for shares that vary from row to row below `null`.

    Attributes
    ----------
    null : float
    n_rows, n_wrong : int
    level : float
        The probability that the test rejects under `null`.
    """

    null: float
    n_rows: int
    n_wrong: int
    level: float

    @classmethod
    def best(cls, null: float, alternative: float, level: float, horizon: int) -> HorizonBet | None:
        """The test of at most `level`, on at most `horizon` rows, that finds `alternative` with the greatest probability.

        None if no number of wrong rows is improbable enough.

        Examples
        --------
        >>> bet = HorizonBet.best(0.05, 0.10, 0.0425, 250)
        >>> bet.n_rows, bet.n_wrong, round(bet.level, 4)
        (246, 19, 0.0414)
        """
        n = np.arange(1, horizon + 1)
        n_wrong = binom.isf(level, n, null).astype(np.int64) + 1
        levels = binom.sf(n_wrong - 1, n, null)
        powers = np.where(levels > 0.0, binom.sf(n_wrong - 1, n, alternative), -1.0)
        found = int(powers.argmax())
        if powers[found] <= 0.0:
            return None
        return cls(null, int(n[found]), int(n_wrong[found]), float(levels[found]))

    def log_values(self, wrong: Floats) -> Floats:
        """The logarithms of the capital after each row, given whether each is wrong (N,)."""
        so_far = wrong.cumsum()[: self.n_rows].astype(np.int64)
        left = self.n_rows - np.arange(1, len(so_far) + 1)
        logs = binom.logsf(self.n_wrong - 1 - so_far, left, self.null) - math.log(self.level)
        last = logs[-1:] if len(so_far) == self.n_rows else logs[:0]
        return np.concatenate([logs, np.repeat(last, len(wrong) - len(so_far))])


def thinned(log_factors: Floats, weight: float) -> Floats:
    """What a row pays that stands for others, as the logarithms of factors with an expectation of at most 1.

    A row that is audited with probability pi pays ``1 + (floor / pi) (factor - 1)``, where no row is audited with less than the
    probability `floor`. Over the draw and the rows, the expectation is ``1 + floor (E[factor] - 1)``, whatever the draw
    prefers; and the capital stays positive.

    Parameters
    ----------
    log_factors : ndarray
    weight : float in (0, 1]
        floor / pi.
    """
    return np.log1p(weight * np.expm1(log_factors)) if weight < 1.0 else log_factors


def moved_odds(shares: Floats, factor: Floats) -> Floats:
    """Shares whose odds are multiplied by a factor.

    Examples
    --------
    >>> moved_odds(np.array([0.5]), np.array([3.0])).tolist()
    [0.75]
    """
    result: Floats = factor * shares / (1.0 - shares + factor * shares)
    return result


def bernoulli_factors(outcome: bool, alternatives: Floats, nulls: Floats | float) -> Floats:
    """The logarithms of the likelihood ratios of an outcome that has one probability or another."""
    if outcome:
        return np.asarray(np.log(alternatives) - np.log(nulls))
    return np.asarray(np.log1p(-alternatives) - np.log1p(-np.asarray(nulls)))


def share_interval(wrong: Floats, weights: Floats, alpha: float) -> tuple[float, float]:
    """A confidence interval for a share that holds at all times together: the shares against which no bet wins ``1 / alpha``.

    Half of the capital is staked on larger shares, half on smaller ones, whose odds differ by some factors (Waudby-Smith &
    Ramdas 2024, "Estimating means of bounded random variables by betting").

    Parameters
    ----------
    wrong : ndarray of 0 and 1 (n,)
    weights : ndarray (n,)
        As in `thinned`; all 1 where rows were drawn evenly.
    alpha : float

    Returns
    -------
    low, high : float
        (0, 1) without rows.

    Examples
    --------
    >>> low, high = share_interval(np.repeat([1.0, 0.0], [20, 180]), np.ones(200), 0.05)
    >>> round(low, 3), round(high, 3)
    (0.046, 0.177)
    """
    grid = np.concatenate([np.geomspace(1e-4, 0.05, 80, endpoint=False), np.linspace(0.05, 0.95, 361)])
    grid = np.unique(np.concatenate([grid, 1.0 - grid]))
    bets = moved_odds(grid[:, None], np.concatenate([_ODDS, 1.0 / _ODDS])[None, :])
    kinds, counts = np.unique(np.column_stack([wrong, weights]), axis=0, return_counts=True)
    logs = np.full(bets.shape, -math.log(bets.shape[1]))
    for (outcome, weight), count in zip(kinds, counts, strict=True):
        logs += count * thinned(bernoulli_factors(bool(outcome), bets, grid[:, None]), float(weight))
    values = logsumexp(logs, axis=1)
    kept = np.flatnonzero(values < -math.log(alpha))
    if not len(kept):
        return 0.0, 1.0
    # The next point of the grid, on either side, is refused.
    low = float(grid[kept[0] - 1]) if kept[0] > 0 else 0.0
    high = float(grid[kept[-1] + 1]) if kept[-1] + 1 < len(grid) else 1.0
    return low, high


class MeanInterval:
    r"""Confidence intervals for means of numbers in [0, 1] that hold at all times together, for several columns at once.

    The predictable plug-in empirical Bernstein confidence sequence of Waudby-Smith & Ramdas (2024, theorem 2), for rows that come
    with the same means throughout. The memory is a few numbers per column.

    Parameters
    ----------
    n_columns : int
    alpha : float
        Of all columns together.
    """

    def __init__(self, n_columns: int, alpha: float) -> None:
        self._log = math.log(2.0 * n_columns / alpha)
        self._n = 0
        self._sum, self._square = np.zeros(n_columns), np.zeros(n_columns)
        self._stakes, self._weighted, self._spread = (np.zeros(n_columns) for _ in range(3))

    def add(self, values: Floats) -> None:
        """Take further rows (n, columns), without gaps."""
        if not len(values):
            return
        t = self._n + np.arange(1, len(values) + 1)[:, None]
        sums = self._sum + values.cumsum(axis=0)
        means = (0.5 + sums) / (t + 1)
        before = np.vstack([(0.5 + self._sum) / (self._n + 1), means[:-1]])
        squares = self._square + ((values - means) ** 2).cumsum(axis=0)
        variances = (0.25 + np.vstack([self._square, squares[:-1]])) / t
        stakes = np.minimum(0.5, np.sqrt(2.0 * self._log / (variances * t * np.log1p(t))))
        self._stakes = self._stakes + stakes.sum(axis=0)
        self._weighted = self._weighted + (stakes * values).sum(axis=0)
        self._spread = self._spread + ((values - before) ** 2 * (-np.log1p(-stakes) - stakes)).sum(axis=0)
        self._n, self._sum, self._square = int(t[-1, 0]), sums[-1], squares[-1]

    @property
    def n(self) -> int:
        """How many rows it has taken."""
        return self._n

    def interval(self) -> tuple[Floats, Floats, Floats]:
        """Mean, lower and upper end of each column; (NaN, 0, 1) without rows."""
        if not self._n:
            return np.full_like(self._sum, np.nan), np.zeros_like(self._sum), np.ones_like(self._sum)
        middle, width = self._weighted / self._stakes, (self._log + self._spread) / self._stakes
        mean = self._sum / self._n
        return mean, np.minimum(mean, np.clip(middle - width, 0, 1)), np.maximum(mean, np.clip(middle + width, 0, 1))


def first_reached(log_values: Sequence[float] | Floats, level: float) -> int | None:
    """After how many rows the capital first reached ``1 / level``; None if never."""
    reached = np.flatnonzero(np.asarray(log_values) >= -math.log(level) - 1e-9)
    return int(reached[0]) + 1 if len(reached) else None
