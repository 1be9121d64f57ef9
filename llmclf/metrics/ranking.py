"""How well the confidence separates right from wrong: the error among the rows kept as the least confident are left out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import digamma

from .checks import checked_event, either_weights


@dataclass(frozen=True)
class Aurc:
    """Areas under the risk-coverage curve.

    Attributes
    ----------
    aurc : float
        The error among the k most confident rows, averaged over k = 1 .. n.
    excess : float
        `aurc` minus the AURC of a confidence that ranks every right row before every wrong one (E-AURC).
    augrc : float
        The share of all n rows that are kept and wrong, averaged over k (AUGRC). It does not divide by the number of rows
        kept, which in `aurc` gives too much weight to errors at high confidence.
    """

    aurc: float
    excess: float
    augrc: float


def aurc(
    y: ArrayLike,
    proba: ArrayLike,
    *,
    classes: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    inclusion: ArrayLike | None = None,
) -> Aurc:
    """Area under the risk-coverage curve, independent of the order of rows with equal confidence.

    Within a group of equal confidences, it takes the expected error over all orders (Geifman, Uziel & El-Yaniv 2019,
    "Bias-reduced uncertainty estimation for deep neural classifiers"; Traub et al. 2024, "Overcoming common flaws in the
    evaluation of selective classification systems").

    Parameters
    ----------
    y, proba, classes, sample_weight, inclusion
        As in `expected_calibration_error`.

    Returns
    -------
    Aurc

    Raises
    ------
    InputError
        Any argument cannot be used.

    Examples
    --------
    >>> result = aurc([0, 0, 1], [[0.9, 0.1], [0.8, 0.2], [0.7, 0.3]])
    >>> round(result.aurc, 6), round(result.excess, 6), round(result.augrc, 6)
    (0.111111, 0.0, 0.111111)
    """
    sample_weight = either_weights(sample_weight, inclusion, y)
    confidence, is_right, weights = checked_event(y, proba, classes, sample_weight)
    # Groups of equal confidence, the most confident first.
    _, group = np.unique(-confidence, return_inverse=True)
    mass, wrong = np.bincount(group, weights), np.bincount(group, weights * (1.0 - is_right))
    before, wrong_before = np.cumsum(mass) - mass, np.cumsum(wrong) - wrong
    total, rate = float(mass.sum()), wrong / mass
    # Within a group the expected number of errors rises evenly: a sum of (wrong_before + j * rate) / (before + j).
    risks = mass * rate + (wrong_before - rate * before) * _harmonic(before, mass)
    kept_wrong = mass * wrong_before + rate * mass * (mass + 1) / 2
    n_wrong = float(wrong.sum())
    n_right = total - n_wrong
    best = n_wrong - n_right * float(_harmonic(n_right, n_wrong))
    area = float(risks.sum()) / total
    return Aurc(aurc=area, excess=area - best / total, augrc=float(kept_wrong.sum()) / total**2)


def _harmonic(start: Any, steps: Any) -> Any:
    """1/(start + 1) + ... + 1/(start + steps), interpolated for fractional weights."""
    return digamma(start + steps + 1) - digamma(start + 1)
