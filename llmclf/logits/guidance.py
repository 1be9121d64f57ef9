"""Two distributions, with and without a condition, put into one."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from ..arrays import Floats
from ..errors import InputError
from .checks import checked_finite, checked_logits, checked_result
from .softmax import log_softmax


def guide(conditional: ArrayLike, unconditional: ArrayLike, gamma: float) -> Floats:
    r"""Classifier-free guidance: how far a condition is followed, :math:`\log u + \gamma (\log c - \log u)`.

    c and u are the softmax distributions of the two logits (Sanchez et al. 2023, "Stay on topic with Classifier-Free
    Guidance", equation 7, after Ho & Salimans 2022), as in transformers' `UnbatchedClassifierFreeGuidanceLogitsProcessor`.

    Parameters
    ----------
    conditional : array-like (..., vocabulary)
        Logits after the whole prompt.
    unconditional : array-like (..., vocabulary)
        Logits after the prompt without the condition, or with another to be avoided; of the same shape, or one that
        broadcasts to it.
    gamma : float
        Finite. 1 is the conditional distribution, 0 the unconditional one, above 1 exaggerates what the condition changes,
        below 0 does the opposite of it.

    Returns
    -------
    ndarray (..., vocabulary)
        Logits: their sum of exponentials is not 1 unless `gamma` is 0 or 1. A token that is masked on either side is masked;
        at `gamma` 1 only the conditional side counts, at 0 only the other.

    Raises
    ------
    InputError
        The vocabularies or shapes differ, `gamma` is not finite, no token is possible on both sides, or logits cannot be
        used.

    Examples
    --------
    >>> np.exp(log_softmax(guide(np.log([0.8, 0.2]), np.log([0.5, 0.5]), 2.0))).round(4).tolist()
    [0.9412, 0.0588]
    """
    c = log_softmax(checked_logits(conditional, "guide", "conditional"))
    u = log_softmax(checked_logits(unconditional, "guide", "unconditional"))
    weight = checked_finite(gamma, "guide", "gamma")
    if c.shape[-1] != u.shape[-1]:
        raise InputError(
            f"guide: conditional has a vocabulary of {c.shape[-1]} tokens and unconditional of {u.shape[-1]}; expected the "
            "same one, so two prompts of one model"
        )
    try:
        c, u = np.broadcast_arrays(c, u)
    except ValueError:
        raise InputError(
            f"guide: shapes {c.shape} and {u.shape} do not fit; expected the same number of rows"
        ) from None
    if weight in (0, 1):
        return np.array(c if weight else u)
    masked = np.isneginf(c) | np.isneginf(u)
    with np.errstate(over="ignore", invalid="ignore"):
        # Masked only now, not before: -inf - -inf has no value, and none is wanted.
        guided = np.where(masked, -np.inf, u + weight * (c - u))
        lost = (np.isinf(guided) & ~masked).any(axis=-1, keepdims=True)
        if lost.any():  # A row beyond float64: take the largest gain as zero, which changes no probability.
            gain = np.where(masked, -np.inf, np.sign(weight) * (c - u))
            gain = gain - gain.max(axis=-1, keepdims=True)
            guided = np.where(lost & ~masked, u + abs(weight) * gain, guided)
    return checked_result(guided, "guide", "no token is possible on both sides; mask less")
