"""What is done to a model's logits before their softmax, at every token of a label: guidance, logit bias, temperature."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..arrays import Floats
from ..checks import check_keys, checked_pairs, is_finite_number, is_whole_number
from ..errors import InputError
from ..logits import add_logit_bias, apply_temperature, guide
from ..prompts.rendered import RenderedPrompt

_LOWEST_TEMPERATURE = 1e-300  # below it, log-probabilities leave the range of float64


@dataclass(frozen=True)
class Processing:
    """How the distribution at each token of a completion differs from the model's own, in this order.

    Attributes
    ----------
    guidance : float
        Weight of the prompt against `unconditional`, see `llmclf.logits.guide`; 1 is the prompt alone.
    unconditional : RenderedPrompt or None
        What the same completions follow without the row; needed where `guidance` is not 1.
    logit_bias : tuple of (text or token id, offset)
        What is added to the logit of one token, wherever it may come. A text is the token that it is directly after the
        prompt, space included.
    temperature : float
        Divides the logits; 1 leaves them.

    Examples
    --------
    >>> Processing.of(temperature=2.0, logit_bias={" yes": 1}).logit_bias
    ((' yes', 1.0),)
    >>> Processing.of() is None
    True
    """

    guidance: float = 1.0
    unconditional: RenderedPrompt | None = None
    logit_bias: tuple[tuple[str | int, float], ...] = ()
    temperature: float = 1.0

    @classmethod
    def of(cls, *, guidance: Any = 1.0, logit_bias: Any = None, temperature: Any = 1.0) -> Processing | None:
        """A user's values, checked; None where they change nothing.

        Raises
        ------
        InputError
            A value would make a label impossible, or is not a number.
        """
        if not is_finite_number(guidance):
            raise InputError(f"guidance={guidance!r}: expected a finite number; 1 is the prompt alone")
        if not is_finite_number(temperature) or temperature < _LOWEST_TEMPERATURE:
            raise InputError(
                f"temperature={temperature!r}: expected a finite number of at least {_LOWEST_TEMPERATURE:g}; at 0 every label "
                "but the likeliest would have the score -inf, and predict names that one at any temperature"
            )
        if not isinstance(logit_bias, Mapping | None):
            raise InputError(f"logit_bias={logit_bias!r}: expected a dict word or token id -> offset")
        offsets = []
        for key, offset in (logit_bias or {}).items():
            is_id = is_whole_number(key)
            if not (is_id or isinstance(key, str)) or key == "":
                raise InputError(f"logit_bias names {key!r}; expected a word, the text of a token or a token id")
            if not is_finite_number(offset):
                raise InputError(
                    f"logit_bias={{{key!r}: {offset!r}}}: expected a finite offset in nats, since a label must stay possible; "
                    "-100 all but bans a token"
                )
            if offset:
                offsets.append((int(key) if is_id else key, float(offset)))
        if guidance == 1 and temperature == 1 and not offsets:
            return None
        offsets.sort(key=lambda pair: (isinstance(pair[0], str), pair[0]))  # their order has no meaning
        return cls(float(guidance), None, tuple(offsets), float(temperature))

    @property
    def described(self) -> str:
        """The values that change something, as a user writes them."""
        values = {
            "guidance": None if self.guidance == 1 else self.guidance,
            "logit_bias": dict(self.logit_bias) or None,
            "temperature": None if self.temperature == 1 else self.temperature,
        }
        return ", ".join(f"{name}={value!r}" for name, value in values.items() if value is not None)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any] | None) -> Processing | None:
        """The inverse of `to_dict`; None stays None."""
        if values is None:
            return None
        check_keys(values, ["guidance", "logit_bias", "temperature"], "'processing'")
        return cls.of(**{**values, "logit_bias": dict(checked_pairs(values["logit_bias"], "logit_bias"))})

    def to_dict(self) -> dict[str, Any]:
        """The user's values as JSON keeps them; the prompt of guidance is part of the prompt."""
        return {
            "guidance": self.guidance,
            "logit_bias": [list(pair) for pair in self.logit_bias],
            "temperature": self.temperature,
        }


@dataclass(frozen=True)
class TokenProcessing:
    """A `Processing` in the tokens of one model.

    Attributes
    ----------
    guidance : float
    unconditional : tuple of int
        The tokens that the same completions follow without the row; empty where `guidance` is 1.
    logit_bias : tuple of (int, float)
    temperature : float
    """

    guidance: float = 1.0
    unconditional: tuple[int, ...] = ()
    logit_bias: tuple[tuple[int, float], ...] = ()
    temperature: float = 1.0

    def apply(self, logits: NDArray[Any], unconditional: NDArray[Any] | None = None) -> Floats:
        """Processed logits (..., vocabulary); where they are guided, `unconditional` are those without the row.

        Examples
        --------
        >>> TokenProcessing(logit_bias=((1, 1.0),), temperature=2.0).apply(np.array([0.0, 3.0])).tolist()
        [0.0, 2.0]
        """
        processed: Floats = np.asarray(logits, dtype=np.float64)
        if self.guidance != 1:
            assert unconditional is not None
            processed = guide(processed, unconditional, self.guidance)
        if self.logit_bias:
            processed = add_logit_bias(processed, dict(self.logit_bias))
        return apply_temperature(processed, self.temperature)
