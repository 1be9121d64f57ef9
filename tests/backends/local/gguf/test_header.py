"""What a GGUF file holds, and what is refused before anything of it is read."""

from __future__ import annotations

import struct

import pytest
from gguf import GGUFReader
from gguf_files import llama

from llmclf.backends.local.gguf.header import read_header
from llmclf.errors import ModelError


def test_the_header_is_what_ggufs_own_reader_says(tmp_path):
    """Names, types, shapes and places of all tensors, and the metadata."""
    path = llama(tmp_path / "tiny.gguf", "Q4_0")
    header, reader = read_header(path), GGUFReader(path)
    assert [
        (tensor.name, tensor.type_name, tensor.shape, tensor.offset, tensor.n_bytes) for tensor in header.tensors
    ] == [
        (str(one.name), one.tensor_type.name, tuple(int(n) for n in one.shape[::-1]), one.data_offset, one.n_bytes)
        for one in reader.tensors
    ]
    assert header.architecture == "llama"
    assert header.values["llama.rope.freq_base"] == 10000.0
    assert header.values["tokenizer.ggml.model"] == "gpt2"
    assert header.n_weights == sum(int(one.n_elements) for one in reader.tensors)
    assert header.n_bytes == path.stat().st_size


def test_the_header_of_the_real_model():
    """A file of 49,152 words."""
    from llmclf.downloads import SMOLLM2

    header, reader = read_header(SMOLLM2.locate()), GGUFReader(SMOLLM2.locate())
    assert [(tensor.name, tensor.offset) for tensor in header.tensors] == [
        (one.name, one.data_offset) for one in reader.tensors
    ]


def test_a_file_that_ends_too_early_is_refused(tmp_path):
    """Wherever it ends: within the header, or within the last tensor."""
    whole = llama(tmp_path / "tiny.gguf").read_bytes()
    cut = tmp_path / "cut.gguf"
    for n, reason in ((10, "ends within its header"), (300, "ends within its header"), (-1, "bytes long, and 'blk")):
        cut.write_bytes(whole[:n])
        with pytest.raises(ModelError, match=rf"could not be read \(.*{reason}.*the download may not have ended"):
            read_header(cut)


def test_a_type_that_nobody_decodes_is_named(tmp_path):
    """The message names the tensor and its type, known to gguf or not."""
    path = llama(tmp_path / "tiny.gguf", "Q8_0")
    whole = path.read_bytes()
    name = b"blk.1.ffn_up.weight"
    place = whole.index(name) + len(name) + 4 + 16
    assert struct.unpack_from("<I", whole, place) == (8,)
    for number, said in ((15, "Q8_K"), (99, "number 99")):
        path.write_bytes(whole[:place] + struct.pack("<I", number) + whole[place + 4 :])
        with pytest.raises(ModelError, match=rf"'blk.1.ffn_up.weight'.*has the type {said}, which the installed gguf"):
            read_header(path)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda data: data[:4] + struct.pack("<I", 1) + data[8:], "version 1"),
        (lambda data: data[:4] + struct.pack(">I", 3) + data[8:], "it is for big-endian machines"),
        (lambda data: data[:8] + struct.pack("<Q", 1 << 60) + data[16:], "header|type|dimensions"),
        (lambda data: data[:16] + struct.pack("<Q", 1 << 60) + data[24:], "header|type|dimensions"),
        (
            lambda data: data.replace(
                b"llama.block_count" + struct.pack("<I", 4), b"llama.block_count" + b"\x63\0\0\0"
            ),
            "type 99",
        ),
    ],
)
def test_damaged_headers_are_refused(tmp_path, change, reason):
    """Whatever is wrong is said, and nothing is read for ever."""
    path = tmp_path / "tiny.gguf"
    path.write_bytes(change(llama(path).read_bytes()))
    with pytest.raises(ModelError, match=reason):
        read_header(path)
