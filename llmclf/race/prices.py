"""What each contestant costs: measured while the race was held, and unknown where nothing could be measured."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, runtime_checkable

from ..backends.base import CountsUsage
from ..backends.usage import Usage

T = TypeVar("T")
_PER = 1000


@runtime_checkable
class Charges(Protocol):
    """Counts what it asks of a server, as backends and `Embeddings` do."""

    @property
    def usage(self) -> Usage:
        """The counts so far."""
        ...


@dataclass(frozen=True)
class Price:
    """What something takes; None where it is unknown.

    Attributes
    ----------
    seconds : float or None
        For a row, on this machine, when it was measured.
    charges : tuple of (cost, tokens)
        Of each server that was asked, for 1,000 rows: the cost in the unit of the price table, and the tokens read and written.

    Examples
    --------
    >>> both = Price(0.01, ((0.25, 1000.0),)) + Price(0.03)
    >>> both.rows_per_second, both.cost
    (25.0, 0.25)
    >>> (both + Price(0.01, ((None, 500.0),))).cost  # one server without a price table
    """

    seconds: float | None = None
    charges: tuple[tuple[float | None, float | None], ...] = ()

    @property
    def rows_per_second(self) -> float | None:
        """The rows that are done in a second."""
        return None if not self.seconds else 1.0 / self.seconds

    @property
    def cost(self) -> float | None:
        """Of all servers together; None without a server."""
        return _sum(cost for cost, _ in self.charges)

    @property
    def tokens(self) -> float | None:
        """Of all servers together; None without a server."""
        return _sum(tokens for _, tokens in self.charges)

    def __add__(self, other: Price) -> Price:
        """Both together: unknown where either is."""
        seconds = None if self.seconds is None or other.seconds is None else self.seconds + other.seconds
        return Price(seconds, (*self.charges, *other.charges))


def measured(work: Callable[[], T], n_rows: int, charges: Any = None) -> tuple[T, Price]:
    """The result of some work, and what it took for each of `n_rows` rows that it really asked about.

    Parameters
    ----------
    work : callable
    n_rows : int
        0 where all answers were known already, so that nothing is measured.
    charges : object, optional
        What counts the use of a server, if it does.
    """
    usage = charges.usage if isinstance(charges, (CountsUsage, Charges)) else None
    before = None if usage is None else (usage.requests, usage.tokens_in + usage.tokens_out, usage.cost)
    began = time.perf_counter()
    result = work()
    seconds = time.perf_counter() - began
    if not n_rows:
        return result, Price()
    if usage is None or before is None or charges.usage.requests == before[0]:
        return result, Price(seconds / n_rows)
    after = charges.usage
    tokens = after.tokens_in + after.tokens_out - before[1]
    cost = None if after.cost is None else _PER * (after.cost - (before[2] or 0.0)) / n_rows
    return result, Price(seconds / n_rows, ((cost, _PER * tokens / n_rows if tokens else None),))


def _sum(parts: Iterable[float | None]) -> float | None:
    known = list(parts)
    return None if not known or None in known else float(sum(part for part in known if part is not None))
