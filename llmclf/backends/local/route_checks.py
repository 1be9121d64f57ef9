"""Which way of computing a score is exact for a model, found by comparing each with plain calls at the length of what is asked.

No list of architectures could be complete, and no few tokens tell what an attention window of 4096 does. So each way is compared
with plain calls where it is used: for a row of n tokens at the next of some rising lengths, at least n and at most twice as long,
beside a short row. This happens when the first such row is asked, so it costs what some rows of that length do. Lengths that the
configuration names (a window, the length from which positions are counted differently) are among them: rows up to there keep the
fast way where longer ones lose it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import count, islice, pairwise, product
from typing import Any

import numpy as np

from ...errors import ModelError
from ..tokens.codec import TokenRow

TOLERANCE = 1e-4
"""Nats by which no token's log-probability may differ from that of a plain call."""

ROUTES = ("trie", "pairs", "single")
"""From the fastest to the definition: the token trie; batches of (prompt, completion) pairs of one length; one pair at a time."""

OPENING_LENGTH = 32
"""Tokens of the rows that are compared when a model is opened."""

LONGEST_PIECE = 2048
"""Tokens of one text that the trie reads at once, at most."""

_SHORTEST = 8
_CHECK_TEXTS = (
    "The old cat sat on the mat near the door, and the dog ran to the park before it came home again.",
    " Nobody had told her that the shop would be closed on Monday, so she walked back in the rain.",
    " In 1994 the team won 3 of 17 games; the year after, with a new coach, it won the cup.",
    " What do you think of the film? I liked the music, but the story was thin and far too long.",
)
_LENGTH_NAMES = re.compile(
    r"window|chunk|block|position|length|context|seq|scale|topk|top_k|stride|compress|distance|local|span"
)
_LONGEST_NAMED = 1 << 24
_PIECES = (4, 8, 16, 32)
_MOST_COMPLETIONS = 512  # of one prompt, of many that stand side by side

Scorer = Callable[[Sequence[TokenRow], int], Iterable[tuple[int, list[np.ndarray]]]]


Reader = Callable[[Sequence[Sequence[int]], bool], np.ndarray]
"""Log-probabilities (vocabulary,) of what comes after some pieces of tokens, read one by one with a cache or all at once."""


class RouteChecks:
    """The verdict on each way of computing, for each length, once.

    Parameters
    ----------
    scorers : mapping of a route's name to a function (rows, batch_tokens) -> pairs of place and log-probabilities
    read : function (pieces, by_cache) -> log-probabilities (vocabulary,) of what comes next
    sample : function: how many tokens -> as many token ids of ordinary text
    longest : int
        The largest number of tokens that the model reads.
    named : iterable of int
        Lengths at which something may change, see `named_lengths`.
    tolerance : float
    """

    def __init__(
        self,
        scorers: Mapping[str, Scorer],
        read: Reader,
        sample: Callable[[int], tuple[int, ...]],
        longest: int,
        named: Iterable[int] = (),
        tolerance: float = TOLERANCE,
    ) -> None:
        self._scorers = scorers
        self._read = read
        self._sample = sample
        self._longest = longest
        self._named = sorted(length for length in named if _SHORTEST < length < longest)
        self._tolerance = tolerance
        self._verdicts: dict[tuple[str, int], bool] = {}
        self._definitions: dict[int, dict[int, list[np.ndarray]]] = {}
        self._unreadable = longest + 2

    def route(self, n_tokens: int, n_columns: int = 0) -> str:
        """The fastest route that is exact for rows of so many tokens, prompt and longest completion together.

        `n_columns` is how many they are where all completions of a row stand side by side, as the nodes of one trie.

        Raises
        ------
        ModelError
            The model is none whose scores can be defined: see `check_definition`.
        """
        length = self._readable(n_tokens)
        found = next(route for route in ROUTES if self._verdict(route, length))
        if found == "trie" and n_columns > n_tokens and not self._verdict("columns", self.length(n_columns)):
            return next(route for route in ROUTES[1:] if self._verdict(route, length))
        return found

    def most_columns(self, n_columns: int) -> int:
        """How many columns rows may take together, side by side: fewer where the model counts columns for positions.

        A length that the configuration names is where a count would show.
        """
        passed = [named for named in self._named if named <= n_columns]
        if not passed or self._verdict("columns", self.length(passed[-1] + 1)):
            return n_columns
        return next(named for named in passed if not self._verdict("columns", self.length(named + 1))) - 1

    def reads_by_cache(self, n_tokens: int) -> bool:
        """Whether the model may read on, up to so many tokens, from what it keeps of earlier ones."""
        return self._verdict("cache", self._readable(n_tokens))

    def length(self, n_tokens: int) -> int:
        """The length at which rows of `n_tokens` are judged: the next power of two, or what the configuration names before it."""
        power = max(_SHORTEST, 1 << (n_tokens - 1).bit_length())
        return min([max(n_tokens, min(power, self._longest)), *(named for named in self._named if named >= n_tokens)])

    def _readable(self, n_tokens: int) -> int:
        """The length at which rows of `n_tokens` are judged: their own where the model can read no more, whatever it says."""
        length = self.length(n_tokens)
        if length == n_tokens or any(length <= at for _, at in self._verdicts):
            return length
        if length < self._unreadable:
            try:
                self._expected(length)
                return length
            except ModelError:
                self._unreadable = length
        return n_tokens

    def _verdict(self, what: str, length: int) -> bool:
        # What is exact for a long row beside a short one is exact for all between them.
        if (what, length) not in self._verdicts and any(
            holds and what == known and length <= at for (known, at), holds in self._verdicts.items()
        ):
            return True
        key = (what, length)
        if key not in self._verdicts:
            checks = {
                "trie": self._trie,
                "columns": self._columns,
                "pairs": self._pairs,
                "single": self._single,
                "cache": self._cache,
            }
            self._verdicts[key] = checks[what](length)
        return self._verdicts[key]

    # --- the comparisons -----------------------------------------------------------------------------------------------

    def _trie(self, length: int) -> bool:
        """A long row beside a short one in one batch; and the long one beside one that shares nearly all, computed in pieces."""
        long, short, twin = self._rows(length)
        expected = self._expected(length)
        if length > LONGEST_PIECE:
            # Read in pieces by itself, too, and never with another in one batch: one reading shows all.
            return self._agrees("trie", [long, short, twin], length // 4 + 1, expected)
        return self._agrees("trie", [long, short], 4 * length, expected) and self._agrees(
            "trie", [long, twin], length // 4 + 1, {0: expected[0]}
        )

    def _columns(self, n_columns: int) -> bool:
        """A short prompt after others with so many completions that its own stand that far: some models count columns."""
        context = self._sample(_SHORTEST)
        tokens = list(dict.fromkeys(self._sample(4 * OPENING_LENGTH)))
        depth = next(n for n in count(1) if len(tokens) ** n >= n_columns or len(tokens) == 1)
        completions = [(*path, tokens[0]) for path in islice(product(tokens, repeat=depth), n_columns)]
        starts = range(0, n_columns, _MOST_COMPLETIONS)
        before = [TokenRow(context, tuple(completions[start : start + _MOST_COMPLETIONS])) for start in starts]
        last = TokenRow(context, ((tokens[0],), (tokens[-1],)))  # the shortest row stands last
        expected = self._definition([last])[0]
        try:
            found = dict(self._scorers["trie"]([*before, last], 4 * n_columns))
        except REFUSALS:
            return False
        return self._same({0: expected}, {0: found[len(before)]})

    def _pairs(self, length: int) -> bool:
        """Pairs of one length in one batch."""
        long, _, twin = self._rows(length)
        row = TokenRow(long.context, (*long.targets, *twin.targets, long.targets[0][::-1]))
        return self._agrees("pairs", [row], 4 * length, self._definition([row]))

    def _single(self, length: int) -> bool:
        self.check_definition(length)
        return True

    def check_definition(self, length: int) -> None:
        """Check that a plain call gives a score: the same each time, whatever was read before, and blind to what follows.

        Raises
        ------
        ModelError
            It does not.
        """
        long, short, _ = self._rows(length)
        # Some draw at random only in longer texts, and some remember the longest that they have read.
        first = self._definition([short, long])
        if not self._same(first, self._definition([short, long])):
            raise ModelError(
                "the model gives the same text other scores when it is asked again (its answers are drawn at random, or depend "
                "on what it read before), so it cannot be used as a classifier"
            )
        # They need not be asked a third time when a route is compared with them.
        self._definitions.setdefault(length, {0: first[1], 1: first[0]})
        prompt = self._sample(_SHORTEST)
        a, b = list(dict.fromkeys((*self._sample(4 * _SHORTEST)[_SHORTEST:], 0, 1)))[:2]
        ends = [TokenRow(tuple(prompt[:-1]), ((prompt[-1], end, end),)) for end in (a, b)]
        if not self._same(*({0: [self._definition([row])[0][0][:1]]} for row in ends)):
            raise ModelError(
                "the model's prediction of a token depends on the tokens after it, so it is not a causal language model and its "
                "label scores would mean nothing; use a model that was trained to continue texts (a decoder)"
            )

    def _cache(self, length: int) -> bool:
        """Growing pieces, then single tokens: at the end, and past each length at which something may change."""
        cuts = [sorted({0, *(n for n in _PIECES if n < length - 2), length // 2, *range(length - 2, length + 1)})]
        cuts += [[0, *range(named - 2, named + 3)] for named in self._named if named + 2 <= length]
        return all(self._reads_on(some) for some in cuts)

    def _reads_on(self, cuts: Sequence[int]) -> bool:
        *ids, following = self._sample(cuts[-1] + 1)
        pieces = [ids[start:stop] for start, stop in pairwise(cuts)]
        plain = self._read(pieces, False)
        try:
            by_cache = self._read(pieces, True)
        except REFUSALS:
            return False
        chosen = [following, int(np.argmax(plain))]
        return self._same({0: [plain[chosen]]}, {0: [by_cache[chosen]]})

    def _rows(self, length: int) -> tuple[TokenRow, TokenRow, TokenRow]:
        """A row of `length` tokens, a short one, and one that shares all but the last tokens of the first one's prompt."""
        ids = self._sample(length + 9)
        n_end = min(3, length // 4)
        context, end, other = ids[: length - n_end], ids[length - n_end : length], ids[length : length + 9]
        # Completions that share tokens are compared at the opening, where they cost little.
        more = ((*end[:-1], other[0]), other[1:2]) if length <= OPENING_LENGTH else ()
        long = TokenRow(context, (end, *more))
        n_short = max(1, min(6, length // 4))
        short = TokenRow((*context[: n_short // 2], *other[: n_short - n_short // 2]), (other[6:8], (other[8],)))
        twin = TokenRow((*context[:-2], other[3], other[4]), (other[5 : 5 + n_end],))
        return long, short, twin

    def _agrees(
        self, route: str, rows: Sequence[TokenRow], batch_tokens: int, expected: Mapping[int, Sequence[np.ndarray]]
    ) -> bool:
        try:
            found = dict(self._scorers[route](rows, batch_tokens))
        except REFUSALS:
            return False
        return self._same(expected, found)

    def _expected(self, length: int) -> dict[int, list[np.ndarray]]:
        """What plain calls say of the long and of the short row."""
        if length not in self._definitions:
            self._definitions[length] = self._definition(self._rows(length)[:2])
        return self._definitions[length]

    def _definition(self, rows: Sequence[TokenRow]) -> dict[int, list[np.ndarray]]:
        try:
            return dict(self._scorers["single"](rows, 1))
        except REFUSALS as error:
            longest = max(row.n_inputs for row in rows)
            raise ModelError(
                f"the model cannot read a text of {longest} tokens ({type(error).__name__}: {error}); give a smaller "
                "context_length"
            ) from error

    def _same(self, one: Mapping[int, Sequence[np.ndarray]], other: Mapping[int, Sequence[np.ndarray]]) -> bool:
        # Broken weights give NaN on every route; that is each row's error and no reason for a slower one.
        return all(
            np.allclose(a, b, rtol=0.0, atol=self._tolerance, equal_nan=True)
            for place in one
            for a, b in zip(one[place], other[place], strict=True)
        )


REFUSALS = (
    ModelError,
    RuntimeError,
    TypeError,
    ValueError,
    AttributeError,
    IndexError,
    KeyError,
    NotImplementedError,
    MemoryError,
)
"""What an architecture answers to a way of asking that it does not know; too little memory among it."""


def named_lengths(config: Any) -> set[int]:
    """Every whole number in a configuration whose name may be that of a length."""
    found: set[int] = set()
    waiting: list[tuple[str, Any]] = [("", config.to_dict())]
    while waiting:
        name, value = waiting.pop()
        if isinstance(value, Mapping):
            waiting += [(f"{name}.{key}" if isinstance(key, str) else name, inner) for key, inner in value.items()]
        elif isinstance(value, list | tuple):
            waiting += [(name, inner) for inner in set(filter(_is_number, value))]
        elif _is_number(value) and _LENGTH_NAMES.search(name) and value == int(value) and 0 < value < _LONGEST_NAMED:
            found.add(int(value))
    return found


def changes_with_length(config: Any) -> bool:
    """Whether positions or attention follow another rule from some length on: rotary positions that stretch, or chunks.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> plain, stretched = SimpleNamespace(to_dict=dict), SimpleNamespace(to_dict=lambda: {"rope_type": "dynamic"})
    >>> changes_with_length(plain), changes_with_length(stretched)
    (False, True)
    """
    waiting: list[Any] = [config.to_dict()]
    while waiting:
        value = waiting.pop()
        if isinstance(value, Mapping):
            if value.get("attention_chunk_size") or {value.get("rope_type"), value.get("type")} & {
                "longrope",
                "dynamic",
            }:
                return True
            waiting += value.values()
    return False


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and np.isfinite(value)


def sampler(encode: Callable[[str], Sequence[int]]) -> Callable[[int], tuple[int, ...]]:
    """A function: n -> the first n tokens of sentences that follow one another in ever new orders.

    Words, not random numbers: a trained model is so ill-conditioned on noise that rounding alone moves it by 1e-3.
    """
    sentences = [tuple(encode(text)) for text in _CHECK_TEXTS]

    def sample(n: int) -> tuple[int, ...]:
        random = np.random.default_rng(0)
        ids: list[int] = list(sentences[0])
        while len(ids) < n:
            for i in random.permutation(len(sentences)):
                ids += sentences[i]
        return tuple(ids[:n])

    return sample
