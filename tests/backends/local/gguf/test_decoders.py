"""Decoding gives what gguf's own decoder gives, to the last digit."""

from __future__ import annotations

import gguf
import numpy as np
import pytest
from gguf import GGMLQuantizationType
from gguf_files import TYPES, can_decode
from hypothesis import given
from hypothesis import strategies as st

from llmclf.backends.local.gguf import decoders
from llmclf.backends.local.gguf.decoders import FAST, decode, decode_transposed

DECODED = [name for name in TYPES if can_decode(name)]


def expected(rows: np.ndarray, type_name: str) -> np.ndarray:
    with np.errstate(all="ignore"):
        return np.ascontiguousarray(gguf.dequantize(rows, GGMLQuantizationType[type_name])).reshape(len(rows), -1)


def bits(values: np.ndarray) -> np.ndarray:
    """The numbers as they are in memory, but that any NaN is as good as any other."""
    return np.where(np.isnan(values), np.float32(np.nan), values).view(np.uint32)


@pytest.mark.parametrize("type_name", DECODED)
@given(seed=st.integers(0, 2**32 - 1), n_rows=st.integers(1, 40), n_blocks=st.integers(1, 9))
def test_any_bytes_decode_as_gguf_decodes_them(type_name, seed, n_rows, n_blocks):
    """For any bytes at all, NaN and infinite scales among them, whatever the number of rows and blocks."""
    n_bytes = gguf.GGML_QUANT_SIZES[GGMLQuantizationType[type_name]][1]
    rows = np.random.default_rng(seed).integers(0, 256, (n_rows, n_blocks * n_bytes), dtype=np.uint8)
    found = decode(rows, type_name)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(bits(found), bits(expected(rows, type_name)))


@pytest.mark.parametrize("type_name", FAST)
def test_matrices_of_many_pieces(type_name, monkeypatch):
    """Rows that are decoded a few blocks at a time, into columns of a larger array, are the same."""
    monkeypatch.setattr(decoders, "_AT_ONCE", 1 << 12)
    n_bytes = gguf.GGML_QUANT_SIZES[GGMLQuantizationType[type_name]][1]
    rows = np.random.default_rng(0).integers(0, 256, (70, 50 * n_bytes), dtype=np.uint8)
    wanted = expected(rows, type_name)
    out = np.zeros((wanted.shape[1], 200), dtype=np.float32)
    decode_transposed(rows, type_name, out[:, 100:170])
    np.testing.assert_array_equal(bits(np.ascontiguousarray(out[:, 100:170].T)), bits(wanted))
    assert not np.delete(out, np.s_[100:170], axis=1).any()


def test_which_types_can_be_decoded():
    """All that gguf decodes, and no others, known by name or not."""
    assert set(DECODED) == {name for name in TYPES if decoders.can_decode(name)}
    assert set(FAST) <= set(DECODED)
    assert not decoders.can_decode("Q8_K")
    assert not decoders.can_decode("number 99")
