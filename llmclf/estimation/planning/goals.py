"""What labels are wanted for, and what a number of them would give in a world like the pilot's."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from ...arrays import Floats
from ...calibration.tolerated_errors import tolerated_errors
from ...errors import LlmclfWarning
from ...metrics import calibration_interval
from ..shares import estimate_shares
from .worlds import World

_N_RESAMPLES = 99  # of a calibration interval: enough for its width
_ROWS_PER_LABEL = 3  # of a simulated table that stands for a larger one, which would give the same intervals
_MANY_ROWS_PER_LABEL = 25  # from here on, `estimate_shares` counts the table as endless
_HARDLY_EVER = 1e-6
_N_FITTED = 2  # numbers that describe a pilot's classifier: the two of a recalibration, or of a reliability


class Goal(Protocol):
    """A wish that labels fulfil."""

    @property
    def measure(self) -> str:
        """What is achieved, as a column's name."""
        ...

    @property
    def text(self) -> str:
        """The wish as part of a sentence."""
        ...

    @property
    def least(self) -> int:
        """The smallest number of labels that is worth a try."""
        ...

    @property
    def n_draws(self) -> int:
        """How many simulations of one number of labels are worth their time in each world."""
        ...

    @property
    def is_additive(self) -> bool:
        """Whether a world shifts the margins of all numbers of labels alike, as it does if they are logarithms of widths."""
        ...

    def why_impossible(self, world: World) -> str | None:
        """Why no number of labels fulfils the wish in this world; None if some number does."""
        ...

    def achieved(self, world: World, n_labels: int, generator: np.random.Generator) -> float:
        """What this number of labels gives in one draw."""
        ...

    def margin(self, achieved: float) -> float:
        """By how much that is better than the wish; at least 0 where the wish is fulfilled."""
        ...


@dataclass(frozen=True)
class ShareGoal:
    """An interval of a share that is at most so wide.

    Attributes
    ----------
    half_width : float
    column : int or None
        The class; None: the class whose interval is the widest.
    name : str
        Of the class, for the text.
    confidence_level : float
    """

    half_width: float
    column: int | None
    name: str
    confidence_level: float

    measure = "half_width"
    least = 10
    n_draws = 2
    is_additive = True

    @property
    def text(self) -> str:
        return f"a {self.confidence_level:.4g} interval of {self.name} of ±{self.half_width:.4g}"

    def why_impossible(self, world: World) -> str | None:
        return None  # enough labels make every interval narrow

    def achieved(self, world: World, n_labels: int, generator: np.random.Generator) -> float:
        pilot = world.pilot
        n_rows, inclusion = _ROWS_PER_LABEL * n_labels, None
        if pilot.n_rows is not None and pilot.n_rows <= _MANY_ROWS_PER_LABEL * n_labels:
            n_rows = max(pilot.n_rows, n_labels)
        else:  # of so many rows, it does not matter how many: a few stand for all of them
            inclusion = np.full(n_labels, _HARDLY_EVER)
        table = world.rows(n_rows, generator)
        labels = world.labels(table[:n_labels], self.column, generator)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", LlmclfWarning)
            estimates = estimate_shares(
                pilot.proba[table],
                labels,
                np.arange(n_labels),
                classes=range(pilot.proba.shape[1]),
                inclusion=inclusion,
            )
        low, high = estimates.overall.interval(1.0 - self.confidence_level)
        widths = (high - low) / 2.0 * _for_other_rows(world)
        return float(widths.max() if self.column is None else widths[self.column])

    def margin(self, achieved: float) -> float:
        return _narrower(achieved, self.half_width)


@dataclass(frozen=True)
class ThresholdGoal:
    """A threshold with a guarantee that accepts enough rows.

    Attributes
    ----------
    max_error, confidence : float
        Of `llmclf.calibration.select_threshold`.
    min_coverage : float or None
        The share of the rows that must be accepted; None: any row at all.
    """

    max_error: float
    confidence: float
    min_coverage: float | None

    measure = "coverage"
    n_draws = 40
    is_additive = False

    @property
    def text(self) -> str:
        rows = "any rows" if self.min_coverage is None else f"at least {self.min_coverage:.4g} of the rows"
        return f"a threshold that accepts {rows} with at most {self.max_error:.4g} wrong (confidence {self.confidence:.4g})"

    @property
    def least(self) -> int:
        return math.ceil(math.log(1.0 - self.confidence) / math.log1p(-self.max_error) - 1e-9)

    def why_impossible(self, world: World) -> str | None:
        reachable = self.reachable(world)
        if reachable > (self.min_coverage or 0.0):
            return None
        return (
            f"no number of labels gives {self.text} with this classifier: by the {world.pilot.size} rows of the pilot, the "
            f"largest share of rows with at most {self.max_error:.4g} wrong is about {reachable:.2g}, however well it is known. "
            "Allow more errors, ask for a smaller min_coverage, or improve the classifier"
        )

    def reachable(self, world: World) -> float:
        """The share of the rows that could be accepted if the reliability were known."""
        log_odds = world.pilot.log_odds
        order = np.argsort(-log_odds, kind="stable")
        shares = world.shares[order]
        wrong = np.cumsum(shares * (1.0 - world.accuracy(log_odds[order])))
        kept = np.cumsum(shares)
        good = np.flatnonzero(wrong <= self.max_error * kept)
        return float(kept[good[-1]]) if good.size else 0.0

    def achieved(self, world: World, n_labels: int, generator: np.random.Generator) -> float:
        confidence, is_right = world.confidences(n_labels, generator)
        return selected_coverage(confidence, is_right, self.max_error, self.confidence)

    def margin(self, achieved: float) -> float:
        return achieved - self.min_coverage if self.min_coverage is not None else (achieved or -1.0)


@dataclass(frozen=True)
class CalibrationGoal:
    """An interval of the expected calibration error that is at most so wide.

    Attributes
    ----------
    half_width, confidence_level : float
    n_bins : int
    """

    half_width: float
    confidence_level: float
    n_bins: int

    measure = "half_width"
    least = 20
    n_draws = 2
    is_additive = True

    @property
    def text(self) -> str:
        return f"a {self.confidence_level:.4g} interval of the calibration error of ±{self.half_width:.4g}"

    def why_impossible(self, world: World) -> str | None:
        return None

    def achieved(self, world: World, n_labels: int, generator: np.random.Generator) -> float:
        confidence, is_right = world.confidences(n_labels, generator)
        low, high, _, _ = calibration_interval(
            is_right,
            confidence,
            pos_label=1,
            n_bins=self.n_bins,
            confidence_level=self.confidence_level,
            n_resamples=_N_RESAMPLES,
            random_state=generator,
        )
        return (high - low) / 2.0 * _for_other_rows(world)

    def margin(self, achieved: float) -> float:
        return _narrower(achieved, self.half_width)


def selected_coverage(confidence: Floats, is_right: Floats, max_error: float, level: float) -> float:
    """The share of the rows (n,) that the threshold of `llmclf.calibration.select_threshold` accepts, 0 if there is none.

    It takes the confidences to be all different, and no time to explain why no threshold was found.
    """
    n_wrong = np.cumsum(1.0 - is_right[np.argsort(-confidence)])
    tolerated = tolerated_errors(len(n_wrong), max_error, 1.0 - level)
    passed = np.flatnonzero(n_wrong <= tolerated[1:])
    return float(passed[-1] + 1) / len(n_wrong) if passed.size else 0.0


def _for_other_rows(world: World) -> float:
    """By what factor intervals are wider than in this world.

    A line that is fitted to n rows lies nearer to them than to others, by the part 2 / n of the variance: in the rows of the
    pilot, and once more in those of a world that is drawn from them. The factor is the root of both.
    """
    return 1.0 + _N_FITTED / world.pilot.effective_size


def _narrower(achieved: float, half_width: float) -> float:
    """The logarithm of the factor by which an interval is narrower; more than ten, as where all rows are labelled, is ten."""
    return math.log(half_width / max(achieved, half_width / 10.0))
