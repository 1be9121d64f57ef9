"""Text without the passwords of the addresses in it: whoever quotes an address in a message need not know what it is."""

from __future__ import annotations

import re

HIDDEN = "***"
_WORD = re.compile(r"[^\s'\"]+")
_PARAMETER = re.compile(r"([?&;])([^\s=&;?]{1,60})=([^&;]+)")
_SECRET = re.compile(r"pass|pwd|secret|token|key|credential|sig(nature)?$|odbc_connect", re.IGNORECASE)
_EXAMPLE = "user:password"
"""Stands in messages that say how an address is written."""


def without_passwords(text: str) -> str:
    """A text in whose addresses ``***`` stands for a password, or for what is a key by the name of its parameter.

    An address begins with a scheme, a colon and at least one slash. The name of a user stays only where no password is with it,
    and on the web not even then: services take keys there.

    Examples
    --------
    >>> without_passwords("'https://me:secret@host/x.csv?sig=0af3&part=2' does not exist")
    "'https://***@host/x.csv?sig=***&part=2' does not exist"
    >>> without_passwords("sqlite:///shop.db, postgresql://me@host/db and http://localhost:8000/@me are shown")
    'sqlite:///shop.db, postgresql://me@host/db and http://localhost:8000/@me are shown'
    """
    return _WORD.sub(lambda word: _cleaned(word[0]), text) if ":/" in text else text


def _cleaned(word: str) -> str:
    start = word.find(":/")
    if start < 0:
        return word
    end = word.rfind("@")
    while 0 <= start < end:
        first = start + (3 if word.startswith("://", start) else 2)
        if _holds_secret(word, start, first, end):
            word = f"{word[:first]}{HIDDEN}{word[end:]}"
            break
        start = word.find(":/", first)
    return _PARAMETER.sub(
        lambda found: f"{found[1]}{found[2]}={HIDDEN}" if _SECRET.search(found[2]) else found[0], word
    )


def _holds_secret(word: str, start: int, first: int, end: int) -> bool:
    """Whether what stands before the last @ of an address is a user with a password, and not a host, a port and a path."""
    slash, colon = word.find("/", first, end), word.find(":", first, end)
    if colon < 0 or 0 <= slash < colon:
        return slash < 0 and word[:start].lower().endswith(("http", "https"))
    is_port = slash > 0 and word[colon + 1 : slash].isdecimal()
    return not is_port and word[first:end] != _EXAMPLE
