"""The calibrator that needs no choice: a pool of calibrators."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..arrays import Floats, Integers
from ..errors import InputError
from ..logits import log_softmax
from ..numerics.groups import group_numbers
from ..numerics.opinion_pools import OpinionPool
from ..numerics.row_features import RowFeatures
from .base import BaseCalibrator, check_keys, checked_numbers
from .maps import SCORE_MAPS
from .pool.members import FittedMap, Member, ScoreMap
from .pool.pooled import FREQUENCIES, PooledCalibrator, label_members
from .temperature import PriorCalibrator


class AutoCalibrator(PooledCalibrator):
    """Pool calibrators by how well each does on rows that it was not fitted on.

    The members are the class frequencies, a temperature, a bias and a temperature (with the usual and with a weak pull on the
    biases), a slope for each class, with at least 50 rows and up to 20 classes a matrix, and a ridge regression on the
    log-scores. Each is fitted on four fifths of the rows and judged on the rest, five times, and their probabilities are averaged
    with weights that its log losses there give it (`llmclf.numerics.opinion_pools.averaging_weights`); before any row is seen,
    the temperature has .85 of the weight. Where few rows do not tell which is best, an average of all
    loses less than a choice. The calibration error plays no part, since constant answers have a low one. On fewer than 20 rows
    the scores stay as they are, and a warning says so.
    Rows of one group, or with equal scores (copies of a text), are never on both sides of a fold, and count as one.
    experiments/calibrators.md shows what this did with real scores.

    Attributes
    ----------
    members_ : dict of name to fitted member
    weights_ : dict of name to float
        The members' weights.
    losses_ : dict of str to float
        Cross-validated log loss of each member in nats, and of the scores as they are (``"identity"``); empty on fewer than 20
        rows.
    calibrator_ : calibrator
        Of the members that are calibrators, the one with the largest weight, fitted on all rows.
    classes_ : ndarray (K,)
        The class of each column.

    Examples
    --------
    >>> import numpy as np
    >>> scores = np.log([[0.99, 0.01], [0.01, 0.99], [0.6, 0.4], [0.3, 0.7]] * 25)
    >>> calibrator = AutoCalibrator().fit(scores, ["no", "yes", "no", "yes"] * 20 + ["yes", "no", "no", "yes"] * 5)
    >>> round(calibrator.losses_["identity"] - calibrator.losses_["temperature"], 2)
    0.14
    >>> sorted(calibrator.members_)[:3]
    ['bias_temperature', 'frequencies', 'label scores']
    """

    name = "auto"
    # So much that 20 rows of calibrated scores cost little, and so little that 20 rows of a model that leans outweigh it.
    _trust = 0.85
    _linear_only = True

    def __repr__(self, N_CHAR_MAX: int = 700) -> str:
        """As scikit-learn shows an estimator; once fitted, with what weighs most."""
        shown: str = super().__repr__(N_CHAR_MAX)
        return f"<{shown} {self.choice_}>" if hasattr(self, "members_") else shown

    @property
    def choice_(self) -> str:
        """What weighs most, in a few words.

        Examples
        --------
        >>> import numpy as np
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

    @property
    def calibrator_(self) -> BaseCalibrator:
        """Of the members that are calibrators, the one with the largest weight."""
        maps = {name: one.calibrator for name, one in self.members_.items() if isinstance(one, FittedMap)}
        return maps[max(maps, key=self.weights_.__getitem__)]

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
        if groups is None:
            return self._fit_rows(scores, y, sample_weight, classes)
        numbers = group_numbers(groups, len(scores))  # type: ignore[arg-type]
        return self._fit_rows(scores, y, sample_weight, classes, groups=numbers)

    def fit_map(
        self,
        scores: Floats,
        columns: NDArray[np.intp],
        weights: Floats,
        classes: NDArray[Any],
        groups: Integers | None = None,
        features: Mapping[str, RowFeatures] | None = None,
    ) -> str:
        warning = super().fit_map(scores, columns, weights, classes, groups)
        self.losses_ = self._losses() if len(self.members_) > 1 else {}
        return warning

    def _losses(self) -> dict[str, float]:
        """The cross-validated log loss of each member, and of the scores as they are."""
        labelled = self._training().labelled
        every = np.arange(len(labelled.columns))
        logs = {"identity": log_softmax(labelled.rows.scores), **self._judged}
        return {
            name: float(-np.average(one[every, labelled.columns], weights=labelled.weights))
            for name, one in logs.items()
        }

    def _members(self, feature_sets: tuple[str, ...]) -> list[Member]:
        return [ScoreMap(FREQUENCIES, PriorCalibrator()), *label_members()]

    def _fitted(self) -> dict[str, Any]:
        return {**self._pool_to_dict(), "losses": self.losses_}

    def _restore(self, fitted: Any, n_classes: int) -> None:
        if isinstance(fitted, Mapping) and set(fitted) == {"calibrator", "losses"}:
            self._restore_choice(fitted, n_classes)
            return
        check_keys(fitted, ["feature_sets", "members", "pool", "left_out", "losses"], "'fitted'")
        self._pool_from_dict(fitted, n_classes)
        self.losses_ = _checked_losses(fitted["losses"])

    def _restore_choice(self, fitted: Mapping[str, Any], n_classes: int) -> None:
        """What earlier versions saved: they chose one calibrator."""
        description = fitted["calibrator"]
        name = description.get("name") if isinstance(description, Mapping) else None
        if name not in SCORE_MAPS:
            raise InputError(f"calibrator={description!r}; expected the description of one of {sorted(SCORE_MAPS)}")
        chosen = SCORE_MAPS[name].from_dict(description)
        if chosen.classes_.size != n_classes:
            raise InputError(f"calibrator={description!r}; expected {n_classes} classes")
        self.feature_sets_, self.left_out_ = (), {}
        self.members_, self.pool_ = {name: FittedMap(chosen)}, OpinionPool.of_one()
        self.losses_ = _checked_losses(fitted["losses"])


def _checked_losses(losses: Any) -> dict[str, float]:
    if not isinstance(losses, Mapping):
        raise InputError(f"losses={losses!r}; expected the log loss of each member")
    names = list(map(str, losses))
    values = checked_numbers(list(losses.values()), (len(names),), "losses")
    return dict(zip(names, values.tolist(), strict=True))
