"""Shares of classes among rows that a fitted pipeline labels, from which the rows that its fit has seen are kept apart."""

from __future__ import annotations

from typing import Any

from numpy.typing import ArrayLike

from ..errors import InputError
from ..estimation import ShareEstimates, estimate_shares
from ..estimation.sample_checks import checked_labels, checked_rows
from ..pipeline import FittedPipeline
from ..tables.rows import Rows
from .seen_rows import SeenRows


def estimated_shares(
    pipeline: FittedPipeline, rows: Rows, y: ArrayLike, places: ArrayLike, **options: Any
) -> ShareEstimates:
    """The shares of the classes among all rows; see `llmclf.LLMClassifier.estimate_shares`.

    Parameters
    ----------
    pipeline : FittedPipeline
    rows : Rows
        All N.
    y : array-like (n,)
        Labels by hand, classes of the pipeline.
    places : array-like of int (n,), or of bool (N,)
        As `rows` of `llmclf.estimation.estimate_shares`.
    **options
        Of `llmclf.estimation.estimate_shares`.

    Raises
    ------
    InputError
        The calibrator saw labelled rows and cannot be cross-fitted, or some of them stand in the prompt.
    """
    if "classes" in options:
        raise InputError(
            f"classes={options['classes']!r} is given; the classes are those of the classifier: leave it out"
        )
    classes = pipeline.labels.array
    chosen = checked_rows(places, len(rows))
    hand_labels = checked_labels(y, chosen, classes.tolist())
    known = chosen.tolist()
    labelled = SeenRows.among(rows.take(known), pipeline)
    if labelled.n_unfair:
        raise InputError(
            f"the calibrator was fitted on {labelled.n_unfair} of the {len(known)} labelled rows, and its rows are no longer "
            "at hand to cross-fit (the classifier was loaded, or has a prior), so these would make the model look better than it "
            "is; give labels of rows that it has not seen"
        )
    if labelled.n_shots:
        raise InputError(
            f"{labelled.n_shots} of the {len(known)} labelled rows stand in the prompt as examples, with their answers; leave "
            "them out of y and rows"
        )
    columns = pipeline.labels.indices_by_value(hand_labels.tolist())
    scores = pipeline.scores(rows, pipeline.scorer.answers(rows))
    proba = pipeline.probabilities(scores)
    if labelled.n_calibrated:
        proba = SeenRows.among(rows, pipeline).exchanged(proba)
    return estimate_shares(proba, classes[columns], places, classes=classes, **options)
