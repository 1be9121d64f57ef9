"""GGUF files of tiny random models, as llama.cpp lays them out, in any type that gguf knows.

``llama(path, "Q4_K")`` writes one whose matrices have that type. What gguf cannot quantise is made of random blocks, of which
those are kept that decode to numbers of a sensible size.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from gguf import GGMLQuantizationType

TYPES = tuple(kind.name for kind in GGMLQuantizationType)
HIDDEN, FFN, HEADS, KV_HEADS, LAYERS = 256, 512, 4, 2, 2
_MERGES = ("t h", "i n", "a n", "e r", "Ġ t", "Ġ a", "o n", "r e", "Ġt h", "in g", "Ġth e", "Ġ s", "e n")
_SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")


def can_decode(type_name: str) -> bool:
    """Whether gguf's own decoder knows a type."""
    n_bytes = gguf.GGML_QUANT_SIZES[GGMLQuantizationType[type_name]][1]
    try:
        gguf.dequantize(np.zeros((1, n_bytes), dtype=np.uint8), GGMLQuantizationType[type_name])
    except NotImplementedError:
        return False
    return True


def random_blocks(type_name: str, n_blocks: int, random: np.random.Generator) -> np.ndarray:
    """Blocks (n_blocks, bytes of a block) of random bytes whose largest numbers are about 0.2; some occur several times."""
    kind = GGMLQuantizationType[type_name]
    n_bytes = gguf.GGML_QUANT_SIZES[kind][1]
    # Some with small bytes only: a block with several scales is small where all of them are.
    most = random.choice([40, 64, 256], (8192, 1))
    blocks = (random.integers(0, 1 << 16, (8192, n_bytes)) % most).astype(np.uint8)
    with np.errstate(all="ignore"):
        sizes = np.abs(gguf.dequantize(blocks, kind).reshape(len(blocks), -1)).max(axis=1)
        distances = np.nan_to_num(np.abs(np.log(sizes / 0.2)), nan=np.inf)
    return blocks[random.choice(np.argsort(distances)[:400], n_blocks)]


def stored(shape: tuple[int, int], type_name: str, random: np.random.Generator) -> np.ndarray:
    """A random matrix as a file has it: bytes (rows, bytes of a row)."""
    kind = GGMLQuantizationType[type_name]
    try:
        values = random.normal(0.0, 0.08, shape).astype(np.float32)
        return gguf.quantize(values, kind).view(np.uint8).reshape(shape[0], -1)
    except NotImplementedError:
        block, n_bytes = gguf.GGML_QUANT_SIZES[kind]
        blocks = random_blocks(type_name, shape[0] * shape[1] // block, random)
        return blocks.reshape(shape[0], shape[1] // block * n_bytes)


def llama(path: Path, type_name: str = "Q8_0", *, tied: bool = False, seed: int = 0, **metadata: Any) -> Path:
    """A file of a model with the architecture of Llama."""
    random = np.random.default_rng(seed)
    tokens = vocabulary()
    head = HIDDEN // HEADS
    shapes = {"token_embd": (len(tokens), HIDDEN)} | ({} if tied else {"output": (len(tokens), HIDDEN)})
    for i in range(LAYERS):
        shapes |= {
            f"blk.{i}.attn_q": (HIDDEN, HIDDEN),
            f"blk.{i}.attn_k": (KV_HEADS * head, HIDDEN),
            f"blk.{i}.attn_v": (KV_HEADS * head, HIDDEN),
            f"blk.{i}.attn_output": (HIDDEN, HIDDEN),
            f"blk.{i}.ffn_gate": (FFN, HIDDEN),
            f"blk.{i}.ffn_up": (FFN, HIDDEN),
            f"blk.{i}.ffn_down": (HIDDEN, FFN),
        }
    tensors: dict[str, tuple[np.ndarray, str]] = {
        f"{name}.weight": (stored(shape, type_name, random), type_name) for name, shape in shapes.items()
    }
    norms = ["output_norm", *(f"blk.{i}.{norm}_norm" for i in range(LAYERS) for norm in ("attn", "ffn"))]
    for name in norms:
        # Small: random blocks are not centred, and large sums would be rounded by more than the tests allow.
        tensors[f"{name}.weight"] = (random.normal(0.3, 0.03, HIDDEN).astype(np.float32), "F32")
    values = {
        "block_count": LAYERS,
        "context_length": 256,
        "embedding_length": HIDDEN,
        "feed_forward_length": FFN,
        "attention.head_count": HEADS,
        "attention.head_count_kv": KV_HEADS,
        "rope.dimension_count": head,
        "rope.freq_base": 10000.0,
        "attention.layer_norm_rms_epsilon": 1e-5,
        "vocab_size": len(tokens),
    }
    return write(path, "llama", values | metadata, tensors)


def vocabulary() -> list[str]:
    """A byte-level vocabulary with a few merges."""
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    return [*_SPECIAL, *bytes_to_unicode().values(), *(merge.replace(" ", "") for merge in _MERGES)]


def write(
    path: Path, architecture: str, values: Mapping[str, Any], tensors: Mapping[str, tuple[np.ndarray, str]]
) -> Path:
    """A file with the values of an architecture, the tokenizer of `vocabulary`, and tensors of some types."""
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_name("tiny")
    for name, value in values.items():
        add = writer.add_float32 if isinstance(value, float) else writer.add_uint32
        add(f"{architecture}.{name}", value)
    tokens = vocabulary()
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types([3 if token in _SPECIAL else 1 for token in tokens])
    writer.add_token_merges(list(_MERGES))
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(2)
    for name, (data, type_name) in tensors.items():
        writer.add_tensor(name, data, raw_dtype=GGMLQuantizationType[type_name] if data.dtype == np.uint8 else None)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
