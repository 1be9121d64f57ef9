"""How much memory and time does a GGUF model take whose weights stay in its file, beside the decoded one?

SmolLM2 as it comes, and random models of the shape of a Llama of 1.2 billion weights in several types, written to a temporary
folder. Each file has a process of its own: it opens the model with memory="file", scores one batch, and notes its peak; then it
opens the decoded model beside it and scores the same batch with both in turns. Peaks are those of all resident pages, pages of
the mapped file among them, which the system may drop at any time; what the process has of its own is given beside them. Seconds
of the processor are given as well, since they say more than those of the clock where other processes are at work. Writes
gguf_memory.md beside itself.

    python experiments/gguf_memory.py [--cases SmolLM2 Q4_0 Q4_K Q8_0] [--rows 32] [--rounds 2] [--threads 2]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

CASES = ("SmolLM2", "Q4_0", "Q4_K", "Q8_0")
LAYERS, HIDDEN, FFN, HEADS, KV_HEADS = 22, 2048, 5632, 32, 4
LAYER_TYPES = ("Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q4_K", "F16", "BF16", "TQ2_0")
ALLOWED = 1.25, 800e6
_SENTENCES = (
    "The film was a delight from start to finish, and the actors were superb.",
    "What a waste of time: neither funny nor sad, and far too long.",
    "Nobody had told her that the shop would be closed on Monday, so she walked back in the rain.",
    "In 1994 the team won 3 of 17 games; the year after, with a new coach, it won the cup.",
    "I liked the music, but the story was thin.",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--rows", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        print(json.dumps(measure(Path(args.measure), args.rows, args.rounds)))
        return
    lines = [*_HEAD, f"{args.threads} threads, {args.rows} rows, {args.rounds} rounds.", "", *_TABLE]
    for case in args.cases:
        with tempfile.TemporaryDirectory() as folder:
            found = measured_apart(case, Path(folder), args)
        print(json.dumps({"case": case, **found}), flush=True)
        lines.append(row(case, found))
    lines += ["", *one_layer(args.threads), "", *on_paper(), ""]
    Path(__file__).with_suffix(".md").write_text("\n".join(lines))


def measured_apart(case: str, folder: Path, args: argparse.Namespace) -> dict[str, Any]:
    """What a process of its own finds."""
    from llmclf.downloads import SMOLLM2

    path = SMOLLM2.locate() if case == "SmolLM2" else write_model(folder / "random.gguf", case, SMOLLM2.locate())
    command = [sys.executable, __file__, "--measure", str(path), "--rows", str(args.rows), "--rounds", str(args.rounds)]
    # Converted weights go with the folder.
    environment = {**os.environ, "LLMCLF_HOME": str(folder / "home"), "OMP_NUM_THREADS": str(args.threads)}
    out = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True, text=True).stdout
    return json.loads(out.splitlines()[-1])


def measure(path: Path, n_rows: int, n_rounds: int) -> dict[str, Any]:
    import torch  # noqa: F401
    import transformers  # noqa: F401

    from llmclf import Prompt, open_backend
    from llmclf.backends import Request

    random = np.random.default_rng(0)
    renderer = Prompt("Review: {{ text }}\nSentiment:").renderer(["positive", "negative"], [])
    texts = [" ".join(random.choice(_SENTENCES, 3)) + f" {i}." for i in range(n_rows)]
    requests = [Request(renderer.render({"text": text}), (" positive", " negative")) for text in texts]
    found: dict[str, Any] = {"file": path.stat().st_size, "start": _memory("VmRSS")}
    seconds: dict[str, list[float]] = {"file": [], "decoded": []}
    processor: dict[str, list[float]] = {"file": [], "decoded": []}
    answers: dict[str, Any] = {}
    backends: dict[str, Any] = {}
    for number in range(n_rounds):
        for memory in ("file", "decoded"):
            if memory not in backends:
                began = time.perf_counter()
                backends[memory] = open_backend(f"gguf:{path}", memory=memory, device="cpu", batch_tokens=2048)
                backends[memory].identity()
                found[f"open_{memory}"] = time.perf_counter() - began
            clock, of_processor = time.perf_counter(), time.process_time()
            answers[memory] = dict(backends[memory].score(requests))
            seconds[memory].append(time.perf_counter() - clock)
            processor[memory].append(time.process_time() - of_processor)
            if memory == "file" and number == 0:
                found |= {"peak": _memory("VmHWM"), "own": _memory("RssAnon"), "mapped": _memory("RssFile")}
    found["tokens"] = sum(len(backends["file"].tokenizer(text)["input_ids"]) for text in texts)
    for memory in seconds:
        found[f"seconds_{memory}"] = median(seconds[memory])
    found["ratio"] = [median(a / b for a, b in zip(x["decoded"], x["file"], strict=True)) for x in (seconds, processor)]
    found["difference"] = max(
        abs(a - b)
        for place, one in answers["file"].items()
        for ours, theirs in zip(one.token_logprobs, answers["decoded"][place].token_logprobs, strict=True)
        for a, b in zip(ours, theirs, strict=True)
    )
    return found


def _memory(name: str) -> int:
    """Bytes of this process, as the system counts them."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


def write_model(path: Path, type_name: str, vocabulary: Path) -> Path:
    """A random model with the vocabulary of another file."""
    import gguf

    random = np.random.default_rng(0)
    reader = gguf.GGUFReader(vocabulary)
    n_words = len(reader.fields["tokenizer.ggml.tokens"].data)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("random")
    values = {
        "vocab_size": n_words,
        "context_length": 2048,
        "embedding_length": HIDDEN,
        "block_count": LAYERS,
        "feed_forward_length": FFN,
        "attention.head_count": HEADS,
        "attention.head_count_kv": KV_HEADS,
        "rope.dimension_count": HIDDEN // HEADS,
    }
    for name, value in values.items():
        writer.add_uint32(f"llama.{name}", value)
    writer.add_float32("llama.attention.layer_norm_rms_epsilon", 1e-5)
    writer.add_float32("llama.rope.freq_base", 10000.0)
    for field in reader.fields.values():
        if field.name.startswith("tokenizer."):
            inner = field.types[-1] if len(field.types) > 1 else None
            writer.add_key_value(field.name, field.contents(), field.types[0], sub_type=inner)
    narrow = KV_HEADS * HIDDEN // HEADS
    shapes = {"token_embd": (n_words, HIDDEN), "output": (n_words, HIDDEN)}
    for i in range(LAYERS):
        shapes |= {
            f"blk.{i}.attn_q": (HIDDEN, HIDDEN),
            f"blk.{i}.attn_k": (narrow, HIDDEN),
            f"blk.{i}.attn_v": (narrow, HIDDEN),
            f"blk.{i}.attn_output": (HIDDEN, HIDDEN),
            f"blk.{i}.ffn_gate": (FFN, HIDDEN),
            f"blk.{i}.ffn_up": (FFN, HIDDEN),
            f"blk.{i}.ffn_down": (HIDDEN, FFN),
        }
    norms = ["output_norm", *(f"blk.{i}.{norm}_norm" for i in range(LAYERS) for norm in ("attn", "ffn"))]
    kind = gguf.GGMLQuantizationType[type_name]
    block, n_bytes = gguf.GGML_QUANT_SIZES[kind]
    blocks = _blocks(kind, random)
    for name in norms:
        writer.add_tensor_info(f"{name}.weight", (HIDDEN,), np.dtype(np.float32), HIDDEN * 4)
    for name, (n_rows, n_columns) in shapes.items():
        width = n_columns // block * n_bytes
        writer.add_tensor_info(f"{name}.weight", (n_rows, width), np.dtype(np.uint8), n_rows * width, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for _ in norms:
        writer.write_tensor_data(np.ones(HIDDEN, dtype=np.float32))
    for n_rows, n_columns in shapes.values():
        chosen = random.integers(0, len(blocks), n_rows * n_columns // block)
        writer.write_tensor_data(blocks[chosen].reshape(n_rows, -1))
    writer.close()
    return path


def _blocks(kind: Any, random: np.random.Generator) -> np.ndarray:
    """Many blocks whose numbers are about normal, with a standard deviation of 0.02; each occurs many times in a model."""
    import gguf

    block, n_bytes = gguf.GGML_QUANT_SIZES[kind]
    n = 1 << 15
    try:
        found = gguf.quantize(random.normal(0.0, 0.02, (n, block)).astype(np.float32), kind)
        return found.view(np.uint8).reshape(n, n_bytes)
    except NotImplementedError:
        assert kind.name == "Q4_K"
    blocks = random.integers(0, 256, (n, n_bytes), dtype=np.uint8)
    # Scales and minima of 6 bits are the same, and the unit of the minima is 7.5 times that of the scales: 0 is in the middle.
    blocks[:, 0:4] = np.array([0.02 / 150, 7.5 * 0.02 / 150], dtype=np.float16).view(np.uint8)
    blocks[:, 8:12] = blocks[:, 4:8]
    blocks[:, 12:16] = (blocks[:, 12:16] & 15) * 17
    return blocks


_HEAD = [
    "# The memory of a GGUF model that stays in its file",
    "",
    'Written by `gguf_memory.py`. `open_backend(..., memory="file")` against the decoded float32 model, batches of 2,048 tokens '
    "on a CPU. The peak is that of a fresh process: all of its resident pages, those of the mapped file among them (the system "
    'drops them when it needs the place); "own" is what is left without them, Python and its packages included. Allowed are 1.25 '
    "times the file and 800 MB. Speed is relative to the decoded model in the same process, in turns: by the clock, and by the "
    "processor's time. Opening includes the checks of the routes, which decode all weights about twenty times. The decoded "
    "model's opening includes its conversion, which happens once.",
    "",
]
_TABLE = [
    "| file | size, MB | opening, s | opening decoded, s | peak, MB | allowed, MB | own, MB | tokens/s | decoded | speed, "
    "clock | processor | largest difference, nats |",
    "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
]


def row(case: str, found: dict[str, Any]) -> str:
    allowed = ALLOWED[0] * found["file"] + ALLOWED[1]
    title = "SmolLM2-135M, Q4_1" if case == "SmolLM2" else f"1.2 billion weights, {case}"
    speeds = [found["tokens"] / found[f"seconds_{memory}"] for memory in ("file", "decoded")]
    return (
        f"| {title} | {found['file'] / 1e6:,.0f} | {found['open_file']:.0f} | {found['open_decoded']:.0f} | "
        f"{found['peak'] / 1e6:,.0f} | {allowed / 1e6:,.0f} | {found['own'] / 1e6:,.0f} | {speeds[0]:.0f} | {speeds[1]:.0f} | "
        f"{found['ratio'][0]:.2f} | {found['ratio'][1]:.2f} | {found['difference']:.1e} |"
    )


def one_layer(n_threads: int) -> list[str]:
    """How fast one product is, in each of some types."""
    import gguf
    import torch

    from llmclf.backends.local.gguf.layers import FileLinear, FileMatrix, Workspace
    from llmclf.backends.local.products.packed import PackedLinear

    torch.set_num_threads(n_threads)
    states = torch.randn(2048, HIDDEN)
    lines = [
        "## One layer",
        "",
        f"The product of 2,048 states with a matrix of {FFN:,} x {HIDDEN:,}, in milliseconds of the processor, beside that of "
        f"the packed float32 layer of the decoded model; threads: {n_threads}. For one state nearly all is decoding.",
        "",
        "| type | decoded, ms | from the file, ms | speed | one state, ms | million weights a second |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    for type_name in LAYER_TYPES:
        kind = gguf.GGMLQuantizationType[type_name]
        random = np.random.default_rng(0)
        blocks = _blocks(kind, random)
        chosen = random.integers(0, len(blocks), FFN * HIDDEN // gguf.GGML_QUANT_SIZES[kind][0])
        rows = blocks[chosen].reshape(FFN, -1)
        matrix = FileMatrix(rows, type_name, HIDDEN)
        in_file = FileLinear(matrix, None, torch.float32, Workspace())
        packed = PackedLinear(in_file.weight)
        with torch.inference_mode():
            decoded, own = (_processor_time(lambda layer=layer: layer(states)) for layer in (packed, in_file))
            single = _processor_time(lambda layer=in_file: layer(states[:1]))
        lines.append(
            f"| {type_name} | {1e3 * decoded:.0f} | {1e3 * own:.0f} | {decoded / own:.2f} | {1e3 * single:.0f} | "
            f"{FFN * HIDDEN / single / 1e6:.0f} |"
        )
    return lines


def _processor_time(run: Callable[[], Any]) -> float:
    times = []
    for _ in range(4):
        began = time.process_time()
        run()
        times.append(time.process_time() - began)
    return min(times)


def on_paper() -> list[str]:
    """What a model of 8 billion weights takes."""
    layers, hidden, ffn, narrow, words, columns = 32, 4096, 14336, 1024, 128_256, 2048
    per_layer = 2 * hidden * hidden + 2 * hidden * narrow + 3 * hidden * ffn
    weights = layers * per_layer + 2 * words * hidden
    bits = 4.5  # of Q4_K, scales included
    parts = {
        "the file: weights times 4.5 bits (Q4_K; Q4_K_M, with some matrices in Q6_K, has 4.9 GB)": weights * bits / 8,
        "Python, torch and transformers": 450e6,
        "one slab of decoded weights, 2^24 numbers": 4 * 2**24,
        "the feed-forward layer of a batch: gate, its activation, up and their product, columns x 14,336 each": 4
        * 4
        * columns
        * ffn,
        "states, their norm, queries, keys, values and attention of a batch, 6 x columns x 4,096": 6
        * 4
        * columns
        * hidden,
        "logits of a batch, 3 places of 32 rows x 128,256, and those being made": 2 * 4 * 3 * 32 * words,
        "the vocabulary as Python has it": 150e6,
    }
    total = sum(parts.values())
    allowed = ALLOWED[0] * weights * bits / 8 + ALLOWED[1]
    return [
        "## On paper: 8 billion weights",
        "",
        f"Llama-3-8B: {layers} layers, {hidden:,} wide, {ffn:,} in the feed-forward layer, 8 key heads, {words:,} words; "
        f"{weights / 1e9:.2f} billion weights. Decoded they take {4 * weights / 1e9:.1f} GB; the output layer alone has "
        f"{4 * words * hidden / 1e9:.1f} GB, of which one slab is decoded at a time. A batch of {columns:,} columns:",
        "",
        "| part | MB |",
        "|---|--:|",
        *(f"| {name} | {size / 1e6:,.0f} |" for name, size in parts.items()),
        f"| **together** | {total / 1e6:,.0f} |",
        f"| allowed: 1.25 times the file, and 800 MB | {allowed / 1e6:,.0f} |",
        "",
        "The file is by far the largest, and its pages need not be in memory: where they are not, each pass reads them from the "
        "disk. Next come the activations of the feed-forward layer, which shrink with `batch_tokens`.",
    ]


if __name__ == "__main__":
    main()
