"""What reading and asking take, measured while they are done; unknown where nothing could be measured."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Protocol, TypeVar, runtime_checkable

from ..backends.base import CountsUsage
from ..backends.usage import Usage
from ..calibration.pool.prices import Price

T = TypeVar("T")
_PER = 1000


@runtime_checkable
class Charges(Protocol):
    """Counts what it asks of a server, as backends and `Embeddings` do."""

    @property
    def usage(self) -> Usage:
        """The counts so far."""
        ...


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
