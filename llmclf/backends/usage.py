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

    def __add__(self, other: Usage) -> Usage:
        """Of two backends together; the cost is that of those that know theirs."""
        costs = [one.cost for one in (self, other) if one.cost is not None]
        counts = {name: value + getattr(other, name) for name, value in self.to_dict().items() if name != "cost"}
        return Usage(**counts, cost=sum(costs) if costs else None)

    def since(self, before: Usage) -> Usage:
        """What was added since an earlier time.

        Examples
        --------
        >>> now = Usage(requests=3, cost=0.5) + Usage(requests=2)
        >>> now.since(Usage(requests=1, cost=0.25))
        Usage(requests=4, retries=0, tokens_in=0, tokens_cached=0, tokens_out=0, cost=0.25)
        """
        counts = {name: value - getattr(before, name) for name, value in self.to_dict().items() if name != "cost"}
        return Usage(**counts, cost=None if self.cost is None else self.cost - (before.cost or 0.0))


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
    is_at_most : bool
        The route asks on only where an answer leaves something open: this is what it could take at most.
    is_assumed : bool
        The server has not been asked anything yet, so that its route is a guess.
    """

    route: str
    rows: int
    requests: int
    tokens_in: int
    tokens_out: int
    cost: float | None
    is_counted: bool
    is_at_most: bool = False
    is_assumed: bool = False

    def __add__(self, other: Estimate) -> Estimate:
        """Of two models that are asked about the same rows.

        Examples
        --------
        >>> Estimate("a", 9, 9, 90, 9, 0.5, True) + Estimate("b", 8, 1, 40, 0, 0.25, False)  # doctest: +ELLIPSIS
        Estimate(route='a + b', rows=9, requests=10, tokens_in=130, tokens_out=9, cost=0.75, is_counted=False, ...)
        """
        return Estimate(
            f"{self.route} + {other.route}",
            max(self.rows, other.rows),
            self.requests + other.requests,
            self.tokens_in + other.tokens_in,
            self.tokens_out + other.tokens_out,
            None if self.cost is None or other.cost is None else self.cost + other.cost,
            self.is_counted and other.is_counted,
            self.is_at_most or other.is_at_most,
            self.is_assumed or other.is_assumed,
        )
