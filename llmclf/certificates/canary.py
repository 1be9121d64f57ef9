"""The canary: rows whose scores are kept, so that anybody can tell later whether the same model answers."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..arrays import Floats, Integers
from ..errors import InputError
from ..pipeline import FittedPipeline
from ..scoring.class_scores import ClassScores
from ..tables.rows import Row, Rows
from ..tables.values import plain

if TYPE_CHECKING:
    from .content import Canary

N_ROWS = 50
KINDS = ("texts", "hashes")
SAME = 1e-6
"""Scores and probabilities that differ by no more are those of the same model."""
_TIMES_NOISE = 3.0  # how much further than at certification the same model may move
_ROUNDING_OF = {"float64": 1e-6, "float32": 1e-4, "float16": 1e-2, "bfloat16": 1e-1}
_ROUNDING = 1e-2
"""How far scores (in nats) and probabilities of one model may lie apart between machines, by its number type, and if unknown."""


def row_hash(record: Row, fields: Sequence[str]) -> str:
    """The SHA-256 of what a classifier reads of a row.

    Examples
    --------
    >>> row_hash({"text": "fine", "id": 3}, ["text"])[:8]
    '1288edd9'
    """
    values = {name: record.get(name) for name in sorted(fields)}
    return hashlib.sha256(json.dumps(values, default=repr, sort_keys=True).encode()).hexdigest()


def rows_hash(rows: Rows, fields: Sequence[str], classes: Iterable[Any]) -> str:
    """The SHA-256 of labelled rows, whatever their order."""
    lines = sorted(
        json.dumps([row_hash(record, fields), label], default=repr)
        for record, label in zip(rows.records, classes, strict=True)
    )
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


@dataclass(frozen=True, eq=False)
class Asked:
    """What a model says of n rows.

    Attributes
    ----------
    scores, probabilities : ndarray (n, K)
        NaN in rows that could not be scored.
    lower, upper : ndarray (n, K)
        Bounds on the scores, the scores themselves where they are exact. A server that shows only its likeliest tokens says no
        more of others, and a score between such bounds jumps when a token is shown or not.
    """

    scores: Floats
    probabilities: Floats
    lower: Floats
    upper: Floats

    @classmethod
    def of(cls, pipeline: FittedPipeline, rows: Rows) -> Asked:
        """Ask the model itself, whatever a cache knows."""
        fresh = replace(pipeline, cache=None, on_error="missing")
        scores = fresh.scores(fresh.check(rows))
        return cls.of_scores(fresh, scores)

    @classmethod
    def of_scores(cls, pipeline: FittedPipeline, scores: ClassScores) -> Asked:
        """What is made of scores."""
        return cls(scores.values, pipeline.probabilities(scores), scores.lower, scores.upper)

    @property
    def is_bounded(self) -> NDArray[np.bool_]:
        """Of which rows (n,) some score is only known to lie between bounds."""
        bounded: NDArray[np.bool_] = np.asarray((self.lower < self.upper).any(axis=1))
        return bounded

    @property
    def is_kept(self) -> NDArray[np.bool_]:
        """Which rows (n,) a canary can keep: scored ones, whose scores and bounds are read back as they were written."""
        finite = np.isfinite(self.scores) & (self.lower < np.inf) & (self.upper > -np.inf)
        impossible = np.isneginf(self.scores) & np.isneginf(self.lower) & (self.upper < np.inf)
        kept: NDArray[np.bool_] = np.asarray((finite | impossible).all(axis=1))
        return kept

    def take(self, places: Integers) -> Asked:
        """Those of some rows, in their order."""
        return Asked(self.scores[places], self.probabilities[places], self.lower[places], self.upper[places])

    def distance(self, other: Asked) -> tuple[float, float]:
        """The largest difference of a score, and of a probability; infinite where only one of the two could be scored.

        Of a score that is not exact, it is how far the bounds lie apart; probabilities of such rows are not compared.
        """
        bounded: NDArray[np.bool_] = np.asarray((self.lower < self.upper) | (other.lower < other.upper))
        with np.errstate(invalid="ignore"):
            apart = np.fmax(np.fmax(self.lower - other.upper, other.lower - self.upper), 0.0)
        known = ~np.isnan(self.scores) & ~np.isnan(other.scores)
        scores = np.where(bounded & known, self.scores + apart, other.scores)
        rows = bounded.any(axis=1, keepdims=True) & ~np.isnan(self.probabilities) & ~np.isnan(other.probabilities)
        probabilities = np.where(rows, self.probabilities, other.probabilities)
        return largest_difference(self.scores, scores), largest_difference(self.probabilities, probabilities)


def largest_difference(one: Floats, other: Floats) -> float:
    """The largest absolute difference of two arrays; two equal infinities and two NaN do not differ.

    Examples
    --------
    >>> one, other = np.array([0.0, -np.inf, np.nan]), np.array([0.5, -np.inf, np.nan])
    >>> largest_difference(one, other), largest_difference(one, np.zeros(3))
    (0.5, inf)
    """
    with np.errstate(invalid="ignore"):
        gaps = np.abs(one - other)
    gaps = np.where((one == other) | (np.isnan(one) & np.isnan(other)), 0.0, gaps)
    return float(np.where(np.isnan(gaps), np.inf, gaps).max(initial=0.0))


def chosen_places(hashes: Sequence[str], is_kept: Any, is_bounded: Any) -> Integers:
    """Up to 50 of the rows that can be kept, as if drawn at random: different ones with the smallest hashes, exact ones first."""
    first: dict[str, int] = {}
    for place in np.flatnonzero(is_kept).tolist():
        first.setdefault(hashes[place], place)
    ordered = sorted(first, key=lambda one: (bool(is_bounded[first[one]]), one))
    return np.array([first[one] for one in ordered[:N_ROWS]], dtype=np.int64)


def make_canary(pipeline: FittedPipeline, rows: Rows, known: Asked, kind: str) -> Canary:
    """The canary of judged rows.

    The model is asked about its rows twice more, in another order and in other company, which shows how far its scores move by
    themselves.

    Parameters
    ----------
    pipeline : FittedPipeline
    rows : Rows
        The judged ones.
    known : Asked
        What was said of all of them.
    kind : {"texts", "hashes"}
    """
    from .content import Canary

    fields = pipeline.read_fields
    hashes = [row_hash(record, fields) for record in rows.records]
    places = chosen_places(hashes, known.is_kept, known.is_bounded)
    own = rows.take(places)
    kept = None if kind == "hashes" else kept_rows(own.records, fields)
    backwards = np.arange(len(places))[::-1]
    first = Asked.of(pipeline, own.take(backwards)).take(backwards)
    halves = [Asked.of(pipeline, own.take(half)) for half in np.array_split(np.arange(len(places)), 2) if half.size]
    names = ("scores", "probabilities", "lower", "upper")
    second = Asked(*(np.concatenate([getattr(half, name) for half in halves]) for name in names))
    compared = [first.distance(second)]
    if pipeline.cache is None:  # which may hold what another machine has answered
        compared += [known.take(places).distance(other) for other in (first, second)]
    score_noise, probability_noise = (max(values) for values in zip(*compared, strict=True))
    if not math.isfinite(score_noise) or not np.isfinite(first.probabilities).all():
        raise InputError(
            "the model answers about some rows now and not at another time, so nobody could tell later whether it is the same; "
            "certify when its server is well"
        )
    told = np.flatnonzero(first.is_kept)
    if not told.size:
        raise InputError(
            "of no judged row the model says so much of each class's score that it could be kept and compared later; certify "
            "with another scoring than 'pmi', or a server that shows more log-probabilities"
        )
    places, first = places[told], first.take(told)
    return Canary(
        kind="hashes" if kind == "hashes" else "texts",
        rows=None if kept is None else [kept[place] for place in told.tolist()],
        hashes=[hashes[place] for place in places.tolist()],
        scores=_finite_rows(first.scores),
        lower=_finite_rows(first.lower) if first.is_bounded.any() else None,
        upper=_finite_rows(first.upper) if first.is_bounded.any() else None,
        probabilities=[[min(1.0, max(0.0, value)) for value in row] for row in first.probabilities.tolist()],
        score_noise=score_noise,
        probability_noise=probability_noise,
    )


def kept_rows(records: Sequence[Row], fields: Sequence[str]) -> list[dict[str, Any]]:
    """What the classifier reads of some rows, as JSON gives it back.

    Raises
    ------
    InputError
        A value has no JSON form.
    """
    try:
        rows = [{name: plain(record.get(name), f"the value {name}=") for name in fields} for record in records]
        json.dumps(rows, allow_nan=False)
    except ValueError as error:  # an InputError is one, too
        raise InputError(
            f"the rows of the canary cannot be kept: {error}; keep their hashes, with canary='hashes'"
        ) from None
    return rows


def canary_rows(canary: Canary, pipeline: FittedPipeline, given: Rows | None) -> Rows:
    """The rows of a canary, from itself or among those given.

    Raises
    ------
    InputError
        It keeps hashes, and rows are not given, or others.
    """
    fields = pipeline.read_fields
    if canary.rows is not None:
        return Rows(list(canary.rows), tuple(fields), pipeline.is_table)
    if given is None:
        raise InputError(
            f"the certificate keeps only hashes of its {len(canary.hashes)} canary rows; give the rows that it was made on "
            "(llmclf verify FOLDER --rows TABLE), among which they are found"
        )
    places = {row_hash(record, fields): place for place, record in enumerate(given.records)}
    absent = sum(one not in places for one in canary.hashes)
    if absent:
        raise InputError(
            f"{absent} of the {len(canary.hashes)} canary rows are not among the {len(given)} rows given; give the very rows "
            "that the certificate was made on"
        )
    return given.take([places[one] for one in canary.hashes])


def kept_answers(canary: Canary) -> Asked:
    """What the model said when the certificate was made."""
    scores = _numbers(canary.scores, -math.inf)
    if canary.lower is None or canary.upper is None:
        return Asked(scores, np.array(canary.probabilities), scores, scores)
    upper = np.where(np.isneginf(scores), _numbers(canary.upper, -math.inf), _numbers(canary.upper, math.inf))
    return Asked(scores, np.array(canary.probabilities), _numbers(canary.lower, -math.inf), upper)


def _numbers(rows: Sequence[Sequence[float | None]], null: float) -> Floats:
    return np.array([[null if value is None else value for value in row] for row in rows])


def _finite_rows(values: Floats) -> list[list[float | None]]:
    """Rows of JSON, with null for what is infinite."""
    return [[value if math.isfinite(value) else None for value in row] for row in values.tolist()]


def tolerance(noise: float, model: Mapping[str, Any]) -> float:
    """How far the same model may move: three times as far as it was seen to move, or by its rounding.

    Examples
    --------
    >>> tolerance(0.0, {"dtype": "float32"}), tolerance(0.5, {}), tolerance(0.0, {})
    (0.0001, 1.5, 0.01)
    """
    dtype = model.get("dtype")
    return max(_TIMES_NOISE * noise, _ROUNDING_OF.get(dtype, _ROUNDING) if isinstance(dtype, str) else _ROUNDING)
