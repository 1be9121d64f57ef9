"""Calibrators with one slope per class, or one per pair of classes."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ..arrays import Floats
from ..checks import check_keys, checked_numbers
from ..errors import InputError
from ..logits import log_softmax
from ..numerics.affine_fit import fit_affine
from ..numerics.solvers import HIGHEST_TEMPERATURE, PRIOR_ROWS, fit_bias_temperature
from .base import (
    WEAK_RIDGE,
    BaseCalibrator,
    check_ridge,
    checked_prior_rows,
    checked_temperature,
    ridge_strength,
)


class VectorCalibrator(BaseCalibrator):
    r"""A temperature, then one slope and one bias per class: q = softmax(m * log p / T + b) with p = softmax(scores).

    T and :math:`b^0` are the temperature and the biases of a `BiasTemperatureCalibrator` with ridge 0.1. If that fit finds no
    signal, T is the standard deviation of log p, and m is pulled towards 0 instead of 1. Then m and b minimise the mean NLL
    plus :math:`(\rho / n) (\sum_k (m_k - 1)^2 + \sum_k (b_k - b^0_k)^2)`, which is convex. This follows the structured vector
    scaling of Berta et al. 2026, which starts from a temperature alone; the label bias of a language model is too large for
    that. Without ridge it is the vector scaling of Guo et al. 2017. A class with noisier scores gets a smaller slope.

    Parameters
    ----------
    ridge : "auto" or float
        Strength :math:`\rho` of the pull towards the temperature and its biases; the pull weakens as the number of rows n (the
        sum of the weights) grows. ``"auto"`` is 1. With 0, every class must occur in `y`.
    prior_rows : float
        As in `TemperatureCalibrator`, for T. The slopes are relative to T, so `ridge` pulls them towards it.

    Attributes
    ----------
    temperature_ : float
        T.
    matrix_ : ndarray (K, K)
        The slopes m on its diagonal.
    bias_ : ndarray (K,)
        b in nats, sum 0.
    classes_ : ndarray (K,)
        The class of each column.

    Examples
    --------
    >>> import numpy as np
    >>> scores = np.log([[0.9, 0.1], [0.6, 0.4]] * 10)
    >>> calibrator = VectorCalibrator(ridge=0).fit(scores, ["no", "yes"] * 8 + ["yes", "no"] * 2)
    >>> calibrator.predict_proba(np.log([[0.9, 0.1], [0.6, 0.4]])).round(4).tolist()
    [[0.8, 0.2], [0.2, 0.8]]
    """

    name = "vector"
    _off_diagonal: ClassVar[bool] = False

    def __init__(self, ridge: float | str = "auto", prior_rows: float = PRIOR_ROWS) -> None:
        self.ridge = ridge
        self.prior_rows = prior_rows

    def fit_map(self, scores: Floats, columns: NDArray[np.intp], weights: Floats, classes: NDArray[Any]) -> str:
        ridge, prior_rows = ridge_strength(self.ridge, 1.0), checked_prior_rows(self.prior_rows)
        check_ridge(ridge, columns, classes)
        beta, bias, warning = fit_bias_temperature(scores, columns, weights, WEAK_RIDGE, prior_rows)
        logs = log_softmax(scores)
        centre = 1.0
        if beta <= 1.0 / HIGHEST_TEMPERATURE:
            # The scores as they are do not help, but slopes that start from 0 may still find a signal in them.
            centre, beta = 0.0, 1.0 / (float(np.std(logs)) or 1.0)
            warning = (
                "the scores say nothing about the labels, or contradict the labels, so no temperature fits; the slopes are "
                "pulled towards 0. Check that rows, labels and columns belong together"
            )
        off_diagonal = ridge * classes.size if self._off_diagonal else None
        self.matrix_, self.bias_ = fit_affine(beta * logs, columns, weights, ridge, off_diagonal, centre, bias)
        self.temperature_ = 1.0 / beta
        return warning

    def map_log_proba(self, scores: Floats) -> Floats:
        return log_softmax(log_softmax(scores) / self.temperature_ @ self.matrix_.T + self.bias_)

    def _fitted(self) -> dict[str, Any]:
        return {
            "temperature": float(self.temperature_),
            "matrix": self.matrix_.tolist(),
            "bias": self.bias_.tolist(),
        }

    def _restore(self, fitted: Any, n_classes: int) -> None:
        ridge_strength(self.ridge, 1.0)
        checked_prior_rows(self.prior_rows)
        check_keys(fitted, ["temperature", "matrix", "bias"], "'fitted'")
        temperature = checked_temperature(fitted["temperature"])
        matrix = checked_numbers(fitted["matrix"], (n_classes, n_classes), "matrix")
        if not self._off_diagonal and (matrix != np.diag(np.diag(matrix))).any():
            raise InputError(f"matrix={fitted['matrix']!r}; expected zeros off the diagonal")
        self.temperature_, self.matrix_ = temperature, matrix
        self.bias_ = checked_numbers(fitted["bias"], (n_classes,), "bias")


class MatrixCalibrator(VectorCalibrator):
    r"""A temperature, then a full matrix and a bias: q = softmax(M log p / T + b) with p = softmax(scores).

    Like `VectorCalibrator`, but the off-diagonal entries of M are pulled towards 0 by
    :math:`(\rho K / n) \sum_{k \ne j} M_{kj}^2` (after the structured matrix scaling of Berta et al. 2026; without ridge it is
    multinomial logistic regression on the log-probabilities, which Kull et al. 2019 call Dirichlet calibration). It can learn
    that a high score of one class is evidence for another, as with label words whose meanings overlap.

    Parameters
    ----------
    ridge : "auto" or float
    prior_rows : float
        As in `VectorCalibrator`.

    Attributes
    ----------
    temperature_ : float
        T.
    matrix_ : ndarray (K, K)
        M; row k gives the logit of class k.
    bias_ : ndarray (K,)
        b in nats, sum 0.
    classes_ : ndarray (K,)
        The class of each column.

    Examples
    --------
    >>> import numpy as np
    >>> scores = np.log([[0.7, 0.2, 0.1], [0.5, 0.1, 0.4], [0.1, 0.8, 0.1]] * 20)
    >>> calibrator = MatrixCalibrator().fit(scores, ["a", "b", "b"] * 20, classes=["a", "b", "c"])
    >>> calibrator.predict(scores[:3]).tolist()
    ['a', 'b', 'b']
    """

    name = "matrix"
    _off_diagonal = True
