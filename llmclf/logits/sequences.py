"""How likely a given sequence of tokens is."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import InputError
from .checks import checked_logits, ids_in_vocabulary
from .softmax import log_softmax


def sequence_logprob(logits: ArrayLike, token_ids: ArrayLike) -> NDArray[Any]:
    r"""Log-probability of a sequence, :math:`\sum_t \log p(x_t \mid x_{<t})`.

    Parameters
    ----------
    logits : array-like (..., T, vocabulary)
        ``logits[..., t, :]`` is the distribution of token t: in a causal model, the output one position before it.
    token_ids : array-like of int (..., T)

    Returns
    -------
    ndarray (...), in nats, at most 0: ``-inf`` if a token is masked, 0 if T is 0

    Raises
    ------
    InputError
        The shapes do not fit, an id is outside the vocabulary, or the logits have NaN, ``+inf`` or a row of only ``-inf``.

    Examples
    --------
    >>> logprob = sequence_logprob([[0.0, 0.0], [np.log(3.0), 0.0]], [1, 0])
    >>> float(np.exp(logprob).round(6))  # 1/2 * 3/4
    0.375
    """
    x = checked_logits(logits, "sequence_logprob")
    ids = np.asarray(token_ids)
    if x.ndim < 2 or ids.shape != x.shape[:-1]:
        raise InputError(
            f"sequence_logprob: logits have shape {x.shape} and token_ids {ids.shape}; expected (..., T, vocabulary) and "
            "(..., T)"
        )
    ids = ids_in_vocabulary(ids, x.shape[-1], "sequence_logprob")
    chosen = np.take_along_axis(log_softmax(x), ids[..., None], axis=-1)[..., 0]
    with np.errstate(over="ignore"):
        result: NDArray[Any] = chosen.sum(axis=-1)
    return result


def perplexity(logprobs: ArrayLike) -> NDArray[Any]:
    r"""Perplexity of a sequence, :math:`\exp(-\frac{1}{T} \sum_t \log p(x_t \mid x_{<t}))` (Jelinek et al. 1977).

    Parameters
    ----------
    logprobs : array-like (..., T)
        Log-probabilities of the tokens, in nats (multiply those in bits by log 2).

    Returns
    -------
    ndarray (...), from 1 (every token was certain) to infinity (one was impossible); V for a uniform choice among V tokens

    Raises
    ------
    InputError
        There are no tokens, or a log-probability is NaN or above 0.

    Examples
    --------
    >>> float(perplexity(np.log([0.25, 0.25, 0.25])).round(6))
    4.0
    """
    logs = np.asarray(logprobs, dtype=np.float64)
    if logs.ndim == 0 or logs.shape[-1] == 0:
        raise InputError(f"perplexity: logprobs have shape {logs.shape}; expected (..., T) with at least one token")
    bad = np.argwhere(~(logs <= 0))
    if bad.size:
        subscript = ", ".join(str(i) for i in bad[0])
        raise InputError(
            f"perplexity: logprobs[{subscript}]={logs[tuple(bad[0])]}; expected log-probabilities, at most 0. "
            "Convert logits with log_softmax, probabilities with np.log"
        )
    with np.errstate(over="ignore"):
        result: NDArray[Any] = np.exp(-logs.mean(axis=-1))
    return result
