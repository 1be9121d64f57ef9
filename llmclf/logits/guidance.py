"""Classifier-free guidance: two distributions, with and without a condition, combined into one."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from ..arrays import Floats
from ..errors import InputError
from .checks import checked_finite, checked_logits, checked_result
from .softmax import log_softmax


def guide(conditional: ArrayLike, unconditional: ArrayLike, gamma: float) -> Floats:
    r"""Classifier-free guidance, which strengthens or weakens a condition: :math:`\log u + \gamma (\log c - \log u)`.

    c and u are the softmax distributions of the two sets of logits (Sanchez et al. 2023, "Stay on topic with Classifier-Free
    Guidance", equation 7, after Ho & Salimans 2022), as in transformers' `UnbatchedClassifierFreeGuidanceLogitsProcessor`.

    Parameters
    ----------
    conditional : array-like (..., vocabulary)
        Logits after the whole prompt.
    unconditional : array-like (..., vocabulary)
        Logits after the prompt without the condition, or with a condition to avoid; of the same shape, or a shape that
        broadcasts to it.
    gamma : float
        Finite. 1 gives the conditional distribution and 0 the unconditional one. Above 1 exaggerates what the condition
        changes, below 0 reverses it.

    Returns
    -------
    ndarray (..., vocabulary)
        Logits; their exponentials do not sum to 1 unless `gamma` is 0 or 1. A token that is masked on either side is masked;
        with `gamma` 1 only the conditional side counts, with 0 only the other.

    Raises
    ------
    InputError
        The vocabularies or shapes differ, `gamma` is not finite, no token is possible on both sides, or the logits cannot be
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
            "same one, from two prompts of one model"
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
        # Masked here and not earlier: -inf - -inf is NaN, which the mask replaces.
        guided = np.where(masked, -np.inf, u + weight * (c - u))
        overflow = (np.isinf(guided) & ~masked).any(axis=-1, keepdims=True)
        if overflow.any():
            # A row beyond the range of float64: shift its largest gain to zero, which does not change probabilities.
            gain = np.where(masked, -np.inf, np.sign(weight) * (c - u))
            gain = gain - gain.max(axis=-1, keepdims=True)
            guided = np.where(overflow & ~masked, u + abs(weight) * gain, guided)
    return checked_result(guided, "guide", "no token is possible on both sides; mask fewer tokens")
