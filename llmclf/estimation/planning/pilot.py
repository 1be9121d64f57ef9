"""The labelled rows that a plan is made from."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ...arrays import Floats, Integers
from ...errors import EstimationWarning, InputError, warn
from ...metrics import checked_predictions
from ...numerics.class_array import class_array
from ...tables.array_arguments import as_labels, class_list
from ..labelled_sample import LabelledSample

MIN_ROWS = 10
_FEW_ROWS = 50
_LARGEST = 14.0  # log-odds: a confidence nearer to 1 than a millionth says no more


@dataclass(frozen=True, eq=False)
class Pilot:
    """Labelled rows with the probabilities of a classifier.

    Attributes
    ----------
    proba : ndarray (n, K)
    columns : ndarray of int (n,)
    shares : ndarray (n,)
        Which share of the population each row stands for.
    units : ndarray of int (n,)
        Which rows were drawn together.
    classes : ndarray (K,)
    n_rows : int or None
        How many rows there are in all; None: so many that their number does not matter.
    """

    proba: Floats
    columns: NDArray[np.intp]
    shares: Floats
    units: Integers
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
    def effective_size(self) -> float:
        """As many rows that all stand for the same share would say as much (Kish 1965, "Survey sampling")."""
        return float(1.0 / (np.bincount(self.units, self.shares) ** 2).sum())


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
        read = Pilot(
            pilot.labelled_proba, pilot.columns, design / design.sum(), pilot.units, pilot.classes, pilot.n_rows
        )
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
        read = Pilot(
            probabilities,
            columns,
            np.full(size, 1.0 / size),
            np.arange(size),
            class_array(names),
            n_rows,
        )
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
