"""The calibrator that needs no choice: a pool of calibrators."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import InputError
from ..numerics.opinion_pools import OpinionPool
from .base import BaseCalibrator
from .maps import SCORE_MAPS
from .pool.members import FittedMap, Member, ScoreMap
from .pool.pooled import FREQUENCIES, PooledCalibrator, checked_losses, label_members
from .temperature import PriorCalibrator


class AutoCalibrator(PooledCalibrator):
    """Pool calibrators by how well each does on rows that it was not fitted on.

    The members are the class frequencies, a temperature, the same after a bias that needs no labels (UCPA, see
    `BiasCorrector`), a bias and a temperature (with the usual and with a weak pull on the biases), a slope for each class, with
    at least 50 rows and up to 20 classes a matrix, and a ridge regression on the log-scores. Each is fitted on four fifths of
    the rows and judged on the rest, five times, and their probabilities are averaged with weights that its log losses there
    give it (`llmclf.numerics.opinion_pools.averaging_weights`); before any row is seen, the two that learn a temperature alone
    share .85 of the weight. Where few rows do not tell which is best, an average of all loses less than a choice. The
    calibration error plays no part, since constant answers have a low one. On fewer than 20 rows the scores stay as they are,
    and a warning says so.
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
    def calibrator_(self) -> BaseCalibrator:
        """Of the members that are calibrators, the one with the largest weight."""
        maps = {name: one.calibrator for name, one in self.members_.items() if isinstance(one, FittedMap)}
        return maps[max(maps, key=self.weights_.__getitem__)]

    def _members(self, feature_sets: tuple[str, ...]) -> list[Member]:
        return [ScoreMap(FREQUENCIES, PriorCalibrator()), *label_members()]

    def _restore(self, fitted: Any, n_classes: int) -> None:
        if isinstance(fitted, Mapping) and set(fitted) == {"calibrator", "losses"}:
            self._restore_choice(fitted, n_classes)
        else:
            super()._restore(fitted, n_classes)

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
        self.losses_ = checked_losses(fitted["losses"])
