"""A pool of calibrated label scores, and of what else can be learned about the labels."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import clone

from ..arrays import Floats
from ..checks import check_keys
from ..errors import InputError
from ..numerics.row_features import RowFeatures, as_features
from .base import BaseCalibrator
from .maps import SCORE_MAPS
from .pool.members import LABEL_SCORES, FittedHead, Head, Member, Observed, ScoreMap
from .pool.pooled import FREQUENCIES, PooledCalibrator, label_members
from .temperature import PriorCalibrator

_FLEXIBLE_ROWS = 100  # below, maps of the label scores with many parameters cost more than they give beside heads


class StackedCalibrator(PooledCalibrator):
    """Pool label scores with heads that learn from features: hidden states, words, embeddings, or anything else.

    The members are calibrated label scores (those of `AutoCalibrator`), the class frequencies, and for each feature set two
    ridge regressions: one that starts from the class frequencies, and one that starts from the label scores (evened out without
    labels, and at their temperature) and learns what the features add; of several sets also one on all of them together. Each
    member is judged on rows that it has not seen (five folds; the strength of a ridge, scales and starts are learned outside of
    the fold), and they are combined by two opinion pools, see `llmclf.numerics.opinion_pools.OpinionPool`. The result needs no
    further calibration.

    Parameters
    ----------
    calibrator : str or calibrator, optional
        How the label scores are calibrated as a member; None takes the members of `AutoCalibrator`.

    Attributes
    ----------
    members_ : dict of name to fitted member
    pool_ : OpinionPool
        The members' weights.
    left_out_ : dict of name to str
        Members that these rows cannot judge, and why.
    classes_ : ndarray (K,)
        The class of each column.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> y = rng.integers(0, 2, 100)
    >>> scores = rng.normal(size=(100, 2)) + np.eye(2)[y]
    >>> features = {"length": rng.normal(size=(100, 3)) + 2 * y[:, None]}
    >>> stacked = StackedCalibrator().fit(scores, y, features=features)
    >>> frame = stacked.to_frame()
    >>> bool(frame.loc["length", "accuracy"] > frame.loc["temperature", "accuracy"])
    True
    >>> stacked.predict_proba(scores, features).shape
    (100, 2)
    """

    name = "stacked"
    _trust = 0.3
    _discount = 20.0

    def __init__(self, calibrator: Any = None) -> None:
        self.calibrator = calibrator

    # --- fit -----------------------------------------------------------------------------------------------------------

    def fit(
        self,
        scores: ArrayLike,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        classes: ArrayLike | None = None,
        groups: ArrayLike | None = None,
        features: Mapping[str, Any] | None = None,
    ) -> Self:
        """Fit members and pool; see `AutoCalibrator.fit` for what is not described here.

        Parameters
        ----------
        scores, y, sample_weight, classes, groups
            As `AutoCalibrator.fit` has them, which says what to give for inclusion probabilities.
        features : mapping of name to array-like (n, d) or sparse array, optional
            Feature sets. Dense ones are standardised.

        Raises
        ------
        InputError
            As in `AutoCalibrator.fit`; or features are no finite numbers, of another number of rows, or called like a member.
        """
        n_rows = len(scores)  # type: ignore[arg-type]
        given = {name: as_features(values, name, n_rows) for name, values in (features or {}).items()}
        return self._fit_grouped(scores, y, sample_weight, classes, groups, features=given)

    def _members(self, feature_sets: tuple[str, ...]) -> list[Member]:
        members: list[Member] = [ScoreMap(FREQUENCIES, PriorCalibrator())]
        if self.calibrator is None:
            members += label_members(matrix_rows=_FLEXIBLE_ROWS, head_rows=_FLEXIBLE_ROWS)
        else:
            one = self._label_map()
            members.append(ScoreMap(one.name, one))
        for name in feature_sets:
            members += [Head(name, (name,), False), Head(f"{LABEL_SCORES} + {name}", (name,), True)]
        if len(feature_sets) > 1:
            members.append(Head(" + ".join((LABEL_SCORES, *feature_sets)), feature_sets, True))
        return members

    def _label_map(self) -> BaseCalibrator:
        """The calibrator that the caller wants of the label scores."""
        if isinstance(self.calibrator, str) and self.calibrator in SCORE_MAPS:
            return SCORE_MAPS[self.calibrator]()
        if isinstance(self.calibrator, tuple(SCORE_MAPS.values())):
            label_map: BaseCalibrator = clone(self.calibrator)
            return label_map
        raise InputError(
            f"calibrator={self.calibrator!r} cannot be a member of a pool; expected a calibrator of llmclf.calibration, or one "
            f"of {sorted(SCORE_MAPS)}"
        )

    # --- predict -------------------------------------------------------------------------------------------------------

    def predict_log_proba(self, scores: ArrayLike, features: Mapping[str, Any] | None = None) -> Floats:
        """Pooled log-probabilities; see `TemperatureCalibrator.predict_log_proba`.

        Parameters
        ----------
        scores : array-like (n, K)
        features : mapping of name to array-like (n, d) or sparse array
            The feature sets of `fit`; or of name to ndarray (n, K): what `head_logits` made of them.
        """
        matrix = self._checked(scores)
        given = dict(features or {})
        heads = self.heads
        if heads and set(heads) <= set(given):
            return self._pooled(Observed(matrix, {}, {name: np.asarray(given[name], float) for name in heads}))
        return self._pooled(Observed(matrix, self._read(given, len(matrix))))

    def predict_proba(self, scores: ArrayLike, features: Mapping[str, Any] | None = None) -> Floats:
        """Pooled probabilities, rows summing to 1; see `predict_log_proba`."""
        result: Floats = np.exp(self.predict_log_proba(scores, features))
        return result

    def predict(self, scores: ArrayLike, features: Mapping[str, Any] | None = None) -> NDArray[Any]:
        """The most probable class of each row; see `predict_log_proba`."""
        result: NDArray[Any] = self.classes_[self.predict_log_proba(scores, features).argmax(axis=1)]
        return result

    @property
    def heads(self) -> list[str]:
        """The names of the members that need features."""
        return [name for name, one in self.members_.items() if isinstance(one, FittedHead) and one.needs_features]

    def head_logits(self, features: Mapping[str, Any], n_rows: int) -> dict[str, Floats]:
        """What each head makes of the features of n rows, (n, K) each: all that predictions need of them.

        Parameters
        ----------
        features : mapping of name to array-like (n, d)
        n_rows : int
        """
        rows = Observed(np.zeros((n_rows, self.classes_.size)), self._read(features, n_rows))
        heads = {name: self.members_[name] for name in self.heads}
        return {name: head.logits(rows) for name, head in heads.items() if isinstance(head, FittedHead)}

    def member_log_proba(self, scores: ArrayLike, features: Mapping[str, Any] | None = None) -> dict[str, Floats]:
        """The log-probabilities (n, K) that each member gives; see `predict_log_proba`."""
        matrix = self._checked(scores)
        rows = Observed(matrix, self._read(dict(features or {}), len(matrix)))
        return {name: member.log_proba(rows) for name, member in self.members_.items()}

    def _read(self, features: Mapping[str, Any], n_rows: int) -> dict[str, RowFeatures]:
        needed = {name for one in self.members_.values() if isinstance(one, FittedHead) for name in one.scalings}
        absent = sorted(needed - {LABEL_SCORES} - set(features))
        if absent:
            raise InputError(f"features lack {absent[0]!r}; expected those of the fit: {list(self.feature_sets_)!r}")
        return {name: as_features(features[name], name, n_rows) for name in self.feature_sets_ if name in features}

    # --- save ----------------------------------------------------------------------------------------------------------

    def _parameters(self) -> dict[str, Any]:
        if self.calibrator is None or isinstance(self.calibrator, str):
            return {"calibrator": self.calibrator}
        return {"calibrator": {"name": self.calibrator.name, "parameters": self.calibrator.get_params(deep=False)}}

    @classmethod
    def from_dict(cls, description: Mapping[str, Any]) -> Self:
        """A fitted pool from the result of `to_dict`; see `TemperatureCalibrator.from_dict`."""
        parameters = description.get("parameters") if isinstance(description, Mapping) else None
        wanted = parameters.get("calibrator") if isinstance(parameters, Mapping) else None
        if isinstance(wanted, Mapping):
            check_keys(wanted, ["name", "parameters"], "'calibrator'")
            kind = SCORE_MAPS.get(wanted["name"]) if isinstance(wanted["name"], str) else None
            if kind is None:
                raise InputError(f"name={wanted['name']!r}; expected one of {sorted(SCORE_MAPS)}")
            check_keys(wanted["parameters"], list(inspect.signature(kind).parameters), "'parameters'")
            description = {**description, "parameters": {"calibrator": kind(**wanted["parameters"])}}
        return super().from_dict(description)

    def _restore(self, fitted: Any, n_classes: int) -> None:
        if self.calibrator is not None:
            self._label_map()  # refuses what cannot be a member
        super()._restore(fitted, n_classes)
