"""Answers as the journal keeps them: a few bytes each, read back thousands at a time as arrays.

An answer is ``flags, number of completions, tokens of each | characters cut | log-probabilities (bounds, logits of heads) |
name of another model, its length | checksum``, little-endian. The numbers are 64-bit floats, so that what is read is what was
written.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from ...arrays import Floats
from ...backends import RowScores
from ...errors import InputError
from ...scoring.class_scores import ScoreTable

_HEALED, _TERMINATED, _BOUNDED, _HEADED, _NAMED = 1, 2, 4, 8, 16
_HEAD, _CUT, _LENGTH, _SUM = struct.Struct("<BH"), struct.Struct("<I"), struct.Struct("<H"), struct.Struct("<I")
_LONGEST_NAME = 1000  # bytes
_RESIDUE = zlib.crc32(_SUM.pack(zlib.crc32(b"")))


@dataclass(frozen=True)
class AnswerBlock:
    """The answers of n rows.

    Attributes
    ----------
    scores : ScoreTable
    truncated : ndarray of bool (n,)
        The row's text was shortened.
    errors : list of n str or None
    heads : ndarray (n, H * K)
        What each of H heads of a pool makes of the row's features; see `llmclf.jobs.heads.Heads`. No columns where there are
        no heads, NaN in rows with an error.
    models : list of n str or None
        Which model has answered, where it is another than the journal's.
    """

    scores: ScoreTable
    truncated: NDArray[np.bool_]
    errors: list[str | None]
    heads: Floats
    models: list[str | None]

    def __len__(self) -> int:
        return len(self.errors)

    @classmethod
    def missing(cls, n_rows: int, n_completions: int, error: str, n_heads: int = 0) -> AnswerBlock:
        """Rows without an answer, all for the same reason."""
        empty = np.full((n_rows, n_completions), np.nan)
        return cls(
            ScoreTable(empty, empty, empty, empty),
            np.zeros(n_rows, dtype=bool),
            [error] * n_rows,
            np.full((n_rows, n_heads), np.nan),
            [None] * n_rows,
        )


def encode_answer(key: bytes, answer: RowScores, heads: Floats | None = None, model: str | None = None) -> bytes:
    """The bytes of an answer.

    Parameters
    ----------
    key : bytes
    answer : RowScores
    heads : ndarray (H * K,), optional
        What heads make of the row's features.
    model : str, optional
        The name of the model that has answered, where it is another than the journal's.

    Raises
    ------
    InputError
        A log-probability is not a finite number of at most 0, or a logit of a head is not finite.

    Examples
    --------
    >>> answer = RowScores(((-0.5, -0.25), (-2.0,)), characters_cut=7)
    >>> block = decode_block([b"key"], [encode_answer(b"key", answer)], [None], 2, "damaged")
    >>> block.scores.sums.tolist(), block.truncated.tolist()
    ([[-0.75, -2.0]], [True])
    """
    logprobs = answer.token_logprobs
    values = list(chain.from_iterable(logprobs))
    if not (logprobs and all(logprobs) and math.isfinite(sum(values)) and max(values) <= 0.0):
        raise InputError(f"{answer!r} cannot be kept: expected finite log-probabilities of at most 0")
    flags = _HEALED * answer.healed | _TERMINATED * answer.terminated
    if answer.lower != answer.upper:
        flags |= _BOUNDED
        values += answer.lower + answer.upper
    if heads is not None:
        logits = heads.tolist()
        if not all(map(math.isfinite, logits)):
            raise InputError(f"{logits!r} cannot be kept: expected finite logits")
        flags |= _HEADED
        values += logits
    n = len(logprobs)
    name = b"" if model is None else model.encode("utf-8", "replace")[:_LONGEST_NAME]
    flags |= _NAMED * (model is not None)
    data = _layout(n, len(values)).pack(flags, n, *map(len, logprobs), answer.characters_cut, *values)
    if model is not None:
        data += name + _LENGTH.pack(len(name))
    return data + _SUM.pack(zlib.crc32(data, zlib.crc32(key)))


def decode_block(
    keys: Sequence[bytes | None],
    values: Sequence[bytes | None],
    errors: Sequence[str | None],
    n_completions: int,
    damaged: str,
    n_heads: int = 0,
) -> AnswerBlock:
    """Many answers at once.

    Parameters
    ----------
    keys, values, errors : sequences of n
        The key and the bytes of each answer, or why there is none.
    n_completions : int
    damaged : str
        The error of answers whose bytes are damaged, or are of another number of completions or of heads.
    n_heads : int
        Numbers that the heads of a pool make of each row; with 0, those that were kept are not needed.
    """
    n_rows = len(keys)
    block = AnswerBlock.missing(n_rows, n_completions, damaged, n_heads)
    scores = [block.scores.sums.copy() for _ in range(4)]
    # A damaged file may have values of any type.
    problems = [error if error is None or isinstance(error, str) else damaged for error in errors]
    wholes: dict[int, bytes] = {}
    by_shape: dict[tuple[bytes, int], list[int]] = {}
    for i, (key, data) in enumerate(zip(keys, values, strict=True)):
        if problems[i] is not None:
            continue
        if is_whole(key, data):
            assert data is not None
            if data[0] & _NAMED:
                data, block.models[i] = _without_name(data)
            wholes[i] = data
            end = _HEAD.size + 2 * (data[1] | data[2] << 8)
            by_shape.setdefault((data[:end], len(data)), []).append(i)
        else:
            problems[i] = damaged
    for (shape, size), places in by_shape.items():
        flags, n = _HEAD.unpack_from(shape)
        if n != n_completions or (n_heads and _n_heads(shape, size) != n_heads):
            for i in places:
                problems[i] = damaged
            continue
        lengths = np.frombuffer(shape, dtype="<u2", offset=_HEAD.size).astype(np.int64)
        table = np.frombuffer(b"".join([wholes[i] for i in places]), dtype=np.uint8).reshape(len(places), -1)
        start = len(shape)
        cut = table[:, start : start + _CUT.size].copy().view("<u4")[:, 0]
        numbers = table[:, start + _CUT.size : -_SUM.size].copy().view("<f8")
        n_tokens = int(lengths.sum())
        # Added in more digits and rounded once, as RowScores.sums are: a threshold may hang on the last digit.
        wide = numbers[:, :n_tokens].astype(np.longdouble)
        sums = np.add.reduceat(wide, np.cumsum(lengths) - lengths, axis=1).astype(np.float64)
        is_bounded = bool(flags & _BOUNDED)
        lower = numbers[:, n_tokens : n_tokens + n] if is_bounded else sums
        upper = numbers[:, n_tokens + n : n_tokens + 2 * n] if is_bounded else sums
        for target, values_of_rows in zip(scores, (sums, lower, upper, lengths), strict=True):
            target[places] = values_of_rows
        block.truncated[places] = cut > 0
        if n_heads:
            block.heads[places] = numbers[:, -n_heads:]
    return AnswerBlock(ScoreTable(*scores), block.truncated, problems, block.heads, block.models)


def _n_heads(shape: bytes, size: int) -> int:
    """How many logits of heads an answer of some shape and size holds."""
    flags, n = _HEAD.unpack_from(shape)
    if not flags & _HEADED:
        return 0
    n_tokens = int(np.frombuffer(shape, dtype="<u2", offset=_HEAD.size).sum(dtype=np.int64))
    n_bounds = 2 * n if flags & _BOUNDED else 0
    return (size - len(shape) - _CUT.size - _SUM.size) // 8 - n_tokens - n_bounds


@lru_cache(maxsize=256)
def _layout(n_completions: int, n_values: int) -> struct.Struct:
    return struct.Struct(f"<BH{n_completions}HI{n_values}d")


def is_whole(key: object, data: object) -> bool:
    """Whether something is the bytes of an answer, and of the one to this key."""
    # The checksum of anything with its own checksum at its end is the same number.
    return (
        isinstance(key, bytes)
        and isinstance(data, bytes)
        and len(data) > _SUM.size
        and zlib.crc32(data, zlib.crc32(key)) == _RESIDUE
    )


def n_completions_of(data: bytes) -> int:
    """How many completions an answer is about."""
    return int(_HEAD.unpack_from(data)[1])


def _without_name(data: bytes) -> tuple[bytes, str]:
    """An answer as it is without the name of its model, and the name."""
    stop = len(data) - _SUM.size - _LENGTH.size
    start = stop - _LENGTH.unpack_from(data, stop)[0]
    return data[:start] + data[-_SUM.size :], data[start:stop].decode("utf-8", "replace")
