"""The labelled rows that a plan is made from, and worlds that are like them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize
from scipy.special import expit

from ...arrays import Floats, Integers
from ...errors import EstimationWarning, InputError, warn
from ...metrics import checked_predictions
from ...numerics.class_array import class_array
from ...tables.array_arguments import as_labels, class_list
from ..labelled_sample import LabelledSample

MIN_ROWS = 10
_FEW_ROWS = 50
_LARGEST = 14.0  # log-odds: a confidence nearer to 1 than a millionth says no more
_SLOPE_SPREAD = 0.5  # standard deviations that keep the reliability of few rows near the model's own
_INTERCEPT_SPREAD = 1.0


@dataclass(frozen=True, eq=False)
class Pilot:
    """Labelled rows with the probabilities of a classifier.

    Attributes
    ----------
    proba : ndarray (n, K)
    columns : ndarray of int (n,)
    shares : ndarray (n,)
        Which share of the population each row stands for.
    classes : ndarray (K,)
    n_rows : int or None
        How many rows there are in all; None: so many that their number does not matter.
    """

    proba: Floats
    columns: NDArray[np.intp]
    shares: Floats
    classes: NDArray[Any]
    n_rows: int | None

    @property
    def size(self) -> int:
        return len(self.columns)

    @cached_property
    def log_odds(self) -> Floats:
        """Of the confidences (n,)."""
        confidence = self.proba.max(axis=1)
        with np.errstate(divide="ignore"):
            result: Floats = (np.log(confidence) - np.log1p(-confidence)).clip(-_LARGEST, _LARGEST)
        return result

    @cached_property
    def is_right(self) -> Floats:
        result: Floats = (self.proba.argmax(axis=1) == self.columns).astype(np.float64)
        return result

    @cached_property
    def reliability(self) -> tuple[float, float]:
        """Intercept and slope of the log-odds of being right over those of the confidence, drawn towards 0 and 1."""
        design = np.column_stack([np.ones(self.size), self.log_odds])
        weights = self.shares * self.size
        signs = 2.0 * self.is_right - 1.0
        precision = np.array([_INTERCEPT_SPREAD**-2.0, _SLOPE_SPREAD**-2.0])

        def loss(coefficients: Floats) -> tuple[float, Floats]:
            margins = signs * (design @ coefficients)
            away = coefficients - [0.0, 1.0]
            value = weights @ np.logaddexp(0.0, -margins) + 0.5 * (precision * away) @ away
            return float(value), precision * away - design.T @ (weights * signs * expit(-margins))

        found = minimize(loss, np.array([0.0, 1.0]), jac=True, method="BFGS", options={"gtol": 1e-6 * self.size})
        return float(found.x[0]), float(found.x[1])

    def drawn_rows(self, size: int, generator: np.random.Generator) -> Integers:
        """Places of rows (size,), drawn with replacement as often as they stand for others."""
        if np.ptp(self.shares) == 0.0:
            return generator.integers(self.size, size=size)
        return generator.choice(self.size, size=size, p=self.shares)

    def drawn_confidences(self, size: int, generator: np.random.Generator) -> tuple[Floats, Floats]:
        """Confidences (size,) distributed like those of the pilot, and whether these rows are right.

        Copies of the pilot's rows would make its lucky thresholds lucky for ever. So the confidences are drawn between those of
        the rows, too, and whether a row is right from the reliability.
        """
        order = np.argsort(self.log_odds)
        middles = np.cumsum(self.shares[order]) - self.shares[order] / 2.0
        drawn = np.interp(generator.random(size), middles, self.log_odds[order])
        intercept, slope = self.reliability
        return expit(drawn), (generator.random(size) < expit(intercept + slope * drawn)).astype(np.float64)

    def worlds(self, number: int, generator: np.random.Generator) -> Iterator[Pilot]:
        """Other pilots that might have been drawn in the place of this one: its rows, drawn again."""
        for _ in range(number):
            rows = self.drawn_rows(self.size, generator)
            even = np.full(self.size, 1.0 / self.size)
            yield Pilot(self.proba[rows], self.columns[rows], even, self.classes, self.n_rows)


def read_pilot(pilot: Any, classes: ArrayLike | None, n_rows: int | None) -> Pilot:
    """A pilot of what a caller gave: a `LabelledSample`, or the labels and the probabilities of the labelled rows.

    Raises
    ------
    InputError
        It is something else, or has fewer than ten rows.

    Warns
    -----
    EstimationWarning
        It has fewer than fifty rows.
    """
    if isinstance(pilot, LabelledSample):
        if n_rows is not None:
            raise InputError(
                f"n_rows={n_rows} is given beside a LabelledSample, which has {pilot.n_rows} rows; leave it out"
            )
        design = pilot.design_weights
        read = Pilot(pilot.labelled_proba, pilot.columns, design / design.sum(), pilot.classes, pilot.n_rows)
    else:
        if not isinstance(pilot, (tuple, list)) or len(pilot) != 2:
            raise InputError(
                f"pilot is a {type(pilot).__name__}; expected a LabelledSample, or (y, proba): the labels of some rows and their "
                "probabilities"
            )
        y, proba = pilot
        columns, probabilities, _ = checked_predictions(y, proba, classes)
        n_classes = probabilities.shape[1]
        names = class_list(classes) if classes is not None else _names(y, n_classes)
        size = len(columns)
        read = Pilot(probabilities, columns, np.full(size, 1.0 / size), class_array(names), n_rows)
    if read.n_rows is not None and read.n_rows < read.size:
        raise InputError(f"n_rows={n_rows}, and the pilot has {read.size} of the rows; expected the number of all rows")
    if read.size < MIN_ROWS:
        raise InputError(
            f"the pilot has {read.size} labelled rows; a plan needs {MIN_ROWS} at least, and better {_FEW_ROWS}"
        )
    if read.size < _FEW_ROWS:
        warn(
            f"the pilot has only {read.size} labelled rows, so the plan is rough; look at its low and high, and plan again when "
            "more rows are labelled",
            EstimationWarning,
        )
    return read


def _names(y: Any, n_classes: int) -> Any:
    labels = as_labels(y)
    return np.arange(n_classes) if labels.dtype.kind in "buif" else sorted(set(labels.tolist()))
