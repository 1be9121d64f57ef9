"""What was asked of a server and what it cost: counts, prices, and a limit that no request may pass."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ...errors import InputError

_KINDS = ("input", "cached", "output")


@dataclass
class Usage:
    """Counts over all requests of a backend, retries included.

    Attributes
    ----------
    requests, retries : int
        Requests sent, and how many of these repeated one that had failed.
    tokens_in, tokens_cached, tokens_out : int
        Tokens read, those of them that the server had in its cache, and tokens written, by the server's own count; what a
        server does not count is not in it.
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


def check_price(price: Any, max_cost: Any) -> None:
    """Refuse a price table or a limit that cannot be used.

    Raises
    ------
    InputError
    """
    if price is not None:
        unknown = [kind for kind in price if kind not in _KINDS] if isinstance(price, Mapping) else [price]
        if unknown or not {"input", "output"} <= set(price) or not all(map(_is_amount, price.values())):
            raise InputError(
                f"price={price!r}: expected {{'input': ..., 'output': ...}}, and 'cached' if it has a price of its own, each "
                "for a million tokens"
            )
    if max_cost is not None:
        if not _is_amount(max_cost) or max_cost == 0:
            raise InputError(f"max_cost={max_cost!r}: expected a positive amount in the unit of price")
        if price is None:
            raise InputError(f"max_cost={max_cost!r} needs price={{'input': ..., 'output': ...}} per million tokens")


def cost_of(price: Mapping[str, float] | None, tokens_in: int, tokens_out: int, tokens_cached: int = 0) -> float | None:
    """Cost of some tokens; None without a price table.

    Examples
    --------
    >>> cost_of({"input": 2.0, "output": 8.0}, tokens_in=500_000, tokens_out=125_000)
    2.0
    """
    if price is None:
        return None
    cached = price.get("cached", price["input"])
    total = (tokens_in - tokens_cached) * price["input"] + tokens_cached * cached + tokens_out * price["output"]
    return total / 1e6


def _is_amount(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value) and value >= 0
