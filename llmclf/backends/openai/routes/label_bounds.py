"""Bounds on the probability of a label from a server that shows only the likeliest tokens.

A label is a sequence of symbols: token ids where the server names its tokens by id, else the bytes of its text. Every shown token
that the rest of a label begins with leads on towards it; the tokens that are not shown hold the rest of the probability between
them, and none of them more than the least of the likeliest. So every label's probability lies in an interval that is computed,
not guessed: never dropped, never a number that stands for "very unlikely".

Two things are taken for granted where bytes are used: no more than two hidden tokens are written alike, and what follows a text
that the server is asked to continue follows it however it was cut into tokens.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

Symbols = tuple[int, ...]
"""Token ids, or bytes; `END` is the end of the answer where bytes are used."""

END = -1
TINY = sys.float_info.min
"""The smallest probability whose logarithm is taken."""
_SLACK = 1e-6  # of the probability not shown: what the rounding of those shown may hide
_ALIKE = 2  # most hidden tokens of the same bytes: a vocabulary may have "A" and the byte 0x41
_ENDS = 8  # most hidden tokens that end an answer
_ASCII = 0x80  # bytes from here on are parts of characters


@dataclass(frozen=True)
class Unclear:
    """A token that is shown, but not so that one could tell what it is: it counts in upper bounds alone.

    Attributes
    ----------
    logprob : float
    ways : tuple of tuples of int
        Each of these it may be.
    cut : tuple of int, optional
        It may also be these bytes and then some that hold a part of a character.
    """

    logprob: float
    ways: tuple[Symbols, ...] = ()
    cut: Symbols | None = None

    def may_lead(self, remaining: Symbols) -> bool:
        """Whether it may be the next token of a label."""
        if any(remaining[: len(way)] == way for way in self.ways):
            return True
        n = None if self.cut is None else len(self.cut)
        return n is not None and remaining[:n] == self.cut and any(byte >= _ASCII for byte in remaining[n:])


@dataclass(frozen=True)
class _Node:
    """What is known of the token after a prefix, or after one of several ways to it."""

    shown: tuple[tuple[Symbols, float], ...]
    unclear: tuple[Unclear, ...]
    rest: float
    least: float
    way: float | None


class LabelBounds:
    """Lower and upper bounds on the probabilities of labels, narrowed by every answer of the server.

    Parameters
    ----------
    labels : sequence of tuples of int
        Each with at least one symbol.
    is_tokens : bool
        The symbols are token ids, so that one token leads on from every prefix; else they are bytes, and the probabilities of all
        ways to cut a text into tokens add.

    Examples
    --------
    >>> import math
    >>> bounds = LabelBounds([(7,), (8, 9)], is_tokens=True)
    >>> bounds.add((), [((7,), math.log(0.6)), ((8,), math.log(0.3))])
    >>> [(round(low, 3), round(high, 3)) for low, high in bounds.intervals()]
    [(0.6, 0.6), (0.0, 0.3)]
    >>> bounds.next_prefix(tolerance=0.01)
    (8,)
    """

    def __init__(self, labels: Sequence[Symbols], *, is_tokens: bool) -> None:
        self._labels = [tuple(label) for label in labels]
        self._is_tokens = is_tokens
        self._ends = set(self._labels)
        self._inner = {label[:j] for label in self._labels for j in range(len(label))}
        self._nodes: dict[Symbols, _Node] = {}

    def add(
        self,
        prefix: Symbols,
        shown: Sequence[tuple[Symbols, float]],
        *,
        least: float | None = None,
        unclear: Sequence[Unclear] = (),
        way: float | None = None,
    ) -> None:
        """Take in the likeliest tokens after a prefix, each with its log-probability in nats.

        Parameters
        ----------
        prefix : tuple of int
        shown : sequence of pairs of a tuple of int and a float
            Every token once.
        least : float, optional
            No other token has a higher probability; by default, that of the least likely token shown.
        unclear : sequence of Unclear
            Tokens besides those in `shown`.
        way : float, optional
            They are seen after one of several ways to cut the prefix into tokens, whose probability this is, and say nothing of
            the others; by default, after all.
        """
        values = [value for _, value in shown] + [token.logprob for token in unclear]
        total = math.fsum(map(math.exp, values))
        self._nodes[prefix] = _Node(
            tuple((symbols, math.exp(value)) for symbols, value in shown),
            tuple(unclear),
            max(0.0, 1.0 - total) + _SLACK,
            math.exp(min(values, default=0.0)) if least is None else least,
            way,
        )

    def leads_on(self, prefix: Symbols) -> bool:
        """Whether some label goes on after this prefix, and nothing is known of that yet."""
        return prefix in self._inner and prefix not in self._nodes

    def intervals(self) -> list[tuple[float, float]]:
        """Lower and upper bound on the probability of each label."""
        reached, frontier = self._reach()
        found = []
        for label in self._labels:
            lower = reached.get(label, 0.0)
            # What stands at the label's own end is its probability already, even where another label goes on from there.
            before = [label[:j] for j in range(len(label))]
            upper = lower + math.fsum(frontier.get(prefix, 0.0) for prefix in before)
            for prefix in before:
                if prefix in self._nodes:
                    mass = self._seen(prefix, reached.get(prefix, 0.0))
                    upper += mass * self._missing(self._nodes[prefix], label[len(prefix) :])
            found.append((min(lower, 1.0), min(max(lower, upper), 1.0)))
        return found

    def is_decided(self) -> bool:
        """Whether one label is more probable than every other, wherever in the intervals the truth lies."""
        found = self.intervals()
        best = max(range(len(found)), key=lambda k: found[k])
        return all(high < found[best][0] for k, (_, high) in enumerate(found) if k != best)

    def next_prefix(self, tolerance: float, may_ask: Callable[[Symbols], bool] = lambda _: True) -> Symbols | None:
        """The prefix whose answer would tell most, of those that may be asked about; None where none would matter.

        While the most probable label is not decided, every prefix on the way to one that could be it matters. After that one
        matters whose probability is more than `tolerance` of that of all labels.
        """
        frontier = {p: m for p, m in self._reach()[1].items() if m > 0.0 and p not in self._nodes and may_ask(p)}
        if not frontier:
            return None
        found = self.intervals()
        prefix = max(frontier, key=lambda candidate: (frontier[candidate], candidate))
        if frontier[prefix] > tolerance * max(math.fsum(high for _, high in found), TINY):
            return prefix
        if self.is_decided():
            return None
        floor = max(low for low, _ in found)
        rivals = [self._labels[k] for k, (_, high) in enumerate(found) if high >= floor]
        useful = [p for p in frontier if any(len(p) < len(label) and label[: len(p)] == p for label in rivals)]
        return max(useful, key=lambda candidate: (frontier[candidate], candidate), default=None)

    def _reach(self) -> tuple[dict[Symbols, float], dict[Symbols, float]]:
        """Probability of each prefix and label that was seen, and of that part of each prefix after which nothing is known."""
        reached: dict[Symbols, float] = {(): 1.0}
        # Shorter prefixes first: whatever leads to a prefix is added up before it is passed on.
        for prefix in sorted(self._nodes, key=len):
            mass = self._seen(prefix, reached.get(prefix, 0.0))
            for symbols, probability in self._nodes[prefix].shown:
                after = (*prefix, *symbols)
                if after in self._inner or after in self._ends:
                    reached[after] = reached.get(after, 0.0) + mass * probability
        frontier = {p: m - self._seen(p, m) for p, m in reached.items() if p in self._inner}
        return reached, frontier

    def _seen(self, prefix: Symbols, mass: float) -> float:
        """The part of a prefix's probability after which the next token is known."""
        node = self._nodes.get(prefix)
        if node is None:
            return 0.0
        return mass if node.way is None else min(mass, node.way)

    def _missing(self, node: _Node, remaining: Symbols) -> float:
        """The most probability that tokens which were not shown, or not clearly, can have on the way to a label."""
        if self._is_tokens:
            possible = 0 if any(symbols == remaining[:1] for symbols, _ in node.shown) else 1
        elif remaining == (END,):
            possible = _ENDS
        else:
            # What is shown leaves room for a hidden token of the same bytes.
            possible = _ALIKE * (len(remaining) - (remaining[-1] == END))
        unclear = math.fsum(math.exp(token.logprob) for token in node.unclear if token.may_lead(remaining))
        return unclear + min(node.rest, possible * node.least)


def midpoint(low: float, high: float) -> float:
    """The score of a label whose probability lies between two bounds: the logarithm of their middle, in nats.

    The middle of the probabilities, not of the logarithms: a lower bound of zero has none.

    Examples
    --------
    >>> round(midpoint(0.0, 0.2), 4)
    -2.3026
    """
    return min(0.0, math.log(max(TINY, (low + high) / 2.0)))
