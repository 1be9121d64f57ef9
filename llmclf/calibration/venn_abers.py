"""The Venn-Abers predictor: two isotonic fits for every row, one for each label that it might have."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import isotonic_regression

from ..arrays import Floats
from ..checks import checked_numbers
from ..errors import InputError
from .one_vs_rest import AGAINST, EventCalibrator, events


class VennAbersCalibrator(EventCalibrator):
    """A probability with an interval, from the isotonic fits in which the row has the one label or the other.

    The row is added to the fitted rows with label 0 and then with label 1; the two isotonic regressions give p0 and p1 for it.
    One of the two is calibrated for any distribution of exchangeable rows. The probability is p1 / (1 - p0 + p1), which
    minimises the largest regret in log loss (Vovk, Petej & Fedorova 2015, "Large-scale probabilistic predictors with and
    without guarantees of validity", section 4; here the fits for all new rows are computed together). It is never 0 or 1.
    With more than two classes, there is one event per class, and the probabilities are divided by the sum of their row.

    Attributes
    ----------
    maps_ : list of ndarray (3 m,)
        m log-odds in increasing order, the weight of the rows at each, and the weight of those where the event happened: of
        the second of two classes, or of every class.
    classes_ : ndarray (K,)
        The class of each column.

    Examples
    --------
    >>> import numpy as np
    >>> scores = np.log([[0.9, 0.1], [0.2, 0.8]] * 50)
    >>> calibrator = VennAbersCalibrator().fit(scores, (["no", "yes"] * 4 + ["yes", "no"]) * 10)
    >>> lower, upper = calibrator.predict_interval(scores[:1])
    >>> lower.round(3).tolist(), calibrator.predict_proba(scores[:1]).round(3).tolist(), upper.round(3).tolist()
    ([[0.784, 0.196]], [[0.788, 0.212]], [[0.804, 0.216]])
    """

    name = "venn_abers"

    def predict_interval(self, scores: ArrayLike) -> tuple[Floats, Floats]:
        """The two probabilities of every class, each class against the rest.

        Parameters
        ----------
        scores : array-like (n, K)
            Log-scores in nats, columns as in `fit`.

        Returns
        -------
        lower, upper : ndarray (n, K)
            p0 and p1 of each class. With two classes, the interval of the first mirrors that of the second. With more, the
            intervals are those before the division by the sum of the row.

        Raises
        ------
        InputError, NotFittedError
            As `predict_log_proba`.
        """
        matrix = self._checked(scores)
        pairs = [
            _both_fits(log_odds, *np.split(numbers, 3))
            for (_, log_odds), numbers in zip(events(matrix), self.maps_, strict=True)
        ]
        if len(pairs) == 1:
            p0, p1 = pairs[0]
            return np.column_stack([1.0 - p1, p0]), np.column_stack([1.0 - p0, p1])
        return np.column_stack([p0 for p0, _ in pairs]), np.column_stack([p1 for _, p1 in pairs])

    def _fit_event(self, log_odds: Floats, event: Floats, weights: Floats) -> tuple[Floats, str]:
        values, members = np.unique(log_odds, return_inverse=True)
        mass, hits = np.bincount(members, weights), np.bincount(members, weights * event)
        flat = np.ptp(isotonic_regression(hits / mass, weights=mass).x) == 0.0
        return np.concatenate([values, mass, hits]), AGAINST if flat else ""

    def _log_event(self, log_odds: Floats, numbers: Floats) -> tuple[Floats, Floats]:
        p0, p1 = _both_fits(log_odds, *np.split(numbers, 3))
        total = np.log(1.0 - p0 + p1)
        return np.log(p1) - total, np.log1p(-p0) - total

    def _restored(self, numbers: Any) -> Floats:
        size = len(numbers) if isinstance(numbers, (list, tuple)) else 0
        rows = checked_numbers(numbers, (size,), "map")
        values, mass, hits = np.split(rows, 3) if size and size % 3 == 0 else (rows, rows, rows)
        is_valid = (np.diff(values) > 0).all() and (mass > 0).all() and (hits >= 0).all() and (hits <= mass).all()
        if not size or size % 3 or not is_valid:
            raise InputError(
                f"map={numbers!r}; expected increasing log-odds, then as many positive weights, then as many weights of "
                "events, none above its weight"
            )
        return rows


def _both_fits(log_odds: Floats, values: Floats, mass: Floats, hits: Floats) -> tuple[Floats, Floats]:
    """Isotonic fits p0 and p1 at each of `log_odds`, added with weight 1 and label 0 or 1."""
    size = len(values)
    left, right = _blocks(mass, hits), _blocks(mass[::-1], (mass - hits)[::-1])
    start = np.searchsorted(values, log_odds, side="left")
    tied = np.searchsorted(values, log_odds, side="right") > start
    # The result for a row depends only on its position among the values.
    positions, members = np.unique(2 * start + tied, return_inverse=True)
    start, tied = positions // 2, positions % 2 == 1
    index = np.minimum(start, size - 1)
    fits = []
    for label in (0.0, 1.0):
        fit = _insert(
            label + np.where(tied, hits[index], 0.0),
            1.0 + np.where(tied, mass[index], 0.0),
            start,
            start + tied,
            left,
            right,
        )
        fits.append(fit[members.reshape(-1)])
    return fits[0], fits[1]


def _blocks(mass: Floats, hits: Floats) -> tuple[Floats, Floats, NDArray[np.intp]]:
    """The last block of the isotonic fit to every prefix: its hits, its mass, and the length of the prefix before it."""
    size = len(mass)
    block_hits, block_mass, before = np.zeros(size + 1), np.zeros(size + 1), np.zeros(size + 1, dtype=np.intp)
    for i in range(1, size + 1):
        h, m, j = hits[i - 1], mass[i - 1], i - 1
        while j > 0 and block_hits[j] * m >= h * block_mass[j]:
            h, m, j = h + block_hits[j], m + block_mass[j], before[j]
        block_hits[i], block_mass[i], before[i] = h, m, j
    return block_hits, block_mass, before


def _insert(
    hits: Floats,
    mass: Floats,
    low: NDArray[np.intp],
    high: NDArray[np.intp],
    left: tuple[Floats, Floats, NDArray[np.intp]],
    right: tuple[Floats, Floats, NDArray[np.intp]],
) -> Floats:
    """The rate of the block around each new point: it absorbs neighbours on both sides as long as the rates would decrease.

    `low` and `high` are the numbers of values before the block and up to its end. The blocks on the right are those of the
    values in reverse order, with misses in place of hits.
    """
    size = len(right[0]) - 1
    hits, mass, low, behind = hits.copy(), mass.copy(), low.copy(), size - high
    while True:
        rate = hits / mass
        with np.errstate(invalid="ignore", divide="ignore"):
            rate_left = np.where(low > 0, left[0][low] / left[1][low], -np.inf)
            rate_right = np.where(behind > 0, 1.0 - right[0][behind] / right[1][behind], np.inf)
        to_left = (low > 0) & (rate_left >= rate)
        to_right = ~to_left & (behind > 0) & (rate_right <= rate)
        if not (to_left.any() or to_right.any()):
            return rate
        hits += np.where(to_left, left[0][low], 0.0)
        hits += np.where(to_right, right[1][behind] - right[0][behind], 0.0)
        mass += np.where(to_left, left[1][low], 0.0) + np.where(to_right, right[1][behind], 0.0)
        low = np.where(to_left, left[2][low], low)
        behind = np.where(to_right, right[2][behind], behind)
