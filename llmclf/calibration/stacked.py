"""A pool of calibrated label scores, and of what else can be learned about the labels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import clone

from ..arrays import Floats, Integers
from ..errors import InputError
from ..metrics.means import mean_interval
from ..numerics.folds import copies, fold_weights
from ..numerics.groups import group_numbers
from ..numerics.opinion_pools import OpinionPool
from ..numerics.row_features import RowFeatures, as_features
from .base import ENOUGH_ROWS, BaseCalibrator, check_keys
from .cross_fitting import CrossFits
from .maps import SCORE_MAPS
from .pool_members import (
    LABEL_SCORES,
    FittedHead,
    FittedMember,
    Head,
    Labelled,
    Member,
    Observed,
    ScoreMap,
    member_from_dict,
)
from .temperature import BiasTemperatureCalibrator, IdentityCalibrator, PriorCalibrator, TemperatureCalibrator

if TYPE_CHECKING:
    import pandas as pd

FREQUENCIES = "frequencies"


class StackedCalibrator(BaseCalibrator):
    """Pool label scores with heads that learn from features: hidden states, words, embeddings, or anything else.

    The members are calibrated label scores, a ridge regression on the label scores, the class frequencies, and for each feature
    set two ridge regressions: one that starts from the class frequencies, and one that starts from the label scores and learns
    what the features add; of several sets also one on all of them together. Each member is judged on rows that it has not seen
    (five folds; the strength of a ridge, scales and offsets are learned outside of the fold), and they are combined by two
    opinion pools, see `llmclf.numerics.opinion_pools.OpinionPool`. The result needs no further calibration.

    Parameters
    ----------
    calibrator : str or calibrator, optional
        How the label scores are calibrated as a member. None takes two members: a temperature, and a bias and a temperature.

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
        """Fit members and pool; see `TemperatureCalibrator.fit` for what is not described here.

        Parameters
        ----------
        scores : array-like (n, K)
        y : array-like (n,)
        sample_weight : array-like (n,), optional
        classes : array-like (K,), optional
        groups : array-like (n,), optional
            What each row belongs to: no member is judged on rows of a group that it has seen. None: rows with equal scores
            belong together where there are at least 20 different ones.
        features : mapping of name to array-like (n, d) or sparse array, optional
            Feature sets. Dense ones are standardised.

        Raises
        ------
        InputError
            As in `TemperatureCalibrator.fit`; or features are no finite numbers, or of another number of rows.

        Warns
        -----
        CalibrationWarning
            There are fewer than 20 rows or two groups, so that no member can be judged and the label scores stay as they are.
        """
        more: dict[str, NDArray[Any]] = {}
        n_rows = len(scores)  # type: ignore[arg-type]
        if groups is not None:
            more["groups"] = group_numbers(groups, n_rows)
        self._given = {name: as_features(values, name, n_rows) for name, values in (features or {}).items()}
        try:
            # Which rows have a positive weight is known only below.
            return self._fit_rows(scores, y, sample_weight, classes, rows=np.arange(n_rows), **more)
        finally:
            del self._given

    def fit_map(
        self,
        scores: Floats,
        columns: NDArray[np.intp],
        weights: Floats,
        classes: NDArray[Any],
        rows: Integers | None = None,
        groups: Integers | None = None,
    ) -> str:
        given: Mapping[str, RowFeatures] = getattr(self, "_given", {})
        if rows is not None:
            given = {name: features.take(rows) for name, features in given.items()}
        self.feature_sets_ = tuple(given)
        labelled = Labelled(Observed(scores, given), columns, weights, classes)
        if groups is None:
            found = copies(scores, weights)
            groups = np.arange(len(scores)) if found is None else found
        folds = fold_weights(scores, columns, weights, groups=groups).argmax(axis=1)
        self._fits, self._groups = CrossFits(labelled, folds), groups
        self.left_out_: dict[str, str] = {}
        if weights.sum() < ENOUGH_ROWS or np.unique(folds).size < 2:
            return self._keep_scores(labelled)
        counts = np.bincount(columns, weights, minlength=classes.size).astype(np.float64)
        obstacles = {member.name: member.obstacle(counts) for member in self._members()}
        self.left_out_ = {name: reason for name, reason in obstacles.items() if reason is not None}
        members = [member for member in self._members() if member.name not in self.left_out_]
        steps, logs = zip(*(self._fits.judged(member) for member in members), strict=True)
        self.members_: dict[str, FittedMember] = {
            member.name: member.fit(labelled, step) for member, step in zip(members, steps, strict=True)
        }
        self.pool_ = OpinionPool.fit(np.stack(logs), columns, weights, self._pool_groups())
        self._judged = dict(zip(self.members_, logs, strict=True))
        return ""

    def _keep_scores(self, labelled: Labelled) -> str:
        """No member can be judged, so the label scores stay as they are."""
        member = ScoreMap("as they are", IdentityCalibrator())
        self.members_ = {member.name: member.fit(labelled, 0)}
        self.pool_ = OpinionPool(np.ones(1), np.ones(1), 0.0)
        self._judged = {member.name: self.members_[member.name].log_proba(labelled.rows)}
        if len(np.unique(self._groups)) < 2:
            return "all rows belong to one group, so no member can be judged and the label scores stay as they are"
        return ""

    def _members(self) -> list[Member]:
        members: list[Member] = [ScoreMap(FREQUENCIES, PriorCalibrator())]
        if self.calibrator is None:
            members += [ScoreMap(one.name, one) for one in (TemperatureCalibrator(), BiasTemperatureCalibrator())]
        else:
            one = self._label_map()
            members.append(ScoreMap(one.name, one))
        members.append(Head(LABEL_SCORES, (LABEL_SCORES,), True))
        for name in self.feature_sets_:
            members += [Head(name, (name,), False), Head(f"{LABEL_SCORES} + {name}", (name,), True)]
        if len(self.feature_sets_) > 1:
            members.append(Head(" + ".join((LABEL_SCORES, *self.feature_sets_)), self.feature_sets_, True))
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

    def _pool_groups(self) -> Integers | None:
        """The groups of the rows, None where each row is one of its own."""
        return self._groups if len(np.unique(self._groups)) < len(self._groups) else None

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

    def map_log_proba(self, scores: Floats) -> Floats:
        return self._pooled(Observed(scores, self._read({}, len(scores))))

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

    def _pooled(self, rows: Observed) -> Floats:
        logs: Floats = self.pool_(np.stack([member.log_proba(rows) for member in self.members_.values()]))
        return logs

    # --- what it is worth ----------------------------------------------------------------------------------------------

    def judged(self) -> Floats:
        """Log-probabilities (n, K) of the rows of the fit from members that have not seen their fold; the pool's weights have.

        Raises
        ------
        InputError
            The rows did not outlive save and load.
        """
        self._training()
        logs: Floats = self.pool_(np.stack(list(self._judged.values())))
        return logs

    def cross_fitted(self) -> Floats:
        """Log-probabilities (n, K) of the rows of the fit, each from members and a pool that have not seen its fold.

        Raises
        ------
        InputError
            The rows did not outlive save and load.
        """
        fits = self._training()
        if list(self.members_) == ["as they are"]:
            kept: Floats = self._judged["as they are"]
            return kept
        labelled, groups = fits.labelled, self._pool_groups()
        members = [member for member in self._members() if member.name in self.members_]
        logs = np.empty((len(labelled.columns), labelled.classes.size))
        for fold in fits.numbers:
            seen, rows = np.flatnonzero(fits.folds != fold), fits.inside((fold,))
            steps, judged = zip(*(fits.judged(member, (fold,)) for member in members), strict=True)
            pool = OpinionPool.fit(
                np.stack(judged)[:, seen],
                labelled.columns[seen],
                labelled.weights[seen],
                None if groups is None else groups[seen],
            )
            own = [fits.log_proba(member, (fold,), step) for member, step in zip(members, steps, strict=True)]
            logs[rows] = pool(np.stack([one for one in own if one is not None]))
        fits.forget_pairs()
        return logs

    def to_frame(self, confidence_level: float = 0.95) -> pd.DataFrame:
        """Each member's weight, and its accuracy and log loss on rows that it has not seen, with intervals.

        Returns
        -------
        DataFrame, one line per member; those that could not be judged (`left_out_`) have weight 0
            ``weight`` (linear pool and logarithmic one, by their shares), ``accuracy``, ``accuracy_low``, ``accuracy_high``,
            ``log_loss``, ``log_loss_low`` and ``log_loss_high``, in nats.

        Raises
        ------
        InputError
            The rows did not outlive save and load.
        """
        import pandas as pd

        labelled = self._training().labelled
        pool = self.pool_
        weights = (1 - pool.share) * pool.linear + pool.share * pool.logarithmic
        options: dict[str, Any] = {
            "confidence_level": confidence_level,
            "random_state": 0,
            "sample_weight": labelled.weights,
            "groups": self._pool_groups(),
        }
        if options["groups"] is not None:
            del options["sample_weight"]
        lines = {}
        for (name, logs), weight in zip(self._judged.items(), weights, strict=True):
            right = (logs.argmax(axis=1) == labelled.columns).astype(float)
            losses = -logs[np.arange(len(logs)), labelled.columns]
            found = mean_interval(right, bounds=(0.0, 1.0), **options), mean_interval(losses, **options)
            lines[name] = [weight, *found[0], *found[1]]
        lines |= {name: [0.0, *[np.nan] * 6] for name in self.left_out_}
        measures = [f"{name}{end}" for name in ("accuracy", "log_loss") for end in ("", "_low", "_high")]
        return pd.DataFrame.from_dict(lines, orient="index", columns=["weight", *measures]).rename_axis("member")

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

    def _fitted(self) -> dict[str, Any]:
        return {
            "feature_sets": list(self.feature_sets_),
            "members": {name: member.to_dict() for name, member in self.members_.items()},
            "pool": self.pool_.to_dict(),
            "left_out": dict(self.left_out_),
        }

    def _restore(self, fitted: Any, n_classes: int) -> None:
        check_keys(fitted, ["feature_sets", "members", "pool", "left_out"], "'fitted'")
        self.feature_sets_ = tuple(map(str, fitted["feature_sets"]))
        self.members_ = {str(name): member_from_dict(values) for name, values in fitted["members"].items()}
        self.pool_ = OpinionPool.from_dict(fitted["pool"])
        self.left_out_ = {str(name): str(reason) for name, reason in fitted["left_out"].items()}
