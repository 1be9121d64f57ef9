"""Bounds on the probability of a label from a server that shows only the likeliest tokens.

A label is a sequence of symbols: token ids if the server names its tokens by id, else the bytes of its text. Every shown token
that the rest of a label begins with leads towards that label. The tokens that are not shown share the rest of the probability,
and none of them has more than the least likely token shown. So every label's probability lies in an interval that is computed,
not guessed: it is never dropped, and never replaced by a number that stands for "very unlikely".

Two assumptions are made where bytes are used: at most two hidden tokens have the same bytes, and what follows a text that the
server continues does not depend on how the text was cut into tokens.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ...nested_labels import longer_labels

Symbols = tuple[int, ...]
"""Token ids, or bytes; among bytes, `END` is the end of the answer."""

END = -1
TINY = sys.float_info.min
"""The smallest probability whose logarithm is taken."""
_SLACK = 1e-6  # probability that the rounding of the shown tokens may hide
_ALIKE = 2  # hidden tokens of the same bytes, at most: a vocabulary may have "A" and the byte 0x41
_ENDS = 8  # hidden tokens that end an answer, at most
_ASCII = 0x80  # bytes from here up are parts of characters


@dataclass(frozen=True)
class Unclear:
    """A token that is shown in a form that may mean several tokens: it counts in upper bounds only.

    Attributes
    ----------
    logprob : float
    ways : tuple of tuples of int
        The symbols that it may stand for.
    cut : tuple of int, optional
        It may also be these bytes followed by others, among them a part of a character.
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
    """What is known about the token after a prefix, or after one of several ways to write it."""

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
        The symbols are token ids, and each token is one symbol; else they are bytes, and the probabilities of all ways to cut a
        text into tokens add up.
    excludes_longer : bool
        A label that begins another stands for the answers that do not go on to it; else for all that begin with it.

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

    def __init__(self, labels: Sequence[Symbols], *, is_tokens: bool, excludes_longer: bool = False) -> None:
        self._labels = [tuple(label) for label in labels]
        self._longer = longer_labels(tuple(self._labels)) if excludes_longer else ((),) * len(self._labels)
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
        """Add the likeliest tokens after a prefix, each with its log-probability in nats.

        Parameters
        ----------
        prefix : tuple of int
        shown : sequence of pairs of a tuple of int and a float
            Every token once.
        least : float, optional
            The largest probability that any other token can have; by default, that of the least likely token shown.
        unclear : sequence of Unclear
            Tokens that are not in `shown`.
        way : float, optional
            The probability of the one way to cut the prefix into tokens after which these were seen, if they say nothing about
            other ways; by default, they hold for all.
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
        """Whether some label continues after this prefix, and nothing is known about that yet."""
        return prefix in self._inner and prefix not in self._nodes

    @property
    def longest(self) -> int:
        """The number of symbols of the longest label."""
        return max(map(len, self._labels))

    def intervals(self) -> list[tuple[float, float]]:
        """Lower and upper bound on the probability of each label."""
        bounds = []
        for label, (low, high), longer in zip(
            self._labels, self._spans((), 1.0, self._labels), self._longer, strict=True
        ):
            if longer:
                # Of what is known to begin with the label: how much goes on to a longer one. Other ways to write that one do
                # not pass through the label.
                onward = self._spans(label, low, [self._labels[place] for place in longer])
                low, high = (
                    max(0.0, low - math.fsum(most for _, most in onward)),
                    max(0.0, high - math.fsum(least for least, _ in onward)),
                )
            bounds.append((min(low, 1.0), min(max(low, high), 1.0)))
        return bounds

    def _spans(self, start: Symbols, mass: float, labels: Sequence[Symbols]) -> list[tuple[float, float]]:
        """Lower and upper bound on the probability with which each label follows from a prefix that has a probability `mass`."""
        reached, frontier = self._reach(start, mass)
        spans = []
        for label in labels:
            lower = reached.get(label, 0.0)
            # What is known at the label's end is its probability, even if another label continues from there.
            before = [label[:j] for j in range(len(start), len(label))]
            upper = lower + math.fsum(frontier.get(prefix, 0.0) for prefix in before)
            for prefix in before:
                if prefix in self._nodes:
                    seen = self._seen(prefix, reached.get(prefix, 0.0))
                    upper += seen * self._missing(self._nodes[prefix], label[len(prefix) :])
            spans.append((lower, upper))
        return spans

    def is_decided(self) -> bool:
        """Whether one label is more probable than every other, wherever in its interval each probability lies."""
        bounds = self.intervals()
        best = max(range(len(bounds)), key=lambda k: bounds[k])
        return all(high < bounds[best][0] for k, (_, high) in enumerate(bounds) if k != best)

    def next_prefix(self, tolerance: float, may_ask: Callable[[Symbols], bool] = lambda _: True) -> Symbols | None:
        """The prefix whose answer would tell most, of those that may be asked about; None if none matters.

        As long as the most probable label is not decided, every prefix on the way to a candidate matters. After that, a prefix
        matters if its probability is more than `tolerance` of that of all labels.
        """
        frontier = {p: m for p, m in self._reach()[1].items() if m > 0.0 and p not in self._nodes and may_ask(p)}
        if not frontier:
            return None
        bounds = self.intervals()
        prefix = max(frontier, key=lambda candidate: (frontier[candidate], candidate))
        if frontier[prefix] > tolerance * max(math.fsum(high for _, high in bounds), TINY):
            return prefix
        if self.is_decided():
            return None
        floor = max(low for low, _ in bounds)
        rivals = [self._labels[k] for k, (_, high) in enumerate(bounds) if high >= floor]
        useful = [p for p in frontier if any(len(p) < len(label) and label[: len(p)] == p for label in rivals)]
        return max(useful, key=lambda candidate: (frontier[candidate], candidate), default=None)

    def _reach(self, start: Symbols = (), mass: float = 1.0) -> tuple[dict[Symbols, float], dict[Symbols, float]]:
        """The probability of each prefix and label that was seen, and that part of each prefix's after which nothing is known.

        Only what goes on from `start` is counted, which has the probability `mass`.
        """
        reached: dict[Symbols, float] = {start: mass}
        # Shorter prefixes first: the probability of a prefix must be complete before it is passed on.
        for prefix in sorted((node for node in self._nodes if node[: len(start)] == start), key=len):
            seen = self._seen(prefix, reached.get(prefix, 0.0))
            for symbols, probability in self._nodes[prefix].shown:
                after = (*prefix, *symbols)
                if after in self._inner or after in self._ends:
                    reached[after] = reached.get(after, 0.0) + seen * probability
        frontier = {p: m - self._seen(p, m) for p, m in reached.items() if p in self._inner}
        return reached, frontier

    def _seen(self, prefix: Symbols, mass: float) -> float:
        """The part of a prefix's probability after which the next token is known."""
        node = self._nodes.get(prefix)
        if node is None:
            return 0.0
        return mass if node.way is None else min(mass, node.way)

    def _missing(self, node: _Node, remaining: Symbols) -> float:
        """The largest probability that hidden and unclear tokens can have on the way to a label."""
        if self._is_tokens:
            possible = 0 if any(symbols == remaining[:1] for symbols, _ in node.shown) else 1
        elif remaining == (END,):
            possible = _ENDS
        else:
            # A hidden token may have the same bytes as one that is shown.
            possible = _ALIKE * (len(remaining) - (remaining[-1] == END))
        unclear = math.fsum(math.exp(token.logprob) for token in node.unclear if token.may_lead(remaining))
        return unclear + min(node.rest, possible * node.least)


def midpoint(low: float, high: float) -> float:
    """The score of a label whose probability lies between two bounds: the logarithm of their middle, in nats.

    It is the middle of the probabilities, not of the logarithms: a lower bound of zero has no logarithm.

    Examples
    --------
    >>> round(midpoint(0.0, 0.2), 4)
    -2.3026
    """
    return min(0.0, math.log(max(TINY, (low + high) / 2.0)))
