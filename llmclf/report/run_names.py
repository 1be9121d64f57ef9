"""What to call the two sides of a comparison: what tells one run from the other."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ..errors import InputError

_LONGEST = 60
# What people tell runs by, most telling first; the first part that differs names the sides.
_TELLING = ("model", "prompt", "calibrator", "bias", "scoring", "labels", "shots", "processing", "log_prior")


def run_names(names: Any, a: Mapping[str, Any], b: Mapping[str, Any] | None) -> tuple[str, str]:
    """The names of two runs.

    Parameters
    ----------
    names : sequence of two str, or None
        What the user calls them.
    a, b : mapping
        ``title`` and ``provenance`` of each report; None for rows without labels.

    Returns
    -------
    tuple of two str
        The user's names; else the titles if they differ; else the first part of the provenance that differs; else "A" and "B".

    Raises
    ------
    InputError
        `names` are not two different texts.

    Examples
    --------
    >>> runs = [{"title": "R", "provenance": {"prompt": {"template": text}}} for text in ("{{ text }}:", "Say: {{ text }}")]
    >>> run_names(None, *runs)
    ('“{{ text }}:”', '“Say: {{ text }}”')
    """
    if names is not None:
        pair = list(names) if isinstance(names, (list, tuple)) else []
        if len(pair) != 2 or not all(isinstance(name, str) and name.strip() for name in pair) or pair[0] == pair[1]:
            raise InputError(f"names={names!r}; expected two different names, such as ('short prompt', 'long prompt')")
        return pair[0], pair[1]
    if b is None:
        return "A", "B"
    if a["title"] != b["title"]:
        return _short(a["title"]), _short(b["title"])
    for part in _TELLING:
        one, other = a["provenance"].get(part), b["provenance"].get(part)
        if one != other:
            found = _quoted(_words(part, one, other)), _quoted(_words(part, other, one))
            if found[0] != found[1]:
                return found
    return "A", "B"


def _words(part: str, value: Any, other: Any) -> str:
    """A value in words: of a mapping, the entries in which it differs from the other."""
    if isinstance(value, Mapping):
        if "name" in value and (not isinstance(other, Mapping) or other.get("name") != value["name"]):
            return str(value["name"])
        against = other if isinstance(other, Mapping) else {}
        differing = [entry for name, entry in value.items() if against.get(name) != entry]
        return ", ".join(map(_text, differing)) or _text(value)
    if value is None or value == []:
        return f"no_{part}".replace("_", "\N{NO-BREAK SPACE}")
    return f"{len(value)} {part}" if isinstance(value, list) else _text(value)


def _text(value: Any) -> str:
    return " ".join((value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)).split())


def _quoted(name: str) -> str:
    """A name for a sentence: in quotation marks where it is more than a word."""
    return f"“{_short(name)}”" if " " in name else _short(name)


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST else f"{name[: _LONGEST - 1]}…"
