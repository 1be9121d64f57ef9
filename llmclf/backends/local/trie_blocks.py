"""Who attends to whom among the columns of a batch: blocks of queries, each with the keys that one of them sees.

A row's columns are its text, then the nodes of its labels, and most pairs of them never meet: rows do not see one another, and a
node sees its own ancestors alone. So attention is computed in blocks, and blocks of like size together.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from ...arrays import Integers
from ..tokens.label_trie import LabelTrie

_Block = tuple[Integers, Integers, NDArray[np.bool_]]
"""Queries (q,) and keys (k,), columns of the pass or of a row, and which query sees which key (q, k)."""

_PADDING = 1.25
"""How many times the scores that are needed may be computed where blocks of unlike size go together."""
_FEW_SCORES = 1 << 15
"""So many scores more cost less than another tile."""
_MOST_SCORES = 1 << 19
"""Scores of a tile and one head."""
_LARGEST_KEPT = 512  # columns of a row whose blocks are kept for the next like it


@dataclass(frozen=True)
class Tile:
    """B blocks of at most Q queries and W keys, for one product.

    Attributes
    ----------
    queries, keys : int arrays (B, Q) and (B, W)
        Columns of the pass. A shorter block repeats its last query and its last key: a block never meets another row's numbers.
    mask : bool array (B, Q, W)
        ``mask[b, i, j]``: query i of block b sees key j, of which no repeated one is seen.
    real : int array, optional
        Which of the B * Q queries are not repeated ones; without it, all.
    """

    queries: Integers
    keys: Integers
    mask: NDArray[np.bool_]
    real: Integers | None


def tiles(n_texts: Sequence[int], tries: Sequence[LabelTrie], n_prefix: int, longest: int | None) -> tuple[Tile, ...]:
    """The tiles of a batch; the queries of all of them, in turn, are its columns.

    Parameters
    ----------
    n_texts : sequence of int (B,)
        How many columns of each row are text; its nodes follow them.
    tries : sequence of LabelTrie (B,)
    n_prefix : int
        How many keys every query sees besides.
    longest : int or None
        Queries of a block at most; None for whole rows, and tiles of any size.

    Examples
    --------
    >>> from llmclf.backends.tokens.label_trie import label_trie
    >>> (tile,) = tiles([2, 1], [label_trie(((7, 1), (8,))), label_trie(((9,),))], 0, 64)
    >>> tile.queries.tolist(), tile.keys.tolist(), tile.real.tolist()
    ([[0, 1, 2], [3, 3, 3]], [[0, 1, 2], [3, 3, 3]], [0, 1, 2, 3])
    >>> tile.mask[1].astype(int).tolist()
    [[1, 0, 0], [1, 0, 0], [1, 0, 0]]
    """
    return tuple(_tile(some) for some in _alike(_blocks(n_texts, tries, longest), n_prefix, longest is not None))


def _blocks(n_texts: Sequence[int], tries: Sequence[LabelTrie], longest: int | None) -> Iterator[_Block]:
    start = 0
    for n_text, trie in zip(n_texts, tries, strict=True):
        n_columns = n_text + trie.n_nodes
        row_blocks = _kept_row_blocks if n_columns <= _LARGEST_KEPT else _row_blocks
        for queries, keys, mask in row_blocks(n_text, trie, longest or n_columns):
            yield queries + start, keys + start, mask
        start += n_columns


def _row_blocks(n_text: int, trie: LabelTrie, longest: int) -> tuple[_Block, ...]:
    n_columns = n_text + trie.n_nodes
    n_blocks = -(-n_columns // longest)
    blocks = []
    for first, stop in pairwise(n_columns * i // n_blocks for i in range(n_blocks + 1)):
        queries = np.arange(first, stop)
        nodes = queries[queries >= n_text] - n_text
        seen = np.flatnonzero(trie.visible[nodes].any(axis=0))
        text = np.arange(min(stop, n_text))
        mask = np.zeros((len(queries), len(text) + len(seen)), dtype=bool)
        mask[:, : len(text)] = text <= queries[:, None]
        mask[len(queries) - len(nodes) :, len(text) :] = trie.visible[np.ix_(nodes, seen)]
        blocks.append((queries, np.concatenate((text, n_text + seen)), mask))
    return tuple(blocks)


_kept_row_blocks = lru_cache(maxsize=256)(_row_blocks)


def _alike(blocks: Iterable[_Block], n_prefix: int, is_bounded: bool) -> Iterator[list[_Block]]:
    """Blocks that follow one another and are of like size."""
    some: list[_Block] = []
    n_queries = n_keys = n_needed = 0
    for block in blocks:
        needed = block[2].size
        most_queries, most_keys = max(n_queries, block[2].shape[0]), max(n_keys, block[2].shape[1])
        computed = (len(some) + 1) * most_queries * most_keys
        n_scores = (len(some) + 1) * most_queries * (most_keys + n_prefix)
        if some and (
            computed > _PADDING * (n_needed + needed) + _FEW_SCORES or (is_bounded and n_scores > _MOST_SCORES)
        ):
            yield some
            some, n_needed = [], 0
            most_queries, most_keys = block[2].shape
        some.append(block)
        n_queries, n_keys, n_needed = most_queries, most_keys, n_needed + needed
    if some:
        yield some


def _tile(blocks: Sequence[_Block]) -> Tile:
    n_queries = max(len(queries) for queries, _, _ in blocks)
    n_keys = max(len(keys) for _, keys, _ in blocks)
    tile = Tile(
        np.empty((len(blocks), n_queries), dtype=np.int64),
        np.empty((len(blocks), n_keys), dtype=np.int64),
        np.zeros((len(blocks), n_queries, n_keys), dtype=bool),
        None,
    )
    is_real = np.zeros(tile.queries.shape, dtype=bool)
    for b, (queries, keys, mask) in enumerate(blocks):
        n, m = mask.shape
        tile.queries[b, :n], tile.queries[b, n:] = queries, queries[-1]
        tile.keys[b, :m], tile.keys[b, m:] = keys, keys[-1]
        tile.mask[b, :n, :m], tile.mask[b, n:, :m] = mask, mask[-1]
        is_real[b, :n] = True
    return tile if is_real.all() else Tile(tile.queries, tile.keys, tile.mask, np.flatnonzero(is_real))
