"""Label-bias corrections that need no labels: one number per class, added to its log-scores."""

from __future__ import annotations

import warnings
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from ..errors import CalibrationWarning, InputError
from ..logits import log_softmax, logsumexp
from ..metrics import row_weights

Floats = NDArray[np.float64]

_TOLERANCE = 1e-12
_MOST_STEPS = 10_000


class BiasCorrector(TransformerMixin, BaseEstimator):
    r"""Remove a model's preference for some labels, from unlabelled rows: q = softmax(scores + b).

    With :math:`L` the log-probabilities of the rows, :math:`\pi` the target prior and :math:`i` over rows:

    - ``"batch_logmean"``: :math:`b = \log \pi - \log mean_i \exp L_i` (the mean of probabilities).
    - ``"batch_meanlog"``: :math:`b = \log \pi - mean_i L_i` (the mean of log-probabilities; Zhou et al. 2024, "Batch
      calibration"). Under one name both forms are in use, and a confident model tells them apart.
    - ``"ucpa"``: the b with :math:`mean_i softmax(L_i + b) = \pi`, exactly (Estienne et al. 2023, "Unsupervised calibration
      through prior adaptation"); with the labels' true frequencies as prior it is the bias that a fit on labels would find.
    - ``"em"``: prior shift. The prior of these rows is estimated by maximum likelihood from the model's own
      (:math:`old`): :math:`b = \log new - \log old` (Saerens, Latinne & Decaestecker 2002, "Adjusting the outputs of a
      classifier to new a priori probabilities"). It presumes calibrated scores, and here the target prior is the old one.

    The correction is fitted once and then the same for every row, so that the company of a row never changes it. None of
    these lessens over-confidence: fit a temperature after it. Where labels are skewed, name their frequencies as
    ``target_prior``; a uniform prior then does harm.

    Parameters
    ----------
    method : {"batch_logmean", "batch_meanlog", "ucpa", "em"}
    target_prior : array-like (K,), optional
        The frequencies of the classes, in the order of the columns; uniform by default.

    Attributes
    ----------
    bias_ : ndarray (K,)
        b in nats, sum 0.
    prior_ : ndarray (K,)
        The target prior; with "em" the estimated one.

    Examples
    --------
    >>> scores = np.log([[0.8, 0.2], [0.6, 0.4], [0.7, 0.3]])
    >>> corrector = BiasCorrector("ucpa").fit(scores)
    >>> corrector.bias_.round(4).tolist()
    [-0.4395, 0.4395]
    >>> np.exp(log_softmax(corrector.transform(scores))).mean(axis=0).round(6).tolist()
    [0.5, 0.5]
    """

    def __init__(self, method: str = "ucpa", target_prior: ArrayLike | None = None) -> None:
        self.method = method
        self.target_prior = target_prior

    def fit(self, scores: ArrayLike, y: Any = None, sample_weight: ArrayLike | None = None) -> Self:
        """Find the bias from unlabelled rows.

        Parameters
        ----------
        scores : array-like (n, K)
            Log-scores in nats, finite. A constant added to a row changes nothing.
        y : ignored
        sample_weight : array-like (n,), optional
            Non-negative; a weight of 2 is the row twice.

        Raises
        ------
        InputError
            The method is unknown, the prior no distribution over the K columns, or a score NaN or infinite.

        Warns
        -----
        CalibrationWarning
            The iteration did not settle.
        """
        methods = {"batch_logmean": _log_mean, "batch_meanlog": _mean_log, "ucpa": _ucpa, "em": _em}
        if self.method not in methods:
            raise InputError(f"method={self.method!r} is unknown; expected one of {', '.join(map(repr, methods))}")
        logs = log_softmax(self._matrix(scores, reset=True))
        weights = row_weights(sample_weight, len(logs))
        prior = self._prior(logs.shape[1])
        shares = weights / weights.sum()
        self.bias_, self.prior_ = methods[self.method](logs[shares > 0], shares[shares > 0], prior)
        return self

    def transform(self, scores: ArrayLike) -> Floats:
        """The log-scores (n, K) with the bias added."""
        check_is_fitted(self)
        corrected: Floats = self._matrix(scores, reset=False) + self.bias_
        return corrected

    def _matrix(self, scores: ArrayLike, *, reset: bool) -> Floats:
        try:
            matrix: Floats = validate_data(
                self, scores, dtype=np.float64, reset=reset, ensure_min_features=2 if reset else 1
            )
        except ValueError as error:
            raise InputError(str(error)) from error
        return matrix

    def _prior(self, n_classes: int) -> Floats:
        if self.target_prior is None:
            return np.full(n_classes, 1.0 / n_classes)
        prior = np.asarray(self.target_prior, dtype=np.float64)
        if prior.shape != (n_classes,) or not (prior > 0).all() or abs(prior.sum() - 1.0) > 1e-6:
            raise InputError(
                f"target_prior={self.target_prior!r}; expected {n_classes} positive frequencies that sum to 1, one per column"
            )
        result: Floats = prior / prior.sum()
        return result


def _log_mean(logs: Floats, shares: Floats, prior: Floats) -> tuple[Floats, Floats]:
    return _centred(np.log(prior) - logsumexp(logs + np.log(shares)[:, None], axis=0)), prior


def _mean_log(logs: Floats, shares: Floats, prior: Floats) -> tuple[Floats, Floats]:
    return _centred(np.log(prior) - shares @ logs), prior


def _ucpa(logs: Floats, shares: Floats, prior: Floats) -> tuple[Floats, Floats]:
    # The fixed-point iteration of the paper is minimisation of a convex function by coordinates: it always settles.
    bias = np.zeros(len(prior))
    for _ in range(_MOST_STEPS):
        excess = logsumexp(log_softmax(logs + bias) + np.log(shares)[:, None], axis=0) - np.log(prior)
        bias = bias - excess
        if np.abs(excess).max() < _TOLERANCE:
            return _centred(bias), prior
    _warn("ucpa")
    return _centred(bias), prior


def _em(logs: Floats, shares: Floats, prior: Floats) -> tuple[Floats, Floats]:
    new = prior
    for _ in range(_MOST_STEPS):
        bias = np.log(new) - np.log(prior)
        updated = shares @ np.exp(log_softmax(logs + bias))
        updated = np.maximum(updated, np.finfo(float).tiny)
        change = np.abs(updated - new).max()
        new = updated / updated.sum()
        if change < _TOLERANCE:
            return _centred(np.log(new) - np.log(prior)), new
    _warn("em")
    return _centred(np.log(new) - np.log(prior)), new


def _centred(bias: Floats) -> Floats:
    result: Floats = bias - bias.mean()
    return result


def _warn(method: str) -> None:
    warnings.warn(
        f"BiasCorrector: method {method!r} did not settle within {_MOST_STEPS} steps; some class hardly ever has "
        "probability. Give more rows, or leave out that class",
        CalibrationWarning,
        stacklevel=4,
    )
