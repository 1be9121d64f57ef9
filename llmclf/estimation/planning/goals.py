"""What labels are wanted for, and what a number of them would give in a world like the pilot's."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from scipy.special import expit

from ...arrays import Floats
from ...calibration.tolerated_errors import tolerated_errors
from ...errors import LlmclfWarning
from ...metrics import calibration_interval
from ..shares import estimate_shares
from .pilot import Pilot

_N_RESAMPLES = 199  # of a calibration interval: enough for its width
_ROWS_PER_LABEL = 5  # of a simulated table; a larger one gives the same intervals and takes longer


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

    def why_impossible(self, pilot: Pilot) -> str | None:
        """Why no number of labels fulfils the wish in the pilot's world; None if some number does."""
        ...

    def achieved(self, pilot: Pilot, n_labels: int, generator: np.random.Generator) -> float:
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
    n_draws = 5  # widths vary little

    @property
    def text(self) -> str:
        return f"a {self.confidence_level:.4g} interval of {self.name} of ±{self.half_width:.4g}"

    def why_impossible(self, pilot: Pilot) -> str | None:
        return None  # enough labels make every interval narrow

    def achieved(self, pilot: Pilot, n_labels: int, generator: np.random.Generator) -> float:
        n_rows = _ROWS_PER_LABEL * n_labels + 1000
        if pilot.n_rows is not None:
            n_rows = min(n_rows, max(pilot.n_rows, n_labels))
        if n_rows <= n_labels:
            return 0.0
        table = pilot.drawn_rows(n_rows, generator)
        labels = pilot.columns[table[:n_labels]]
        # A class of which the pilot has no case may have some in other rows: now and then, a row has the label that its
        # probabilities give it.
        others = np.flatnonzero(generator.random(n_labels) < 2.0 / (pilot.size + 2.0))
        if others.size:
            heights = np.cumsum(pilot.proba[table[others]], axis=1)
            labels[others] = (
                (generator.random(others.size)[:, None] > heights).sum(axis=1).clip(max=heights.shape[1] - 1)
            )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", LlmclfWarning)
            estimates = estimate_shares(
                pilot.proba[table], labels, np.arange(n_labels), classes=range(pilot.proba.shape[1])
            )
        low, high = estimates.overall.interval(1.0 - self.confidence_level)
        widths = (high - low) / 2.0
        # The interval is that of a table of n_rows; of the table that is planned for, fewer or more rows are unlabelled.
        whole = 1.0 if pilot.n_rows is None else 1.0 - n_labels / pilot.n_rows
        factor = math.sqrt(whole / (1.0 - n_labels / n_rows))
        return float(widths.max() if self.column is None else widths[self.column]) * factor

    def margin(self, achieved: float) -> float:
        return math.log(self.half_width / max(achieved, 1e-300))


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

    @property
    def text(self) -> str:
        rows = "any rows" if self.min_coverage is None else f"at least {self.min_coverage:.4g} of the rows"
        return f"a threshold that accepts {rows} with at most {self.max_error:.4g} wrong (confidence {self.confidence:.4g})"

    @property
    def least(self) -> int:
        return math.ceil(math.log(1.0 - self.confidence) / math.log1p(-self.max_error) - 1e-9)

    def why_impossible(self, pilot: Pilot) -> str | None:
        reachable = self.reachable(pilot)
        if reachable > (self.min_coverage or 0.0):
            return None
        return (
            f"no number of labels gives {self.text} with this classifier: by the {pilot.size} rows of the pilot, the largest "
            f"share of rows with at most {self.max_error:.4g} wrong is about {reachable:.2g}, however well it is known. Allow "
            "more errors, ask for a smaller min_coverage, or improve the classifier"
        )

    def reachable(self, pilot: Pilot) -> float:
        """The share of the rows that could be accepted if the reliability were known."""
        order = np.argsort(-pilot.log_odds, kind="stable")
        intercept, slope = pilot.reliability
        shares = pilot.shares[order]
        wrong = np.cumsum(shares * expit(-(intercept + slope * pilot.log_odds[order])))
        kept = np.cumsum(shares)
        good = np.flatnonzero(wrong <= self.max_error * kept)
        return float(kept[good[-1]]) if good.size else 0.0

    def achieved(self, pilot: Pilot, n_labels: int, generator: np.random.Generator) -> float:
        confidence, is_right = pilot.drawn_confidences(n_labels, generator)
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
    n_draws = 5  # widths vary little

    @property
    def text(self) -> str:
        return f"a {self.confidence_level:.4g} interval of the calibration error of ±{self.half_width:.4g}"

    def why_impossible(self, pilot: Pilot) -> str | None:
        return None

    def achieved(self, pilot: Pilot, n_labels: int, generator: np.random.Generator) -> float:
        confidence, is_right = pilot.drawn_confidences(n_labels, generator)
        low, high, _, _ = calibration_interval(
            is_right,
            confidence,
            pos_label=1,
            n_bins=self.n_bins,
            confidence_level=self.confidence_level,
            n_resamples=_N_RESAMPLES,
            random_state=generator,
        )
        return (high - low) / 2.0

    def margin(self, achieved: float) -> float:
        return math.log(self.half_width / max(achieved, 1e-300))


def selected_coverage(confidence: Floats, is_right: Floats, max_error: float, level: float) -> float:
    """The share of the rows (n,) that the threshold of `llmclf.calibration.select_threshold` accepts, 0 if there is none.

    It takes the confidences to be all different, and no time to explain why no threshold was found.
    """
    n_wrong = np.cumsum(1.0 - is_right[np.argsort(-confidence)])
    tolerated = tolerated_errors(len(n_wrong), max_error, 1.0 - level)
    passed = np.flatnonzero(n_wrong <= tolerated[1:])
    return float(passed[-1] + 1) / len(n_wrong) if passed.size else 0.0
