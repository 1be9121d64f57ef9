"""What is logged of each request: who, what, how long and how it ended, as fields, and no text unless that was asked for."""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Callable, Mapping
from typing import Any

_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")

Write = Callable[[dict[str, Any]], None]


class EventLog:
    """Events as flat objects of JSON values.

    Parameters
    ----------
    write : callable
        Takes an event; what it raises is none of the request's business.
    shows_texts : bool
        Whether the bodies of requests are logged, too.
    """

    def __init__(self, write: Write, *, shows_texts: bool = False) -> None:
        self._write = write
        self.shows_texts = shows_texts

    def event(self, name: str, **values: Any) -> None:
        """Log an event; values that are None are left out."""
        said = {key: value for key, value in values.items() if value is not None}
        try:
            self._write({"event": name, "time": time.time(), **said})
        except (OSError, ValueError):
            return  # whoever reads the log is gone, and the work goes on


def request_id(headers: Mapping[str, str]) -> str:
    """The id that a client gave its request, if it is fit for logs and headers; else a new one.

    Examples
    --------
    >>> request_id({"x-request-id": "order-66"}), len(request_id({"x-request-id": "a\\nb"}))
    ('order-66', 32)
    """
    given = headers.get("x-request-id", "")
    return given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
