r"""Has a statistic moved? A test without labels that may be looked at after every row.

If later rows are like those of the certificate (exchangeable with them), the place of the next value among the certificate's n
values follows a Polya urn: a bin of a places that holds c of the t rows so far gets the next one with probability
:math:`(a + c) / (n + 1 + t)`. Nothing else is known or assumed, and the certificate's rows need not be many. Whoever bets on
other probabilities, learned from the rows so far, has a capital that is an e-process (conformal test martingales, Vovk, Gammerman
& Shafer 2022, "Algorithmic learning in a random world", chapter 8).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy.special import gammaln

from ..arrays import Floats
from .betting import BettingMixture
from .decisions import DecisionColumns
from .statistics import ReferenceBins, Statistic

HALF_LIVES = (256.0, 4096.0, math.inf)
"""In how many rows what is learned counts half; each has a part of the capital."""
_PACE = 1000.0
_SHORTEST, _LONGEST = 32, 4096  # blocks, in rows
_PART = 100  # blocks grow to this part of the rows so far, which keeps their number small
_RECENT = 1000


class ShiftTest:
    """One statistic, compared with its values in the certificate's rows.

    It is a function of the rows in their order alone, however they are divided into calls of `update`. Bets are settled block by
    block. The memory is constant.

    Parameters
    ----------
    statistic : Statistic
    reference : ndarray (n,)
        The values in the certificate's rows, without NaN.
    threshold : float
        The capital at which it says that the statistic has moved.
    min_shift : float
        The distance below which it does not say so.
    seed : int
        Of the random numbers that break ties.
    worth : float in (0, 1]
        How many independent rows each of the certificate's rows counts as: where they belong together in groups, the urn begins
        with that part of its places.
    """

    def __init__(
        self,
        statistic: Statistic,
        reference: Floats,
        *,
        threshold: float,
        min_shift: float,
        seed: int,
        worth: float = 1.0,
    ) -> None:
        self.statistic = statistic
        self.threshold = threshold
        self._min_shift = min_shift
        self._reference = reference
        self._bins = ReferenceBins(reference, statistic.is_category, np.random.default_rng(seed))
        self._sizes = worth * self._bins.sizes
        self._n, self._n_places = 0, float(self._sizes.sum())
        self._counts = np.zeros(len(self._sizes))
        self._learned = np.zeros((len(HALF_LIVES), len(self._sizes)))
        self._mixture = BettingMixture(np.full(len(HALF_LIVES), 1.0 / len(HALF_LIVES)), _PACE)
        self._waiting, self._waiting_times = np.empty(0, dtype=np.int64), np.empty(0)
        self._most = 0.0
        self._sum, self._n_known, self._recent = 0.0, 0, np.empty(0)
        self.alarm: dict[str, Any] | None = None

    def update(self, rows: DecisionColumns) -> None:
        """Take further rows."""
        values = self.statistic.values(rows)
        known = ~np.isnan(values)
        values = values[known]
        if not len(values):
            return
        self._n_known += len(values)
        self._sum += float(values.sum())
        self._recent = np.concatenate([self._recent, values])[-_RECENT:]
        waiting = np.concatenate([self._waiting, self._bins.bins(values)])
        times = np.concatenate([self._waiting_times, rows.times[known]])
        start = 0
        while len(waiting) - start >= (size := min(max(_SHORTEST, self._n // _PART), _LONGEST)):
            self._settle(waiting[start : start + size], float(times[start + size - 1]))
            start += size
        self._waiting, self._waiting_times = waiting[start:], times[start:]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for the report."""
        reference, recent = self._reference, self._recent
        return {
            "name": self.statistic.name,
            "title": self.statistic.title,
            "n": self._n_known,
            "reference_mean": None if self.statistic.name == "classes" else float(reference.mean()),
            "mean": None if self.statistic.name == "classes" or not self._n_known else self._sum / self._n_known,
            "recent_mean": None if self.statistic.name == "classes" or not len(recent) else float(recent.mean()),
            "n_recent": len(recent),
            "distance": self._distance() if self._n else None,
            "log_e_value": self._mixture.log_value,
            "largest_log_e_value": self._most,
            "log_threshold": math.log(self.threshold),
            "alarm": self.alarm,
        }

    def _settle(self, bins: Any, time: float) -> None:
        counts = np.bincount(bins, minlength=len(self._counts)).astype(np.float64)
        mass, places = self._sizes + self._counts, self._n_places + self._n
        prior = mass / places
        # With a row's worth of the urn for each bin, so that nothing is bet before anything is learned.
        weight = float(len(mass))
        expected = (self._learned + weight * prior) / (self._learned.sum(axis=1, keepdims=True) + weight)
        urn = (gammaln(mass + counts) - gammaln(mass)).sum() - (gammaln(places + len(bins)) - gammaln(places))
        self._mixture.bet((counts * np.log(expected)).sum(axis=1) - urn, len(bins))
        self._counts += counts
        self._n += len(bins)
        decay = np.array([0.5 ** (len(bins) / half_life) for half_life in HALF_LIVES])
        self._learned = self._learned * decay[:, None] + counts
        self._most = max(self._most, self._mixture.log_value)
        if self.alarm is None and self._mixture.log_value >= math.log(self.threshold):
            distance = self._distance()
            if distance >= self._min_shift:
                self.alarm = {"row": self._n, "time": time if math.isfinite(time) else None, "distance": distance}

    def _distance(self) -> float:
        """Half of the summed differences of the bins' shares, without what chance adds, in the rows that the best bet heeds."""
        learned = self._learned[self._mixture.best]
        n, reference = float(learned.sum()), self._sizes / self._n_places
        seen = np.abs(learned / n - reference).sum() / 2.0
        noise = np.sqrt(2.0 / math.pi * reference * (1.0 - reference) * (1.0 / n + 1.0 / self._n_places)).sum() / 2.0
        return math.sqrt(max(0.0, seen**2 - noise**2))
