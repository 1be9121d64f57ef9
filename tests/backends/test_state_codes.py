"""Hidden states as 16-bit floats: how much is kept, whatever their size, and what is refused."""

from __future__ import annotations

import base64

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from llmclf.backends.state_codes import pack_states, unpack_states

STATE = st.floats(width=32, allow_nan=False, allow_infinity=False)


@given(st.integers(1, 3), st.integers(1, 4), st.data())
def test_eleven_bits_are_kept_whatever_the_size(n_parts, width, data):
    """Of every number but those that are nothing beside the largest of their part; the largest part spoils no other."""
    values = data.draw(st.lists(STATE, min_size=n_parts * width, max_size=n_parts * width))
    states = np.array(values, dtype=np.float32)
    read = unpack_states(pack_states(states, n_parts), n_parts)
    assert read.dtype == np.float32
    for part, back in zip(np.split(states.astype(float), n_parts), np.split(read.astype(float), n_parts), strict=True):
        # Where float32 has fewer bits itself, its own smallest step.
        allowed = np.abs(part) * 2.0**-11 + np.abs(part).max() * 2.0**-38 + 2.0**-149
        assert (np.abs(part - back) <= allowed).all()


@example([3.4028234663852886e38, -1e30])
@example([4095.9, 6e-5, 1e-7])
@given(st.lists(STATE, min_size=1, max_size=8))
def test_numbers_of_eleven_bits_come_back_exactly(values):
    """What is kept once is kept the same again."""
    states = np.array(values, dtype=np.float32)
    once = unpack_states(pack_states(states, 1), 1)
    np.testing.assert_array_equal(unpack_states(pack_states(once, 1), 1), once)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_is_refused(value):
    """Before it is kept."""
    with pytest.raises(ValueError, match="finite"):
        pack_states(np.array([0.5, value], dtype=np.float32), 1)


GOOD = pack_states(np.array([1.0, 2.0, 3.0, 4.0], dtype=np.float32), 2)


@pytest.mark.parametrize(
    "packed",
    [
        {},
        {**GOOD, "float16": ""},
        {**GOOD, "float16": GOOD["float16"][:-4]},
        {**GOOD, "float16": "no base64!"},
        {**GOOD, "float16": None},
        {**GOOD, "float16": base64.b64encode(np.array([np.nan, 1, 1, 1], dtype="<f2").tobytes()).decode()},
        {**GOOD, "exponents": [0]},
        {**GOOD, "exponents": [0, "x"]},
        {**GOOD, "exponents": [0, 500]},
    ],
)
def test_damage_is_seen(packed):
    """Bytes that are missing, are no base64, no numbers, or too large."""
    with pytest.raises((KeyError, TypeError, ValueError)):
        unpack_states(packed, 2)
