"""Internal: which rows are to blame where the features of many cannot be read, and why."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar

from ..errors import EmbeddingError, InputError, LlmclfError, ModelError, ServerError

T = TypeVar("T")

_OF_ONE_TEXT = {200, 400, 413, 422}
"""With which a server may refuse a single text, being too long, say; or answers it by what is no vector."""

_TRIED = 10  # texts that a model refuses, and none that it takes, before it is the model's own fault


def is_about_rows(error: LlmclfError) -> bool:
    """Whether the features of other rows may be read all the same.

    Examples
    --------
    >>> is_about_rows(InputError("NaN")), is_about_rows(ServerError("gone", status=503)), is_about_rows(ModelError("another"))
    (True, False, False)
    """
    if isinstance(error, ServerError):
        return not error.is_final and error.status in _OF_ONE_TEXT
    return isinstance(error, (InputError, EmbeddingError))


def of_set(error: LlmclfError, name: str) -> LlmclfError:
    """The same error about rows, with the name of the feature set."""
    message = f"features {name!r}: {error}"
    if isinstance(error, ServerError):
        return ServerError(message, status=error.status, is_final=error.is_final)
    return EmbeddingError(message) if isinstance(error, EmbeddingError) else InputError(message)


def read_parts(read: Callable[[list[int]], T], n_rows: int) -> Iterator[tuple[list[int], T | LlmclfError]]:
    """What can be read of rows, as many as possible at once; where one alone cannot be read, the error says why.

    Parameters
    ----------
    read : callable
        Takes the numbers of some rows.
    n_rows : int

    Yields
    ------
    rows : list of int
        In the order of the rows.
    found : whatever `read` gives for them, or an error where there is one row only

    Raises
    ------
    LlmclfError
        Which is not about single rows.

    Examples
    --------
    >>> def double(rows):
    ...     if 2 in rows:
    ...         raise InputError("not 2")
    ...     return [2 * row for row in rows]
    >>> list(read_parts(double, 4))
    [([0, 1], [0, 2]), ([2], InputError('not 2')), ([3], [6])]
    """
    parts = [list(range(n_rows))] if n_rows else []
    n_read = n_refused = 0
    while parts:
        part = parts.pop()
        try:
            found = read(part)
        except (InputError, ModelError) as error:
            if not is_about_rows(error):
                raise
            # Halving finds the row that the error is about; halves without it are simply read.
            middle = len(part) // 2
            if middle:
                parts += [part[middle:], part[:middle]]
                continue
            n_refused += isinstance(error, ModelError)
            if not n_read and n_refused >= _TRIED:
                raise
            yield part, error
        else:
            n_read += len(part)
            yield part, found


def reasons_of(read: Callable[[list[int]], object], n_rows: int) -> dict[int, str]:
    """Why the features of single rows cannot be read; see `read_parts`.

    Examples
    --------
    >>> def odd(rows):
    ...     if any(row % 2 == 0 for row in rows):
    ...         raise InputError("even")
    >>> reasons_of(odd, 4)
    {0: 'its features cannot be read: even', 2: 'its features cannot be read: even'}
    """
    return {rows[0]: reason(found) for rows, found in read_parts(read, n_rows) if isinstance(found, LlmclfError)}


def reason(error: LlmclfError) -> str:
    """As it is kept beside the row."""
    return f"its features cannot be read: {error}"
