"""What a new process does with signals, unless whoever started it (nohup) or a library (Ray) has told it otherwise."""

from __future__ import annotations

import signal
from typing import Any

_USUAL: dict[int, Any] = {
    signal.SIGINT: signal.default_int_handler,
    signal.SIGTERM: signal.SIG_DFL,
    signal.SIGHUP: signal.SIG_DFL,
}


def take() -> dict[int, Any]:
    """Do as a new process does; returns what was done before."""
    return {number: signal.signal(number, handler) for number, handler in _USUAL.items()}


def put_back(before: dict[int, Any]) -> None:
    """Do as was done before `take`."""
    for number, handler in before.items():
        signal.signal(number, handler)
