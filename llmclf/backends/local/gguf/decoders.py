"""Decode the quantised matrices of a GGUF file, as gguf's own decoder does, and several times as fast.

The common types have decoders here, which give the same numbers to the last digit; all others are left to `gguf.dequantize`.
A row of a matrix is a number of blocks, and a block is some scales and the integers that they multiply. What makes them fast is
that the blocks of many rows, which stand at one place in their rows, are decoded side by side: every step then runs over a long
stretch of memory, and what comes out is the transposed matrix, which a product takes as well. numpy releases the interpreter
while it computes, so threads decode at the same time, each without waiting for another.

The types, and the names of a block's parts, are those of llama.cpp (ggml-common.h).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
Numbers = NDArray[np.float32]

_AT_ONCE = 1 << 18
"""Weights that are decoded side by side, so that what is computed on the way stays in a core's cache."""
_TRANSPOSED = 32

Decoder = Callable[[Bytes, Numbers], None]
"""Decodes n blocks, (bytes of a block, n), into numbers (weights of a block, ...) of which the last dimensions stand for n."""


def decode_transposed(rows: Bytes, type_name: str, out: Numbers) -> None:
    """Decode some rows of a matrix into the columns of its transpose.

    Parameters
    ----------
    rows : uint8 array (n, bytes of a row)
        As they stand in the file.
    type_name : str
        Their type, as gguf names it: ``"Q4_K"``, for example.
    out : float32 array (weights of a row, n)
    """
    decoder = _DECODERS.get(type_name)
    if decoder is None:
        values = _plain(rows, type_name) if type_name in _PLAIN else _by_gguf(rows, type_name)
        # Some rows at a time: several times as fast as all at once, since whole cache lines are used.
        for start in range(0, len(rows), _TRANSPOSED):
            out[:, start : start + _TRANSPOSED] = values[start : start + _TRANSPOSED].T
        return
    block, n_bytes = block_size(type_name)
    n_rows, n_blocks = len(rows), rows.shape[1] // n_bytes
    step = min(n_blocks, max(1, _AT_ONCE // (block * max(1, n_rows))))
    # Broken scales (NaN, infinite) are their row's error, and no warning.
    with np.errstate(all="ignore"):
        for start in range(0, n_blocks, step):
            some = rows[:, start * n_bytes : (start + step) * n_bytes].reshape(n_rows, -1, n_bytes)
            blocks = np.ascontiguousarray(some.transpose(2, 1, 0)).reshape(n_bytes, -1)
            target = out[start * block : (start + step) * block].reshape(-1, block, n_rows)
            decoder(blocks, target.transpose(1, 0, 2))


def decode(rows: Bytes, type_name: str) -> Numbers:
    """Some rows of a matrix, (n, weights of a row)."""
    block, n_bytes = block_size(type_name)
    out = np.empty((rows.shape[1] // n_bytes * block, len(rows)), dtype=np.float32)
    decode_transposed(rows, type_name, out)
    return np.ascontiguousarray(out.T)


@functools.cache
def can_decode(type_name: str) -> bool:
    """Whether rows of a type can be decoded, here or by gguf."""
    try:
        _, n_bytes = block_size(type_name)
        decode(np.zeros((1, n_bytes), dtype=np.uint8), type_name)
    except (NotImplementedError, KeyError):
        return False
    return True


@functools.cache
def block_size(type_name: str) -> tuple[int, int]:
    """Weights and bytes of a block.

    Raises
    ------
    KeyError
        gguf does not know the type.
    """
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

    block, n_bytes = GGML_QUANT_SIZES[GGMLQuantizationType[type_name]]
    return int(block), int(n_bytes)


_PLAIN = ("F32", "F16", "BF16")


def _plain(rows: Bytes, type_name: str) -> NDArray[Any]:
    rows = np.ascontiguousarray(rows)
    if type_name == "F32":
        return rows.view(np.float32)
    if type_name == "F16":
        return rows.view(np.float16)
    return (rows.view(np.uint16).astype(np.uint32) << 16).view(np.float32)


def _by_gguf(rows: Bytes, type_name: str) -> Numbers:
    from gguf import GGMLQuantizationType, dequantize

    with np.errstate(all="ignore"):
        values: Numbers = dequantize(np.ascontiguousarray(rows), GGMLQuantizationType[type_name])
    return values


def _half(blocks: Bytes, start: int) -> Numbers:
    """A number (1, n) that stands in 16 bits of each block."""
    pair = blocks[start : start + 1].astype(np.uint16) | (blocks[start + 1 : start + 2].astype(np.uint16) << 8)
    return pair.view(np.float16).astype(np.float32)


def _nibbles(packed: Bytes) -> Bytes:
    """The low and the high four bits of bytes (..., k, n), as (..., 2, k, n)."""
    out = np.empty((*packed.shape[:-2], 2, *packed.shape[-2:]), dtype=np.uint8)
    np.bitwise_and(packed, 15, out=out[..., 0, :, :])
    np.right_shift(packed, 4, out=out[..., 1, :, :])
    return out


def _fields(packed: Bytes, width: int) -> Bytes:
    """Bytes (..., k, n) as integers of `width` bits, from the lowest on: (..., 8 / width, k, n)."""
    n_fields = 8 // width
    out = np.empty((*packed.shape[:-2], n_fields, *packed.shape[-2:]), dtype=np.uint8)
    for i in range(n_fields):
        np.right_shift(packed, i * width, out=out[..., i, :, :])
    out &= (1 << width) - 1
    return out


def _write(integers: NDArray[Any], scale: Numbers, out: Numbers, offset: Numbers | None = None) -> None:
    """Integers (k * m, n) times scales (k, n), one for each m, plus offsets (k, n)."""
    values = out.reshape(len(scale), -1, *out.shape[1:])
    shape = (len(scale), 1, *out.shape[1:])
    # Two steps: numpy converts in one go faster than while it multiplies.
    np.copyto(values, integers.reshape(values.shape), casting="unsafe")
    np.multiply(values, scale.reshape(shape), out=values)
    if offset is not None:
        np.add(values, offset.reshape(shape), out=values)


def _q4_0(blocks: Bytes, out: Numbers) -> None:
    q = _nibbles(blocks[2:])
    q -= 8
    _write(q.view(np.int8), _half(blocks, 0), out)


def _q4_1(blocks: Bytes, out: Numbers) -> None:
    _write(_nibbles(blocks[4:]), _half(blocks, 0), out, _half(blocks, 2))


def _five_bits(blocks: Bytes, start: int) -> Bytes:
    """Integers (32, n) of five bits: the high bits stand together in front of the low four."""
    q = _nibbles(blocks[start + 4 :]).reshape(32, -1)
    # Of each byte the eight bits belong to weights that follow one another.
    high = _fields(blocks[start : start + 4, None], 1).reshape(32, -1)
    high <<= 4
    q |= high
    return q


def _q5_0(blocks: Bytes, out: Numbers) -> None:
    q = _five_bits(blocks, 2)
    q -= 16
    _write(q.view(np.int8), _half(blocks, 0), out)


def _q5_1(blocks: Bytes, out: Numbers) -> None:
    _write(_five_bits(blocks, 4), _half(blocks, 0), out, _half(blocks, 2))


def _q8_0(blocks: Bytes, out: Numbers) -> None:
    _write(blocks[2:].view(np.int8), _half(blocks, 0), out)


def _q2_k(blocks: Bytes, out: Numbers) -> None:
    scale = (blocks[:16] & 15).astype(np.float32) * _half(blocks, 80)
    minimum = (blocks[:16] >> 4).astype(np.float32) * -_half(blocks, 82)
    _write(_fields(blocks[16:80].reshape(2, 32, -1), 2), scale, out, minimum)


def _q3_k(blocks: Bytes, out: Numbers) -> None:
    scale = _nibbles(blocks[96:104]).reshape(16, -1) | (_fields(blocks[104:108], 2).reshape(16, -1) << 4)
    scale -= 32
    q = _fields(blocks[32:96].reshape(2, 32, -1), 2).reshape(256, -1)
    # Where the bit is set nothing is taken away, so it is added, and four are taken from all.
    high = _fields(blocks[:32], 1).reshape(256, -1)
    high <<= 2
    q |= high
    q -= 4
    _write(q.view(np.int8), scale.view(np.int8).astype(np.float32) * _half(blocks, 108), out)


def _scales_and_minima(blocks: Bytes) -> tuple[Numbers, Numbers]:
    """Of each 32 weights of a block of Q4_K or Q5_K, the scale and what is added: (8, n) each, from six bits in the file."""
    first, second, rest = blocks[4:8], blocks[8:12], blocks[12:16]
    scale = np.concatenate((first & 63, (rest & 15) | ((first >> 2) & 48)))
    minimum = np.concatenate((second & 63, (rest >> 4) | ((second >> 2) & 48)))
    return scale.astype(np.float32) * _half(blocks, 0), minimum.astype(np.float32) * -_half(blocks, 2)


def _q4_k(blocks: Bytes, out: Numbers) -> None:
    scale, minimum = _scales_and_minima(blocks)
    _write(_nibbles(blocks[16:].reshape(4, 32, -1)), scale, out, minimum)


def _q5_k(blocks: Bytes, out: Numbers) -> None:
    scale, minimum = _scales_and_minima(blocks)
    q = _nibbles(blocks[48:].reshape(4, 32, -1)).reshape(8, 32, -1)
    high = _fields(blocks[16:48], 1)
    high <<= 4
    q |= high
    _write(q, scale, out, minimum)


def _q6_k(blocks: Bytes, out: Numbers) -> None:
    q = _nibbles(blocks[:128].reshape(2, 64, -1)).reshape(256, -1)
    high = _fields(blocks[128:192].reshape(2, 32, -1), 2).reshape(256, -1)
    high <<= 4
    q |= high
    q -= 32
    _write(q.view(np.int8), blocks[192:208].view(np.int8).astype(np.float32) * _half(blocks, 208), out)


_DECODERS: dict[str, Decoder] = {
    "Q4_0": _q4_0,
    "Q4_1": _q4_1,
    "Q5_0": _q5_0,
    "Q5_1": _q5_1,
    "Q8_0": _q8_0,
    "Q2_K": _q2_k,
    "Q3_K": _q3_k,
    "Q4_K": _q4_k,
    "Q5_K": _q5_k,
    "Q6_K": _q6_k,
}

FAST = (*_PLAIN, *_DECODERS)
"""The types that are decoded here."""
