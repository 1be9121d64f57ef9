"""Orders of the options, one for each request about a row, so that no option stands first more often than another.

An order depends on the seed, on the row (its prompt and its labels, in whatever order these are given) and on the number of the
request: not on the batch, nor on what was asked before. So a job that goes on in another process asks the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence


def row_key(texts: Iterable[str], labels: Iterable[str]) -> bytes:
    """What tells one row's orders from another's.

    Parameters
    ----------
    texts : iterable of str
        The turns of its prompt.
    labels : iterable of str
        In any order.
    """
    digest = hashlib.sha256()
    for text in (*texts, "", *sorted(labels)):
        part = text.encode("utf-8", "surrogatepass")
        digest.update(len(part).to_bytes(8, "big") + part)
    return digest.digest()


def option_order(seed: int, key: bytes, number: int, labels: Sequence[str]) -> tuple[int, ...]:
    """The places of the labels in the order in which a request lists them.

    Of as many requests in a row as there are labels, each label stands at each place once: the labels are shuffled, and the list
    is turned by every number of places, in a random order. Then they are shuffled anew.

    Parameters
    ----------
    seed : int
    key : bytes
        Of the row; see `row_key`.
    number : int
        Of the request, from 0.
    labels : sequence of str
        All different.

    Examples
    --------
    >>> labels = ["good", "bad", "fair"]
    >>> orders = [option_order(0, b"row", number, labels) for number in range(3)]
    >>> [sorted(places) for places in zip(*orders)]
    [[0, 1, 2], [0, 1, 2], [0, 1, 2]]
    >>> turned = option_order(0, b"row", 1, labels[::-1])
    >>> [labels[k] for k in orders[1]] == [labels[::-1][k] for k in turned]
    True
    """
    n = len(labels)
    block, place = divmod(number, n)
    shuffled = sorted(range(n), key=lambda k: _draw(seed, key, block, "label", labels[k]))
    turn = sorted(range(n), key=lambda k: _draw(seed, key, block, "turn", str(k)))[place]
    return (*shuffled[turn:], *shuffled[:turn])


def request_seed(seed: int, key: bytes, number: int) -> int:
    """A seed for what a server draws at random, below 2**31; another one for each request.

    Examples
    --------
    >>> request_seed(0, b"row", 0) == request_seed(0, b"row", 0) != request_seed(0, b"row", 1)
    True
    """
    return int.from_bytes(_draw(seed, key, number, "seed", "")[:4], "big") >> 1


def _draw(seed: int, key: bytes, number: int, what: str, name: str) -> bytes:
    """A digest, as good as random bits, and the same in every version of Python."""
    head = f"{seed}/{number}/{what}/".encode()
    return hashlib.sha256(head + key + name.encode("utf-8", "surrogatepass")).digest()
