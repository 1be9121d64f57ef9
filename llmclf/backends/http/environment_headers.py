"""Headers that the environment adds to all requests, as OpenAI's own client reads them."""

from __future__ import annotations

import os
import re
from collections.abc import MutableMapping

from ...errors import InputError

CUSTOM = "OPENAI_CUSTOM_HEADERS"
"""The environment variable with any further headers, a line ``Name: value`` for each; they may be keys."""
_NAMED = {"OPENAI_ORG_ID": "OpenAI-Organization", "OPENAI_PROJECT_ID": "OpenAI-Project"}
VARIABLES = (CUSTOM, *_NAMED)
_HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+[ \t]*:[\t -~]*")  # RFC 9110, section 5


def add_environment_headers(headers: MutableMapping[str, str]) -> None:
    """Add them to the headers of a client. No variable here holds a value, since a traceback may show variables.

    Raises
    ------
    InputError
        What stands there is no header; the message does not repeat it.

    Examples
    --------
    >>> from unittest import mock
    >>> headers = {}
    >>> with mock.patch.dict("os.environ", {"OPENAI_PROJECT_ID": "proj_1"}, clear=True):
    ...     add_environment_headers(headers)
    >>> headers
    {'OpenAI-Project': 'proj_1'}
    """
    for variable, name in _NAMED.items():
        if os.environ.get(variable):
            if not _HEADER.fullmatch(f"{name}: {os.environ[variable]}"):
                raise InputError(f"{variable} holds characters that no header may have; set it anew")
            headers[name] = os.environ[variable]
    for number in range(len(_lines())):
        if _lines()[number].strip() and not _HEADER.fullmatch(_lines()[number].strip()):
            raise InputError(f"line {number + 1} of {CUSTOM} is no header; expected 'Name: value'")
    headers.update(
        (line.partition(":")[0].strip(), line.partition(":")[2].strip()) for line in _lines() if line.strip()
    )


def _lines() -> list[str]:
    return os.environ.get(CUSTOM, "").split("\n")
