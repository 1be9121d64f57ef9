"""The calibrators with the fewest parameters: none, the class frequencies, a temperature, and a temperature with biases."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..arrays import Floats
from ..checks import check_keys, checked_numbers
from ..errors import InputError
from ..logits import log_softmax
from ..numerics.solvers import PRIOR_ROWS, fit_bias_temperature, fit_temperature
from .base import (
    BaseCalibrator,
    check_ridge,
    checked_prior_rows,
    checked_temperature,
    ridge_strength,
)


class IdentityCalibrator(BaseCalibrator):
    """The scores as they are: q = softmax(scores). Fitting only records which column belongs to which class.

    Attributes
    ----------
    classes_ : ndarray (K,)
        The class of each column.

    Examples
    --------
    >>> import numpy as np
    >>> calibrator = IdentityCalibrator().fit(np.log([[0.9, 0.1], [0.2, 0.8]] * 10), ["no", "yes"] * 10)
    >>> calibrator.predict_proba([[0.0, 0.0]]).tolist()
    [[0.5, 0.5]]
    """

    name = "identity"

    def fit_map(self, scores: Floats, columns: NDArray[np.intp], weights: Floats, classes: NDArray[Any]) -> str:
        return ""

    def map_log_proba(self, scores: Floats) -> Floats:
        return log_softmax(scores)

    def _fitted(self) -> dict[str, Any]:
        return {}

    def _restore(self, fitted: Any, n_classes: int) -> None:
        check_keys(fitted, [], "'fitted'")


class PriorCalibrator(BaseCalibrator):
    """The frequencies of the classes, whatever the scores: the baseline that a useful model must beat.

    One row is added to each class, so that no class gets probability 0 (the rule of succession).

    Attributes
    ----------
    prior_ : ndarray (K,)
        (n_k + 1) / (n + K).
    classes_ : ndarray (K,)
        The class of each column.

    Examples
    --------
    >>> import numpy as np
    >>> calibrator = PriorCalibrator().fit(np.zeros((22, 2)), ["no"] * 17 + ["yes"] * 5)
    >>> calibrator.predict_proba([[-9.0, 0.0]]).tolist()
    [[0.75, 0.25]]
    """

    name = "prior"

    def fit_map(self, scores: Floats, columns: NDArray[np.intp], weights: Floats, classes: NDArray[Any]) -> str:
        counts = np.bincount(columns, weights, minlength=classes.size)
        self.prior_ = (counts + 1.0) / (counts.sum() + classes.size)
        return ""

    def map_log_proba(self, scores: Floats) -> Floats:
        return np.tile(np.log(self.prior_), (len(scores), 1))

    def _fitted(self) -> dict[str, Any]:
        return {"prior": self.prior_.tolist()}

    def _restore(self, fitted: Any, n_classes: int) -> None:
        check_keys(fitted, ["prior"], "'fitted'")
        self.prior_ = checked_numbers(fitted["prior"], (n_classes,), "prior")
        if not (self.prior_ > 0).all() or abs(self.prior_.sum() - 1.0) > 1e-9:
            raise InputError(f"prior={fitted['prior']!r}; expected positive frequencies that sum to 1")


class TemperatureCalibrator(BaseCalibrator):
    r"""One number that makes all probabilities more or less extreme: q = softmax(scores / T).

    The temperature T minimises the mean negative log-likelihood of the labelled rows (Guo et al. 2017, "On Calibration
    of Modern Neural Networks", section 4.2), with a prior. A good model may have all of its few labelled rows right, and the
    likelihood alone would then make it certain of everything. So the model's own probabilities p = softmax(scores) count as m
    labelled rows: :math:`(m / n)` times the cross-entropy from p to q is added, which is lowest at T = 1. The pull is that of m
    rows whatever the scale of the scores, and vanishes where n is large.

    The most probable class never changes, a constant added to a row changes nothing, and a row of weight 2 is the row twice. If
    all scores are multiplied by a number, T is multiplied by it without the prior only: the prior knows that log-probabilities
    have a unit.

    The loss is convex in 1/T, so its derivative has one root, which is searched between 1/T = 0.001 and 1000. If the root lies
    outside, the nearer end is kept, and a `CalibrationWarning` says why: the scores are uninformative or contradict the labels
    (T = 1000, nearly uniform probabilities), or, without the prior, every row is right (T = 0.001).

    Parameters
    ----------
    prior_rows : float
        m. With 0, maximum likelihood.

    Attributes
    ----------
    temperature_ : float
        T; above 1 if the scores were over-confident.
    classes_ : ndarray (K,)
        The class of each column.

    Examples
    --------
    >>> import numpy as np
    >>> scores = np.log([[0.99, 0.01], [0.01, 0.99]] * 10)
    >>> y = ["no", "yes"] * 8 + ["yes", "no"] * 2
    >>> calibrator = TemperatureCalibrator(prior_rows=0).fit(scores, y)
    >>> round(calibrator.temperature_, 4)
    3.3147
    >>> calibrator.predict_proba(scores[:1]).round(4).tolist()
    [[0.8, 0.2]]
    >>> round(TemperatureCalibrator().fit(scores, y).temperature_, 4)
    2.5981
    """

    name = "temperature"

    def __init__(self, prior_rows: float = PRIOR_ROWS) -> None:
        self.prior_rows = prior_rows

    def fit_map(self, scores: Floats, columns: NDArray[np.intp], weights: Floats, classes: NDArray[Any]) -> str:
        beta, warning = fit_temperature(scores, columns, weights, checked_prior_rows(self.prior_rows))
        self.temperature_ = 1.0 / beta
        return warning

    def map_log_proba(self, scores: Floats) -> Floats:
        return log_softmax(scores / self.temperature_)

    def _fitted(self) -> dict[str, Any]:
        return {"temperature": float(self.temperature_)}

    def _restore(self, fitted: Any, n_classes: int) -> None:
        checked_prior_rows(self.prior_rows)
        check_keys(fitted, ["temperature"], "'fitted'")
        self.temperature_ = checked_temperature(fitted["temperature"])


class BiasTemperatureCalibrator(BaseCalibrator):
    r"""A temperature and one bias per class: q = softmax(scores / T + b).

    Minimises mean NLL + (ridge / n) sum_k b_k^2, which is convex in (1/T, b) (bias-corrected temperature scaling:
    Alexandari et al. 2020, "Maximum Likelihood with Bias-Corrected Calibration is Hard-To-Beat at Label Shift
    Adaptation"; the ridge of strength K is that of Berta et al. 2026), with the prior of `TemperatureCalibrator` on T. The bias
    removes a model's preference for some label words, so the most probable class can change. The temperature lies in
    [0.001, 1000]; a fit that ends at either end warns, as `TemperatureCalibrator` does.

    Parameters
    ----------
    ridge : "auto" or float
        Strength of the pull of b towards 0; it weakens as the number of rows n (the sum of the weights) grows. ``"auto"``
        is K, which suits scores with a small bias. If a language model prefers some labels by several nats, as with many
        classes, 0.1 needs far fewer rows; `AutoCalibrator` tries both. With 0, the mean of the fitted rows' probabilities
        equals the class frequencies exactly, and every class must occur in `y`.
    prior_rows : float
        As in `TemperatureCalibrator`. It pulls the temperature alone, and leaves the biases to `ridge`.

    Attributes
    ----------
    temperature_ : float
        T.
    bias_ : ndarray (K,)
        b in nats, sum 0.
    classes_ : ndarray (K,)
        The class of each column.

    Examples
    --------
    >>> import numpy as np
    >>> scores = np.log([[0.9, 0.1], [0.6, 0.4]] * 10)
    >>> calibrator = BiasTemperatureCalibrator(ridge=0, prior_rows=0).fit(scores, ["no", "yes"] * 8 + ["yes", "no"] * 2)
    >>> calibrator.predict_proba([[np.log(0.9), np.log(0.1)], [np.log(0.6), np.log(0.4)]]).round(4).tolist()
    [[0.8, 0.2], [0.2, 0.8]]
    """

    name = "bias_temperature"

    def __init__(self, ridge: float | str = "auto", prior_rows: float = PRIOR_ROWS) -> None:
        self.ridge = ridge
        self.prior_rows = prior_rows

    def fit_map(self, scores: Floats, columns: NDArray[np.intp], weights: Floats, classes: NDArray[Any]) -> str:
        ridge, prior_rows = ridge_strength(self.ridge, classes.size), checked_prior_rows(self.prior_rows)
        check_ridge(ridge, columns, classes)
        beta, bias, warning = fit_bias_temperature(scores, columns, weights, ridge, prior_rows)
        self.temperature_ = 1.0 / beta
        self.bias_ = bias
        return warning

    def map_log_proba(self, scores: Floats) -> Floats:
        return log_softmax(scores / self.temperature_ + self.bias_)

    def _fitted(self) -> dict[str, Any]:
        return {"temperature": float(self.temperature_), "bias": self.bias_.tolist()}

    def _restore(self, fitted: Any, n_classes: int) -> None:
        ridge_strength(self.ridge, n_classes)
        checked_prior_rows(self.prior_rows)
        check_keys(fitted, ["temperature", "bias"], "'fitted'")
        bias = checked_numbers(fitted["bias"], (n_classes,), "bias")
        self.temperature_ = checked_temperature(fitted["temperature"])
        self.bias_ = bias
