"""Which rows a fit has seen, and how they are recognised again without keeping them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..scoring.scorer import Scorer
from ..tables.rows import Rows


def _none() -> NDArray[np.int64]:
    return np.empty(0, dtype=np.int64)


@dataclass(frozen=True, eq=False)
class CalibrationRows:
    """The rows that bias and calibrator were fitted on.

    Attributes
    ----------
    numbers : ndarray of int (m,)
        Their places among the rows of the fit.
    columns : ndarray of int (m,)
        Their true classes, where a calibrator was fitted on these.
    fingerprints : list of m str
        By which the calibrator's rows are known again; these alone outlive save and load.
    is_weighted : bool
        Whether some counted more than others.
    """

    numbers: NDArray[np.int64] = field(default_factory=_none)
    columns: NDArray[np.int64] = field(default_factory=_none)
    fingerprints: list[str] = field(default_factory=list)
    is_weighted: bool = False


def fingerprints(rows: Rows, scorer: Scorer) -> list[str]:
    """One short hash per row of what the model sees of it; the row itself cannot be read from it."""
    fields = sorted(scorer.shown_fields)
    return [
        hashlib.blake2b(
            json.dumps({name: record[name] for name in fields}, default=repr).encode(), digest_size=8
        ).hexdigest()
        for record in rows.records
    ]


class SeenRows(NamedTuple):
    """Which rows (n,) the fit has seen.

    Attributes
    ----------
    place : ndarray of int (n,)
        Of each row among those that the calibrator was fitted on; -1 where it did not see it.
    n_shots : int
        How many of the rows stand in the prompt as examples.
    """

    place: NDArray[np.int64]
    n_shots: int

    @classmethod
    def among(cls, rows: Rows, scorer: Scorer, calibrated_on: Sequence[str]) -> SeenRows:
        own = fingerprints(rows, scorer)
        place = {fingerprint: i for i, fingerprint in enumerate(calibrated_on)}
        return cls(
            np.array([place.get(fingerprint, -1) for fingerprint in own], dtype=np.int64),
            len(set(own) & set(shot_fingerprints(scorer))),
        )

    @property
    def n_calibrated(self) -> int:
        return int((self.place >= 0).sum())

    def counts(self, can_cross_fit: bool) -> dict[str, int]:
        """Numbers of rows by what the fit knows of them."""
        replaced = self.n_calibrated if can_cross_fit else 0
        return {
            "held_out": len(self.place) - self.n_calibrated - self.n_shots,
            "cross_fitted": replaced,
            "seen_by_calibrator": self.n_calibrated - replaced,
            "shots": self.n_shots,
        }


def shot_fingerprints(scorer: Scorer) -> list[str]:
    return fingerprints(Rows([row for row, _ in scorer.shots], (), True), scorer)
