"""What all calibrators share: validation, prediction, and conversion to and from JSON."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.metadata_routing import UNUSED
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from ..arrays import Floats
from ..checks import check_keys, is_finite_number
from ..errors import CalibrationWarning, InputError, type_of, warn
from ..logits import FLOOR, floor_missing
from ..metrics import TOLERANCE, label_columns, row_weights
from ..numerics.class_array import class_array
from ..numerics.row_features import RowFeatures

ENOUGH_ROWS = 20
"""Fewer labelled rows than this do not determine even a temperature, so fitting on them warns."""


WEAK_RIDGE = 0.1
"""The ridge that suits biases with a standard deviation of 2.2 nats, typical of label words in language models."""


LARGEST_DISTANCE = 1e6
"""Scores of a row that are further apart are no log-probabilities: masks such as -1e30, overflows, or another unit."""


class BaseCalibrator(ClassifierMixin, BaseEstimator, ABC):
    """What all calibrators share: validation, prediction, and conversion to and from JSON.

    A calibrator adds `name`, `fit_map`, `map_log_proba`, `_fitted` and `_restore`.
    """

    name: ClassVar[str]

    # The first argument is named scores because it holds scores, not arbitrary features. Metadata routing would otherwise
    # treat it as an extra argument, like sample_weight and classes.
    __metadata_request__fit: ClassVar[dict[str, Any]] = {"scores": UNUSED}
    __metadata_request__predict: ClassVar[dict[str, Any]] = {"scores": UNUSED}
    __metadata_request__predict_proba: ClassVar[dict[str, Any]] = {"scores": UNUSED}
    __metadata_request__predict_log_proba: ClassVar[dict[str, Any]] = {"scores": UNUSED}

    def fit(
        self,
        scores: ArrayLike,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        classes: ArrayLike | None = None,
    ) -> Self:
        """Fit the map on labelled rows.

        Parameters
        ----------
        scores : array-like (n, K)
            Log-scores in nats; column k belongs to class k. Adding a constant to a row changes nothing. ``-inf`` stands
            for a label that an API did not show; see `llmclf.logits.floor_missing`.
        y : array-like (n,)
            The true class of each row.
        sample_weight : array-like (n,), optional
            Non-negative. Whole-number weights are repetitions: a weight of 2 is the row twice. Of other weights only the ratios
            matter; see `llmclf.metrics.row_weights`. Of rows that were drawn with the probabilities `inclusion`:
            ``inclusion_weights(inclusion, n)`` of `llmclf.metrics`.
        classes : array-like (K,), optional
            The class of each column, in any order; some may be absent from `y`. None: the classes in `y`, sorted.

        Returns
        -------
        self

        Raises
        ------
        InputError
            The number of columns differs from the number of classes, a score is NaN or ``+inf``, the scores are
            probabilities, a label is not a class, or a parameter cannot be used.

        Warns
        -----
        CalibrationWarning
            There are fewer than 20 rows, a score is ``-inf``, or the best temperature lies outside [0.001, 1000].
        """
        return self._fit_rows(scores, y, sample_weight, classes)

    def _fit_rows(
        self,
        scores: ArrayLike,
        y: ArrayLike,
        sample_weight: ArrayLike | None,
        classes: ArrayLike | None,
        **more: NDArray[Any] | Mapping[str, RowFeatures],
    ) -> Self:
        """`fit`; what else belongs to the rows (n,) goes on to `fit_map` for those with a positive weight."""
        try:
            matrix, labels = validate_data(
                self, scores, y, dtype=np.float64, ensure_all_finite=False, ensure_min_features=2
            )
            if classes is None:
                check_classification_targets(labels)
        except ValueError as error:
            raise InputError(str(error)) from error
        matrix = checked_scores(matrix, type(self).__name__)
        weights = row_weights(sample_weight, matrix.shape[0])
        if classes is None:
            known, columns = np.unique(labels, return_inverse=True)
        else:
            known = _class_array(classes)
        if known.size < 2:
            raise InputError(
                f"y holds one class, {known.tolist()[0]!r}; expected at least two classes. "
                "If the others are merely absent from y, name all of them as classes="
            )
        if matrix.shape[1] != known.size:
            raise InputError(
                f"scores have {matrix.shape[1]} columns for {known.size} classes, {known.tolist()}; "
                "expected one column per class. Name the classes of the columns, in order, as classes="
            )
        if classes is not None:
            columns = label_columns(y, known.size, known)
        kept = weights > 0
        n_rows = int(min(kept.sum(), np.ceil(weights.sum() - 1e-6)))
        if n_rows < ENOUGH_ROWS:
            warn(
                f"{type(self).__name__}: fitted on {n_rows} labelled rows; {ENOUGH_ROWS} or more are needed"
                + (" (in units of rows of equal weight)" if n_rows < kept.sum() else ""),
                CalibrationWarning,
            )
        more = {name: _kept(values, kept) for name, values in more.items()}
        warning = self.fit_map(_below_top(matrix[kept]), columns[kept], weights[kept], known, **more)
        if warning:
            warn(f"{type(self).__name__}: {warning}", CalibrationWarning)
        # Last, because it marks the calibrator as fitted.
        self.classes_ = known
        return self

    def predict_log_proba(self, scores: ArrayLike) -> Floats:
        """Calibrated log-probabilities.

        Parameters
        ----------
        scores : array-like (n, K)
            Log-scores in nats, columns as in `fit`.

        Returns
        -------
        ndarray (n, K), in nats, at most 0; columns in the order of `classes_`

        Raises
        ------
        InputError
            A score is NaN or ``+inf``, or the number of columns is not K.
        NotFittedError
            `fit` was not called.
        """
        return self.map_log_proba(self._checked(scores))

    def predict_proba(self, scores: ArrayLike) -> Floats:
        """Calibrated probabilities, rows summing to 1; see `predict_log_proba`."""
        result: Floats = np.exp(self.predict_log_proba(scores))
        return result

    def predict(self, scores: ArrayLike) -> NDArray[Any]:
        """The most probable class of each row, the first of equally probable ones; see `predict_log_proba`."""
        log_proba = self.predict_log_proba(scores)
        result: NDArray[Any] = self.classes_[log_proba.argmax(axis=1)]
        return result

    def _checked(self, scores: ArrayLike) -> Floats:
        """Scores to predict from, with row maximum 0."""
        check_is_fitted(self, "classes_")
        try:
            matrix = validate_data(self, scores, dtype=np.float64, ensure_all_finite=False, reset=False)
        except ValueError as error:
            raise InputError(str(error)) from error
        return _below_top(checked_scores(matrix, type(self).__name__))

    def to_dict(self) -> dict[str, Any]:
        """Everything that predictions depend on, ready for JSON.

        Returns
        -------
        dict
            ``name``, ``parameters`` (of the constructor), ``classes`` (in column order) and ``fitted`` (the fitted
            values). JSON keeps numbers exactly, so predictions stay exactly the same.

        Raises
        ------
        InputError
            A class is neither text, a number nor a boolean.
        NotFittedError
            `fit` was not called.
        """
        check_is_fitted(self, "classes_")
        parameters = self._parameters()
        if parameters.get("prior_rows") == 0:
            # As earlier versions wrote it, which can read it.
            del parameters["prior_rows"]
        return {
            "name": self.name,
            "parameters": parameters,
            "classes": _json_classes(self.classes_.tolist()),
            "fitted": self._fitted(),
        }

    def _parameters(self) -> dict[str, Any]:
        """The parameters of the constructor, ready for JSON."""
        given = self.get_params(deep=False)
        return {name: value.item() if isinstance(value, np.generic) else value for name, value in given.items()}

    @classmethod
    def from_dict(cls, description: Mapping[str, Any]) -> Self:
        """A fitted calibrator from the result of `to_dict`.

        Raises
        ------
        InputError
            An entry is missing or unknown, or not a value that fitting can produce.
        """
        check_keys(description, ["name", "parameters", "classes", "fitted"], "the description")
        if description["name"] != cls.name:
            raise InputError(f"name={description['name']!r}; expected {cls.name!r} for a {cls.__name__}")
        parameters = description["parameters"]
        if isinstance(parameters, Mapping) and "prior_rows" in cls._get_param_names():
            # Calibrators of earlier versions were fitted without.
            parameters = {"prior_rows": 0.0, **parameters}
        check_keys(parameters, cls._get_param_names(), "'parameters'")
        calibrator = cls(**parameters)
        if not isinstance(description["classes"], (list, tuple)):
            raise InputError(f"classes={description['classes']!r}; expected a list")
        classes = _class_array(_json_classes(description["classes"]))
        if classes.size < 2:
            raise InputError(f"classes={classes.tolist()}; expected at least two classes")
        calibrator._restore(description["fitted"], classes.size)
        calibrator.classes_ = classes
        calibrator.n_features_in_ = classes.size
        return calibrator

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        # The columns are scores of the classes, not features: a calibrator cannot learn from columns without information.
        tags.classifier_tags.poor_score = True
        return tags

    @abstractmethod
    def fit_map(self, scores: Floats, columns: NDArray[np.intp], weights: Floats, classes: NDArray[Any]) -> str:
        """Fit on scores (n, K) with row maximum 0, true columns (n,) and positive weights (n,).

        Returns a warning that says why the fit is doubtful; empty if it is not.
        """

    @abstractmethod
    def map_log_proba(self, scores: Floats) -> Floats:
        """Calibrated log-probabilities (n, K) of scores (n, K) with row maximum 0."""

    @abstractmethod
    def _fitted(self) -> dict[str, Any]:
        """The values that `fit_map` fitted, ready for JSON."""

    @abstractmethod
    def _restore(self, fitted: Any, n_classes: int) -> None:
        """Restore the values that `_fitted` returned, after checking each of them."""


def _kept(values: NDArray[Any] | Mapping[str, RowFeatures], kept: NDArray[np.bool_]) -> Any:
    if isinstance(values, Mapping):
        return {name: features.take(np.flatnonzero(kept)) for name, features in values.items()}
    return values[kept]


def checked_temperature(value: Any) -> float:
    if not is_finite_number(value) or value <= 0:
        raise InputError(f"temperature={value!r}; expected a finite number above 0")
    return float(value)


def ridge_strength(ridge: Any, auto: float) -> float:
    """The number that ``ridge=`` stands for, with `auto` for ``"auto"``."""
    if isinstance(ridge, str) and ridge == "auto":
        return float(auto)
    if not is_finite_number(ridge) or ridge < 0:
        raise InputError(f"ridge={ridge!r}; expected 'auto' or a finite number of at least 0")
    return float(ridge)


def checked_prior_rows(prior_rows: Any) -> float:
    """The number of rows of ``prior_rows=``."""
    if not is_finite_number(prior_rows) or prior_rows < 0:
        raise InputError(
            f"prior_rows={prior_rows!r}; expected a finite number of at least 0, the number of labelled rows that the "
            "scores as they are count as"
        )
    return float(prior_rows)


def check_ridge(ridge: float, columns: NDArray[np.intp], classes: NDArray[Any]) -> None:
    """Refuse ridge 0 if a class does not occur: its best bias would be infinite."""
    absent = np.setdiff1d(np.arange(classes.size), columns)
    if ridge == 0 and absent.size:
        raise InputError(
            f"ridge=0 gives no finite bias for class {classes.tolist()[absent[0]]!r}, which does not occur in y; "
            "expected rows of every class, or a ridge above 0 such as 'auto'"
        )


def _class_array(classes: ArrayLike) -> NDArray[Any]:
    """The classes (K,) in the order given."""
    objects = np.asarray(classes, dtype=object)
    if objects.ndim != 1:
        raise InputError(f"classes={classes!r}; expected a list of classes")
    array = class_array(objects)
    values = array.tolist()
    try:
        repeated = len(set(values)) < len(values)
    except TypeError:
        raise InputError(f"classes={values}; expected text, numbers or booleans") from None
    if repeated:
        raise InputError(f"classes={values} repeats a class; expected different ones")
    return array


def _json_classes(classes: Sequence[Any]) -> Sequence[Any]:
    for label in classes:
        if not isinstance(label, (str, int, float)):
            raise InputError(
                f"class {label!r} is {type_of(label)}, which JSON cannot keep; "
                "expected classes that are text, numbers or booleans"
            )
    return classes


def _below_top(scores: Floats) -> Floats:
    result: Floats = scores - scores.max(axis=1, keepdims=True)
    return result


def checked_scores(scores: Floats, name: str) -> Floats:
    """Scores without ``-inf`` (see `llmclf.logits.floor_missing`), with a warning that names the rows that held it.

    Raises
    ------
    InputError
        A score is NaN or ``+inf``, a row has no finite score, its scores are a million nats apart, or they are probabilities.
    """
    bad = np.argwhere(np.isnan(scores) | (scores == np.inf))
    if bad.size:
        row, column = bad[0]
        value = "NaN" if np.isnan(scores[row, column]) else "inf"
        raise InputError(
            f"row {row} of the scores holds {value} in column {column}; expected log-scores: finite numbers, or -inf for "
            "a label that the model's API did not show. Leave the row out"
        )
    shown = np.where(np.isneginf(scores), np.nan, scores)
    lowest = np.fmin.reduce(shown, axis=1)
    # Halved, so that the distance between two numbers of any size is finite. A row without any number is refused below.
    far = np.flatnonzero(scores.max(axis=1) / 2 - lowest / 2 > LARGEST_DISTANCE / 2)
    if far.size:
        row = far[0]
        raise InputError(
            f"row {row} of the scores goes from {lowest[row]:g} to {scores[row].max():g}; expected log-scores in nats, which are "
            f"not further apart than {LARGEST_DISTANCE:g}. A label that cannot be scored is -inf"
        )
    # If all scores lie in [0, 1] and every row sums to 1, that is not a coincidence.
    if scores.min() >= 0.0 and scores.max() < 1.0 and np.abs(scores.sum(axis=1) - 1.0).max() < TOLERANCE:
        raise InputError(
            f"the scores are probabilities (row 0: {scores[0, :4].round(4).tolist()}, sum 1); expected log-scores. Give their "
            "logarithm"
        )
    floored, rows = floor_missing(scores)
    blank = np.flatnonzero(np.isneginf(floored).any(axis=1))
    if blank.size:
        raise InputError(
            f"row {blank[0]} of the scores is -inf throughout; expected at least one finite score. Leave the row out"
        )
    if rows.size:
        warn(
            f"{name}: {rows.size} of {len(scores)} rows (the first: row {rows[0]}) hold -inf, which becomes the row's "
            f"lowest finite score, or its best score minus {FLOOR:g} nats if that is lower; such rows make a fit less precise",
            CalibrationWarning,
        )
    return floored
