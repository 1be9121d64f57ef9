"""The calibrator that chooses a calibrator."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import clone

from ..arrays import Floats, Integers
from ..errors import InputError
from ..numerics.folds import copies, fold_weights
from ..numerics.groups import group_numbers
from .affine import MatrixCalibrator, VectorCalibrator
from .base import ENOUGH_ROWS, WEAK_RIDGE, BaseCalibrator, check_keys, checked_numbers
from .temperature import BiasTemperatureCalibrator, IdentityCalibrator, PriorCalibrator, TemperatureCalibrator

# The simplest first.
_CANDIDATES: dict[str, BaseCalibrator] = {
    "identity": IdentityCalibrator(),
    "prior": PriorCalibrator(),
    "temperature": TemperatureCalibrator(),
    "bias_temperature": BiasTemperatureCalibrator(),
    "weak_bias_temperature": BiasTemperatureCalibrator(WEAK_RIDGE),
    "vector": VectorCalibrator(),
    "matrix": MatrixCalibrator(),
}
_KINDS = {candidate.name: type(candidate) for candidate in _CANDIDATES.values()}

BIAS_ROWS = 50
"""With at least this many rows the default is a bias and a temperature; with fewer, a temperature alone."""

FEW_ROWS_ERRORS = 1.25
"""With fewer rows than that a candidate must be this many standard errors better: few losses understate their own spread."""


class AutoCalibrator(BaseCalibrator):
    """Choose a calibrator by cross-validated log loss.

    The candidates are the scores as they are, the class frequencies alone, temperature, bias + temperature (with the usual and
    with a weak pull on the biases), vector and, with at least 50 rows, matrix. Each is
    fitted on four fifths of the rows and evaluated on the rest,
    five times. With at least 50 rows the default is bias + temperature, with fewer it is temperature. It is kept if its mean
    log loss is within one standard error of the lowest; otherwise the simplest candidate within one standard error wins. The
    standard error is that of the row-by-row difference between the two losses (the rule of Breiman et al. 1984,
    "Classification and regression trees", section 3.4.3, for
    paired losses), and counts 1.25 times with fewer than 50 rows. The calibration error plays no part, since
    constant answers have a low one. On fewer than 20 rows the scores stay as they are, and a warning says so.
    Rows of one group, or with equal scores (copies of a text), are never on both sides of a fold; with them the groups count
    instead of the rows, in the standard error and for the default.
    experiments/calibrators.md shows what it chose on real scores, and how much that helped.

    Attributes
    ----------
    calibrator_ : calibrator
        The calibrator that was chosen, fitted on all rows.
    losses_ : dict of str to float
        Cross-validated log loss of each candidate in nats; empty on fewer than 20 rows.
    classes_ : ndarray (K,)
        The class of each column.

    Examples
    --------
    >>> import numpy as np
    >>> scores = np.log([[0.99, 0.01], [0.01, 0.99], [0.6, 0.4], [0.3, 0.7]] * 25)
    >>> calibrator = AutoCalibrator().fit(scores, ["no", "yes", "no", "yes"] * 20 + ["yes", "no", "no", "yes"] * 5)
    >>> calibrator.calibrator_, round(calibrator.losses_["identity"] - calibrator.losses_["temperature"], 2)
    (BiasTemperatureCalibrator(), 0.14)
    """

    name = "auto"

    def __repr__(self, N_CHAR_MAX: int = 700) -> str:
        """As scikit-learn shows an estimator; once fitted, with what was chosen."""
        shown: str = super().__repr__(N_CHAR_MAX)
        return f"<{shown} {self.choice_}>" if hasattr(self, "calibrator_") else shown

    @property
    def choice_(self) -> str:
        """What was chosen, in a few words.

        Examples
        --------
        >>> import numpy as np
        >>> scores = np.log([[0.99, 0.01], [0.01, 0.99], [0.6, 0.4], [0.3, 0.7]] * 25)
        >>> calibrator = AutoCalibrator().fit(scores, ["no", "yes", "no", "yes"] * 20 + ["yes", "no", "no", "yes"] * 5)
        >>> calibrator.choice_[:60]
        'chose BiasTemperatureCalibrator(): cross-validated log loss '
        """
        if not self.losses_:
            return f"chose {self.calibrator_!r}, as there are too few rows to compare"
        chosen = [name for name, one in _CANDIDATES.items() if repr(one) == repr(self.calibrator_)]
        loss, before = self.losses_[chosen[0]], self.losses_["identity"]
        return f"chose {self.calibrator_!r}: cross-validated log loss {loss:.3f}, {before:.3f} without calibration"

    def fit(
        self,
        scores: ArrayLike,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        classes: ArrayLike | None = None,
        groups: ArrayLike | None = None,
    ) -> Self:
        """Choose a calibrator and fit it; see `TemperatureCalibrator.fit` for what is not described here.

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
    ) -> str:
        self.losses_: dict[str, float] = {}
        name, warning = "identity", ""
        groups = copies(scores, weights) if groups is None else groups
        if groups is not None and len(np.unique(groups)) < 2:
            warning = "all rows belong to one group, so no calibrator can be judged and the scores stay as they are"
        elif weights.sum() >= ENOUGH_ROWS:
            losses, loss_weights, loss_groups = _cross_validated_losses(scores, columns, weights, classes, groups)
            self.losses_ = {
                name: float(np.average(row_losses, weights=loss_weights)) for name, row_losses in losses.items()
            }
            name = _choice(losses, loss_weights, loss_groups)
        self.calibrator_ = clone(_CANDIDATES[name])
        warning = self.calibrator_.fit_map(scores, columns, weights, classes) or warning
        self.calibrator_.classes_ = classes
        self.calibrator_.n_features_in_ = classes.size
        return warning

    def map_log_proba(self, scores: Floats) -> Floats:
        log_proba: Floats = self.calibrator_.map_log_proba(scores)
        return log_proba

    def _fitted(self) -> dict[str, Any]:
        self.calibrator_.classes_ = self.classes_
        return {"calibrator": self.calibrator_.to_dict(), "losses": self.losses_}

    def _restore(self, fitted: Any, n_classes: int) -> None:
        check_keys(fitted, ["calibrator", "losses"], "'fitted'")
        description = fitted["calibrator"]
        name = description.get("name") if isinstance(description, Mapping) else None
        if name not in _KINDS:
            raise InputError(f"calibrator={description!r}; expected the description of one of {sorted(_KINDS)}")
        check_keys(fitted["losses"], list(_CANDIDATES) if fitted["losses"] else [], "'losses'")
        names = list(fitted["losses"])
        losses = checked_numbers([fitted["losses"][name] for name in names], (len(names),), "losses")
        self.calibrator_ = _KINDS[name].from_dict(description)
        if self.calibrator_.classes_.size != n_classes:
            raise InputError(f"calibrator={description!r}; expected {n_classes} classes")
        self.losses_ = dict(zip(names, losses.tolist(), strict=True))


def _cross_validated_losses(
    scores: Floats, columns: NDArray[np.intp], weights: Floats, classes: NDArray[Any], groups: Integers | None
) -> tuple[dict[str, Floats], Floats, Integers | None]:
    """The log loss of every row under each candidate fitted on the other folds, and these rows' weights and groups."""
    losses: dict[str, list[Floats]] = {name: [] for name in _CANDIDATES}
    loss_weights, loss_rows = [], []
    for test_weights in fold_weights(scores, columns, weights, groups=groups).T:
        train_weights = weights - test_weights
        test, train = test_weights > 0, train_weights > 0
        if not test.any() or not train.any():
            continue
        loss_weights.append(test_weights[test])
        loss_rows.append(np.flatnonzero(test))
        rows = np.arange(np.count_nonzero(test))
        for name, candidate in _CANDIDATES.items():
            calibrator = clone(candidate)
            calibrator.fit_map(scores[train], columns[train], train_weights[train], classes)
            losses[name].append(-calibrator.map_log_proba(scores[test])[rows, columns[test]])
    return (
        {name: np.concatenate(fold_losses) for name, fold_losses in losses.items()},
        np.concatenate(loss_weights),
        None if groups is None else groups[np.concatenate(loss_rows)],
    )


def _choice(losses: dict[str, Floats], weights: Floats, groups: Integers | None) -> str:
    total = float(weights.sum())
    # Rows of weight 1 in groups of their own are the common case; a row of weight 2 stands for two rows.
    number = total if groups is None else min(total, float(len(np.unique(groups))))
    if number < BIAS_ROWS:
        # Of so many parameters one set often looks good on few rows by luck.
        losses = {name: row_losses for name, row_losses in losses.items() if name != MatrixCalibrator.name}
    n_errors = 1.0 if number >= BIAS_ROWS else FEW_ROWS_ERRORS
    means = {name: np.average(row_losses, weights=weights) for name, row_losses in losses.items()}
    best = min(means, key=means.__getitem__)

    def within_one_error(name: str) -> bool:
        difference = losses[name] - losses[best]
        mean = np.average(difference, weights=weights)
        if groups is None:
            error = np.sqrt(np.average((difference - mean) ** 2, weights=weights) / total)
        else:
            error = np.sqrt((np.bincount(groups, weights * (difference - mean)) ** 2).sum()) / total
        return bool(mean <= n_errors * error)

    default = "bias_temperature" if number >= BIAS_ROWS else "temperature"
    return default if within_one_error(default) else next(name for name in losses if within_one_error(name))
