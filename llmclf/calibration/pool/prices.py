"""What members of a pool cost: what was measured, and nothing where nothing could be."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass


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


@dataclass(frozen=True, eq=False)
class Prices:
    """What label scores and features take.

    Attributes
    ----------
    scores : Price
        Of the label scores.
    sets : mapping of feature set to Price
        Of reading each.
    from_answers : frozenset of str
        The feature sets that come with the label scores, such as hidden states.

    Examples
    --------
    >>> prices = Prices(Price(0.01), {"states": Price(0.0), "tfidf": Price(0.001)}, frozenset({"states"}))
    >>> [round(prices.of(False, sets).rows_per_second) for sets in (["tfidf"], ["states"], ["states", "tfidf"])]
    [1000, 100, 91]
    """

    scores: Price
    sets: Mapping[str, Price]
    from_answers: frozenset[str] = frozenset()

    def of(self, with_scores: bool, sets: Iterable[str]) -> Price:
        """Of what learns from some feature sets, and from the label scores or not; what is needed twice is read once.

        Parameters
        ----------
        with_scores : bool
        sets : iterable of str
        """
        named = list(sets)
        read = [self.sets[name] for name in named]
        asked = with_scores or bool(self.from_answers.intersection(named))
        return sum(read, self.scores if asked else Price(0.0))


def _sum(parts: Iterable[float | None]) -> float | None:
    known = list(parts)
    return None if not known or None in known else float(sum(part for part in known if part is not None))
