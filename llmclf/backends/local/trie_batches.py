"""The token trie: every distinct token of many (prompt, completion) pairs once, laid out for one forward pass.

A batch is a trie of three levels: the prefix that all its prompts share, the rest of each prompt, and under each prompt the
trie of its completions. A completion's last token is predicted and never read, so only inner nodes need the transformer,
and only the root of the completions and their inner nodes need the output layer.

Layout of a batch: its rows stand end to end in one sequence of columns, nothing padded, each as
``[prompt's own tokens | completion nodes]``; `trie_blocks` says who attends to whom among them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from ...arrays import Integers
from ..tokens.codec import TokenRow
from ..tokens.label_trie import LabelTrie, label_trie, n_inner_nodes
from ..tokens.text_tokens import common_prefix
from .trie_blocks import Tile, tiles

_LARGEST_TRIE = 4096
_STRADDLING = 3
"""Tokens by which a known beginning may be shorter where its end and a row's first characters are one token."""


class Budget(NamedTuple):
    """How much one forward pass holds.

    Attributes
    ----------
    columns : int
        Tokens that are read.
    predicted : int
        Of them, those after which a token is predicted: each has the logits of a whole vocabulary.
    """

    columns: int
    predicted: int

    @property
    def nodes(self) -> int:
        """How many inner nodes a part of a row's trie has at most; who sees whom among more would take much memory."""
        return max(1, min(self.columns - 1, self.predicted - 1, _LARGEST_TRIE))


@dataclass(frozen=True)
class Batch:
    """A trie laid out for one forward pass over T columns of B rows, after a prefix that they share.

    Attributes
    ----------
    places : tuple of int (B,)
        Which rows of the call these are.
    tries : tuple of LabelTrie (B,)
    tokens, positions : int arrays (T,)
    starts, n_texts : tuples of int (B,)
        The first column of each row, and how many of its columns are its prompt's.
    predicted : int array (Q,)
        The columns where completion tokens are predicted: of each row the prompt's last, then the nodes.
    tiles : tuple of Tile
    """

    places: tuple[int, ...]
    tries: tuple[LabelTrie, ...]
    tokens: Integers
    positions: Integers
    starts: tuple[int, ...]
    n_texts: tuple[int, ...]
    predicted: Integers
    tiles: tuple[Tile, ...]


@dataclass(frozen=True)
class Group:
    """Rows whose contexts begin alike.

    Attributes
    ----------
    places : list of int
    steps : tuple of int, rising
        The first ``steps[-1]`` tokens are computed once for all of these rows. The numbers before are those of the groups that
        contain this one; the first is what is known to stand before any row, which may be nothing.
    """

    places: list[int]
    steps: tuple[int, ...]


def groups(rows: Sequence[TokenRow], least_saving: int) -> list[Group]:
    """Groups of rows that begin alike: the upper levels of the trie.

    What is known to stand before any row (`TokenRow.n_common`) is the first step of each group, whatever else is in the call: so
    it can be kept for the next one. Further steps are taken where a group saves enough.

    Parameters
    ----------
    rows : sequence of TokenRow
    least_saving : int
        How many columns a group has to save by computing its beginning once, to make up for its extra passes.

    Returns
    -------
    list of Group
        Every row is in one. Groups that share a beginning follow one another.

    Examples
    --------
    >>> ends = ((7,), (8,))
    >>> rows = [TokenRow((1, *document, i), ends, n_common=1) for document in ((2, 3, 4, 5), (6, 7, 8, 9)) for i in range(3)]
    >>> [(group.places, group.steps) for group in groups(rows, 8)]
    [([0, 1, 2], (1, 5)), ([3, 4, 5], (1, 5))]
    >>> [(group.places, group.steps) for group in groups(rows, 9)]
    [([0, 1, 2, 3, 4, 5], (1,))]
    """
    return [group for places in _known_alike(rows) for group in _groups_of(rows, places, least_saving)]


def read_on_alone(all_groups: Sequence[Group], rows: Sequence[TokenRow], longest: int) -> list[Group]:
    """The same groups, but for rows with more than `longest` tokens of their own: those are read on up to their last token.

    What is read on is read in pieces, so that no pass is as long as a text. Rows of one context, such as the parts of a row, stay
    together.

    Examples
    --------
    >>> rows = [TokenRow(tuple(range(n)), ((7,), (8,))) for n in (3, 90, 4)]
    >>> [(group.places, group.steps) for group in read_on_alone([Group([0, 1, 2], (2,))], rows, 10)]
    [([0, 2], (2,)), ([1], (2, 89))]
    """
    found = []
    for group in all_groups:
        long: dict[tuple[int, ...], Group] = {}
        short = Group([], group.steps)
        for place in group.places:
            context = rows[place].context
            if len(context) - group.steps[-1] <= longest:
                short.places.append(place)
            else:
                steps = (*group.steps, len(context) - 1)
                long.setdefault(context, Group([], steps)).places.append(place)
        found += [some for some in (short, *long.values()) if some.places]
    return found


def _known_alike(rows: Sequence[TokenRow]) -> list[list[int]]:
    """Places of rows that are known to begin alike, but for the tokens that straddle a row's first character."""
    by_known: dict[tuple[int, ...], list[int]] = {}
    for place, row in enumerate(rows):
        by_known.setdefault(row.context[: row.n_common], []).append(place)
    alike: list[tuple[tuple[int, ...], list[int]]] = []
    for known in sorted(by_known):
        first = alike[-1][0] if alike else ()
        if first and known[: len(first)] == first and len(known) - len(first) <= _STRADDLING:
            alike[-1][1].extend(by_known[known])
        else:
            alike.append((known, by_known[known]))
    return [places for _, places in alike]


def _groups_of(rows: Sequence[TokenRow], places: Sequence[int], least_saving: int) -> list[Group]:
    order = sorted(places, key=lambda i: (rows[i].context, i))
    n_known = min(rows[i].n_common for i in places)
    # In this order the rows of any group stand together, and what a run of rows shares is the least of what neighbours share.
    shared = np.array(
        [_n_shared(rows[i].context, rows[j].context, n_known) for i, j in pairwise(order)], dtype=np.int64
    )
    root = Group([], (n_known,))
    all_groups, waiting = [root], [(0, len(order), root)]
    while waiting:
        start, stop, group = waiting.pop()
        if stop - start == 1:
            group.places.append(order[start])
            continue
        inner = shared[start : stop - 1]
        least = int(inner.min())
        if (stop - start - 1) * (least - group.steps[-1]) >= max(1, least_saving):
            group = Group([], (*group.steps, least))
            all_groups.append(group)
        cuts = [start, *(np.flatnonzero(inner == least) + start + 1).tolist(), stop]
        waiting += [(a, b, group) for a, b in reversed(list(pairwise(cuts)))]
    return [group for group in all_groups if group.places]


def _n_shared(one: tuple[int, ...], other: tuple[int, ...], n_known: int) -> int:
    limit = min(len(one), len(other)) - 1
    return next((i for i in range(n_known, limit) if one[i] != other[i]), limit)


def in_parts(rows: Sequence[TokenRow], most_nodes: int) -> list[tuple[int, tuple[int, ...], TokenRow]]:
    """Rows whose tries have at most so many inner nodes: what has more is cut into several, each with some of its completions.

    Completions that begin alike stay together, so that parts have few nodes in common: at most the path to the first of them.

    Parameters
    ----------
    rows : sequence of TokenRow
    most_nodes : int
        A completion that alone has more is a part alone.

    Returns
    -------
    list of (place, which, part)
        The part holds the completions `which` of the row at `place`. A row's hidden states come with its first part.

    Examples
    --------
    >>> row = TokenRow((1,), ((5, 6, 1), (5, 6, 2), (7, 8, 3), (9,)))
    >>> [(place, which, part.targets) for place, which, part in in_parts([row], 3)]
    [(0, (0, 1), ((5, 6, 1), (5, 6, 2))), (0, (2, 3), ((7, 8, 3), (9,)))]
    """
    parts = []
    for place, row in enumerate(rows):
        cuts = _cut(row.targets, most_nodes)
        if len(cuts) == 1:
            parts.append((place, cuts[0], row))
            continue
        for number, which in enumerate(cuts):
            part = replace(row, targets=tuple(row.targets[i] for i in which), states=() if number else row.states)
            parts.append((place, which, part))
    return parts


@lru_cache(maxsize=64)
def _cut(targets: tuple[tuple[int, ...], ...], most_nodes: int) -> tuple[tuple[int, ...], ...]:
    """The places of completions, in parts."""
    if n_inner_nodes(targets) <= most_nodes:
        return (tuple(range(len(targets))),)
    cuts: list[list[int]] = [[]]
    before: tuple[int, ...] = ()  # the inner nodes on the path of the completion before
    n_nodes = 0
    # The order of `n_inner_nodes`.
    for place in sorted(range(len(targets)), key=targets.__getitem__):
        path = targets[place][:-1]
        n_new = len(path) - common_prefix(path, before)
        if cuts[-1] and n_nodes + n_new > most_nodes:
            cuts.append([])
            n_nodes, n_new = 0, len(path)
        cuts[-1].append(place)
        n_nodes, before = n_nodes + n_new, path
    return tuple(tuple(sorted(cut)) for cut in cuts)


def plan(rows: Sequence[TokenRow], places: Sequence[int], n_prefix: int, budget: Budget) -> list[list[int]]:
    """Batches of rows of similar length, within a budget.

    Longest first, so that the largest batch fails early if it must; a row longer than the budget is a batch alone.
    """
    sizes = {i: (len(rows[i].context) - n_prefix, n_inner_nodes(rows[i].targets)) for i in places}
    order = sorted(places, key=lambda i: (-sum(sizes[i]), sizes[i], i))
    batches: list[list[int]] = []
    n_columns = n_predicted = 0
    for i in order:
        n_columns += sum(sizes[i])
        n_predicted += sizes[i][1] + 1
        if not batches or n_columns > budget.columns or n_predicted > budget.predicted:
            batches.append([])
            n_columns, n_predicted = sum(sizes[i]), sizes[i][1] + 1
        batches[-1].append(i)
    return batches


def lay_out(rows: Sequence[TokenRow], places: Sequence[int], n_prefix: int, longest_block: int | None = None) -> Batch:
    """Arrange some rows as one batch; see the module's docstring for the columns, and `tiles` for `longest_block`."""
    tries = tuple(label_trie(rows[i].targets) for i in places)
    contexts = [rows[i].context[n_prefix:] for i in places]
    n_texts = tuple(map(len, contexts))
    ends = np.cumsum([n_text + trie.n_nodes for n_text, trie in zip(n_texts, tries, strict=True)])
    tokens, positions, predicted = [], [], []
    for context, trie, end in zip(contexts, tries, ends, strict=True):
        n_before = n_prefix + len(context)
        tokens += [np.array(context, dtype=np.int64), trie.tokens]
        positions += [np.arange(n_prefix, n_before), n_before - 1 + trie.depths]
        predicted.append(np.arange(end - trie.n_nodes - 1, end))
    return Batch(
        tuple(places),
        tries,
        np.concatenate(tokens),
        np.concatenate(positions),
        (0, *ends[:-1].tolist()),
        n_texts,
        np.concatenate(predicted),
        tiles(n_texts, tries, n_prefix, longest_block),
    )
