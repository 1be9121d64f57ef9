"""What is read of labelled rows, and what the model is asked about them, once for all that learn from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from sklearn.base import clone

from ..arrays import Floats, Integers
from ..backends.base import CountsUsage
from ..calibration.pool.prices import Price, Prices
from ..errors import InputError, ModelError
from ..features.readers import Embedded, FeatureReader, Own, row_texts
from ..features.reading import is_about_rows
from ..numerics.row_features import RowFeatures
from ..pipeline import FittedPipeline
from ..tables.bad_rows import named_rows
from ..tables.rows import Rows
from .content_free import content_free_scores
from .measuring import measured


class ReadRows(NamedTuple):
    """Labelled rows that were read and scored.

    Attributes
    ----------
    pipeline : FittedPipeline
        Its feature readers have seen the rows.
    places : ndarray of int (m,)
        The numbers of the rows that could be read and scored.
    scores : ndarray (m, K)
    features : dict of name to RowFeatures, or None
        Those of the pipeline's readers, in their order; None where it has none.
    content_free : ndarray (l, K) or None
        The scores of the rows that say nothing.
    prices : Prices
        What scores and features took.
    unread : dict of row number to str
        Why the other rows could not be read or scored.
    """

    pipeline: FittedPipeline
    places: Integers
    scores: Floats
    features: dict[str, RowFeatures] | None
    content_free: Floats | None
    prices: Prices
    unread: dict[int, str]


def read_and_score(
    pipeline: FittedPipeline,
    rows: Rows,
    codes: Integers | None,
    places: Integers,
    *,
    content_free: str | None,
    random_state: Any,
) -> ReadRows:
    """Read the features of some rows and ask the model about them; what is wrong with features shows before it is asked.

    Parameters
    ----------
    pipeline : FittedPipeline
    rows : Rows of length n
    codes : ndarray of int (n,) or None
        True columns; needed with features.
    places : ndarray of int (m,)
        The rows to read.
    content_free : str, optional
        The method by which rows that say nothing are made, if they are wanted.
    random_state : int, RandomState or None

    Raises
    ------
    InputError
        As `FeatureReader.read`; or the rows are of one class only, and there are features.
    ModelError
        None could be scored.
    """
    features: dict[str, RowFeatures] | None = None
    prices: dict[str, Price] = {}
    unread: dict[int, str] = {}
    fields = pipeline.scorer.used_fields
    if pipeline.features is not None:
        pipeline, features, prices, unread = _readable_features(pipeline, rows, codes, places)
        places = np.setdiff1d(places, list(unread)) if unread else places
    scorer, backend, asked = pipeline.scorer, pipeline.backend, rows.take(places)
    bland = None if content_free is None else content_free_scores(content_free, pipeline, asked, random_state)
    backend.identity()  # opens the model, so that its loading is no part of the price
    answers, of_scores = measured(
        partial(scorer.answers, asked), scorer.n_to_ask(asked), backend if isinstance(backend, CountsUsage) else None
    )
    scores = pipeline.scores(asked, answers).values
    unread |= {int(places[i]): str(answer.error) for i, answer in enumerate(answers) if answer.error is not None}
    kept = np.flatnonzero(~np.isnan(scores).any(axis=1))
    if not kept.size:
        raise ModelError(f"none of the {len(places)} training rows could be scored ({named_rows(unread)})")
    scores, places = scores[kept], places[kept]
    if pipeline.features is not None and features is not None:
        own, read = [answers[i] for i in kept], {name: one.take(kept) for name, one in features.items()}
        for reader in pipeline.features.readers:
            if reader.needs_states:
                read[reader.name], prices[reader.name] = measured(
                    partial(reader.read, rows.take(places), fields, own), len(kept)
                )
        features = {reader.name: read[reader.name] for reader in pipeline.features.readers}
    readers = () if pipeline.features is None else pipeline.features.readers
    with_answers = frozenset(reader.name for reader in readers if reader.needs_states)
    return ReadRows(pipeline, places, scores, features, bland, Prices(of_scores, prices, with_answers), unread)


def _readable_features(
    pipeline: FittedPipeline, rows: Rows, codes: Integers | None, places: Integers
) -> tuple[FittedPipeline, dict[str, RowFeatures], dict[str, Price], dict[int, str]]:
    """As `_with_features`, with the features that need no answers of the model, before it is asked, and what they took.

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

    fields = pipeline.scorer.used_fields
    unpriced = {reader.name for reader in pipeline.features.readers if _is_unpriced(reader, rows.take(places), fields)}

    def learned(places: Integers) -> tuple[FittedPipeline, dict[str, RowFeatures], dict[str, Price]]:
        fitted = _with_features(pipeline, rows, codes, places)
        assert fitted.features is not None
        features, prices = {}, {}
        with fitted.features.asking_once():
            for reader in fitted.features.readers:
                if reader.needs_states:
                    continue
                read = partial(reader.read, rows.take(places), fields, ())
                n_rows, charges = len(places), None
                if isinstance(reader, Embedded):
                    # The first text was asked about when the reader learned.
                    first, *others = row_texts(rows.take(places).records, fields)
                    n_rows, charges = sum(text != first for text in others), reader.embeddings
                features[reader.name], prices[reader.name] = measured(read, n_rows, charges)
                if reader.name in unpriced or (isinstance(reader, Own) and reader.asks):
                    prices[reader.name] = Price()
        return fitted, features, prices

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
        fitted, features, prices = learned(np.setdiff1d(places, list(unread)))
        assert fitted.features is not None
        # Some of it was known by now.
        prices |= {reader.name: Price() for reader in fitted.features.readers if reader.asks}
        return fitted, features, prices, unread


def _with_features(pipeline: FittedPipeline, rows: Rows, codes: Integers | None, places: Integers) -> FittedPipeline:
    """The pipeline whose feature readers have seen the labelled rows; what cannot be learned from is refused."""
    assert codes is not None
    assert pipeline.features is not None
    _check_classes(pipeline, codes[places])
    readers = pipeline.features.learned(_shown(pipeline, rows, places), pipeline.scorer.used_fields, codes[places])
    return replace(pipeline, features=readers)


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


def _is_unpriced(reader: FeatureReader, rows: Rows, fields: Sequence[str]) -> bool:
    """Whether nobody can measure what a feature set takes, since a cache may hold some of its embeddings already."""
    if not isinstance(reader, Embedded) or reader.embeddings.cache is None:
        return False
    texts = row_texts(rows.records, fields)
    left, everything = reader.embeddings, clone(reader.embeddings).set_params(cache=None)
    counts = [(one.requests, one.tokens_in) for one in (left.estimate(texts), everything.estimate(texts))]
    return counts[0] != counts[1] or not counts[0][0]  # of a local model nobody can tell
