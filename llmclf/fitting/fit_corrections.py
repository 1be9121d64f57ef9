"""What a fit learns from training rows: which of them are shots, and bias and calibrator from the others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from sklearn.utils import check_random_state

from ..arrays import Floats, Integers
from ..calibration import Corrections
from ..calibration.corrections import class_frequencies
from ..errors import CalibrationWarning, InputError, ModelError, warn
from ..features.reading import is_about_rows
from ..numerics.row_features import RowFeatures
from ..pipeline import CalibrationRows, FittedPipeline
from ..tables.bad_rows import Problem, named_rows
from ..tables.rows import Rows
from .content_free import content_free_rows, domain_rows, generated_rows
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
    content_free, scores, features = None, None, None
    if pipeline.features is not None:
        pipeline, features, unread = readable_features(pipeline, rows, codes, places)
        reasons |= unread
        places = np.setdiff1d(places, list(unread)) if unread else places
    if corrections.wants_content_free is not None:
        content_free = content_free_scores(corrections.wants_content_free, pipeline, rows.take(places), random_state)
    if corrections.wants_rows:
        asked = rows.take(places)
        answers = pipeline.scorer.answers(asked)
        scores = pipeline.scores(asked, answers).values
        reasons |= {int(places[i]): answer.error for i, answer in enumerate(answers) if answer.error is not None}
        scored = ~np.isnan(scores).any(axis=1)
        if not scored.any():
            raise ModelError(f"none of the {len(places)} training rows could be scored ({named_rows(reasons)})")
        kept = np.flatnonzero(scored)
        scores, places = scores[kept], places[kept]
        if pipeline.features is not None and features is not None:
            own = [answers[i] for i in kept]
            read = {name: one.take(kept) for name, one in features.items()}
            read |= pipeline.features.read_answers(rows.take(places), pipeline.scorer.used_fields, own)
            features = {reader.name: read[reader.name] for reader in pipeline.features.readers}
    warn_of_left_out(reasons, len(rows))
    columns = None if codes is None else codes[places]
    weights = None if sample_weight is None else sample_weight[places]
    members = members[places]
    frequencies = None if codes is None else class_frequencies(codes, sample_weight, len(pipeline.labels.classes))
    corrections.fit(scores, columns, weights, content_free, frequencies=frequencies, groups=members, features=features)
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


def with_features(pipeline: FittedPipeline, rows: Rows, codes: Integers | None, places: Integers) -> FittedPipeline:
    """The pipeline whose feature readers have seen the labelled rows; what cannot be learned from is refused."""
    assert codes is not None
    assert pipeline.features is not None
    _check_classes(pipeline, codes[places])
    readers = pipeline.features.learned(_shown(pipeline, rows, places), pipeline.scorer.used_fields, codes[places])
    return replace(pipeline, features=readers)


def readable_features(
    pipeline: FittedPipeline, rows: Rows, codes: Integers | None, places: Integers
) -> tuple[FittedPipeline, dict[str, RowFeatures], dict[int, str]]:
    """As `with_features`, with the features of the rows that need no answers of the model, before it is asked.

    With ``on_error="missing"`` rows whose features cannot be read are left out: the last of the three says why. Else one error
    names them.

    Raises
    ------
    InputError
        Rows are to blame with ``on_error="raise"``; or all are, or none.
    ModelError
        A model that makes features gave up.
    """
    assert codes is not None
    assert pipeline.features is not None
    _check_classes(pipeline, codes[places])

    def learned(places: Integers) -> tuple[FittedPipeline, dict[str, RowFeatures]]:
        fitted = with_features(pipeline, rows, codes, places)
        assert fitted.features is not None
        return fitted, fitted.features.read_without_answers(rows.take(places), pipeline.scorer.used_fields)

    with pipeline.features.asking_once():
        try:
            return (*learned(places), {})
        except (InputError, ModelError) as error:
            if not is_about_rows(error):
                raise
            shown = _shown(pipeline, rows, places)
            found = pipeline.features.unreadable(shown, pipeline.scorer.used_fields, codes[places])
            if not found or len(found) == len(places):
                raise
            unread = {int(places[place]): why for place, why in found.items()}
            if pipeline.on_error == "raise":
                raise InputError(
                    f"{named_rows(unread)}; mend or drop these rows, or leave bad rows out with on_error='missing'"
                ) from error
        return (*learned(np.setdiff1d(places, list(unread))), unread)


def _check_classes(pipeline: FittedPipeline, columns: Integers) -> None:
    found = np.unique(columns)
    if found.size < 2:
        raise InputError(
            f"all {len(columns)} rows to learn from have the class {pipeline.labels.classes[int(found[0])]!r}; features= needs "
            "labelled rows of at least two classes"
        )


def _shown(pipeline: FittedPipeline, rows: Rows, places: Integers) -> Rows:
    # Without the columns that give the answer away, which no prompt shows by itself either.
    return replace(rows.take(places), field_names=pipeline.field_names)


def warn_of_left_out(reasons: Mapping[int, str], n_rows: int) -> None:
    """Warn of rows that could not be scored, with the reason of each."""
    if reasons:
        warn(
            f"{len(reasons)} of {n_rows} training rows could not be scored and are left out of shots and calibration "
            f"({named_rows(reasons)})",
            CalibrationWarning,
        )


def content_free_scores(method: str, pipeline: FittedPipeline, rows: Rows, random_state: Any) -> Floats:
    """Scores (m, K) of the rows that a bias is fitted on instead of those of the table."""
    if pipeline.prompt.choices is not None:
        raise InputError(
            f"bias={method!r} corrects labels that are the same in all rows, and each row brings its own choices; "
            "scoring='pmi' does that for choices"
        )
    scorer = pipeline.scorer
    fields = scorer.used_fields
    if method == "contextual":
        asked = content_free_rows(rows, fields)
    elif method == "generative":
        asked = generated_rows(pipeline.backend, scorer.renderer, rows, check_random_state(random_state))
    else:
        asked = domain_rows(rows, fields, check_random_state(random_state))
    return pipeline.scores(asked, scorer.answers(asked, are_ours=True)).values
