"""What requests to a server cost: the price table, and the limit that no request may pass."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...checks import is_finite_number
from ...errors import InputError
from ..usage import Estimate, Usage

__all__ = ["Estimate", "Usage", "check_price", "cost_of", "parse_price"]

_KINDS = ("input", "cached", "output")


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


def parse_price(text: str) -> dict[str, float]:
    """A price table from a command line: ``IN,OUT`` or ``IN,OUT,CACHED`` per million tokens.

    Raises
    ------
    InputError

    Examples
    --------
    >>> parse_price("0.10,0.40")
    {'input': 0.1, 'output': 0.4}
    """
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        values = []
    if len(values) not in (2, 3):
        raise InputError(f"--price {text!r}: expected two or three numbers, such as 0.10,0.40")
    return dict(zip(("input", "output", "cached"), values, strict=False))


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
    # Python's numbers alone: the price is kept as it was given, and JSON cannot write numpy's integers.
    return isinstance(value, (int, float)) and is_finite_number(value) and value >= 0
