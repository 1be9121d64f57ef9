"""Label-bias corrections that need no labels: one number per class, added to its log-scores."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.utils.validation import check_is_fitted, validate_data

from ..arrays import Floats
from ..checks import check_keys, checked_numbers
from ..errors import CalibrationWarning, InputError, warn
from ..logits import log_softmax, logsumexp
from ..metrics import row_weights
from ..numerics.solvers import MOST_STEPS, fit_even_bias
from .base import LARGEST_DISTANCE, checked_scores

_TOLERANCE = 1e-12
_LOWEST_PRIOR = 1e-9  # EM's prior of a class without any evidence, so that the bias stays finite


class BiasCorrector(TransformerMixin, BaseEstimator):
    r"""Remove a model's preference for some labels, using unlabelled rows: q = softmax(scores + b).

    Here :math:`s` are the scores of the rows, :math:`L` their log-softmax, :math:`\pi` the target prior, and :math:`i` runs
    over the rows:

    - ``"contextual"``: :math:`b = \log \pi - \log mean_i \exp s_i`, over content-free rows ("N/A"). The label
      probabilities are averaged as the model gave them, without normalising them first (Zhao et al. 2021, "Calibrate before
      use"; the paper passes the corrected probabilities through a second softmax, after which they are not probabilities).
    - ``"domain"``: the same over rows of random words from the corpus (Fei et al. 2023, "Mitigating label biases for
      in-context learning").
    - ``"generative"``: :math:`b = \log \pi - \log mean_i \exp L_i`, over texts that the model itself wrote in place of the
      prompt's text (Jiang et al. 2023, "Generative calibration for in-context learning"): the model's average answer.
    - ``"batch_logmean"``: :math:`b = \log \pi - \log mean_i \exp L_i` (the mean of probabilities).
    - ``"batch_meanlog"``: :math:`b = \log \pi - mean_i L_i` (the mean of log-probabilities; Zhou et al. 2024, "Batch
      calibration"). Both forms go by the name "batch calibration"; they differ for a confident model.
    - ``"ucpa"``: the b with :math:`mean_i softmax(L_i + b) = \pi`, exactly (Estienne et al. 2023, "Unsupervised calibration
      through prior adaptation"). With the labels' true frequencies as the prior, it is the bias that a fit on labels finds.
    - ``"em"``: prior shift. The scores are taken to be calibrated for the target prior (:math:`old`), and the prior of these
      rows (:math:`new`) is estimated by maximum likelihood: :math:`b = \log new - \log old` (Saerens, Latinne &
      Decaestecker 2002, "Adjusting the outputs of a classifier to new a priori probabilities").

    The correction is fitted once and is the same for every row, so a prediction never depends on the other rows in its batch.
    None of these methods reduces over-confidence; fit a temperature afterwards. If the classes are imbalanced, give their
    frequencies as ``target_prior``, since a uniform prior then makes the probabilities worse. `LLMClassifier` does so wherever it
    is given y.

    Parameters
    ----------
    method : {"contextual", "domain", "generative", "batch_logmean", "batch_meanlog", "ucpa", "em"}
        The first three must be fitted on the scores of rows made for the purpose; `LLMClassifier` makes them.
    target_prior : array-like (K,), optional
        The frequencies of the classes, in the order of the columns; uniform by default.

    Attributes
    ----------
    bias_ : ndarray (K,)
        b in nats, sum 0.
    prior_ : ndarray (K,)
        The target prior; with "em" the estimated prior.

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

    @property
    def has_target(self) -> bool:
        """Whether the method moves the rows towards given frequencies; "em" estimates them instead."""
        return self.method != "em"

    def fit(self, scores: ArrayLike, y: Any = None, sample_weight: ArrayLike | None = None) -> Self:
        """Fit the bias on unlabelled rows.

        Parameters
        ----------
        scores : array-like (n, K)
            Log-scores in nats; ``-inf`` stands for a label that an API did not show (see
            `llmclf.logits.floor_missing`). Adding a constant to a row changes nothing, except in "contextual" and "domain".
        y : ignored
        sample_weight : array-like (n,), optional
            Non-negative. Only their ratios matter.

        Raises
        ------
        InputError
            The method is unknown, the prior is not a distribution over the K columns, or a score is NaN or ``+inf``.

        Warns
        -----
        CalibrationWarning
            The iteration did not converge, or a score is ``-inf``.
        """
        if self.method not in _METHODS:
            raise InputError(f"method={self.method!r} is unknown; expected one of {', '.join(map(repr, _METHODS))}")
        logs = self._matrix(scores, reset=True)
        if self.method not in ("contextual", "domain"):
            logs = log_softmax(logs)
        weights = row_weights(sample_weight, len(logs))
        prior = self._prior(logs.shape[1])
        shares = weights / weights.sum()
        self.bias_, self.prior_ = _METHODS[self.method](logs[shares > 0], shares[shares > 0], prior)
        return self

    def move_to(self, prior: ArrayLike) -> Self:
        """Express the fitted bias for rows with other class frequencies than those that it was fitted on.

        Parameters
        ----------
        prior : array-like (K,)
            The new frequencies. `prior_` becomes them, and b gains :math:`\\log new - \\log old`.

        Examples
        --------
        >>> corrector = BiasCorrector("ucpa").fit(np.log([[0.8, 0.2], [0.6, 0.4], [0.7, 0.3]]))
        >>> corrector.move_to([0.9, 0.1]).bias_.round(4).tolist()
        [0.6591, -0.6591]
        """
        check_is_fitted(self)
        new = _checked_prior(prior, self.bias_.size, "prior")
        self.bias_ = _centred(self.bias_ + np.log(new) - np.log(self.prior_))
        self.prior_ = new
        return self

    def transform(self, scores: ArrayLike) -> Floats:
        """The log-scores (n, K) with the bias added."""
        check_is_fitted(self)
        corrected: Floats = self._matrix(scores, reset=False) + self.bias_
        return corrected

    def to_dict(self) -> dict[str, Any]:
        """Method, bias and prior, ready for JSON."""
        check_is_fitted(self)
        return {"method": self.method, "bias": self.bias_.tolist(), "prior": self.prior_.tolist()}

    @classmethod
    def from_dict(cls, description: Mapping[str, Any]) -> Self:
        """A fitted corrector from the result of `to_dict`. The target prior is part of the bias and is not kept separately.

        Raises
        ------
        InputError
            An entry is missing or unknown, or not a value that fitting can produce.
        """
        check_keys(description, ["method", "bias", "prior"], "the description")
        method = description["method"]
        if not isinstance(method, str) or method not in _METHODS:
            raise InputError(f"method={method!r} is unknown; expected one of {sorted(_METHODS)}")
        corrector = cls(method)
        corrector.bias_ = checked_numbers(description["bias"], (None,), "bias")
        size = corrector.bias_.size
        corrector.prior_ = checked_numbers(description["prior"], (size,), "prior")
        if np.abs(corrector.bias_).max() > LARGEST_DISTANCE / 2:
            raise InputError(f"bias={description['bias']!r}; expected nats, which are not so far apart")
        if size < 2 or (corrector.prior_ < 0).any() or abs(corrector.prior_.sum() - 1.0) > 1e-6:
            raise InputError(
                f"bias={description['bias']!r}, prior={description['prior']!r}; expected a number for each of at least two "
                "classes, and frequencies that sum to 1"
            )
        corrector.n_features_in_ = size
        return corrector

    def _matrix(self, scores: ArrayLike, *, reset: bool) -> Floats:
        try:
            matrix: Floats = validate_data(
                self,
                scores,
                dtype=np.float64,
                reset=reset,
                ensure_all_finite=False,
                ensure_min_features=2 if reset else 1,
            )
        except ValueError as error:
            raise InputError(str(error)) from error
        return checked_scores(matrix, "BiasCorrector")

    def _prior(self, n_classes: int) -> Floats:
        if self.target_prior is None:
            return np.full(n_classes, 1.0 / n_classes)
        return _checked_prior(self.target_prior, n_classes, "target_prior")


def _checked_prior(values: ArrayLike, n_classes: int, name: str) -> Floats:
    prior = np.asarray(values, dtype=np.float64)
    if prior.shape != (n_classes,) or not (prior > 0).all() or abs(prior.sum() - 1.0) > 1e-6:
        raise InputError(f"{name}={values!r}; expected {n_classes} positive frequencies that sum to 1, one per column")
    result: Floats = prior / prior.sum()
    return result


def _log_mean(logs: Floats, shares: Floats, prior: Floats) -> tuple[Floats, Floats]:
    return _centred(np.log(prior) - logsumexp(logs + np.log(shares)[:, None], axis=0)), prior


def _mean_log(logs: Floats, shares: Floats, prior: Floats) -> tuple[Floats, Floats]:
    return _centred(np.log(prior) - shares @ logs), prior


def _ucpa(logs: Floats, shares: Floats, prior: Floats) -> tuple[Floats, Floats]:
    bias, is_done = fit_even_bias(logs, shares, prior)
    if not is_done:
        _warn("ucpa")
    return bias, prior


def _em(logs: Floats, shares: Floats, prior: Floats) -> tuple[Floats, Floats]:
    ratios = np.exp(logs - logs.max(axis=1, keepdims=True)) / prior

    def step(new: Floats) -> Floats:
        updated: Floats = new * (shares @ (ratios / (ratios @ new)[:, None]))
        updated /= updated.sum()
        return updated

    new = prior
    for _ in range(MOST_STEPS):
        # EM alone is very slow when a class vanishes. Squared extrapolation is not (SQUAREM, Varadhan & Roland 2008).
        once = step(new)
        twice = step(once)
        first, second = once - new, twice - 2.0 * once + new
        length = float(np.clip(np.linalg.norm(first) / (np.linalg.norm(second) + 1e-100), 1.0, 1e6))
        extrapolation = _kept_above_zero(new + 2.0 * length * first + length**2 * second)
        is_better = _log_likelihood(ratios, shares, extrapolation) >= _log_likelihood(ratios, shares, twice)
        updated = _kept_above_zero(step(extrapolation) if is_better else twice)
        change = np.abs(updated - new).max()
        new = updated
        if change < _TOLERANCE:
            break
    # The log-likelihood is concave, so no prior is better than this one by more than the largest slope.
    if (shares @ (ratios / (ratios @ new)[:, None])).max() - 1.0 > 1e-6:
        _warn("em")
    return _centred(np.log(new) - np.log(prior)), new


def _kept_above_zero(prior: Floats) -> Floats:
    floored = np.maximum(prior, _LOWEST_PRIOR)
    result: Floats = floored / floored.sum()
    return result


def _log_likelihood(ratios: Floats, shares: Floats, prior: Floats) -> float:
    return float(shares @ np.log(ratios @ prior))


CONTENT_FREE = ("contextual", "domain", "generative")
"""The methods that need rows made for the purpose: without content, with random content, or written by the model."""

_METHODS = {
    "contextual": _log_mean,
    "domain": _log_mean,
    "generative": _log_mean,
    "batch_logmean": _log_mean,
    "batch_meanlog": _mean_log,
    "ucpa": _ucpa,
    "em": _em,
}


def make_bias(spec: Any, target_prior: ArrayLike | None = None) -> Any:
    """An unfitted correction from a value of the parameter ``bias=``.

    Parameters
    ----------
    spec : None, str or transformer
        A method of `BiasCorrector`, ``"batch"`` (an alias of ``"batch_meanlog"``), or any transformer of log-scores.
    target_prior : array-like (K,), optional
        Used if `spec` is the name of a method.

    Returns
    -------
    transformer or None; a transformer is cloned

    Raises
    ------
    InputError
        `spec` is not one of these.

    Examples
    --------
    >>> make_bias("batch")
    BiasCorrector(method='batch_meanlog')
    """
    if spec is None:
        return None
    if isinstance(spec, str) and (spec == "batch" or spec in _METHODS):
        return BiasCorrector("batch_meanlog" if spec == "batch" else spec, target_prior)
    usable = all(callable(getattr(spec, method, None)) for method in ("fit", "transform", "get_params"))
    if usable and not isinstance(spec, type):
        return clone(spec)
    raise InputError(
        f"bias={spec!r} is not a correction; expected None, one of {['batch', *_METHODS]}, or a transformer of log-scores "
        "(an instance, not a class) with fit and transform"
    )


def _centred(bias: Floats) -> Floats:
    result: Floats = bias - bias.mean()
    return result


def _warn(method: str) -> None:
    warn(
        f"BiasCorrector: method {method!r} did not converge within {MOST_STEPS} steps; some class hardly ever has any "
        "probability. Give more rows, or leave that class out",
        CalibrationWarning,
    )
