"""Asking a backend about more than fits into memory, so that little is lost whatever stops the asking.

A backend may have a method of its own for that; see `llmclf.backends.base.Streams`. Backends behind a server have one: what is
answered there is paid for, so it must be known when an answer is safe. All others are asked by `Backend.score`, a chunk of
requests at a time.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from itertools import compress, islice

from ..checks import check_whole_number
from ..errors import ModelError, RowError
from .base import Backend, Streams
from .requests import Request, RowScores

_SECONDS = 0.5  # how long an answer may wait for others, besides the time in which the model makes the next one

Answer = tuple[int, RowScores]


def stream(
    backend: Backend, requests: Iterable[Request], *, n_requests: int | None = None, chunk: int = 1024
) -> Iterator[list[Answer]]:
    """Answers in groups, in any order, each with the place of its request in `requests`.

    A group counts as handled once the next one is asked for. A server is then never far ahead: units of work under way, and
    units whose answers are not handled yet, are together never more than the backend's `concurrency`. A unit is one HTTP
    request wherever a request holds at least one row; some routes need several requests for a row.

    Closing the iterator, an error in its reader and Ctrl-C all leave nothing under way.

    Parameters
    ----------
    backend : Backend
    requests : iterable of Request
        Read only as fast as the answers come, by one thread at a time, which need not be the caller's. An error that it raises
        reaches the caller after the answers to earlier requests.
    n_requests : int, optional
        How many there are. If given, a few requests are spread over all that the server may be asked at once.
    chunk : int
        Requests that `Backend.score` is given at once, where a backend has no `stream` of its own.

    Yields
    ------
    list of (int, RowScores)
        At least one. A row that cannot be asked about has `RowScores.error`.

    Raises
    ------
    InputError
        Something is wrong with the task, not with a single row.
    ModelError
        Every other row would fail as well.

    Examples
    --------
    >>> from llmclf import Prompt
    >>> from llmclf.backends import FakeBackend
    >>> renderer = Prompt("{{ text }}").renderer(["yes", "no"])
    >>> requests = (Request(renderer.render({"text": text}), (" yes", " no")) for text in ("good", "bad", "so-so"))
    >>> [[place for place, _ in group] for group in stream(FakeBackend(), requests, chunk=2)]
    [[0, 1], [2]]
    """
    chunk = check_whole_number("chunk", chunk, 1)
    if isinstance(backend, Streams):
        return backend.stream(requests, n_requests=n_requests)
    return _in_chunks(backend, iter(requests), chunk)


def _in_chunks(backend: Backend, requests: Iterator[Request], chunk: int) -> Iterator[list[Answer]]:
    n_before = 0
    while part := list(islice(requests, chunk)):
        group: list[Answer] = []
        since = time.monotonic()
        for place, scores in score_each(backend, part):
            group.append((n_before + place, scores))
            # A model answers several rows at a time, and a group may cost its reader a write to the disk.
            if time.monotonic() - since >= _SECONDS:
                yield group
                group, since = [], time.monotonic()
        if group:
            yield group
        n_before += len(part)


def score_each(backend: Backend, requests: Sequence[Request]) -> Iterator[Answer]:
    """An answer to every request, each scored once; a row that cannot be asked about has `RowScores.error`.

    Raises
    ------
    InputError, ModelError
        As `Backend.score`, where it is not about single rows; or requests were left without an answer.
    """
    parts: list[Sequence[int]] = [range(len(requests))]
    while parts:
        part = parts.pop()
        is_open = bytearray(b"\1") * len(part)
        try:
            for i, scores in backend.score([requests[place] for place in part]):
                is_open[i] = 0
                yield part[i], scores
        except RowError as error:
            for i, reason in error.problems.items():
                is_open[i] = 0
                yield part[i], RowScores((), error=reason)
            rest = list(compress(part, is_open))
            if error.problems:
                parts += [rest] if rest else []
            elif len(rest) > 1:
                # Halving finds the row that the error is about; halves without it are simply answered.
                middle = len(rest) // 2
                parts += [rest[middle:], rest[:middle]]
            else:
                yield from ((place, RowScores((), error=str(error))) for place in rest)
        else:
            if any(is_open):
                raise ModelError(f"{backend!r} left {sum(is_open)} of {len(part)} requests without an answer")
