"""What pools of members share: members judged on rows that they have not seen, and weighted."""

from __future__ import annotations

import reprlib
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ...arrays import Floats, Integers
from ...checks import check_keys, checked_names, checked_numbers
from ...errors import InputError
from ...logits import log_softmax
from ...numerics.folds import copies, fold_weights
from ...numerics.groups import group_numbers
from ...numerics.opinion_pools import OpinionPool
from ...numerics.row_features import RowFeatures
from ..affine import MatrixCalibrator, VectorCalibrator
from ..base import ENOUGH_ROWS, WEAK_RIDGE, BaseCalibrator
from ..temperature import (
    BiasTemperatureCalibrator,
    IdentityCalibrator,
    TemperatureCalibrator,
)
from .cross_fits import CrossFits
from .even_temperature import EvenTemperature
from .members import (
    LABEL_SCORES,
    FittedMap,
    FittedMember,
    Head,
    Labelled,
    Member,
    Observed,
    ScoreMap,
    members_from_pairs,
)
from .prices import Prices
from .worth import Worth, price_of, worth_table

if TYPE_CHECKING:
    import pandas as pd

_MANY_WEIGHTS = 3  # of the members, named by `heaviest_`
_LEAST_NAMED = 0.005
FREQUENCIES = "frequencies"
AS_THEY_ARE = "as they are"
MATRIX_CLASSES = 20
"""A matrix is a member up to so many classes: beyond, the head on the label scores does its work."""


def label_members(matrix_rows: int = 50, head_rows: int = 0) -> list[Member]:
    """What can be made of the label scores alone, the simplest first; a matrix and a head from so many rows on."""
    maps: list[BaseCalibrator] = [
        TemperatureCalibrator(),
        EvenTemperature(),
        BiasTemperatureCalibrator(),
        VectorCalibrator(),
    ]
    members = [ScoreMap(one.name, one) for one in maps]
    weak = ScoreMap("weak_bias_temperature", BiasTemperatureCalibrator(WEAK_RIDGE))
    matrix = ScoreMap("matrix", MatrixCalibrator(), matrix_rows, MATRIX_CLASSES)
    return [*members[:3], weak, members[3], matrix, Head(LABEL_SCORES, (LABEL_SCORES,), True, head_rows)]


class PooledCalibrator(BaseCalibrator):
    """A pool of members; each kind says which, in `_members`.

    Attributes
    ----------
    members_ : dict of name to fitted member
    pool_ : OpinionPool
        The members' weights.
    left_out_ : dict of name to str
        Members that the rows of the fit cannot judge, and why.
    losses_ : dict of name to float
        Cross-validated log loss of each member in nats, and of the scores as they are (``"identity"``); empty on fewer than 20
        rows.
    """

    _trust: ClassVar[float]
    """What the maps of label scores that learn one number are trusted before any row is seen; the others share the rest."""

    _linear_only: ClassVar[bool] = False
    """Whether all members know the same."""

    _discount: ClassVar[float] = 0.0
    """How many rows' worth of what the members show is not believed."""

    def _weighed(
        self,
        members: Sequence[Member],
        logs: Floats,
        columns: NDArray[np.intp],
        weights: Floats,
        groups: Integers | None,
    ) -> OpinionPool:
        """The pool of members whose log-probabilities (M, n, K) of rows that they have not seen are known."""
        prior = np.full(len(members), 1.0 / len(members))
        maps = {
            place: one.calibrator
            for place, one in enumerate(members)
            if isinstance(one, ScoreMap) and one.name != FREQUENCIES
        }
        # Those that learn one number from the labels, else what the caller wants of the label scores.
        trusted = [place for place, one in maps.items() if isinstance(one, TemperatureCalibrator)] or [*maps][:1]
        if trusted and len(members) > len(trusted):
            prior[:] = (1.0 - self._trust) / (len(members) - len(trusted))
            prior[trusted] = self._trust / len(trusted)
        options: dict[str, Any] = {"linear_only": self._linear_only, "discount": self._discount}
        return OpinionPool.fit(logs, columns, weights, groups, prior, **options)

    @abstractmethod
    def _members(self, feature_sets: tuple[str, ...]) -> list[Member]:
        """The members, with different names."""

    def fit(
        self,
        scores: ArrayLike,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        classes: ArrayLike | None = None,
        groups: ArrayLike | None = None,
    ) -> Self:
        """Fit and weigh the members; see `TemperatureCalibrator.fit` for what is not described here.

        Parameters
        ----------
        scores : array-like (n, K)
        y : array-like (n,)
        sample_weight : array-like (n,), optional
            Of rows that were drawn with the probabilities `inclusion`: ``inclusion_weights(inclusion, n)`` of `llmclf.metrics`.
        classes : array-like (K,), optional
        groups : array-like (n,), optional
            What each row belongs to, such as its text or its author: cross-validation never parts the rows of a group. None:
            rows with equal scores belong together where there are at least 20 different ones.

        Raises
        ------
        InputError
            As in `TemperatureCalibrator.fit`; or `groups` does not name the group of every row.

        Warns
        -----
        CalibrationWarning
            As in `TemperatureCalibrator.fit`; or all rows belong to one group, so that nothing can be cross-validated and the
            scores stay as they are.
        """
        return self._fit_grouped(scores, y, sample_weight, classes, groups)

    def _fit_grouped(
        self,
        scores: ArrayLike,
        y: ArrayLike,
        sample_weight: ArrayLike | None,
        classes: ArrayLike | None,
        groups: ArrayLike | None,
        **more: Mapping[str, RowFeatures],
    ) -> Self:
        numbers = {} if groups is None else {"groups": group_numbers(groups, len(scores))}  # type: ignore[arg-type]
        return self._fit_rows(scores, y, sample_weight, classes, **numbers, **more)

    def fit_map(
        self,
        scores: Floats,
        columns: NDArray[np.intp],
        weights: Floats,
        classes: NDArray[Any],
        groups: Integers | None = None,
        features: Mapping[str, RowFeatures] | None = None,
    ) -> str:
        given = dict(features or {})
        self.feature_sets_ = tuple(given)
        labelled = Labelled(Observed(scores, given), columns, weights, classes)
        groups = copies(scores, weights) if groups is None else groups
        self._first_copies = np.arange(len(scores))
        if groups is None and (weights != 1.0).any():
            # Rounded scores say nothing about texts, so a row of weight 2 is two rows, which may go to two folds.
            labelled, self._first_copies = _repeated(labelled)
            scores, columns, weights = labelled.rows.scores, labelled.columns, labelled.weights
        folds = fold_weights(scores, columns, weights, groups=groups).argmax(axis=1)
        fits = CrossFits(labelled, folds)
        # Only the rows are kept: what was fitted on the way to the members is large, and cheap beside the model.
        self._fits, self._groups = CrossFits(labelled, folds), groups
        self.left_out_: dict[str, str] = {}
        self.losses_: dict[str, float] = {}
        if weights.sum() < ENOUGH_ROWS or np.unique(folds).size < 2:
            return self._keep_scores(labelled)
        counts = np.bincount(columns, weights, minlength=classes.size).astype(np.float64)
        candidates = self._members(self.feature_sets_)
        # "identity" is what `losses_` calls the scores as they are.
        names = [*(member.name for member in candidates), *({"identity"} & set(self.feature_sets_))]
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise InputError(
                f"a feature set makes a second member called {twice!r} of the pool; give the set another name"
            )
        obstacles = {member.name: member.obstacle(counts) for member in candidates}
        self.left_out_ = {name: reason for name, reason in obstacles.items() if reason is not None}
        self.members_: dict[str, FittedMember] = {}
        self._judged: dict[str, Floats] = {}
        for member in candidates:
            if member.name in self.left_out_:
                continue
            try:
                step, logs = fits.judged(member)
                self.members_[member.name], self._judged[member.name] = member.fit(labelled, step), logs
            except InputError as error:
                self.left_out_[member.name] = f"it cannot be fitted on some of the rows: {error}"
        members = [member for member in candidates if member.name in self.members_]
        if not members:
            raise InputError(f"no member of the pool can be fitted: {next(iter(self.left_out_.values()))}")
        self.pool_ = self._weighed(members, np.stack(list(self._judged.values())), columns, weights, groups)
        every = np.arange(len(columns))
        judged = {"identity": log_softmax(scores), **self._judged}
        self.losses_ = {name: float(-np.average(one[every, columns], weights=weights)) for name, one in judged.items()}
        return ""

    def _keep_scores(self, labelled: Labelled) -> str:
        """No member can be judged, so the label scores stay as they are."""
        member = ScoreMap(AS_THEY_ARE, IdentityCalibrator())
        self.members_ = {member.name: member.fit(labelled, 0)}
        self.pool_ = OpinionPool.of_one()
        self._judged = {member.name: self.members_[member.name].log_proba(labelled.rows)}
        if self._groups is not None and len(np.unique(self._groups)) < 2:
            return "all rows belong to one group, so no member can be judged and the label scores stay as they are"
        return ""

    # --- predict -------------------------------------------------------------------------------------------------------

    def map_log_proba(self, scores: Floats) -> Floats:
        return self._pooled(Observed(scores))

    def _pooled(self, rows: Observed) -> Floats:
        logs: Floats = self.pool_(np.stack([member.log_proba(rows) for member in self.members_.values()]))
        return logs

    # --- what it is worth ----------------------------------------------------------------------------------------------

    @property
    def weights_(self) -> dict[str, float]:
        """Each member's weight: in the linear pool and in the logarithmic one, by their shares."""
        pool = self.pool_
        weights = (1 - pool.share) * pool.linear + pool.share * pool.logarithmic
        return dict(zip(self.members_, weights.tolist(), strict=True))

    @property
    def heaviest_(self) -> str:
        """The members that weigh most, in a few words, such as "states 62%, tfidf 30%"."""
        weights = sorted(self.weights_.items(), key=lambda item: -item[1])[:_MANY_WEIGHTS]
        return ", ".join(f"{name} {weight:.0%}" for name, weight in weights if weight >= _LEAST_NAMED)

    @property
    def choice_(self) -> str:
        """What weighs most, in a few words.

        Examples
        --------
        >>> from llmclf.calibration import AutoCalibrator
        >>> scores = np.log([[0.99, 0.01], [0.01, 0.99], [0.6, 0.4], [0.3, 0.7]] * 25)
        >>> calibrator = AutoCalibrator().fit(scores, ["no", "yes", "no", "yes"] * 20 + ["yes", "no", "no", "yes"] * 5)
        >>> calibrator.choice_[:6], calibrator.choice_[-52:]
        ('pooled', '-validated log loss 0.546, 0.681 without calibration')
        """
        if not self.losses_:
            return "kept the scores as they are, as there are too few rows to judge a calibrator"
        loss = self.losses_[max(self.weights_, key=self.weights_.__getitem__)]
        before = self.losses_["identity"]
        return f"pooled {self.heaviest_}: cross-validated log loss {loss:.3f}, {before:.3f} without calibration"

    def judged(self) -> Floats:
        """Log-probabilities (n, K) of the rows of the fit from members that have not seen their fold; the pool's weights have.

        Raises
        ------
        InputError
            The rows did not outlive save and load.
        """
        self._training()
        logs: Floats = self.pool_(np.stack(list(self._judged.values())))[self._first_copies]
        return logs

    def cross_fitted(self) -> Floats:
        """Log-probabilities (n, K) of the rows of the fit, each from members and a pool that have not seen its fold.

        Raises
        ------
        InputError
            The rows did not outlive save and load.
        """
        known = self._training()
        if list(self.members_) == [AS_THEY_ARE]:
            return self.judged()
        # Fits of its own, so that threads do not walk one path together.
        fits = CrossFits(known.labelled, known.folds)
        labelled, groups = fits.labelled, self._groups
        members = [member for member in self._members(self.feature_sets_) if member.name in self.members_]
        logs = np.empty((len(labelled.columns), labelled.classes.size))
        for fold in fits.numbers:
            seen, rows = np.flatnonzero(fits.folds != fold), fits.inside((fold,))
            able, judged, own = [], [], []
            for member in members:
                try:
                    step, log_proba = fits.judged(member, (fold,))
                    found = fits.log_proba(member, (fold,), step)
                except InputError:  # of so few rows it cannot be fitted
                    continue
                if found is not None:
                    able.append(member)
                    judged.append(log_proba)
                    own.append(found)
            pool = self._weighed(
                able,
                np.stack(judged)[:, seen],
                labelled.columns[seen],
                labelled.weights[seen],
                None if groups is None else groups[seen],
            )
            logs[rows] = pool(np.stack(own))
        return logs[self._first_copies]

    def to_frame(self, confidence_level: float = 0.95) -> pd.DataFrame:
        """Each member's weight, and its accuracy and log loss on rows that it has not seen, with intervals.

        Returns
        -------
        DataFrame, one line per member; those that could not be judged (`left_out_`) have weight 0
            ``weight`` (linear pool and logarithmic one, by their shares), ``accuracy``, ``accuracy_low``, ``accuracy_high``,
            ``log_loss``, ``log_loss_low`` and ``log_loss_high``, in nats; ``rows_per_second`` and ``cost_per_1000_rows`` of the
            label scores and features that the member needs, as they were measured in the fit of a classifier, NaN where they
            were not: by a calibrator on its own, of answers from a cache, of a server without a price table.

        Raises
        ------
        InputError
            The rows did not outlive save and load.
        """
        labelled = self._training().labelled
        prices = getattr(self, "_prices", None)
        worth = [
            Worth(name, weight, logs, price_of(self.members_[name], prices))
            for (name, logs), weight in zip(self._judged.items(), self.weights_.values(), strict=True)
        ]
        return worth_table(worth, self.left_out_, labelled, self._groups, confidence_level)

    def note_prices(self, prices: Prices) -> None:
        """Keep what scores and features of the fit took, for `to_frame`.

        Parameters
        ----------
        prices : Prices
        """
        self._prices = prices

    def _training(self) -> CrossFits:
        fits: CrossFits | None = getattr(self, "_fits", None)
        if fits is None:
            raise InputError("the rows that the members were fitted on did not outlive save and load; fit again")
        return fits

    # --- save ----------------------------------------------------------------------------------------------------------

    def described(self) -> dict[str, Any]:
        """Members and weights, for people: `to_dict` without the members' numbers."""
        return {
            "name": self.name,
            "feature_sets": list(self.feature_sets_),
            "members": list(self.members_),
            "pool": self.pool_.to_dict(),
            "left_out": dict(self.left_out_),
        }

    def to_dict(self, *, arrays: bool = False) -> dict[str, Any]:
        """Everything that predictions depend on; see `TemperatureCalibrator.to_dict`.

        Parameters
        ----------
        arrays : bool
            Leave arrays of numbers as they are; by default they become lists, which JSON can hold.
        """
        described = super().to_dict()
        return described if arrays else {**described, "fitted": _listed(described["fitted"])}

    def _fitted(self) -> dict[str, Any]:
        return {
            "feature_sets": list(self.feature_sets_),
            # A list, since their order is that of the weights, and some tools sort the keys of an object.
            "members": [[name, member.to_dict()] for name, member in self.members_.items()],
            "pool": self.pool_.to_dict(),
            "left_out": dict(self.left_out_),
            "losses": self.losses_,
        }

    def _restore(self, fitted: Any, n_classes: int) -> None:
        check_keys(fitted, ["feature_sets", "members", "pool", "left_out", "losses"], "'fitted'")
        self.feature_sets_ = checked_names(fitted["feature_sets"], "feature_sets")
        self.members_ = members_from_pairs(fitted["members"], self.feature_sets_, n_classes)
        names = list(self.members_)
        self.pool_ = OpinionPool.from_dict(fitted["pool"])
        if len(names) != len(self.pool_.linear):
            raise InputError(f"a pool of {len(names)} members has {len(self.pool_.linear)} weights")
        left_out = fitted["left_out"]
        if not isinstance(left_out, Mapping) or not all(isinstance(reason, str) for reason in left_out.values()):
            raise InputError(f"left_out={reprlib.repr(left_out)}; expected why each of some members was left out")
        self.left_out_ = dict(left_out)
        self.losses_ = checked_losses(fitted["losses"])
        judged = set() if names == [AS_THEY_ARE] else {"identity", *names}
        if not judged <= set(self.losses_) or (self.losses_ and not judged):
            raise InputError(f"losses of {sorted(self.losses_)!r}; expected those of 'identity' and of {names!r}")

    @classmethod
    def from_dict(cls, description: Mapping[str, Any]) -> Self:
        """A fitted pool from the result of `to_dict`; see `TemperatureCalibrator.from_dict`."""
        pool = super().from_dict(description)
        expected = pool.classes_.tolist()
        for name, member in pool.members_.items():
            if isinstance(member, FittedMap) and member.calibrator.classes_.tolist() != expected:
                raise InputError(
                    f"the member {name!r} has the classes {member.calibrator.classes_.tolist()!r}, and the pool has {expected!r}"
                )
        return pool


def checked_losses(losses: Any) -> dict[str, float]:
    if not isinstance(losses, Mapping):
        raise InputError(f"losses={losses!r}; expected the log loss of each member")
    names = list(map(str, losses))
    values = checked_numbers(list(losses.values()), (len(names),), "losses")
    if (values < -1e-6).any():
        raise InputError(f"losses={reprlib.repr(losses)}; expected log losses, which are at least 0")
    return dict(zip(names, values.tolist(), strict=True))


def _repeated(labelled: Labelled) -> tuple[Labelled, Integers]:
    """Rows of whole-number weights as so many rows of weight 1, and where the first copy of each row stands."""
    weights = labelled.weights
    counts = np.where(weights == np.round(weights), weights, 1.0).astype(np.intp)
    rows = np.repeat(np.arange(len(weights)), counts)
    repeated = labelled.take(rows)
    own = np.where(counts[rows] == weights[rows], 1.0, weights[rows])
    return replace(repeated, weights=own), np.cumsum(counts) - counts


def _listed(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, Mapping):
        return {key: _listed(inner) for key, inner in value.items()}
    return [_listed(inner) for inner in value] if isinstance(value, list) else value
