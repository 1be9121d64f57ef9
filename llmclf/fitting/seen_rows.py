"""Which rows a fit has seen, how they are recognised again without keeping them, and what they are judged by."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..arrays import Floats, Integers
from ..errors import CalibrationWarning, warn
from ..pipeline import FittedPipeline
from ..tables.rows import Row, Rows
from .row_groups import alone_where_unknown, row_groups


def fingerprints(records: Iterable[Row], fields: Sequence[str]) -> list[str]:
    """One short hash per row of what the model sees of it, in these fields; the row itself cannot be read from it."""
    names = sorted(fields)
    return [
        hashlib.blake2b(
            json.dumps({name: record[name] for name in names}, default=repr).encode(), digest_size=8
        ).hexdigest()
        for record in records
    ]


def row_fingerprints(pipeline: FittedPipeline, rows: Rows) -> tuple[str, ...]:
    """The different hashes of rows by which a pipeline knows them again."""
    return tuple(dict.fromkeys(_known_hashes(pipeline, rows)))


def _known_hashes(pipeline: FittedPipeline, rows: Rows) -> list[str]:
    return fingerprints(rows.records, [name for name in pipeline.read_fields if name in rows.field_names])


def shot_fingerprints(pipeline: FittedPipeline) -> list[str]:
    """The hash of each example in the prompt."""
    return fingerprints([row for row, _ in pipeline.shots], pipeline.scorer.shown_fields)


class SeenRows(NamedTuple):
    """Which rows (n,) a fit has seen.

    Attributes
    ----------
    place : ndarray of int (n,)
        Of each row among those that was fitted on last; -1 where it was not seen then.
    is_earlier : ndarray of bool (n,)
        Whether the row was learned from before that.
    n_shots : int
        How many of the rows stand in the prompt as examples.
    cross_fitted : ndarray (m, K) or None
        Probabilities of the calibrator's rows, each by a calibrator that did not see it, where some of these rows are among
        the n and can be judged so.
    """

    place: Integers
    is_earlier: NDArray[np.bool_]
    n_shots: int
    cross_fitted: Floats | None

    @classmethod
    def among(cls, rows: Rows, pipeline: FittedPipeline) -> SeenRows:
        """Those of some rows that the pipeline's fit has seen."""
        hashes = _known_hashes(pipeline, rows)
        earlier = set(pipeline.calibration_rows.earlier)
        places = {fingerprint: i for i, fingerprint in enumerate(pipeline.calibration_rows.fingerprints)}
        place = np.array([places.get(fingerprint, -1) for fingerprint in hashes], dtype=np.int64)
        corrections, cross_fitted = pipeline.corrections, None
        # A prior is about other rows than those of the fit, so cross-fitted probabilities leave it out.
        if (place >= 0).any() and corrections.has_rows and not corrections.assumes_other_rows:
            cross_fitted = corrections.out_of_fold()
        shots = set(shot_fingerprints(pipeline))
        shown = fingerprints(rows.records, pipeline.scorer.shown_fields) if shots else []
        is_earlier = (place < 0) & np.array([one in earlier for one in hashes], dtype=bool)
        return cls(place, is_earlier, sum(fingerprint in shots for fingerprint in shown), cross_fitted)

    def groups(self, rows: Rows, pipeline: FittedPipeline, given: Integers | None) -> Integers:
        """What belongs together among these rows (n,): copies, what the caller says, and what belonged together in the fit.

        Parameters
        ----------
        rows : Rows
            The n rows.
        pipeline : FittedPipeline
        given : ndarray of int (n,), optional
        """
        known, fitted = self.place >= 0, pipeline.calibration_rows.groups
        in_fit = None
        if known.any() and fitted.size:
            in_fit = alone_where_unknown(np.where(known, fitted[self.place], -1))
        bad = pipeline.scorer.problems(rows)
        return row_groups(rows, pipeline.scorer.shown_fields, given, in_fit, without_text=bad)

    @property
    def n_calibrated(self) -> int:
        """How many of the rows the calibrator was fitted on."""
        return int((self.place >= 0).sum())

    @property
    def n_unfair(self) -> int:
        """How many of the rows the calibrator was fitted on and nothing else can judge."""
        n_earlier = int(self.is_earlier.sum())
        return n_earlier if self.cross_fitted is not None else n_earlier + self.n_calibrated

    def counts(self) -> dict[str, int]:
        """Numbers of rows by what the fit knows of them."""
        return {
            "held_out": len(self.place) - self.n_calibrated - int(self.is_earlier.sum()) - self.n_shots,
            "cross_fitted": 0 if self.cross_fitted is None else self.n_calibrated,
            "seen_by_calibrator": self.n_unfair,
            "shots": self.n_shots,
        }

    def exchanged(self, proba: Floats) -> Floats:
        """Probabilities (n, K), those of rows that the calibrator saw exchanged for cross-fitted ones where there are any.

        Warns
        -----
        CalibrationWarning
            Some were exchanged.
        """
        if self.cross_fitted is None:
            return proba
        known = self.place >= 0
        proba = proba.copy()
        proba[known] = self.cross_fitted[self.place[known]]
        warn(
            f"the calibrator was fitted on {self.n_calibrated} of these {len(proba)} rows; they are judged by calibrators that "
            "did not see them (calibration_proba_). Rows that no calibrator saw judge the one that you use",
            CalibrationWarning,
        )
        return proba


def shown_text(record: Row, fields: Sequence[str]) -> str:
    """What the prompt shows of a row, in a form for people."""
    if len(fields) == 1:
        return str(record[fields[0]])
    return "\n".join(f"{name}: {record[name]}" for name in fields)
