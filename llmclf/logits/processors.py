"""Logits processors: pure functions that change logits (..., vocabulary) before a token is sampled.

``-inf`` is a masked token, and stays one. All processors refuse logits with NaN, ``+inf`` or a row of only ``-inf``. A
processor that transformers has too gives the same result, and `llmclf.logits.chain` applies them in the same order.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..arrays import Floats
from .checks import (
    checked_bias,
    checked_count,
    checked_finite,
    checked_ids,
    checked_logits,
    checked_repetition,
    checked_result,
    checked_share,
    checked_temperature,
)
from .softmax import softmax


def apply_temperature(logits: ArrayLike, temperature: float) -> Floats:
    """Logits divided by a temperature, which makes their distribution flatter (above 1) or sharper (below 1).

    Parameters
    ----------
    logits : array-like (..., vocabulary)
    temperature : float
        At least 0. At 0 only the likeliest token is left (the one with the lowest id if several are equally likely); at
        infinity all tokens that are not masked are equally likely.

    Returns
    -------
    ndarray (..., vocabulary)
        ``logits / temperature``. If that would leave the range of float64, the row's largest logit is subtracted first,
        which does not change probabilities, and a token that is still out of range is masked: its probability is 0.

    Raises
    ------
    InputError
        The temperature is negative, NaN or not a number, or the logits cannot be used.

    Examples
    --------
    >>> apply_temperature([1.0, 2.0], 0.5).tolist()
    [2.0, 4.0]
    >>> apply_temperature([1.0, 2.0, 2.0], 0).tolist()
    [-inf, 2.0, -inf]
    """
    x = checked_logits(logits, "apply_temperature")
    t = checked_temperature(temperature)
    if t == 0:
        best = np.argmax(x, axis=-1, keepdims=True)
        return _keep(x, np.arange(x.shape[-1]) == best)
    if t == math.inf:
        return np.where(np.isneginf(x), -np.inf, 0.0)
    with np.errstate(over="ignore"):
        scaled: Floats = x / t
        overflow = (np.isinf(scaled) & ~np.isinf(x)).any(axis=-1, keepdims=True)
        if overflow.any():
            scaled = np.where(overflow, (x - x.max(axis=-1, keepdims=True)) / t, scaled)
    return scaled


def top_k(logits: ArrayLike, k: int) -> Floats:
    """The k likeliest tokens; all others are masked (Fan et al. 2018, "Hierarchical Neural Story Generation").

    Parameters
    ----------
    logits : array-like (..., vocabulary)
    k : int
        At least 1; a number above the vocabulary's size keeps all tokens.

    Returns
    -------
    ndarray (..., vocabulary)
        The logits of every token at least as likely as the k-th likeliest, so more than k tokens if there are ties, as in
        transformers. The others are ``-inf``.

    Raises
    ------
    InputError
        `k` is not a whole number of at least 1, or the logits cannot be used.

    Examples
    --------
    >>> top_k([3.0, 1.0, 2.0, 2.0], 2).tolist()
    [3.0, -inf, 2.0, 2.0]
    """
    x = checked_logits(logits, "top_k")
    n = x.shape[-1]
    kth = n - min(checked_count(k, "top_k", "k"), n)
    return _keep(x, x >= np.partition(x, kth, axis=-1)[..., kth, None])


def top_p(logits: ArrayLike, p: float) -> Floats:
    """The nucleus: the smallest set of likeliest tokens whose probability reaches `p`; all others are masked.

    Tokens are sorted by decreasing probability, ties by increasing id. A token is kept if the tokens before it have a total
    probability below `p` (Holtzman et al. 2020, "The Curious Case of Neural Text Degeneration", equation 2).

    Parameters
    ----------
    logits : array-like (..., vocabulary)
    p : float
        Above 0 and at most 1; at 1 every token is kept.

    Returns
    -------
    ndarray (..., vocabulary)
        The logits of the nucleus; the others are ``-inf``.

    Raises
    ------
    InputError
        `p` is outside (0, 1], or the logits cannot be used.

    Examples
    --------
    >>> top_p(np.log([0.2, 0.5, 0.3]), 0.7).round(4).tolist()
    [-inf, -0.6931, -1.204]
    """
    x = checked_logits(logits, "top_p")
    share = checked_share(p, "top_p")
    if share == 1:
        return x.copy()  # rounding could take the sum to 1 before the last token
    order = np.argsort(-x, axis=-1, kind="stable")
    probabilities = np.take_along_axis(softmax(x), order, axis=-1)
    before = np.zeros_like(x)
    np.cumsum(probabilities[..., :-1], axis=-1, out=before[..., 1:])
    in_nucleus = np.empty(x.shape, dtype=bool)
    np.put_along_axis(in_nucleus, order, before < share, axis=-1)
    return _keep(x, in_nucleus)


def min_p(logits: ArrayLike, p: float) -> Floats:
    """The tokens with at least `p` times the probability of the likeliest; all others are masked.

    In logits: those at most ``-log(p)`` below the largest (Nguyen et al. 2024, "Turning Up the Heat: Min-p Sampling
    for Creative and Coherent LLM Outputs").

    Parameters
    ----------
    logits : array-like (..., vocabulary)
    p : float
        Above 0 and at most 1; at 1 only the likeliest token and any equally likely ones are left.

    Returns
    -------
    ndarray (..., vocabulary)

    Raises
    ------
    InputError
        `p` is outside (0, 1], or the logits cannot be used.

    Examples
    --------
    >>> min_p(np.log([0.6, 0.3, 0.1]), 0.25).round(4).tolist()
    [-0.5108, -1.204, -inf]
    """
    x = checked_logits(logits, "min_p")
    share = checked_share(p, "min_p")
    with np.errstate(over="ignore"):
        return _keep(x, x - x.max(axis=-1, keepdims=True) >= math.log(share))


def add_logit_bias(logits: ArrayLike, bias: Mapping[int, float]) -> Floats:
    """Logits with an offset added to some tokens (``logit_bias`` of OpenAI's API, without its limits of -100 and 100).

    Parameters
    ----------
    logits : array-like (..., vocabulary)
    bias : mapping of token id to offset
        In nats: the odds against any other token become ``exp(offset)`` times what they were. ``-inf`` bans a token.

    Returns
    -------
    ndarray (..., vocabulary)

    Raises
    ------
    InputError
        An id is not a token, an offset is NaN or ``+inf``, every token of a row would be masked, or the logits cannot be used.

    Examples
    --------
    >>> add_logit_bias([1.0, 2.0, 3.0], {0: 5, 2: -np.inf}).tolist()
    [6.0, 2.0, -inf]
    """
    x = checked_logits(logits, "add_logit_bias").copy()
    for token, offset in checked_bias(bias, x.shape[-1]).items():
        with np.errstate(over="ignore"):
            x[..., token] += offset
    return checked_result(x, "add_logit_bias", "leave a token with a finite logit unbanned, and keep offsets moderate")


def repetition_penalty(logits: ArrayLike, token_ids: ArrayLike, penalty: float) -> Floats:
    """Make the tokens of `token_ids` less likely: positive logits are divided by `penalty`, negative ones multiplied by it.

    Each token counts once, however often it occurs (Keskar et al. 2019, "CTRL", section 4.1, with the later distinction of
    the sign). Unlike every other processor here, it is not invariant to adding a constant to all logits. So apply it to the
    model's own logits, before any processor that shifts them.

    Parameters
    ----------
    logits : array-like (..., vocabulary)
    token_ids : array-like of int (m,) or (..., m)
        The same for every row, or those of each row. Transformers includes the prompt. If empty, nothing changes.
    penalty : float
        Above 0 and finite. 1 changes nothing; below 1 makes repetitions likelier.

    Returns
    -------
    ndarray (..., vocabulary)

    Raises
    ------
    InputError
        An id is not a token, the shapes do not fit, the penalty cannot be used or leaves no finite logit, or the logits cannot
        be used.

    Examples
    --------
    >>> repetition_penalty([2.0, -2.0, 1.0], [0, 1, 1], 2.0).tolist()
    [1.0, -4.0, 1.0]
    """
    x = checked_logits(logits, "repetition_penalty")
    factor = checked_repetition(penalty)
    occurs = _counts(token_ids, x, "repetition_penalty") > 0
    with np.errstate(over="ignore"):
        penalised = np.where(occurs, np.where(x < 0, x * factor, x / factor), x)
    return checked_result(
        penalised, "repetition_penalty", f"penalty={penalty!r} is too extreme for them; use one near 1"
    )


def presence_and_frequency_penalty(
    logits: ArrayLike, token_ids: ArrayLike, *, presence: float = 0.0, frequency: float = 0.0
) -> Floats:
    """Logits less ``frequency`` for each occurrence of a token in `token_ids`, and less ``presence`` if it occurs at all.

    ``logit - count * frequency - [count > 0] * presence``, as OpenAI's documentation of both penalties defines them.

    Parameters
    ----------
    logits : array-like (..., vocabulary)
    token_ids : array-like of int (m,) or (..., m)
        The same for every row, or those of each row.
    presence, frequency : float
        In nats, finite; negative ones make repetitions likelier.

    Returns
    -------
    ndarray (..., vocabulary)

    Raises
    ------
    InputError
        An id is not a token, the shapes do not fit, a penalty is not finite or leaves no finite logit, or the logits cannot be
        used.

    Examples
    --------
    >>> presence_and_frequency_penalty([1.0, 1.0, 1.0], [0, 0, 1], presence=0.5, frequency=0.25).tolist()
    [0.0, 0.25, 1.0]
    """
    caller = "presence_and_frequency_penalty"
    x = checked_logits(logits, caller)
    presence_nats = checked_finite(presence, caller, "presence")
    frequency_nats = checked_finite(frequency, caller, "frequency")
    counts = _counts(token_ids, x, caller)
    with np.errstate(over="ignore", invalid="ignore"):
        penalised = np.where(np.isneginf(x), x, x - counts * frequency_nats - (counts > 0) * presence_nats)
    return checked_result(
        penalised, caller, f"presence={presence!r} and frequency={frequency!r} are too extreme for them"
    )


def _keep(x: Floats, kept: NDArray[Any]) -> Floats:
    return np.where(kept, x, -np.inf)


def _counts(token_ids: ArrayLike, x: Floats, caller: str) -> NDArray[np.intp]:
    """How often each token is among `token_ids`: (vocabulary,) or the shape of `x`."""
    ids, n = checked_ids(token_ids, x.shape, caller), x.shape[-1]
    if ids.ndim == 1:
        return np.bincount(ids, minlength=n)
    rows = ids.reshape(math.prod(ids.shape[:-1]), ids.shape[-1])
    flat_ids = rows + n * np.arange(len(rows))[:, None]
    return np.bincount(flat_ids.ravel(), minlength=x.size).reshape(x.shape)
