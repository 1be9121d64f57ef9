"""A decision as it is logged: scores and what followed from them, and no text."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..arrays import Floats, Integers
from ..checks import is_finite_number
from ..errors import InputError
from ..numerics.class_matching import is_hashable

NO_LABEL = -1
"""Stands in columns of labels where a row has none."""
UNKNOWN = -1
"""Stands in columns of truth values where nothing was decided."""
_MAX_ID = 256
_KIND = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,63}")


@dataclass(frozen=True)
class DecisionRecord:
    """What was answered to one row.

    Attributes
    ----------
    id : str
        That of this decision and of no other, by which audited labels name it: the one that the server made, or that a table
        gives. At most 256 characters.
    time : float
        Seconds since 1970, UTC.
    label : object or None
        The class that was answered; None if there was none.
    probabilities : tuple of K float, or None
        Calibrated, in the order of the log's classes; None where the row has an error.
    accepted : bool or None
        Whether the threshold accepts the row; None without a threshold, or with an error.
    label_mass : float or None
        The probability that the model put on all labels together, where it is known.
    undecided : bool
        Whether the bounds of a server leave the label open.
    error : str or None
        The kind of an error, such as ``RowError``: a word, and never a message, since messages quote texts.

    Examples
    --------
    >>> DecisionRecord("r1:0", 1.7e9, "praise", (0.9, 0.1), accepted=True, label_mass=0.97).label
    'praise'
    """

    id: str
    time: float
    label: Any = None
    probabilities: tuple[float, ...] | None = None
    accepted: bool | None = None
    label_mass: float | None = None
    undecided: bool = False
    error: str | None = None


@dataclass(frozen=True)
class DecisionColumns:
    """The decisions of n rows, in the order in which they were logged.

    Attributes
    ----------
    ids : tuple of n str
    times : ndarray (n,)
        Seconds since 1970, UTC; NaN where unknown.
    labels : ndarray of int (n,)
        The column of the class that was answered; -1 where there was none.
    probabilities : ndarray (n, K)
        NaN in rows without any.
    accepted : ndarray of int8 (n,)
        1 or 0; -1 where nothing was decided.
    label_mass : ndarray (n,)
        NaN where unknown.
    undecided : ndarray of bool (n,)
    errors : tuple of n (str or None)
    """

    ids: tuple[str, ...]
    times: Floats
    labels: Integers
    probabilities: Floats
    accepted: NDArray[np.int8]
    label_mass: Floats
    undecided: NDArray[np.bool_]
    errors: tuple[str | None, ...]

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def confidence(self) -> Floats:
        """The probability of the class that was answered (n,); NaN where there is none."""
        known = self.labels != NO_LABEL
        values = np.full(len(self), np.nan)
        values[known] = self.probabilities[known, self.labels[known]]
        return values

    def take(self, rows: Any) -> DecisionColumns:
        """Some of the rows, by their places or by a mask."""
        places = np.arange(len(self))[rows]
        return DecisionColumns(
            tuple(self.ids[i] for i in places),
            self.times[places],
            self.labels[places],
            self.probabilities[places],
            self.accepted[places],
            self.label_mass[places],
            self.undecided[places],
            tuple(self.errors[i] for i in places),
        )


def joined(parts: Sequence[DecisionColumns], n_classes: int) -> DecisionColumns:
    """Several blocks of rows as one; without any, no rows."""
    return DecisionColumns(
        tuple(one for part in parts for one in part.ids),
        np.concatenate([np.empty(0), *(part.times for part in parts)]),
        np.concatenate([np.empty(0, dtype=np.int64), *(part.labels for part in parts)]),
        np.concatenate([np.empty((0, n_classes)), *(part.probabilities for part in parts)]),
        np.concatenate([np.empty(0, dtype=np.int8), *(part.accepted for part in parts)]),
        np.concatenate([np.empty(0), *(part.label_mass for part in parts)]),
        np.concatenate([np.empty(0, dtype=np.bool_), *(part.undecided for part in parts)]),
        tuple(one for part in parts for one in part.errors),
    )


Stored = tuple[str, float, int | None, bytes | None, int | None, float | None, int, str | None]
"""A decision as a row of SQLite."""


def stored(record: DecisionRecord, places: Mapping[Any, int]) -> Stored:
    """A record as SQLite keeps it.

    Parameters
    ----------
    record : DecisionRecord
    places : dict of class -> int
        The column of each class.

    Raises
    ------
    InputError
        A value of it cannot be kept; the message names it.
    """
    # An id with a lone surrogate has no UTF-8, and one with a line break would tear lines of tables apart.
    if not isinstance(record.id, str) or not 0 < len(record.id) <= _MAX_ID or not record.id.isprintable():
        raise InputError(f"id={record.id!r}; expected 1 to {_MAX_ID} printable characters")
    if not is_finite_number(record.time):
        raise InputError(f"time={record.time!r}; expected seconds since 1970")
    label = places.get(record.label) if is_hashable(record.label) else None
    if record.label is not None and label is None:
        raise InputError(f"label={record.label!r} is not one of the log's classes {list(places)!r}")
    probabilities = None if record.probabilities is None else _packed(record.probabilities, len(places))
    if label is not None and probabilities is None:
        raise InputError(f"label={record.label!r} without probabilities; give those of all classes, or no label")
    mass = record.label_mass
    if mass is not None and (not is_finite_number(mass) or mass < 0):
        raise InputError(f"label_mass={mass!r}; expected a probability, or None where it is unknown")
    for name in ("accepted", "undecided"):
        value = getattr(record, name)
        if not isinstance(value, (bool, np.bool_)) and not (value is None and name == "accepted"):
            raise InputError(f"{name}={value!r}; expected True or False")
    if record.error is not None and (not isinstance(record.error, str) or not _KIND.fullmatch(record.error)):
        raise InputError(
            f"error of {len(str(record.error))} characters; expected its kind, a word such as 'RowError': messages quote texts"
        )
    return (
        record.id,
        float(record.time),
        label,
        probabilities,
        None if record.accepted is None else int(record.accepted),
        None if mass is None else float(mass),
        int(record.undecided),
        record.error,
    )


def columns_of(rows: Sequence[Stored], n_classes: int) -> DecisionColumns:
    """Rows of SQLite as columns; a value of another type than was written, as a damaged file may have it, is unknown."""
    n = len(rows)
    probabilities = np.full((n, n_classes), np.nan)
    for i, row in enumerate(rows):
        if isinstance(row[3], bytes) and len(row[3]) == 8 * n_classes:
            probabilities[i] = np.frombuffer(row[3], dtype="<f8")
    labels = [row[2] if isinstance(row[2], int) and 0 <= row[2] < n_classes else NO_LABEL for row in rows]
    return DecisionColumns(
        tuple(str(row[0]) for row in rows),
        np.array([_number(row[1]) for row in rows], dtype=np.float64),
        np.array(labels, dtype=np.int64),
        probabilities,
        np.array([row[4] if row[4] in (0, 1) else UNKNOWN for row in rows], dtype=np.int8),
        np.array([_number(row[5]) for row in rows], dtype=np.float64),
        np.array([row[6] == 1 for row in rows], dtype=np.bool_),
        tuple(None if row[7] is None else str(row[7]) for row in rows),
    )


def _packed(probabilities: Any, n_classes: int) -> bytes:
    try:
        values = np.asarray(probabilities, dtype="<f8")
    except (TypeError, ValueError):
        values = np.empty(0)
    # Sums of rounded numbers may pass 1 by their last digit.
    if values.shape != (n_classes,) or not np.isfinite(values).all() or values.min() < 0 or values.max() > 1 + 1e-6:
        raise InputError(
            f"probabilities={probabilities!r}; expected {n_classes} numbers between 0 and 1, one per class"
        )
    return values.tobytes()


def _number(value: Any) -> float:
    return float(value) if isinstance(value, (int, float)) else math.nan
