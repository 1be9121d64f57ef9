"""Are the rows of a part right as often as the other rows of the same confidence? A test for each of many parts.

The rows are sorted by confidence into strata of neighbours. If being right does not depend on the part, then in each stratum,
given how many of its rows are right, the number of right rows of a part is hypergeometric. The sum over the strata is the
statistic of Cochran (1954) and of Mantel & Haenszel (1959), here with its exact distribution (Birch 1964, "The detection of
partial association, I: The 2 x 2 case"). No expectation is fitted to the part's own rows, which would hide what they show.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln, ndtr, ndtri

from ..arrays import Floats

_STRATA = 10
_SMALLEST_STRATUM, _USUAL_STRATUM = 5, 100
_MAX_STRATA = 200
_NORMAL_VARIANCE = 400.0  # above this variance a count is treated as normally distributed
_DRAWS = 9_999
_MAX_NUMBERS = 4_000_000  # drawn at most, so that many parts do not take long
_FEW_DRAWS = 10
_HALVINGS = 60


@dataclass(frozen=True)
class PartTest:
    """A part of the rows, compared with the other rows of the same confidence.

    Attributes
    ----------
    accuracy : float
        The share of its rows that are right; NaN if it has none.
    expected : float in [0, 1]
        How often the other rows are right: the accuracy of the part minus the difference of Mantel & Haenszel. NaN if no other
        row has the same confidence.
    low, high : float in [0, 1]
        The accuracies that chance allows a part whose rows are like the others. The accuracy is outside if and only if `p_value`
        is below the level of the test.
    p_value : float
        Corrected for the number of parts.
    """

    accuracy: float
    expected: float
    low: float
    high: float
    p_value: float


def strata_of(confidence: Floats) -> NDArray[np.intp]:
    """The stratum of each row: neighbours in confidence; equal confidences always share one.

    There are ten strata (fewer if they would hold less than five rows), and from 1,000 rows on one for every hundred: the
    confidences in a stratum should hardly differ, and strata of few rows waste information.
    """
    n_rows = confidence.size
    number = max(1, min(_STRATA, n_rows // _SMALLEST_STRATUM), min(_MAX_STRATA, n_rows // _USUAL_STRATUM))
    rising = np.sort(confidence)
    # Equal confidences have the rank in their middle.
    rank = (np.searchsorted(rising, confidence, "left") + np.searchsorted(rising, confidence, "right") - 1) / 2.0
    members: NDArray[np.intp] = np.unique((rank * number / n_rows).astype(np.intp), return_inverse=True)[1]
    return members


def compare_parts(
    confidence: Floats,
    right: NDArray[np.bool_],
    partitions: Sequence[tuple[NDArray[np.intp], int]],
    *,
    alpha: float,
    seed: int = 0,
) -> list[list[PartTest]]:
    """Test each part of each partition against the other rows of the same confidence.

    The surprise at a part is a two-sided mid-p-value (Lancaster 1961, "Significance tests in discrete distributions"): the chance
    that the number of right rows lies at least as far from its mean, where half of an equal distance counts. A p-value is the
    chance that the greatest surprise of all parts is as great (Tippett 1931; Westfall & Young 1993, "Resampling-based multiple
    testing", single step). It is simulated: the numbers of right rows have their exact distributions and correlations, joined by
    a Gaussian copula, so that parts which ask the same question count once.

    Parameters
    ----------
    confidence : ndarray (n,)
    right : ndarray of bool (n,)
    partitions : sequence of (ndarray of int (n,), int)
        The part of each row, and the number of parts.
    alpha : float in (0, 1)
        The level: if no part differs, any p-value is below it with about this probability.
    seed : int

    Returns
    -------
    list of lists of PartTest
        One list per partition, with one entry per part.
    """
    stratum = strata_of(confidence)
    total = np.bincount(stratum)
    hits = np.bincount(stratum[right], minlength=total.size)
    rows = np.hstack([_table(stratum, members, total.size, number) for members, number in partitions])
    right_rows = np.hstack(
        [_table(stratum[right], members[right], total.size, number) for members, number in partitions]
    )
    covariance = _covariance(stratum, total, hits, partitions, rows)
    laws = [_law(total, hits, rows[:, j], right_rows[:, j], float(covariance[j, j])) for j in range(rows.shape[1])]
    family = _Family(laws, covariance, seed)
    tests = [_part_test(total, hits, rows[:, j], right_rows[:, j], law, family, alpha) for j, law in enumerate(laws)]
    ends = np.cumsum([number for _, number in partitions])
    return [tests[end - number : end] for end, (_, number) in zip(ends, partitions, strict=True)]


@dataclass(frozen=True, eq=False)
class _Law:
    """The number of right rows that a part has by chance.

    Attributes
    ----------
    hits, mean, variance : float
        Observed number, and the moments by chance.
    first : int
        The smallest possible number.
    mass, surprise : ndarray
        Probability and mid-p-value of each number from `first` on; empty if the normal distribution is used.
    """

    hits: int
    mean: float
    variance: float
    first: int
    mass: Floats
    surprise: Floats

    @property
    def own_surprise(self) -> float:
        if self.surprise.size:
            return float(self.surprise[self.hits - self.first])
        return float(2.0 * ndtr(-abs(self.hits - self.mean) / math.sqrt(self.variance))) if self.variance else 1.0

    def of_normal(self, z: Floats) -> Floats:
        """The surprise at the number of hits that has the same rank as `z` among normal numbers."""
        if not self.surprise.size:
            surprise: Floats = 2.0 * ndtr(-np.abs(z)) if self.variance else np.ones_like(z)
            return surprise
        steps = ndtri(np.minimum(np.cumsum(self.mass)[:-1], 1.0))
        taken: Floats = self.surprise[np.searchsorted(steps, z)]
        return taken

    def chance_of(self, surprise: Floats) -> Floats:
        """The probability of a smaller value than each of `surprise`, plus half of that of an equal one."""
        if not self.surprise.size:
            return surprise if self.variance else np.where(surprise < 1.0, 0.0, 1.0)
        order = np.argsort(self.surprise)
        sums = np.concatenate([[0.0], np.cumsum(self.mass[order])])
        below, upto = (sums[np.searchsorted(self.surprise[order], surprise + shift)] for shift in (-1e-12, 1e-12))
        chance: Floats = (below + upto) / 2.0
        return chance


class _Family:
    """All parts that are tested together."""

    def __init__(self, laws: list[_Law], covariance: Floats, seed: int) -> None:
        self._laws = [law for law in laws if law.variance > 0.0]
        kept = np.flatnonzero([law.variance > 0.0 for law in laws])
        if not kept.size:
            return
        spread = np.sqrt(np.diagonal(covariance)[kept])
        values, vectors = np.linalg.eigh(covariance[np.ix_(kept, kept)] / np.outer(spread, spread))
        root = vectors * np.sqrt(values.clip(min=0.0))
        draws = min(_DRAWS, max(999, _MAX_NUMBERS // kept.size))
        z = np.random.default_rng(seed).standard_normal((draws, kept.size)) @ root.T
        smallest = np.ones(draws)
        for j, law in enumerate(self._laws):
            np.minimum(smallest, law.of_normal(z[:, j]), out=smallest)
        self._smallest = np.sort(smallest)

    def p_values(self, surprise: Floats) -> Floats:
        """How often chance alone surprises at least as much anywhere; half of the ties count."""
        if not self._laws:
            return np.ones_like(surprise)
        below, upto = (np.searchsorted(self._smallest, surprise + shift) for shift in (-1e-12, 1e-12))
        p_values: Floats = (1.0 + (below + upto) / 2.0) / (1.0 + self._smallest.size)
        # Where hardly any draw is so small, Bonferroni's bound tells how small the chance is.
        rare = np.flatnonzero(below + upto < 2 * _FEW_DRAWS)
        if rare.size:
            bound = sum((law.chance_of(surprise[rare]) for law in self._laws), np.zeros(rare.size))
            p_values[rare] = np.minimum(p_values[rare], bound)
        return p_values


def _table(stratum: NDArray[np.intp], members: NDArray[np.intp], n_strata: int, n_parts: int) -> NDArray[np.intp]:
    """Numbers of rows (n_strata, n_parts)."""
    return np.bincount(stratum * n_parts + members, minlength=n_strata * n_parts).reshape(n_strata, n_parts)


def _covariance(
    stratum: NDArray[np.intp],
    total: NDArray[np.intp],
    hits: NDArray[np.intp],
    partitions: Sequence[tuple[NDArray[np.intp], int]],
    rows: NDArray[np.intp],
) -> Floats:
    """The covariance of the parts' numbers of right rows, if in each stratum the right rows are drawn at random."""
    variance = hits * (total - hits) / (total * np.maximum(total - 1, 1))
    of_row = variance[stratum]
    shared = np.block(
        [
            [
                np.bincount(first * n_second + second, of_row, n_first * n_second).reshape(n_first, n_second)
                for second, n_second in partitions
            ]
            for first, n_first in partitions
        ]
    )
    covariance: Floats = shared - (rows * (variance / total)[:, None]).T @ rows
    # What rounding leaves of parts that cannot vary.
    still = np.diagonal(covariance) < 1e-9
    covariance[still] = covariance[:, still] = 0.0
    return covariance


def _law(
    total: NDArray[np.intp],
    hits: NDArray[np.intp],
    rows: NDArray[np.intp],
    right_rows: NDArray[np.intp],
    variance: float,
) -> _Law:
    varies = (rows > 0) & (rows < total) & (hits > 0) & (hits < total)
    n, m, k = rows[varies], total[varies], hits[varies]
    own, mean = int(right_rows[varies].sum()), float((n * k / m).sum())
    if not n.size or variance > _NORMAL_VARIANCE:
        return _Law(own, mean, variance, 0, np.empty(0), np.empty(0))
    lowest, highest = np.maximum(0, n + k - m), np.minimum(n, k)
    number = lowest[:, None] + np.arange(int((highest - lowest).max()) + 1)
    inside = number <= highest[:, None]
    number = np.minimum(number, highest[:, None])
    n, m, k = n[:, None], m[:, None], k[:, None]
    logs = _log_choose(k, number) + _log_choose(m - k, n - number) - _log_choose(m, n)
    masses = np.where(inside, np.exp(logs), 0.0)
    # The distribution of the sum: a product of Fourier transforms.
    size = int((highest - lowest).sum()) + 1
    mass = np.fft.irfft(np.fft.rfft(masses, 2 * size, axis=1).prod(axis=0), 2 * size)[:size].clip(min=0.0)
    mass /= mass.sum()
    # Numbers that lie as far from the mean surprise equally; rounding makes equal distances equal.
    distance = np.abs(int(lowest.sum()) + np.arange(size) - mean).round(9)
    _, group = np.unique(distance, return_inverse=True)
    together = np.bincount(group, mass)
    surprise = (np.cumsum(together[::-1])[::-1] - together / 2.0)[group].clip(max=1.0)
    return _Law(own, mean, variance, int(lowest.sum()), mass, surprise)


def _log_choose(n: NDArray[np.intp], k: NDArray[np.intp]) -> Floats:
    logs: Floats = gammaln(n + 1.0) - gammaln(k + 1.0) - gammaln(n - k + 1.0)
    return logs


def _part_test(
    total: NDArray[np.intp],
    hits: NDArray[np.intp],
    rows: NDArray[np.intp],
    right_rows: NDArray[np.intp],
    law: _Law,
    family: _Family,
    alpha: float,
) -> PartTest:
    compared = float((rows * (total - rows) / total).sum())
    accuracy = float(right_rows.sum() / rows.sum()) if rows.any() else math.nan
    if not compared:
        return PartTest(accuracy, math.nan, math.nan, math.nan, math.nan)
    own = float(family.p_values(np.array([law.own_surprise]))[0])
    expected = accuracy - (law.hits - law.mean) / compared
    few, many = _allowed(law, family, alpha)
    low, high = (expected + (number - law.mean) / compared for number in (few, many))
    expected, low, high = (min(1.0, max(0.0, share)) for share in (expected, low, high))
    return PartTest(accuracy, expected, low, high, own)


def _allowed(law: _Law, family: _Family, alpha: float) -> tuple[float, float]:
    """The numbers of right rows whose p-value is at least `alpha` lie between these two."""
    if law.surprise.size:
        usual = np.flatnonzero(family.p_values(law.surprise) >= alpha)
        # Half a row beyond the last, so that no number lies on an end.
        return law.first + usual[0] - 0.5, law.first + usual[-1] + 0.5
    if not law.variance:
        return law.hits - 0.5, law.hits + 0.5
    low, high = 0.0, 10.0  # standard deviations
    for _ in range(_HALVINGS):
        middle = (low + high) / 2.0
        is_usual = family.p_values(np.array([2.0 * ndtr(-middle)]))[0] >= alpha
        low, high = (middle, high) if is_usual else (low, middle)
    spread = math.sqrt(law.variance)
    return law.mean - low * spread, law.mean + low * spread
