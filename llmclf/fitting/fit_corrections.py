"""What a fit learns from training rows: which of them are shots, and bias and calibrator from the others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from ..arrays import Floats, Integers
from ..calibration import Corrections, StackedCalibrator
from ..calibration.corrections import class_frequencies
from ..errors import CalibrationWarning, InputError, warn
from ..pipeline import CalibrationRows, FittedPipeline
from ..tables.bad_rows import Problem, named_rows
from ..tables.rows import Rows
from .content_free import content_free_scores
from .reading import read_and_score
from .row_groups import row_groups
from .seen_rows import fingerprints, shown_text
from .uninformative import warn_of_one_answer


class FitTask(NamedTuple):
    """What `fit_corrections` is given; see there."""

    pipeline: FittedPipeline
    corrections: Corrections
    rows: Rows
    codes: Integers | None
    shots: list[int]
    bad: Mapping[int, Problem]
    sample_weight: Floats | None
    random_state: Any
    groups: Integers | None = None


def fit_corrections(
    pipeline: FittedPipeline,
    corrections: Corrections,
    rows: Rows,
    codes: Integers | None,
    shots: list[int],
    bad: Mapping[int, Problem],
    sample_weight: Floats | None,
    random_state: Any,
    groups: Integers | None = None,
) -> FittedPipeline:
    """Fit bias and calibrator on the training rows that are not shots and can be scored; without either nothing is asked.

    Rows that belong to a shot (copies of its text, rows of its group) are left out: their answer stands in the prompt.

    Parameters
    ----------
    pipeline : FittedPipeline
        With the shots, and without corrections.
    corrections : Corrections
        Become fitted.
    rows : Rows of length n
    codes : ndarray of int (n,) or None
        True columns.
    shots : list of int
        Row numbers.
    bad : mapping of row number -> Problem
        Rows that cannot be asked about.
    sample_weight : ndarray (n,) or None
    random_state : int, RandomState or None
        Draws the words of ``bias="domain"`` and the texts of ``bias="generative"``.
    groups : ndarray of int (n,), optional
        What the caller says belongs together, besides copies of a text.

    Returns
    -------
    FittedPipeline
        With the corrections, the model that they belong to, and the rows that they were fitted on.

    Raises
    ------
    InputError
        The rows do not suffice; before any of them is scored. Or none could be scored.

    Warns
    -----
    CalibrationWarning
        Some rows were left out, as they could not be scored.
    """
    reasons = {number: problem.reason for number, problem in bad.items()}
    if corrections.bias is None and corrections.calibrator is None:
        warn_of_left_out(reasons if shots else {}, len(rows))
        return replace(pipeline, corrections=corrections)
    places, members = learning_places(pipeline, rows, shots, bad, groups)
    if sample_weight is not None and (sample_weight[places] > 0).any():
        places = places[sample_weight[places] > 0]  # a row of weight 0 is no row
    if corrections.calibrator is not None:
        assert codes is not None
        left_weights = None if sample_weight is None else sample_weight[places]
        corrections.check(codes[places], left_weights, pipeline.labels.classes)
    content_free, scores, features, prices = None, None, None, None
    if corrections.wants_rows:
        read = read_and_score(
            pipeline, rows, codes, places, content_free=corrections.wants_content_free, random_state=random_state
        )
        pipeline, places, scores, features, content_free, prices, unread = read
        reasons |= unread
    elif corrections.wants_content_free is not None:
        content_free = content_free_scores(corrections.wants_content_free, pipeline, rows.take(places), random_state)
    warn_of_left_out(reasons, len(rows))
    columns = None if codes is None else codes[places]
    weights = None if sample_weight is None else sample_weight[places]
    members = members[places]
    frequencies = None if codes is None else class_frequencies(codes, sample_weight, len(pipeline.labels.classes))
    corrections.fit(scores, columns, weights, content_free, frequencies=frequencies, groups=members, features=features)
    if prices is not None and isinstance(corrections.calibrator, StackedCalibrator):
        corrections.calibrator.note_prices(prices)
    if columns is None or corrections.calibrator is None:
        calibrated = CalibrationRows(places) if corrections.wants_rows else CalibrationRows()
    else:
        hashes = fingerprints([rows.records[i] for i in places], pipeline.read_fields)
        is_weighted = weights is not None and bool((weights != weights[0]).any())
        calibrated = CalibrationRows(places, columns, hashes, is_weighted, members)
        if scores is not None and pipeline.prompt.choices is None:
            shown = [shown_text(rows.records[i], pipeline.scorer.shown_fields) for i in places]
            warn_of_one_answer(corrections, scores, columns, pipeline.labels.classes, shown, members)
    return replace(
        pipeline,
        corrections=corrections,
        calibrated_on=pipeline.backend.identity(),
        calibration_rows=calibrated,
    )


def learning_places(
    pipeline: FittedPipeline, rows: Rows, shots: list[int], bad: Mapping[int, Problem], groups: Integers | None = None
) -> tuple[Integers, Integers]:
    """The rows (m,) to learn from, which are no shots and belong to none, and the group of every row (n,).

    Parameters
    ----------
    pipeline, rows, shots, bad, groups
        As in `fit_corrections`.

    Raises
    ------
    InputError
        No row is left.
    """
    members = row_groups(rows, pipeline.scorer.shown_fields, groups, without_text=bad)
    good = np.setdiff1d(np.arange(len(rows)), list(bad))
    places = good[~np.isin(members[good], members[shots])]
    if len(places):
        return places, members
    belong = "" if len(shots) == len(good) else " or belong to one (a copy of its text, or a row of its group)"
    if bad:
        reasons = named_rows({number: problem.reason for number, problem in bad.items()})
        raise InputError(
            f"none of the {len(rows)} training rows is left to calibrate on: {len(good)} are shots{belong}, {len(bad)} "
            f"cannot be asked about ({reasons})"
        )
    raise InputError(
        f"all {len(rows)} rows are shots{belong}, so none is left to calibrate on; give more rows or fewer shots"
    )


def warn_of_left_out(reasons: Mapping[int, str], n_rows: int) -> None:
    """Warn of rows that could not be scored, with the reason of each."""
    if reasons:
        warn(
            f"{len(reasons)} of {n_rows} training rows could not be scored and are left out of shots and calibration "
            f"({named_rows(reasons)})",
            CalibrationWarning,
        )
