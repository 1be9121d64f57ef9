"""Chains of logits processors, in the order in which they are applied."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ..arrays import Floats
from ..errors import InputError
from .checks import (
    checked_bias,
    checked_count,
    checked_finite,
    checked_logits,
    checked_repetition,
    checked_share,
    checked_temperature,
)
from .processors import (
    add_logit_bias,
    apply_temperature,
    min_p,
    presence_and_frequency_penalty,
    repetition_penalty,
    top_k,
    top_p,
)


@dataclass(frozen=True, repr=False)
class Processor:
    """One named step between a model's logits and the sampling of a token.

    Attributes
    ----------
    name : str
    value : object
        The setting, for display.
    function : callable
        Takes the logits (..., vocabulary) and the token ids so far (of the prompt and of the generated text), and returns
        logits of the same shape.

    Examples
    --------
    >>> def only_even(logits, token_ids):
    ...     return np.where(np.arange(logits.shape[-1]) % 2, -np.inf, logits)
    >>> apply_chain([1.0, 2.0, 3.0], [Processor("only", "even", only_even)]).tolist()
    [1.0, -inf, 3.0]
    """

    name: str
    value: Any
    function: Callable[[Floats, Sequence[int]], Floats]

    def __call__(self, logits: Floats, token_ids: Sequence[int]) -> Floats:
        return self.function(logits, token_ids)

    def __repr__(self) -> str:
        return f"{self.name}={self.value!r}"


def chain(
    *,
    logit_bias: Mapping[int, float] | None = None,
    repetition_penalty: float | None = None,
    presence_penalty: float | None = None,
    frequency_penalty: float | None = None,
    temperature: float | None = None,
    top_k: int | None = None,
    top_p: float | None = None,
    min_p: float | None = None,
) -> tuple[Processor, ...]:
    """The processors whose settings are given, always in the order of the parameters below.

    This is the order of transformers' ``generate``: the logit bias, then the penalties for repetition, then the temperature,
    then truncation. The order matters: the temperature changes which tokens the nucleus of `top_p` holds, and a bias changes
    the logits that a repetition penalty multiplies. For another order, concatenate several chains or build the tuple yourself.

    Parameters
    ----------
    logit_bias : mapping of token id to offset, optional
        See `add_logit_bias`. Whether an id is in the vocabulary is checked only when the chain is applied.
    repetition_penalty : float, optional
        See `repetition_penalty`.
    presence_penalty, frequency_penalty : float, optional
        See `presence_and_frequency_penalty`.
    temperature : float, optional
        See `apply_temperature`.
    top_k, top_p, min_p : int, float, float, optional
        See the functions of these names.

    Returns
    -------
    tuple of Processor

    Raises
    ------
    InputError
        A setting is one that its function would refuse. It is refused here, not when the chain is applied.

    Examples
    --------
    >>> chain(top_k=2, temperature=0.5)
    (temperature=0.5, top_k=2)
    >>> apply_chain([3.0, 1.0, 2.0], chain(top_k=2, temperature=0.5)).tolist()
    [6.0, -inf, 4.0]
    """
    settings = {
        "logit_bias": logit_bias,
        "repetition_penalty": repetition_penalty,
        "presence_penalty": presence_penalty,
        "frequency_penalty": frequency_penalty,
        "temperature": temperature,
        "top_k": top_k,
        "top_p": top_p,
        "min_p": min_p,
    }
    steps = []
    for name, value in settings.items():
        if value is not None:
            check, function = _STEPS[name]
            setting = check(value)
            steps.append(Processor(name, setting, partial(function, setting)))
    return tuple(steps)


def apply_chain(
    logits: ArrayLike,
    processors: Iterable[Callable[[Floats, Sequence[int]], Any]],
    token_ids: Sequence[int] = (),
) -> Floats:
    """Logits after all processors in turn; the result of each is checked.

    Parameters
    ----------
    logits : array-like (..., vocabulary)
    processors : iterable of callable
        Each a function of logits (..., vocabulary) and `token_ids`, from `chain` or written by you; see `Processor`.
    token_ids : sequence of int
        The tokens so far, of the prompt and of the text generated after it, as in transformers' repetition penalty.

    Returns
    -------
    ndarray (..., vocabulary)
        A new array, in float64.

    Raises
    ------
    InputError
        The logits cannot be used, or the result of a processor cannot be: another shape, NaN, ``+inf``, or a row with every
        token masked. The message names the processor.

    Examples
    --------
    >>> apply_chain([2.0, 1.0], chain(repetition_penalty=2.0), token_ids=[0]).tolist()
    [1.0, 1.0]
    """
    x = checked_logits(logits, "apply_chain").copy()  # a processor may write into its input
    for index, processor in enumerate(processors):
        if not callable(processor):
            raise InputError(
                f"apply_chain: processors[{index}]={processor!r} is not callable; expected a function of logits and token ids"
            )
        caller = f"apply_chain: {_display_name(processor)}"
        processed = processor(x, token_ids)
        if not isinstance(processed, np.ndarray):
            raise InputError(f"{caller}: returned {type(processed).__name__}; expected a numpy array of logits")
        if processed.shape != x.shape:
            raise InputError(
                f"{caller}: returned logits of shape {processed.shape}; expected {x.shape}, the shape of its input"
            )
        x = checked_logits(processed, caller, "its logits")
    return x


def _display_name(processor: Any) -> str:
    if isinstance(processor, Processor):
        return repr(processor)
    return str(getattr(processor, "__name__", None) or repr(processor))


# At module level, since inner functions cannot be pickled.


def _logit_bias(bias: Mapping[int, float], logits: Floats, token_ids: Sequence[int]) -> Floats:
    return add_logit_bias(logits, bias)


def _repetition_penalty(penalty: float, logits: Floats, token_ids: Sequence[int]) -> Floats:
    return repetition_penalty(logits, token_ids, penalty)


def _presence_penalty(presence: float, logits: Floats, token_ids: Sequence[int]) -> Floats:
    return presence_and_frequency_penalty(logits, token_ids, presence=presence)


def _frequency_penalty(frequency: float, logits: Floats, token_ids: Sequence[int]) -> Floats:
    return presence_and_frequency_penalty(logits, token_ids, frequency=frequency)


def _temperature(temperature: float, logits: Floats, token_ids: Sequence[int]) -> Floats:
    return apply_temperature(logits, temperature)


def _top_k(k: int, logits: Floats, token_ids: Sequence[int]) -> Floats:
    return top_k(logits, k)


def _top_p(p: float, logits: Floats, token_ids: Sequence[int]) -> Floats:
    return top_p(logits, p)


def _min_p(p: float, logits: Floats, token_ids: Sequence[int]) -> Floats:
    return min_p(logits, p)


_PENALTIES = "presence_and_frequency_penalty"

_STEPS: dict[str, tuple[Callable[[Any], Any], Callable[..., Floats]]] = {
    "logit_bias": (checked_bias, _logit_bias),
    "repetition_penalty": (checked_repetition, _repetition_penalty),
    "presence_penalty": (partial(checked_finite, caller=_PENALTIES, name="presence"), _presence_penalty),
    "frequency_penalty": (partial(checked_finite, caller=_PENALTIES, name="frequency"), _frequency_penalty),
    "temperature": (checked_temperature, _temperature),
    "top_k": (partial(checked_count, caller="top_k", name="k"), _top_k),
    "top_p": (partial(checked_share, caller="top_p"), _top_p),
    "min_p": (partial(checked_share, caller="min_p"), _min_p),
}
