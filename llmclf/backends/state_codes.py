"""Hidden states as they are kept: 16-bit floats, each part times a power of two that suits its range.

Some models have states of more than 65504, the largest 16-bit float, and some only tiny ones. A power of two changes no digit, so
each part is brought to just below 2^15 whatever its size, and values of more than 2^-29 of the largest one keep 11 bits.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

_TOP = 15  # values are kept below two to this power
_BITS = 11
_LARGEST = 256  # of an exponent: more than any 32-bit float needs


def pack_states(states: NDArray[np.float32], n_parts: int) -> dict[str, Any]:
    """States (n_parts * hidden,) as plain JSON values.

    Raises
    ------
    ValueError
        A state is NaN or infinite.

    Examples
    --------
    >>> packed = pack_states(np.array([-1e6, 0.5, 0.25, 0.125], dtype=np.float32), 2)
    >>> packed["exponents"], unpack_states(packed, 2).tolist()
    ([5, -16], [-999936.0, 0.5, 0.25, 0.125])
    """
    if not np.isfinite(states).all():
        raise ValueError("expected finite states")
    parts = np.asarray(states, dtype=np.float64).reshape(n_parts, -1)
    exponents = [_exponent(float(np.abs(part).max())) for part in parts]
    scaled = np.ldexp(parts, -np.array(exponents)[:, None])
    return {"exponents": exponents, "float16": base64.b64encode(scaled.astype("<f2").tobytes()).decode()}


def unpack_states(packed: Mapping[str, Any], n_parts: int) -> NDArray[np.float32]:
    """The inverse of `pack_states`, rounded to 11 bits.

    Raises
    ------
    KeyError, TypeError, ValueError
        These are no states of so many parts.
    """
    exponents = [int(exponent) for exponent in packed["exponents"]]
    data = base64.b64decode(packed["float16"], validate=True)
    if not data or not len(exponents) == n_parts > 0 or len(data) % (2 * n_parts):
        raise ValueError(f"{len(data)} bytes and {len(exponents)} exponents are not the states of {n_parts} parts")
    parts = np.frombuffer(data, dtype="<f2").astype(np.float64).reshape(n_parts, -1)
    if not np.isfinite(parts).all() or max(map(abs, exponents)) > _LARGEST:
        raise ValueError("a state is NaN or infinite")
    # The largest 32-bit float is rounded up to more than itself.
    largest = float(np.finfo(np.float32).max)
    states = np.clip(np.ldexp(parts, np.array(exponents)[:, None]), -largest, largest)
    read: NDArray[np.float32] = states.astype(np.float32).ravel()
    return read


def _exponent(largest: float) -> int:
    """The power of two that brings a number, rounded to 11 bits, below two to the power `_TOP`."""
    if not largest:
        return 0
    mantissa, exponent = math.frexp(largest)
    is_rounded_up = round(mantissa * (1 << _BITS)) == 1 << _BITS
    return exponent + int(is_rounded_up) - _TOP
