"""Checks of logits, token ids and processors' settings; every error starts with the name of the function called."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..arrays import Floats
from ..checks import check_whole_number, is_number, is_whole_number
from ..errors import InputError


def checked_logits(logits: ArrayLike, caller: str, name: str = "logits") -> Floats:
    """`logits` in float64, every row of which can be sampled from; not a copy.

    Raises
    ------
    InputError
        They are not numbers, the vocabulary is empty, or there is NaN, ``+inf``, or a row of only ``-inf``.

    Examples
    --------
    >>> checked_logits([1, -np.inf], "top_k").tolist()
    [1.0, -inf]
    """
    try:
        x: Floats = np.asarray(logits, dtype=np.float64)
    except (TypeError, ValueError):
        raise InputError(
            f"{caller}: {name} are not an array of numbers; expected one of shape (..., vocabulary)"
        ) from None
    if x.ndim == 0 or x.shape[-1] == 0:
        raise InputError(f"{caller}: {name} have shape {x.shape}; expected (..., vocabulary) with at least one token")
    # One pass is enough: the maximum is NaN, +inf or -inf exactly if a row cannot be used.
    top = x.max(axis=-1)
    if not np.isfinite(top).all():
        raise InputError(f"{caller}: {_unusable(x, top, name)}")
    return x


def checked_result(processed: Floats, caller: str, cure: str) -> Floats:
    """`processed` itself, if every row of it can be sampled from; otherwise the error ends with the `cure`."""
    top = processed.max(axis=-1)
    if np.isfinite(top).all():
        return processed
    index = np.argwhere(~np.isfinite(top))[0]
    problem = "all tokens masked" if top[tuple(index)] == -np.inf else "a logit that is not below +inf"
    raise InputError(f"{caller}: would leave {problem}{_of_row(index)}; {cure}")


def checked_ids(token_ids: ArrayLike, shape: tuple[int, ...], caller: str) -> NDArray[np.intp]:
    """`token_ids` as an array of one dimension, or with the leading dimensions of `shape` (that of the logits) and one more.

    Raises
    ------
    InputError
        The shape is another one, ids are not whole numbers, or an id is outside the vocabulary of ``shape[-1]`` tokens.

    Examples
    --------
    >>> checked_ids([2, 0], (5, 3), "repetition_penalty").tolist()
    [2, 0]
    """
    try:
        ids = np.asarray(token_ids)
    except ValueError:
        raise InputError(
            f"{caller}: token_ids are ragged; expected the same number for every row of the logits"
        ) from None
    if ids.ndim != 1 and (ids.ndim == 0 or ids.shape[:-1] != shape[:-1]):
        raise InputError(
            f"{caller}: token_ids have shape {ids.shape}; expected one dimension, or {shape[:-1]} and one more, since the "
            f"logits have shape {shape}"
        )
    return ids_in_vocabulary(ids, shape[-1], caller)


def ids_in_vocabulary(ids: NDArray[Any], n_tokens: int, caller: str) -> NDArray[np.intp]:
    """`ids` as indices, if each is a token of a vocabulary of `n_tokens`."""
    if ids.size == 0:
        return ids.astype(np.intp)
    if ids.dtype.kind not in "iu":
        raise InputError(
            f"{caller}: token_ids are of type {ids.dtype}; expected whole numbers, the positions in the vocabulary"
        )
    outside = ids[(ids < 0) | (ids >= n_tokens)]
    if outside.size:
        raise InputError(f"{caller}: token id {outside[0]} is not in the vocabulary; expected 0 to {n_tokens - 1}")
    return ids.astype(np.intp)


def checked_temperature(temperature: Any) -> float:
    """The temperature as a float of at least 0; infinity is allowed."""
    t = _number(temperature)
    if not t >= 0:
        raise InputError(
            f"apply_temperature: temperature={temperature!r}; expected a number of at least 0. 0 keeps the likeliest token, "
            "1 changes nothing, and infinity makes all equally likely"
        )
    return t


def checked_count(value: Any, caller: str, name: str) -> int:
    """`value` as an int of at least 1."""
    return check_whole_number(f"{caller}: {name}", value, 1)


def checked_share(p: Any, caller: str) -> float:
    """A probability above 0 and at most 1, as a float."""
    share = _number(p)
    if not 0 < share <= 1:
        raise InputError(
            f"{caller}: p={p!r}; expected a number above 0 and at most 1; leave {caller} out to keep every token"
        )
    return share


def checked_repetition(penalty: Any) -> float:
    """A factor above 0, as a float."""
    factor = _number(penalty)
    if not 0 < factor < math.inf:
        raise InputError(
            f"repetition_penalty: penalty={penalty!r}; expected a finite number above 0. 1 changes nothing, and a larger "
            "number makes repetitions less likely"
        )
    return factor


def checked_finite(value: Any, caller: str, name: str) -> float:
    """Any finite number, as a float."""
    number = _number(value)
    if not math.isfinite(number):
        raise InputError(f"{caller}: {name}={value!r}; expected a finite number")
    return number


def checked_bias(bias: Any, n_tokens: int | None = None) -> dict[int, float]:
    """A logit bias as a new dict; ids are checked against the vocabulary if its size is given.

    Examples
    --------
    >>> checked_bias({np.int64(3): 1})
    {3: 1.0}
    """
    if not isinstance(bias, Mapping):
        raise InputError(f"add_logit_bias: bias={bias!r}; expected a mapping, {{token id: offset}}")
    offsets = {}
    for token, offset in bias.items():
        if not is_whole_number(token):
            raise InputError(
                f"add_logit_bias: token id {token!r} in bias; expected a whole number{_vocabulary(n_tokens)}"
            )
        if token < 0 or (n_tokens is not None and token >= n_tokens):
            raise InputError(
                f"add_logit_bias: token id {token} in bias is not a token; expected 0 or more{_vocabulary(n_tokens)}"
            )
        number = _number(offset)
        if not number < math.inf:
            raise InputError(
                f"add_logit_bias: bias[{token}]={offset!r}; expected a finite offset in nats, or -inf to ban the token"
            )
        offsets[int(token)] = number
    return offsets


def _vocabulary(n_tokens: int | None) -> str:
    return "" if n_tokens is None else f", below the vocabulary's size of {n_tokens}"


def _number(value: Any) -> float:
    """The value as a float; NaN if it is not a real number."""
    if not is_number(value):
        return math.nan
    try:
        return float(value)
    except OverflowError:
        return math.nan


def _unusable(x: Floats, top: Floats, name: str) -> str:
    index = np.argwhere(~np.isfinite(top))[0]
    if top[tuple(index)] == -np.inf:
        return f"{name} are all -inf{_of_row(index)}, so no token is possible; leave at least one finite"
    position = np.argwhere(~(x < np.inf))[0]
    subscript = ", ".join(str(i) for i in position)
    return (
        f"{name}[{subscript}]={x[tuple(position)]}; expected finite logits, or -inf for masked tokens. "
        "Leave out rows that were not scored"
    )


def _of_row(index: NDArray[Any]) -> str:
    if not index.size:
        return ""
    return f" in row {index[0] if index.size == 1 else tuple(index.tolist())}"
