"""Bounds on the probability of a label from a server that shows only the likeliest tokens.

A label is a sequence of symbols: token ids where the server names its tokens by id, else the bytes of its text. Every shown token
that the rest of a label begins with leads on towards it; the tokens that are not shown hold the rest of the probability between
them, and none of them more than the least that is shown. So every label's probability lies in an interval that is computed, not
guessed: never dropped, never zero, never a number that stands for "very unlikely".
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

Symbols = tuple[int, ...]
"""Token ids, or bytes; `END` is the end of the answer where bytes are used."""

END = -1
_SLACK = 1e-6  # of the probability not shown: what the rounding of those shown may hide


@dataclass(frozen=True)
class _Node:
    """What is known of the token after a prefix."""

    shown: tuple[tuple[Symbols, float], ...]
    rest: float
    least: float


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
        self._inner = {label[:j] for label in self._labels for j in range(len(label))}
        self._nodes: dict[Symbols, _Node] = {}

    def add(self, prefix: Symbols, shown: Sequence[tuple[Symbols, float]], k: int | None = None) -> None:
        """Take in the likeliest tokens after a prefix, each with its log-probability in nats.

        With `k`, the k likeliest are among them; whatever else is shown (the token that was drawn) says nothing of the others.
        """
        total = math.fsum(math.exp(value) for _, value in shown)
        likeliest = sorted((math.exp(value) for _, value in shown), reverse=True)[:k]
        self._nodes[prefix] = _Node(
            tuple((symbols, math.exp(value)) for symbols, value in shown if symbols),
            max(0.0, 1.0 - total) + _SLACK,
            likeliest[-1] if likeliest else 1.0,
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
            upper = lower + math.fsum(mass for prefix, mass in frontier.items() if label[: len(prefix)] == prefix)
            for prefix, node in self._nodes.items():
                if prefix != label and label[: len(prefix)] == prefix:
                    upper += reached.get(prefix, 0.0) * self._missing(node, label[len(prefix) :])
            found.append((min(lower, 1.0), min(max(lower, upper), 1.0)))
        return found

    def is_decided(self) -> bool:
        """Whether one label is more probable than every other, wherever in the intervals the truth lies."""
        found = self.intervals()
        best = max(range(len(found)), key=lambda k: found[k])
        return all(high < found[best][0] for k, (_, high) in enumerate(found) if k != best)

    def next_prefix(self, tolerance: float) -> Symbols | None:
        """The prefix whose answer would tell most; None where none would matter.

        While the most probable label is not decided, every prefix on the way to one that could be it matters. After that one
        matters whose probability is more than `tolerance` of that of all labels.
        """
        _, frontier = self._reach()
        if not frontier:
            return None
        found = self.intervals()
        prefix = max(frontier, key=lambda candidate: (frontier[candidate], candidate))
        if frontier[prefix] > tolerance * max(math.fsum(high for _, high in found), 1e-300):
            return prefix
        if self.is_decided():
            return None
        floor = max(low for low, _ in found)
        rivals = [self._labels[k] for k, (_, high) in enumerate(found) if high >= floor]
        useful = [p for p in frontier if any(label[: len(p)] == p for label in rivals)]
        return max(useful, key=lambda candidate: (frontier[candidate], candidate), default=None)

    def _reach(self) -> tuple[dict[Symbols, float], dict[Symbols, float]]:
        """Probability of each prefix and label that was seen, and of those prefixes after which nothing is known."""
        reached: dict[Symbols, float] = {(): 1.0}
        # Shorter prefixes first: whatever leads to a prefix is added up before it is passed on.
        for prefix in sorted(self._nodes, key=len):
            mass = reached.get(prefix, 0.0)
            for symbols, probability in self._nodes[prefix].shown:
                after = (*prefix, *symbols)
                if after in self._inner or after in self._labels:
                    reached[after] = reached.get(after, 0.0) + mass * probability
        frontier = {p: m for p, m in reached.items() if p in self._inner and p not in self._nodes}
        return reached, frontier

    def _missing(self, node: _Node, remaining: Symbols) -> float:
        """The most probability that tokens which were not shown can have on the way to a label."""
        shown = sum(remaining[: len(symbols)] == symbols for symbols, _ in node.shown)
        possible = 1 if self._is_tokens else len(remaining)
        return min(node.rest, max(0, possible - shown) * node.least)


def midpoint(low: float, high: float) -> float:
    """The score of a label whose probability lies between two bounds: the logarithm of their middle, in nats.

    The middle of the probabilities, not of the logarithms: a lower bound of zero has none.

    Examples
    --------
    >>> round(midpoint(0.0, 0.2), 4)
    -2.3026
    """
    return min(0.0, math.log((low + high) / 2.0))
