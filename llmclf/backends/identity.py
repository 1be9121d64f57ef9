"""Whether two descriptions of a model mean the same scores."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_PASSING = ("base_url", "probe", "tokenizer", "context_length")


def differing(then: Mapping[str, Any], now: Mapping[str, Any]) -> str | None:
    """The first fact on which scores depend, wherever the model is reached, in which two identities differ; None if in none.

    Examples
    --------
    >>> differing({"model": "a", "base_url": "http://one"}, {"model": "a", "base_url": "http://two"})
    >>> differing({"model": "a", "dtype": "float32"}, {"model": "a", "dtype": "bfloat16"})
    'dtype'
    """
    names = sorted({*then, *now} - set(_PASSING))
    return next((name for name in names if then.get(name) != now.get(name)), None)
