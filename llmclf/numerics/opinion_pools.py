"""Several probabilities of the same rows made into one: a linear and a logarithmic opinion pool, averaged."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from ..arrays import Floats, Integers
from ..checks import check_keys, checked_numbers, is_finite_number
from ..errors import InputError
from ..logits import log_softmax, logsumexp, softmax

_FLOOR = 1e-3  # of every member, spread evenly over the classes: nobody is certain
_DRAWS = 2000
_TOLERANCE = 1e-6  # by how much weights that were read may miss the sum 1
_LEAN = 0.8  # share of the pseudo-BMA weights in the centre of the logarithmic pool's weights; the rest is the prior's
_PULL = 30.0  # how strongly its weights are pulled there, in units of rows


def averaging_weights(
    log_likelihoods: Floats, weights: Floats, groups: Integers | None = None, prior: Floats | None = None
) -> Floats:
    r"""How probable it is that each of M members predicts new rows best: pseudo-BMA weights with uncertainty (M,).

    With l the log-likelihoods of held-out rows, a member's total is :math:`\sum_i w_i l_i`, known up to the covariance
    :math:`\sum_i w_i (l_i - \bar l)(l_i - \bar l)'`. The weights are the mean of the softmax of totals drawn from that normal
    distribution (Yao, Vehtari, Simpson & Gelman 2018, "Using stacking to average Bayesian predictive distributions", section
    3.4, who draw by the Bayesian bootstrap, which has the same two moments). Rows of one group are one draw.

    Parameters
    ----------
    log_likelihoods : ndarray (n, M)
        The log-probability that each member gave to each row's true class, without having seen it.
    weights : ndarray (n,)
        Positive.
    groups : ndarray of int (n,), optional
    prior : ndarray (M,), optional
        How probable that was before any row was seen; all the same by default.

    Examples
    --------
    >>> averaging_weights(np.log([[0.5, 0.6, 0.1]] * 20), np.ones(20)).round(3).tolist()
    [0.025, 0.975, 0.0]
    """
    total = float(weights.sum())
    mean = weights @ log_likelihoods / total
    deviations = weights[:, None] * (log_likelihoods - mean)
    if groups is None:
        # A row of weight 2 is two rows, and not one that counts four times.
        deviations = deviations / np.sqrt(weights)[:, None]
    else:
        _, members = np.unique(groups, return_inverse=True)
        sums = np.zeros((members.max() + 1, deviations.shape[1]))
        np.add.at(sums, members.reshape(-1), deviations)
        deviations = sums
    values, vectors = np.linalg.eigh(deviations.T @ deviations)
    root = (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T
    # The same draws whatever the order of the rows.
    draws = np.random.default_rng(0).standard_normal((_DRAWS, len(mean)))
    start = 0.0 if prior is None else np.log(prior)
    result: Floats = softmax(start + total * mean + draws @ root).mean(axis=0)
    return result


@dataclass(frozen=True, eq=False)
class OpinionPool:
    r"""Non-negative weights of M members in two pools, and the share of the second.

    The linear pool is :math:`\sum_m v_m p_m`, the logarithmic one is proportional to :math:`\prod_m p_m^{w_m}` (Genest & Zidek
    1986, "Combining probability distributions"). The first is never far worse than its best member; the second is sharper than
    each of its members where these know different things.

    Attributes
    ----------
    linear : ndarray (M,)
        v, sum 1.
    logarithmic : ndarray (M,)
        w; their sum is free, so that the pool is neither over- nor under-confident.
    share : float
        That of the logarithmic pool in the average of both.
    """

    linear: Floats
    logarithmic: Floats
    share: float

    @classmethod
    def fit(
        cls,
        logs: Floats,
        columns: NDArray[np.intp],
        weights: Floats,
        groups: Integers | None = None,
        prior: Floats | None = None,
        linear_only: bool = False,
        discount: float = 0.0,
    ) -> OpinionPool:
        """The pool of members that have judged n rows without having seen them.

        Parameters
        ----------
        logs : ndarray (M, n, K)
            Log-probabilities.
        columns : ndarray of int (n,)
            The true column of each row.
        weights : ndarray (n,)
            Positive.
        groups : ndarray of int (n,), optional
            Rows of one group are one witness.
        prior : ndarray (M,), optional
            Positive, sum 1: what each member is trusted before any row is seen, which matters where there are few. By default
            all are trusted the same.
        linear_only : bool
            Give the logarithmic pool no share: members that know the same things make it no sharper, only bolder.
        discount : float
            In rows: n rows count as n n / (n + discount), since rows that are held out in turn are not n witnesses where each
            also taught the members that judge the others, which matters where there are few.

        Examples
        --------
        >>> sure, unsure = np.log([[0.9, 0.1], [0.1, 0.9]] * 20), np.log(np.full((40, 2), 0.5))
        >>> pool = OpinionPool.fit(np.stack([sure, unsure]), np.array([0, 1] * 20), np.ones(40))
        >>> pool.linear.round(2).tolist()
        [1.0, 0.0]
        """
        logs = _floored(logs)
        n_members, n_rows = logs.shape[:2]
        truth = np.arange(n_rows), columns
        start = np.full(n_members, 1.0 / n_members) if prior is None else prior
        if groups is not None:
            # As many witnesses as there are groups, each a row's worth.
            weights = weights * min(1.0, len(np.unique(groups)) / float(weights.sum()))
        weights = weights * (float(weights.sum()) / (float(weights.sum()) + discount))
        linear = averaging_weights(logs[:, *truth].T, weights, groups, start)
        if linear_only:
            return cls(linear, linear, 0.0)
        centre = _LEAN * linear + (1.0 - _LEAN) * start
        logarithmic = _logarithmic(logs, columns, weights, centre)
        pools = cls(linear, logarithmic, 0.5)
        both = np.stack([pools._linear(logs)[truth], pools._logarithmic(logs)[truth]], axis=1)
        return cls(linear, logarithmic, float(averaging_weights(both, weights, groups)[1]))

    @classmethod
    def of_one(cls) -> OpinionPool:
        """The pool of a single member, whose probabilities it leaves as they are."""
        return cls(np.ones(1), np.ones(1), 0.0)

    def __call__(self, logs: Floats) -> Floats:
        """The pooled log-probabilities (n, K) of members' log-probabilities (M, n, K)."""
        if len(logs) == 1:
            return log_softmax(logs[0])
        logs = _floored(logs)
        with np.errstate(divide="ignore"):
            shares = np.log([1.0 - self.share, self.share])
        pooled: Floats = np.logaddexp(self._linear(logs) + shares[0], self._logarithmic(logs) + shares[1])
        return log_softmax(pooled)

    def to_dict(self) -> dict[str, Any]:
        """The weights, ready for JSON."""
        return {"linear": self.linear.tolist(), "logarithmic": self.logarithmic.tolist(), "share": self.share}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> OpinionPool:
        """The inverse of `to_dict`.

        Raises
        ------
        InputError
            These are no weights of a pool.
        """
        try:
            check_keys(values, ["linear", "logarithmic", "share"], "it")
            linear = checked_numbers(values["linear"], (None,), "linear")
            logarithmic = checked_numbers(values["logarithmic"], linear.shape, "logarithmic")
        except InputError as error:
            raise InputError(f"these are no weights of a pool: {error}") from error
        share = values["share"]
        if (linear < 0).any() or abs(linear.sum() - 1.0) > _TOLERANCE or (logarithmic < 0).any():
            raise InputError(
                "these are no weights of a pool: expected numbers of at least 0, of which the linear ones sum to 1"
            )
        if not is_finite_number(share) or not 0.0 <= share <= 1.0:
            raise InputError(f"these are no weights of a pool: share={share!r}; expected a number from 0 to 1")
        return cls(linear, logarithmic, float(share))

    def _linear(self, logs: Floats) -> Floats:
        with np.errstate(divide="ignore"):
            return logsumexp(logs + np.log(self.linear)[:, None, None], axis=0)

    def _logarithmic(self, logs: Floats) -> Floats:
        return log_softmax(np.tensordot(self.logarithmic, logs, axes=1))


def _logarithmic(logs: Floats, columns: NDArray[np.intp], weights: Floats, centre: Floats) -> Floats:
    """The non-negative weights (M,) that minimise the NLL of the logarithmic pool plus a pull towards `centre`."""
    every = np.arange(logs.shape[1])
    of_truth = weights @ logs[:, every, columns].T

    def objective(pool: Floats) -> tuple[float, Floats]:
        raw = np.tensordot(pool, logs, axes=1)
        normaliser = logsumexp(raw, axis=1)
        mean = np.einsum("mnk,nk->mn", logs, np.exp(raw - normaliser[:, None])) @ weights
        away = pool - centre
        value = weights @ normaliser - pool @ of_truth + 0.5 * _PULL * (away @ away)
        return float(value), mean - of_truth + _PULL * away

    result = minimize(
        objective,
        centre,
        jac=True,
        method="L-BFGS-B",
        bounds=[(0.0, None)] * len(centre),
        options={"maxiter": 1000, "gtol": 1e-9, "ftol": 1e-15},
    )
    found: Floats = result.x
    return found


def _floored(logs: Floats) -> Floats:
    floored: Floats = np.logaddexp(logs + np.log1p(-_FLOOR), np.log(_FLOOR / logs.shape[-1]))
    return floored
