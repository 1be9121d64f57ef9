"""The members of a pool: maps of the label scores, and heads that learn from features beside them."""

from __future__ import annotations

import reprlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone

from ...arrays import Floats, Integers
from ...checks import check_keys, checked_names, checked_numbers, checked_pairs
from ...errors import InputError
from ...logits import log_softmax, softmax
from ...numerics.ridge_softmax import VARIANCES, RidgeSoftmax, RowSpan
from ...numerics.row_features import DenseFeatures, RowFeatures, Scaling, Standardised, scaling_from_dict
from ..base import BaseCalibrator, checked_temperature
from ..maps import SCORE_MAPS
from ..temperature import PriorCalibrator, TemperatureCalibrator
from .even_temperature import EvenTemperature

LABEL_SCORES = "label scores"
"""The feature set that is made of the label scores themselves."""


@dataclass(frozen=True, eq=False)
class Observed:
    """What is known of n rows without their labels.

    Attributes
    ----------
    scores : ndarray (n, K)
        Log-scores, row maximum 0.
    features : mapping of name to RowFeatures
        What a head learns from.
    logits : mapping of name to ndarray (n, K)
        Or what it has made of that already.
    """

    scores: Floats
    features: Mapping[str, RowFeatures] = field(default_factory=dict)
    logits: Mapping[str, Floats] = field(default_factory=dict)
    _scaled: dict[int, tuple[Mapping[str, Scaling], list[Any]]] = field(default_factory=dict)

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_scaled": {}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            object.__setattr__(self, name, value)

    def __len__(self) -> int:
        return len(self.scores)

    def take(self, rows: Integers) -> Observed:
        """Some of the rows."""
        return Observed(
            self.scores[rows],
            {name: features.take(rows) for name, features in self.features.items()},
            {name: logits[rows] for name, logits in self.logits.items()},
        )

    def parts(self, scalings: Mapping[str, Scaling]) -> list[Any]:
        """The scaled features of some sets, which side by side make rows as long as those of one set; scaled once."""
        key = id(scalings)  # which is kept below, so that no other mapping gets its id
        if key not in self._scaled:
            share = 1.0 / np.sqrt(len(scalings))
            made = [share * self._scaled_set(name, scaling) for name, scaling in scalings.items()]
            self._scaled[key] = scalings, made
        return self._scaled[key][1]

    def _scaled_set(self, name: str, scaling: Scaling) -> Any:
        try:
            return scaling.matrix(self.feature_set(name))
        except InputError as error:
            if repr(name) in str(error):
                raise
            raise InputError(f"features {name!r}: {error}") from error

    def feature_set(self, name: str) -> RowFeatures:
        """One feature set by its name; that of the label scores is made of these."""
        return DenseFeatures(log_softmax(self.scores)) if name == LABEL_SCORES else self.features[name]


@dataclass(frozen=True, eq=False)
class Labelled:
    """Labelled rows to fit on: `columns` (n,) of their true classes, and positive `weights` (n,)."""

    rows: Observed
    columns: NDArray[np.intp]
    weights: Floats
    classes: NDArray[Any]
    _spans: dict[tuple[str, ...], tuple[Mapping[str, Scaling], RowSpan]] = field(default_factory=dict)
    _starts: dict[bool, BaseCalibrator] = field(default_factory=dict)

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_spans": {}, "_starts": {}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            object.__setattr__(self, name, value)

    def span(self, sets: tuple[str, ...]) -> tuple[Mapping[str, Scaling], RowSpan]:
        """The scalings of some feature sets, and the space of the scaled rows; members with the same sets share them."""
        if sets not in self._spans:
            scalings = {name: self.rows.feature_set(name).scaling(self.columns, self.weights) for name in sets}
            self._spans[sets] = scalings, RowSpan(self.rows.parts(scalings))
        return self._spans[sets]

    def fitted(self, calibrator: BaseCalibrator) -> BaseCalibrator:
        """A calibrator of label scores, fitted."""
        own: BaseCalibrator = clone(calibrator)
        own.fit_map(self.rows.scores, self.columns, self.weights, self.classes)
        own.classes_ = self.classes
        own.n_features_in_ = self.classes.size
        return own

    def start(self, from_scores: bool) -> BaseCalibrator:
        """What heads start from: the label scores, or the frequencies of the classes; those of one kind share it."""
        if from_scores not in self._starts:
            self._starts[from_scores] = self.fitted(EvenTemperature() if from_scores else PriorCalibrator())
        return self._starts[from_scores]

    def take(self, rows: Integers) -> Labelled:
        """Some of the rows."""
        return Labelled(self.rows.take(rows), self.columns[rows], self.weights[rows], self.classes)


class FittedMember(ABC):
    """Log-probabilities of rows."""

    @abstractmethod
    def log_proba(self, rows: Observed) -> Floats:
        """Log-probabilities (n, K)."""

    @abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """Numbers and arrays that `member_from_dict` reads."""


class Member(ABC):
    """Learns from labelled rows; how strongly, in steps that rise from the least."""

    name: str

    @abstractmethod
    def path(self, labelled: Labelled) -> Iterator[FittedMember]:
        """The member fitted with each strength."""

    def fit(self, labelled: Labelled, step: int) -> FittedMember:
        """The member fitted with one strength, by its number."""
        return next(fitted for number, fitted in enumerate(self.path(labelled)) if number == step)

    def obstacle(self, counts: Floats) -> str | None:
        """Why labelled rows, `counts` (K,) of each class, cannot judge it; None where they can."""
        return None


@dataclass(frozen=True)
class ScoreMap(Member):
    """A calibrator of the label scores, which may want some rows, and may be for few classes only."""

    name: str
    calibrator: BaseCalibrator
    least_rows: int = 0
    most_classes: int | None = None

    def obstacle(self, counts: Floats) -> str | None:
        if counts.sum() < self.least_rows:
            return _too_few_rows(self.least_rows)
        if self.most_classes is not None and len(counts) > self.most_classes:
            return f"it has a parameter for each pair of classes, and there are more than {self.most_classes} classes"
        return None

    def path(self, labelled: Labelled) -> Iterator[FittedMember]:
        yield FittedMap(labelled.fitted(self.calibrator))


@dataclass(frozen=True, eq=False)
class FittedMap(FittedMember):
    calibrator: BaseCalibrator

    def log_proba(self, rows: Observed) -> Floats:
        logs: Floats = self.calibrator.map_log_proba(rows.scores)
        return logs

    def to_dict(self) -> dict[str, Any]:
        return {"kind": "map", "calibrator": self.calibrator.to_dict()}


@dataclass(frozen=True)
class Head(Member):
    """A ridge regression on feature sets, from what is known without them: label scores, or the classes' frequencies.

    Attributes
    ----------
    name : str
    sets : tuple of str
        The feature sets, each with the same weight.
    from_scores : bool
        Whether it starts from the label scores, evened out without labels and at their temperature, or from the frequencies of
        the classes.
    least_rows : int
        It is no member on fewer labelled rows.
    """

    name: str
    sets: tuple[str, ...]
    from_scores: bool
    least_rows: int = 0

    def obstacle(self, counts: Floats) -> str | None:
        if counts.sum() < self.least_rows:
            return _too_few_rows(self.least_rows)
        rare = int((counts < 2).sum())
        if self.from_scores or not rare:
            return None
        return (
            f"{rare} of {len(counts)} classes have fewer than two labelled rows, so that it could not be judged on them"
        )

    def path(self, labelled: Labelled) -> Iterator[FittedMember]:
        fit = self._fitter(labelled)
        yield from map(fit, VARIANCES)

    def fit(self, labelled: Labelled, step: int) -> FittedMember:
        return self._fitter(labelled)(VARIANCES[step])

    def _fitter(self, labelled: Labelled) -> Callable[[float], FittedMember]:
        start = labelled.start(self.from_scores)
        scalings, span = labelled.span(self.sets)
        problem = RidgeSoftmax(span, labelled.columns, labelled.weights, start.map_log_proba(labelled.rows.scores))
        return lambda variance: FittedHead(self.name, scalings, *problem.fit(variance), start)


@dataclass(frozen=True, eq=False)
class FittedHead(FittedMember):
    """softmax(start + features x coefficients + intercepts).

    Attributes
    ----------
    name : str
    scalings : mapping of feature set to Scaling
    coefficients : ndarray (d, K)
    intercepts : ndarray (K,)
    start : calibrator
        What makes log-probabilities of the label scores, which the features add to.
    """

    name: str
    scalings: Mapping[str, Scaling]
    coefficients: Floats
    intercepts: Floats
    start: BaseCalibrator

    @property
    def needs_features(self) -> bool:
        """Whether more than the label scores is needed."""
        return set(self.scalings) != {LABEL_SCORES}

    def logits(self, rows: Observed) -> Floats:
        """What the features add to the start (n, K)."""
        if self.name in rows.logits:
            return rows.logits[self.name]
        logits = np.tile(self.intercepts, (len(rows), 1))
        start = 0
        for part in rows.parts(self.scalings):
            stop = start + part.shape[1]
            logits += np.asarray(part @ self.coefficients[start:stop])
            start = stop
        return logits

    def log_proba(self, rows: Observed) -> Floats:
        return log_softmax(self.start.map_log_proba(rows.scores) + self.logits(rows))

    def to_dict(self) -> dict[str, Any]:
        return {
            "kind": "head",
            "name": self.name,
            "scalings": [[name, scaling.to_dict()] for name, scaling in self.scalings.items()],
            "coefficients": self.coefficients,
            "intercepts": self.intercepts,
            "start": self.start.to_dict(),
        }


def members_from_pairs(pairs: Any, feature_sets: tuple[str, ...], n_classes: int) -> dict[str, FittedMember]:
    """The fitted members of a pool from pairs of a name and what `to_dict` gives.

    Raises
    ------
    InputError
        These are no members that fitting on these feature sets and so many classes can produce.
    """
    described = checked_pairs(pairs, "members")
    names = checked_names([name for name, _ in described], "the names of the members")
    members = {
        name: member_from_dict(values, name, n_classes) for name, (_, values) in zip(names, described, strict=True)
    }
    for name, member in members.items():
        needed = set(member.scalings) if isinstance(member, FittedHead) else set()
        strange = sorted(needed - {LABEL_SCORES, *feature_sets})
        if strange:
            raise InputError(
                f"the head {name!r} of a pool needs the feature set {strange[0]!r}, and the pool has {list(feature_sets)!r}"
            )
    return members


def member_from_dict(values: Mapping[str, Any], name: str, n_classes: int) -> FittedMember:
    """The inverse of `to_dict` of the fitted member of this name.

    Raises
    ------
    InputError
        These are no values that fitting can produce for so many classes.
    """
    kind = values.get("kind") if isinstance(values, Mapping) else None
    read = _READERS.get(kind) if isinstance(kind, str) else None
    if read is None:
        raise InputError(
            f"the member {name!r} of a pool is of kind {reprlib.repr(kind)}; expected one of {list(_READERS)}"
        )
    try:
        return read(values, name, n_classes)
    except InputError as error:
        raise InputError(f"the {kind} {name!r} of a pool holds values which fitting cannot produce: {error}") from error


def _map_from_dict(values: Mapping[str, Any], name: str, n_classes: int) -> FittedMap:
    check_keys(values, ["kind", "calibrator"], "it")
    return FittedMap(_calibrator_from_dict(values["calibrator"], n_classes))


def _calibrator_from_dict(described: Any, n_classes: int) -> BaseCalibrator:
    kind = described.get("name") if isinstance(described, Mapping) else None
    known: dict[str, type[BaseCalibrator]] = {**SCORE_MAPS, EvenTemperature.name: EvenTemperature}
    if not isinstance(kind, str) or kind not in known:
        raise InputError(f"calibrator={reprlib.repr(described)}; expected the description of one of {sorted(known)}")
    calibrator = known[kind].from_dict(described)
    if calibrator.classes_.size != n_classes:
        raise InputError(f"it has {calibrator.classes_.size} classes; expected {n_classes}")
    return calibrator


def _head_from_dict(values: Mapping[str, Any], name: str, n_classes: int) -> FittedHead:
    own_start = "offset" if "offset" in values else "start"
    check_keys(values, ["kind", "name", "scalings", "coefficients", "intercepts", own_start], "it")
    if values["name"] != name:
        raise InputError(f"it is also called {values['name']!r}; expected one name")
    pairs = checked_pairs(values["scalings"], "scalings")
    sets = checked_names([own for own, _ in pairs], "the feature sets")
    scalings = {own: scaling_from_dict(scaling) for own, (_, scaling) in zip(sets, pairs, strict=True)}
    of_scores = scalings.get(LABEL_SCORES)
    if of_scores is not None and not (isinstance(of_scores, Standardised) and of_scores.n_columns == n_classes):
        raise InputError(f"it scales something else than the label scores of {n_classes} classes")
    n_columns = sum(scaling.n_columns for scaling in scalings.values())
    return FittedHead(
        name,
        scalings,
        checked_numbers(values["coefficients"], (n_columns, n_classes), "coefficients"),
        checked_numbers(values["intercepts"], (n_classes,), "intercepts"),
        _calibrator_from_dict(values["start"], n_classes)
        if own_start == "start"
        else _start_from_offset(values["offset"], n_classes),
    )


def _start_from_offset(offset: Any, n_classes: int) -> BaseCalibrator:
    """What heads of earlier folders started from: a temperature of the label scores, or the logs of frequencies (K,)."""
    start: BaseCalibrator
    if isinstance(offset, (list, np.ndarray)):
        start = PriorCalibrator()
        start.prior_ = softmax(checked_numbers(offset, (n_classes,), "offset"))
    else:
        start = TemperatureCalibrator()
        start.temperature_ = checked_temperature(offset)
    start.classes_, start.n_features_in_ = np.arange(n_classes), n_classes
    return start


_READERS: Mapping[str, Callable[[Mapping[str, Any], str, int], FittedMember]] = {
    "map": _map_from_dict,
    "head": _head_from_dict,
}


def _too_few_rows(least: int) -> str:
    return f"it has many parameters, and there are fewer than {least} labelled rows"
