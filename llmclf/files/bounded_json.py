"""JSON from anybody: parsed, and known not to be nested deeper than whoever walks through it can follow."""

from __future__ import annotations

import json
from typing import Any

MOST_LEVELS = 100
"""The deepest nesting of lists and objects that is read; what is deeper is nobody's data."""


def parsed_json(text: str | bytes, **options: Any) -> Any:
    """The value of a JSON document.

    Parameters
    ----------
    text : str or bytes
    **options
        Those of `json.loads`.

    Raises
    ------
    json.JSONDecodeError
        It is not JSON.
    ValueError
        It is nested too deeply, or a value is none that Python reads (a number of a million digits).

    Examples
    --------
    >>> parsed_json('{"a": [1]}')
    {'a': [1]}
    >>> parsed_json("[" * 1_000_000)
    Traceback (most recent call last):
    ...
    ValueError: it is nested too deeply (more than 100 levels)
    """
    too_deep = f"it is nested too deeply (more than {MOST_LEVELS} levels)"
    try:
        value = json.loads(text, **options)
    except RecursionError:
        raise ValueError(too_deep) from None
    opened = text.count("[") + text.count("{") if isinstance(text, str) else text.count(b"[") + text.count(b"{")
    if opened > MOST_LEVELS and _is_too_deep(value):
        raise ValueError(too_deep)
    return value


def _is_too_deep(value: Any) -> bool:
    level = [value]
    for _ in range(MOST_LEVELS):
        level = [
            inner
            for one in level
            if isinstance(one, (list, dict))
            for inner in (one.values() if isinstance(one, dict) else one)
            if isinstance(inner, (list, dict))
        ]
        if not level:
            return False
    return True
