"""A key that a server writes into what it answers: whole, in part, reversed or encoded, it is not shown."""

from __future__ import annotations

import base64
import functools
import json
import os
import string
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import repeat
from operator import itemgetter
from typing import Any, TypeVar

T = TypeVar("T")

HIDDEN = "[key]"
_RUN = 8  # characters that agree with the key; fewer may be chance
_PIECE, _STRIDE = 4, 5  # each run of eight characters holds one of the pieces that begin at these places
_FOLD = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)


def without_key(value: T, api_key_env: str | None) -> T:
    """A text or JSON value without whatever repeats the key in a variable of the environment.

    At least eight characters in a row that agree with the key, in either direction and whatever their case, are an echo of it;
    also where it is written as in an address, as base64, as hexadecimal digits or as JSON escapes it. Of a shorter key, all is.

    Examples
    --------
    >>> from unittest import mock
    >>> with mock.patch.dict(os.environ, SOME_KEY="sk-0123456789abcdef"):
    ...     without_key({"error": "no such key: sk-0123456...; FEDCBA9876, too"}, "SOME_KEY")
    {'error': 'no such key: [key]...; [key], too'}
    """
    key = _Secret(os.environ.get(api_key_env or ""))
    if not key.value:
        return value
    cleaned: T = _cleaned(value, _echoes(key))
    return cleaned


@dataclass(frozen=True, repr=False)
class _Secret:
    """What is never shown, though a traceback may show every variable: no variable holds it bare."""

    value: Any

    def __repr__(self) -> str:
        return HIDDEN


@dataclass(frozen=True, repr=False)
class _Echoes:
    """What an echo of a key looks like, in lower case.

    Attributes
    ----------
    runs : frozenset of str
        Each eight characters in a row of each form of the key; of a short key the forms.
    pieces : tuple of str
        Of which a text with an echo has at least one.
    size : int
        Of a run.
    """

    runs: frozenset[str]
    pieces: tuple[str, ...]
    size: int


@functools.lru_cache(maxsize=16)
def _echoes(key: _Secret) -> _Echoes:
    if len(key.value) < _RUN:
        short = _Secret(_both_ways(_Secret([key.value])))
        return _Echoes(frozenset(short.value), short.value, len(key.value))
    forms = _Secret(_both_ways(_Secret(_written(key))))
    return _Echoes(frozenset(_parts(forms, _RUN, 1)), tuple(_parts(forms, _PIECE, _STRIDE)), _RUN)


def _written(key: _Secret) -> set[str]:
    """The key as it may stand in an address, in JSON, in hexadecimal digits and in base64."""
    return {
        key.value,
        urllib.parse.quote(key.value, safe=""),
        json.dumps(key.value)[1:-1],
        key.value.encode().hex(),
        # What stands before the key, such as "Bearer ", shifts the digits; those at the ends depend on it.
        *(
            encode(b"\0" * n_before + key.value.encode()).decode().rstrip("=")[2 * bool(n_before) : -1]
            for encode in (base64.b64encode, base64.urlsafe_b64encode)
            for n_before in range(3)
        ),
    }


def _both_ways(forms: _Secret) -> tuple[str, ...]:
    """In lower case, forwards and backwards."""
    folded = _Secret(set(map(str.translate, forms.value, repeat(_FOLD))))
    return tuple(folded.value.union(map(itemgetter(slice(None, None, -1)), folded.value)))


def _parts(forms: _Secret, size: int, stride: int) -> Iterator[str]:
    """The parts of each form that begin at every `stride`-th place."""
    return (
        forms.value[n][i : i + size]
        for n in range(len(forms.value))
        for i in range(0, len(forms.value[n]) - size + 1, stride)
    )


def _cleaned(value: Any, echoes: _Echoes) -> Any:
    if isinstance(value, str):
        return _hidden(value, echoes) if len(value) >= echoes.size else value
    if isinstance(value, dict):
        return {_cleaned(name, echoes): _cleaned(inner, echoes) for name, inner in value.items()}
    return [_cleaned(inner, echoes) for inner in value] if isinstance(value, list) else value


def _hidden(text: str, echoes: _Echoes) -> str:
    folded = text.translate(_FOLD)
    if not any(piece in folded for piece in echoes.pieces):
        return text
    kept: list[str] = []
    end = 0  # of the last echo
    for i in range(len(text) - echoes.size + 1):
        if folded[i : i + echoes.size] in echoes.runs:
            if not kept or i > end:
                kept += [text[end:i], HIDDEN]
            end = i + echoes.size
    return "".join([*kept, text[end:]])
