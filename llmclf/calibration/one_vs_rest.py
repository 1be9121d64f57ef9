"""Calibrators of one event: the second of two classes, or each of several classes against the rest.

Their input is the log-odds of the event, log p - log(1 - p) with p = softmax(scores). With more than two classes, one map is
fitted per class, and the probabilities are divided by the sum of their row.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq, isotonic_regression
from scipy.special import expit, logit

from ..arrays import Floats
from ..checks import check_keys, checked_numbers
from ..errors import InputError
from ..logits import log_softmax, logsumexp
from ..numerics.solvers import PRIOR_ROWS, fit_logistic
from .base import BaseCalibrator, checked_prior_rows


class EventCalibrator(BaseCalibrator):
    """One map per event, an array of numbers, from log-odds to the log-probabilities of the event and its complement."""

    def fit_map(self, scores: Floats, columns: NDArray[np.intp], weights: Floats, classes: NDArray[Any]) -> str:
        warnings = []
        self.maps_: list[Floats] = []
        for k, log_odds in events(scores):
            event = (columns == k).astype(np.float64)
            numbers, warning = self._fit_event(log_odds, event, weights)
            self.maps_.append(numbers)
            # For a class without rows, a fit without signal is expected and does not deserve a warning.
            if warning and np.ptp(event) > 0:
                warnings.append(f"class {classes.tolist()[k]!r}: {warning}")
        return "; ".join(warnings)

    def map_log_proba(self, scores: Floats) -> Floats:
        parts = [
            self._log_event(log_odds, numbers)
            for (_, log_odds), numbers in zip(events(scores), self.maps_, strict=True)
        ]
        if len(parts) == 1:
            return np.column_stack([parts[0][1], parts[0][0]])
        return log_softmax(np.column_stack([yes for yes, _ in parts]))

    def _fitted(self) -> dict[str, Any]:
        return {"maps": [numbers.tolist() for numbers in self.maps_]}

    def _restore(self, fitted: Any, n_classes: int) -> None:
        check_keys(fitted, ["maps"], "'fitted'")
        n_maps = 1 if n_classes == 2 else n_classes
        if not isinstance(fitted["maps"], (list, tuple)) or len(fitted["maps"]) != n_maps:
            raise InputError(f"maps={fitted['maps']!r}; expected a list of {n_maps} maps")
        self.maps_ = [self._restored(numbers) for numbers in fitted["maps"]]

    @abstractmethod
    def _fit_event(self, log_odds: Floats, event: Floats, weights: Floats) -> tuple[Floats, str]:
        """The numbers of one map, and a warning that says why they are doubtful; empty if they are not."""

    @abstractmethod
    def _log_event(self, log_odds: Floats, numbers: Floats) -> tuple[Floats, Floats]:
        """Log-probabilities of the event and of its complement."""

    @abstractmethod
    def _restored(self, numbers: Any) -> Floats:
        """The numbers of one map from JSON, checked."""


class PlattCalibrator(EventCalibrator):
    """A logistic curve of the log-odds: q = sigmoid(a x + c).

    The targets are smoothed to (n_1 + 1) / (n_1 + 2) and 1 / (n_0 + 2), so that the fit is finite on separable rows too
    (Platt 1999, "Probabilistic outputs for support vector machines", section 2.2). With more than two classes, there is one
    map per class, and the results are divided by their sum.

    Attributes
    ----------
    maps_ : list of ndarray (2,)
        Slope a and intercept c: of the second of two classes, or of every class.
    classes_ : ndarray (K,)
        The class of each column.

    Examples
    --------
    >>> import numpy as np
    >>> scores = np.log([[0.9, 0.1], [0.2, 0.8]] * 50)
    >>> calibrator = PlattCalibrator().fit(scores, (["no", "yes"] * 4 + ["yes", "no"]) * 10)
    >>> calibrator.predict_proba(scores[:2]).round(2).tolist()
    [[0.79, 0.21], [0.21, 0.79]]
    """

    name = "platt"

    def _fit_event(self, log_odds: Floats, event: Floats, weights: Floats) -> tuple[Floats, str]:
        n_yes = float(weights @ event)
        n_no = float(weights.sum()) - n_yes
        targets = np.where(event == 1.0, (n_yes + 1.0) / (n_yes + 2.0), 1.0 / (n_no + 2.0))
        numbers = fit_logistic(log_odds[:, None], targets, weights)
        return numbers, AGAINST if numbers[0] <= 0 else ""

    def _log_event(self, log_odds: Floats, numbers: Floats) -> tuple[Floats, Floats]:
        return _log_sigmoids(numbers[0] * log_odds + numbers[1])

    def _restored(self, numbers: Any) -> Floats:
        return checked_numbers(numbers, (2,), "map")


class BetaCalibrator(EventCalibrator):
    """A curve that can bend differently at its two ends: q = sigmoid(a log p - b log(1 - p) + c), with a and b at least 0.

    Kull, Silva Filho & Flach 2017, "Beyond sigmoids: how to obtain well-calibrated probabilities from binary classifiers
    with beta calibration". With a = b it is `PlattCalibrator` without smoothed targets. With more than two classes, there is
    one map per class, and the results are divided by their sum.

    Where the scores separate the events, the likelihood has no maximum. So the scores' own slope, with an intercept that gives
    the event its frequency, counts as some rows, too.

    Parameters
    ----------
    prior_rows : float
        How many rows that is; the pull vanishes where there are many labelled rows. With 0 the fit is that of the paper, and
        separable events get probabilities of 0 and 1.

    Attributes
    ----------
    maps_ : list of ndarray (3,)
        a, b and c: of the second of two classes, or of every class.
    classes_ : ndarray (K,)
        The class of each column.

    Examples
    --------
    >>> import numpy as np
    >>> scores = np.log([[0.9, 0.1], [0.2, 0.8]] * 50)
    >>> calibrator = BetaCalibrator().fit(scores, (["no", "yes"] * 4 + ["yes", "no"]) * 10)
    >>> calibrator.predict_proba(scores[:2]).round(2).tolist()
    [[0.8, 0.2], [0.2, 0.8]]
    """

    name = "beta"

    def __init__(self, prior_rows: float = PRIOR_ROWS) -> None:
        self.prior_rows = prior_rows

    def _fit_event(self, log_odds: Floats, event: Floats, weights: Floats) -> tuple[Floats, str]:
        prior_rows = checked_prior_rows(self.prior_rows)
        if not 0.0 < weights @ event < weights.sum():
            raise InputError(
                "beta calibration needs rows of every class, and some class does not occur in y; "
                "label some rows of it, or use calibrator 'platt', 'temperature' or 'bias_temperature'"
            )
        targets = event
        if prior_rows:
            share = prior_rows / weights.sum()
            targets = (event + share * _with_frequency(log_odds, weights, float(weights @ event))) / (1.0 + share)
        numbers = fit_logistic(self._features(log_odds), targets, weights, lowest=0.0)
        if (numbers[:2] <= 0).all():
            return numbers, AGAINST
        return numbers, _SEPARABLE if log_odds[event == 1.0].min() > log_odds[event == 0.0].max() else ""

    def _log_event(self, log_odds: Floats, numbers: Floats) -> tuple[Floats, Floats]:
        return _log_sigmoids(self._features(log_odds) @ numbers[:2] + numbers[2])

    @staticmethod
    def _features(log_odds: Floats) -> Floats:
        yes, no = _log_sigmoids(log_odds)
        return np.column_stack([yes, -no])

    def _restored(self, numbers: Any) -> Floats:
        return checked_numbers(numbers, (3,), "map")


class IsotonicCalibrator(EventCalibrator):
    """Any increasing curve: isotonic regression of the event on its log-odds, kept away from 0 and 1.

    Before the division by the row's sum, probabilities lie within [1 / (n + 1), n / (n + 1)], where n is the sum of the
    weights: without these limits, a single row at either end could cost an infinite log loss. Between the fitted values the
    curve is linear in the log-odds; beyond them it is flat. It needs many rows (Zadrozny & Elkan 2002, "Transforming
    classifier scores into accurate multiclass probability estimates"). With more than two classes, there is one curve per
    class.

    Attributes
    ----------
    maps_ : list of ndarray (2 m,)
        m log-odds in increasing order, then the m probabilities there: of the second of two classes, or of every class.
    classes_ : ndarray (K,)
        The class of each column.

    Examples
    --------
    >>> import numpy as np
    >>> scores = np.log([[0.9, 0.1], [0.2, 0.8]] * 50)
    >>> calibrator = IsotonicCalibrator().fit(scores, (["no", "yes"] * 4 + ["yes", "no"]) * 10)
    >>> calibrator.predict_proba(scores[:2]).round(2).tolist()
    [[0.8, 0.2], [0.2, 0.8]]
    """

    name = "isotonic"

    def _fit_event(self, log_odds: Floats, event: Floats, weights: Floats) -> tuple[Floats, str]:
        values, members = np.unique(log_odds, return_inverse=True)
        mass = np.bincount(members, weights)
        rate = isotonic_regression(np.bincount(members, weights * event) / mass, weights=mass).x
        floor = 1.0 / (weights.sum() + 1.0)
        rate = rate.clip(floor, 1.0 - floor)
        # The first and the last value of every step are enough to define the same curve.
        steps = np.flatnonzero(np.diff(rate))
        kept = np.unique(np.concatenate([[0], steps, steps + 1, [len(values) - 1]]))
        return np.concatenate([values[kept], rate[kept]]), AGAINST if not len(steps) else ""

    def _log_event(self, log_odds: Floats, numbers: Floats) -> tuple[Floats, Floats]:
        values, rate = np.split(numbers, 2)
        probability = np.interp(log_odds, values, rate)
        return np.log(probability), np.log1p(-probability)

    def _restored(self, numbers: Any) -> Floats:
        size = len(numbers) if isinstance(numbers, (list, tuple)) else 0
        curve = checked_numbers(numbers, (size,), "map")
        values, rate = np.split(curve, 2) if size and size % 2 == 0 else (curve, curve)
        is_increasing = (np.diff(values) > 0).all() and (np.diff(rate) >= 0).all() and ((rate > 0) & (rate < 1)).all()
        if not size or size % 2 or not is_increasing:
            raise InputError(
                f"map={numbers!r}; expected increasing log-odds, then as many increasing probabilities between 0 and 1"
            )
        return curve


AGAINST = (
    "the scores say nothing about the labels, or contradict them; check that rows and labels belong together and, of scores of "
    "your own, the order of the columns"
)
_SEPARABLE = (
    "the scores separate the labels completely, so the rows alone would want an ever sharper curve; how sharp it is rests on "
    "prior_rows. Label more rows"
)


def events(scores: Floats) -> list[tuple[int, Floats]]:
    """Column and log-odds (n,) of each event: of the second of two classes, or of every class."""
    if scores.shape[1] == 2:
        return [(1, scores[:, 1] - scores[:, 0])]
    return [(k, scores[:, k] - logsumexp(np.delete(scores, k, axis=1))) for k in range(scores.shape[1])]


def _with_frequency(log_odds: Floats, weights: Floats, n_yes: float) -> Floats:
    """Probabilities (n,) with the slope of the scores, moved so that their mean is (n_yes + 1) / (n + 2).

    A language model's preference for a label word says nothing about how sharp a curve should be.
    """
    shares = weights / weights.sum()
    frequency = (n_yes + 1.0) / (weights.sum() + 2.0)

    def excess(shift: float) -> float:
        return float(shares @ expit(log_odds + shift) - frequency)

    # At the ends every row is, by itself, below and above the frequency.
    middle = float(logit(frequency))
    low, high = middle - log_odds.max() - 1.0, middle - log_odds.min() + 1.0
    moved: Floats = expit(log_odds + brentq(excess, low, high, xtol=1e-12))
    return moved


def _log_sigmoids(z: Floats) -> tuple[Floats, Floats]:
    return -np.logaddexp(0.0, -z), -np.logaddexp(0.0, z)
