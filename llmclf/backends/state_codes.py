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
    exponents = [math.frexp(float(np.abs(part).max()))[1] - _TOP if part.any() else 0 for part in parts]
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
    with np.errstate(over="ignore"):
        states: NDArray[np.float32] = np.ldexp(parts, np.array(exponents)[:, None]).astype(np.float32).ravel()
    if not np.isfinite(states).all():
        raise ValueError("a state is NaN or infinite")
    return states
