"""Error messages without the texts that they are about: what is answered and logged never repeats what a client sent."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

_WINDOW = 8  # characters: a quotation of fewer says nothing
_MOST_CHARACTERS = 500
WITHHELD = "the model cannot score this row; the reason quotes it, and is therefore withheld"


def without_texts(message: str, values: Iterable[Any]) -> str:
    """The message, or a general one where it repeats eight characters or more of any text among the values.

    Examples
    --------
    >>> without_texts("the text has 9000 tokens, and the model reads 8192", ["a secret plan"])
    'the text has 9000 tokens, and the model reads 8192'
    >>> without_texts("the server refused 'a secret pl...'", ["a secret plan"])
    'the model cannot score this row; the reason quotes it, and is therefore withheld'
    """
    message = message if len(message) <= _MOST_CHARACTERS else f"{message[:_MOST_CHARACTERS]} ..."
    for text in _texts(values):
        if len(text) < _WINDOW:
            if len(text) > 2 and text in message:
                return WITHHELD
        elif any(message[at : at + _WINDOW] in text for at in range(len(message) - _WINDOW + 1)):
            return WITHHELD
    return message


def _texts(values: Iterable[Any]) -> Iterator[str]:
    for value in values:
        if isinstance(value, str):
            yield value
        elif isinstance(value, dict):
            yield from _texts(value.values())
        elif isinstance(value, list):
            yield from _texts(value)
