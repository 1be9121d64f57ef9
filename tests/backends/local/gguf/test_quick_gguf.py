"""gguf reads the same faster, and is as before afterwards."""

from __future__ import annotations

import gguf
import numpy as np
import pytest
from gguf_files import llama

from llmclf.backends.local.gguf.quick_gguf import quick_gguf


def test_a_file_is_read_the_same(tmp_path):
    """All values and tensors; without numpy's memory maps, which are slow to slice."""
    path = llama(tmp_path / "tiny.gguf", "Q4_0")
    plain, plain_names = gguf.GGUFReader(path), gguf.get_tensor_name_map
    with quick_gguf():
        quick = gguf.GGUFReader(path)
        names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, 2)
        assert gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, 2) is names
    assert type(quick.data) is np.ndarray
    assert {name: field.contents() for name, field in quick.fields.items()} == {
        name: field.contents() for name, field in plain.fields.items()
    }
    for one, other in zip(quick.tensors, plain.tensors, strict=True):
        assert one.name == other.name
        np.testing.assert_array_equal(one.data, other.data)
    assert names.mapping == plain_names(gguf.MODEL_ARCH.LLAMA, 2).mapping


def test_gguf_is_as_before_afterwards():
    """Also where what is done within the block fails."""
    before = gguf.GGUFReader, gguf.get_tensor_name_map

    def fail():
        with quick_gguf():
            assert gguf.GGUFReader is not before[0]
            raise ValueError("inside")

    with pytest.raises(ValueError, match="inside"):
        fail()
    assert (gguf.GGUFReader, gguf.get_tensor_name_map) == before
