"""What was asked of a model and what it took: counts of a backend, and an estimate of what is still to ask."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass
class Usage:
    """Counts over all requests of a backend, retries included.

    Attributes
    ----------
    requests, retries : int
        Requests sent, and how many of these repeated one that had failed.
    tokens_in, tokens_cached, tokens_out : int
        Tokens read, those of them that the server had in its cache, and tokens written, by the server's own count. What a
        server does not count is missing.
    cost : float or None
        By the price table given; None without one. Requests whose reply was lost are counted at what they could have cost.
    """

    requests: int = 0
    retries: int = 0
    tokens_in: int = 0
    tokens_cached: int = 0
    tokens_out: int = 0
    cost: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class Estimate:
    """What labelling some rows would take; nothing was sent to find out.

    Attributes
    ----------
    route : str
        The way that was assumed; see the backend.
    rows, requests : int
    tokens_in, tokens_out : int
        Without what the server's own cache saves.
    cost : float or None
        None without a price table.
    is_counted : bool
        The tokens were counted with the model's tokenizer; else there are about four bytes of text to a token.
    """

    route: str
    rows: int
    requests: int
    tokens_in: int
    tokens_out: int
    cost: float | None
    is_counted: bool
