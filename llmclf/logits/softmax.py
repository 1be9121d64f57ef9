"""The softmax distribution of logits, its normaliser and its entropy."""

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
        NaN gives NaN; a row of only ``-inf`` gives ``-inf``, and a row with ``+inf`` gives ``+inf``.
    axis : int
        The axis to sum over.
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
        Any real numbers; adding a constant along `axis` changes nothing. ``-inf`` is a masked token and stays ``-inf``. A
        row that holds NaN (which marks a row that was not scored) becomes NaN.
    axis : int
        The axis along which the probabilities sum to 1.

    Returns
    -------
    ndarray of the same shape, in nats, at most 0.

    Raises
    ------
    InputError
        A row is all ``-inf`` or holds ``+inf``, so it does not define a distribution; or it is empty.

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
    # Not p > 0, which would drop NaN.
    terms = np.multiply(p, -logprobs, where=p != 0, out=np.zeros_like(p))
    result: NDArray[Any] = terms.sum(axis=-1)
    return result


def _shifted(logits: ArrayLike, axis: int) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """The logits less their row's maximum, the logarithm of the sum of their exponentials, and the maximum.

    The last two are returned separately, because rounding would lose the logarithm in their sum if the maximum is huge.
    """
    x = np.asarray(logits, dtype=np.float64)
    if x.ndim and x.shape[axis] == 0:
        raise InputError(f"logits have shape {x.shape}, with no entries along axis {axis}; expected at least one")
    top = x.max(axis=axis, keepdims=True)
    shift = np.where(np.isfinite(top), top, 0.0)
    with np.errstate(divide="ignore", over="ignore"):
        shifted = x - shift
        return shifted, np.log(np.exp(shifted).sum(axis=axis, keepdims=True)), shift


def _without_distribution(totals: NDArray[Any]) -> str:
    index = np.argwhere(np.isinf(totals))[0]
    subject = "the logits are" if not index.size else f"row {index[0] if index.size == 1 else tuple(index.tolist())} is"
    if totals[tuple(index)] < 0:
        return f"{subject} all -inf, which is not a distribution; leave at least one finite, or use NaN if nothing was scored"
    subject = "the logits hold" if not index.size else subject.removesuffix("is") + "holds"
    return f"{subject} +inf, which is not a distribution; to make one token certain, mask all others with -inf"
