"""From logits to a distribution, and how spread out that is."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import InputError


def logsumexp(logits: ArrayLike, axis: int = -1, keepdims: bool = False) -> NDArray[Any]:
    """Logarithm of the sum of exponentials along one axis.

    Parameters
    ----------
    logits : array-like (..., vocabulary)
        NaN passes through; a row of only ``-inf`` gives ``-inf``, one that holds ``+inf`` gives ``+inf``.
    axis : int
        The axis that is summed over.
    keepdims : bool
        Leave that axis in the result, with length 1.

    Returns
    -------
    ndarray (...), in nats

    Raises
    ------
    InputError
        The axis has length 0.

    Examples
    --------
    >>> float(logsumexp([-1000.0, -1000.0]).round(3))
    -999.307
    """
    _, total, shift = _shifted(logits, axis)
    out = total + shift
    result: NDArray[Any] = out if keepdims else np.squeeze(out, axis=axis)
    return result


def log_softmax(logits: ArrayLike, axis: int = -1) -> NDArray[Any]:
    """Log-probabilities of the softmax distribution over one axis, in float64.

    Parameters
    ----------
    logits : array-like (..., vocabulary)
        Any real numbers; a constant added along `axis` changes nothing. ``-inf`` is a masked token and stays ``-inf``; a
        row that holds NaN (elsewhere: a row that was not scored) becomes NaN.
    axis : int
        The axis that is one distribution.

    Returns
    -------
    ndarray of the same shape, in nats, at most 0.

    Raises
    ------
    InputError
        A row is all ``-inf`` or holds ``+inf``, so that it has no distribution; or it has no entries.

    Examples
    --------
    >>> log_softmax([0.0, 0.0]).round(4).tolist()
    [-0.6931, -0.6931]
    """
    shifted, total, _ = _shifted(logits, axis)
    if np.isinf(total).any():
        raise InputError(_without_distribution(np.squeeze(total, axis=axis)))
    result: NDArray[Any] = shifted - total
    return result


def softmax(logits: ArrayLike, axis: int = -1) -> NDArray[Any]:
    """Probabilities of the softmax distribution over one axis, in float64.

    Parameters
    ----------
    logits, axis
        As in `log_softmax`.

    Returns
    -------
    ndarray of the same shape, in [0, 1], summing to 1 along `axis`

    Raises
    ------
    InputError
        As `log_softmax`.

    Examples
    --------
    >>> softmax([0.0, 0.0]).tolist()
    [0.5, 0.5]
    """
    result: NDArray[Any] = np.exp(log_softmax(logits, axis=axis))
    return result


def entropy(logits: ArrayLike) -> NDArray[Any]:
    r"""Entropy of the softmax distribution, :math:`-\sum_i p_i \log p_i` with :math:`0 \log 0 = 0` (Shannon 1948).

    Parameters
    ----------
    logits : array-like (..., vocabulary)
        As in `log_softmax`.

    Returns
    -------
    ndarray (...), in nats, from 0 (one token is certain) to the logarithm of the number of tokens that are not masked

    Raises
    ------
    InputError
        As `log_softmax`.

    Examples
    --------
    >>> entropy([[0.0, 0.0], [0.0, -np.inf]]).round(4).tolist()
    [0.6931, 0.0]
    """
    logprobs = log_softmax(logits)
    p = np.exp(logprobs)
    # Not p > 0: NaN has to pass.
    terms = np.multiply(p, -logprobs, where=p != 0, out=np.zeros_like(p))
    result: NDArray[Any] = terms.sum(axis=-1)
    return result


def _shifted(logits: ArrayLike, axis: int) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """The logits less the largest of their row, the logarithm of the sum of those exponentials, and the largest.

    Kept apart, because their sum forgets the second where logits are huge.
    """
    x = np.asarray(logits, dtype=np.float64)
    if x.ndim and x.shape[axis] == 0:
        raise InputError(f"logits have shape {x.shape}, with nothing along axis {axis}; expected at least one entry")
    top = x.max(axis=axis, keepdims=True)
    shift = np.where(np.isfinite(top), top, 0.0)
    with np.errstate(divide="ignore", over="ignore"):
        shifted = x - shift
        return shifted, np.log(np.exp(shifted).sum(axis=axis, keepdims=True)), shift


def _without_distribution(totals: NDArray[Any]) -> str:
    index = np.argwhere(np.isinf(totals))[0]
    whole = "the logits are" if not index.size else f"row {index[0] if index.size == 1 else tuple(index.tolist())} is"
    if totals[tuple(index)] < 0:
        return f"{whole} all -inf, which is no distribution; leave at least one finite, or NaN where nothing was scored"
    some = "the logits hold" if not index.size else whole.removesuffix("is") + "holds"
    return f"{some} +inf, which is no distribution; mask the other tokens with -inf to make one certain"
