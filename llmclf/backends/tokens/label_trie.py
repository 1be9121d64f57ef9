"""The trie of a row's completions: every token that two labels share once."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from ...arrays import Integers
from .text_tokens import common_prefix


@dataclass(frozen=True, eq=False)
class LabelTrie:
    """The inner nodes of a set of completions, each before all that grows from it.

    Attributes
    ----------
    tokens, depths : int arrays (n_nodes,)
        The token of each node and its distance from the prompt's last token.
    visible : bool array (n_nodes, n_nodes)
        ``visible[i, j]``: node j is node i or an ancestor of it.
    columns, targets : tuples of int arrays, one pair per completion
        Token j of the completion is ``targets[j]``, predicted at column ``columns[j]``: 0 is the prompt's last token, i + 1
        is node i.
    """

    tokens: Integers
    depths: Integers
    visible: NDArray[np.bool_]
    columns: tuple[Integers, ...]
    targets: tuple[Integers, ...]

    @property
    def n_nodes(self) -> int:
        return len(self.tokens)


@lru_cache(maxsize=1024)
def n_inner_nodes(completions: tuple[tuple[int, ...], ...]) -> int:
    """How many nodes the trie of a set of completions has, without the trie.

    Examples
    --------
    >>> n_inner_nodes(((7, 1), (7, 2), (8,)))
    1
    """
    n_nodes = 0
    before: tuple[int, ...] = ()
    # In this order every inner node that a completion shares with an earlier one is shared with the one before it.
    for completion in sorted(completions):
        path = completion[:-1]
        n_nodes += len(path) - common_prefix(path, before)
        before = path
    return n_nodes


@lru_cache(maxsize=64)  # of some thousand nodes, each takes megabytes
def label_trie(completions: tuple[tuple[int, ...], ...]) -> LabelTrie:
    """The trie of a set of completions, each a non-empty tuple of tokens.

    Examples
    --------
    >>> trie = label_trie(((7, 1), (7, 2), (8,)))
    >>> trie.n_nodes, [columns.tolist() for columns in trie.columns]
    (1, [[0, 1], [0, 1], [0]])
    """
    paths = sorted({completion[:j] for completion in completions for j in range(1, len(completion))})
    place = {path: i for i, path in enumerate(paths)}
    visible = np.zeros((len(paths), len(paths)), dtype=bool)
    for path, i in place.items():
        visible[i, i] = True
        if len(path) > 1:
            visible[i] |= visible[place[path[:-1]]]
    return LabelTrie(
        tokens=np.array([path[-1] for path in paths], dtype=np.int64),
        depths=np.array([len(path) for path in paths], dtype=np.int64),
        visible=visible,
        columns=tuple(
            np.array([0, *(place[completion[:j]] + 1 for j in range(1, len(completion)))], dtype=np.int64)
            for completion in completions
        ),
        targets=tuple(np.array(completion, dtype=np.int64) for completion in completions),
    )
