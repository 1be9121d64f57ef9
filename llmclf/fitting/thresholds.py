"""The threshold of a fitted pipeline, chosen honestly: rows whose answers the fit has seen are recognised."""

from __future__ import annotations

import numpy as np

from ..arrays import Floats, Integers
from ..calibration import SelectedThreshold, select_threshold
from ..calibration.selective import check_selectable
from ..errors import CalibrationWarning, InputError, warn
from ..pipeline import FittedPipeline
from ..tables.rows import Rows
from .seen_rows import SeenRows


def choose_threshold(
    pipeline: FittedPipeline,
    rows: Rows,
    columns: Integers,
    *,
    max_error: float,
    confidence: float,
    groups: Integers | None = None,
    inclusion: Floats | None = None,
) -> SelectedThreshold:
    """The threshold that labelled rows (n,) with these true columns allow; see `llmclf.LLMClassifier.fit_threshold`.

    Rows that could not be scored are never accepted, so they are left out. Copies of a text belong together, besides the
    `groups` (n,) that the caller gives. `inclusion` (n,) says how they were drawn.

    Raises
    ------
    InputError
        There are too few rows or groups; some rows are shots; or the calibrator has seen some, and cross-fitted probabilities
        cannot stand in for them.

    Warns
    -----
    CalibrationWarning
        Rows were left out.
    """
    seen = SeenRows.among(rows, pipeline)
    if seen.n_shots:
        raise InputError(
            f"{seen.n_shots} of these {len(rows)} rows stand in the prompt as examples, with their answers, so they show nothing "
            "about other rows; leave them out"
        )
    if seen.n_unfair:
        why = "its own rows did not outlive save and load"
        if pipeline.corrections.has_rows:
            why = "it was recalibrated since" if seen.is_earlier.any() else "prior= moved its probabilities"
        raise InputError(
            f"the calibrator was fitted on {seen.n_unfair} of these {len(rows)} rows, and cannot be cross-fitted to judge "
            f"them, as {why}; give rows that it has not seen"
        )
    members = seen.groups(rows, pipeline, groups)
    check_selectable(len(rows), max_error, confidence, members)
    proba = seen.exchanged(pipeline.probabilities(pipeline.scores(rows)))
    scored = ~np.isnan(proba).any(axis=1)
    if not scored.all():
        warn(
            f"{(~scored).sum()} of these {len(rows)} rows could not be scored and are left out; the threshold is about the "
            "others (score_rows says why)",
            CalibrationWarning,
        )
        check_selectable(int(scored.sum()), max_error, confidence, members[scored])
    return select_threshold(
        columns[scored],
        proba[scored],
        max_error=max_error,
        confidence=confidence,
        groups=members[scored],
        inclusion=None if inclusion is None else inclusion[scored],
    )


def choose_cross_fitted_threshold(
    pipeline: FittedPipeline, *, max_error: float, confidence: float
) -> SelectedThreshold:
    """The threshold that the calibrator's own rows (m,) allow, each judged by a calibrator that did not see it.

    Raises
    ------
    InputError
        There are no such rows, or they are not like those to be accepted.
    """
    corrections, calibrated = pipeline.corrections, pipeline.calibration_rows
    obstacle = None
    if corrections.last_fitted is None:
        obstacle = "there is no calibrator, whose cross-fitted probabilities could serve"
    elif not corrections.has_rows:
        obstacle = "the rows that the calibrator was fitted on did not outlive save and load"
    elif corrections.assumes_other_rows:
        obstacle = "prior= says that the rows of the fit have other class frequencies than those to be accepted"
    elif calibrated.is_weighted:
        obstacle = "inclusion or sample_weight says that the rows of the fit are not drawn like those to be accepted"
    if obstacle is not None:
        raise InputError(f"without X and y no threshold can be chosen: {obstacle}; give labelled rows as X and y")
    check_selectable(len(calibrated.columns), max_error, confidence, calibrated.groups)
    return select_threshold(
        calibrated.columns,
        corrections.out_of_fold(),
        max_error=max_error,
        confidence=confidence,
        groups=calibrated.groups,
    )
