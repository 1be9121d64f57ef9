"""What does a long text cost, in seconds and memory, beside a bare forward pass over the same tokens?

Texts of sentences in random order, cut to some numbers of characters; the longest exceed the model's context and are shortened.
A bare pass (one call of the transformers model, no cache, logits of the last token) and a call of llmclf (tokenisation included,
two labels, each time another text) take turns in one process; the first call of a length also checks that length. Peak memory is
that of fresh processes, one of which scores a text, and one of which makes the bare pass. Writes long_texts.md beside itself.

    python experiments/long_texts.py [--characters 10000 50000 200000] [--rounds 3] [--model smollm2]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from llmclf import Prompt, open_backend
from llmclf.backends import Request
from llmclf.backends.tokens.codec import TokenCodec, TokenRow
from llmclf.backends.tokens.transformers_encoder import TokenizerEncoder, model_context_length

HERE = Path(__file__).resolve().parent
PROMPT = Prompt("Review: {{ text }}\nSentiment:")
LABELS = ["good", "bad"]
SENTENCES = [
    "The film was long, and its music thin. ",
    "Nobody had told her that the shop would be closed on Monday. ",
    "In 1994 the team won 3 of 17 games. ",
    "What do you think of the ending? ",
]


def question(n_characters: int, seed: int) -> Request:
    """A text of so many characters, and the labels."""
    sentences = random.Random(seed).choices(SENTENCES, k=n_characters // 20)
    row = {"text": "".join(sentences)[:n_characters]}
    return Request(PROMPT.renderer(LABELS).render(row), tuple(map(PROMPT.completion, LABELS)))


def encoded(backend: Any, request: Request) -> TokenRow:
    """The tokens that the model reads."""
    codec = TokenCodec(TokenizerEncoder(backend.tokenizer), model_context_length(backend.model))
    return codec.encode([request])[0]


def seconds(function: Callable[[], Any]) -> float:
    begun = time.perf_counter()
    function()
    return time.perf_counter() - begun


def bare(backend: Any, request: Request) -> Callable[[], Any]:
    """A pass over the tokens that the backend would read."""
    row = encoded(backend, request)

    def forward() -> None:
        with torch.inference_mode():
            backend.model(input_ids=torch.tensor([row.context]), use_cache=False, logits_to_keep=1)

    return forward


def peak(n_characters: int, model: str, is_bare: bool) -> None:
    """Print the peak memory of this process, in MB, before and after a text."""
    backend, request = open_backend(model), question(n_characters, 0)
    forward = bare(backend, request)
    before = memory()
    forward() if is_bare else list(backend.score([request]))
    print(json.dumps([before, memory()]))


def memory() -> float:
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) / 1024


def measured(n_characters: int, model: str, rounds: int) -> str:
    """A row of the table."""
    backend = open_backend(model)
    request = question(n_characters, 0)
    row = encoded(backend, request)
    first = seconds(lambda: list(backend.score([request])))
    ours, plain = [], []
    for seed in range(1, rounds + 1):
        other = question(n_characters, seed)
        plain.append(seconds(bare(backend, other)))
        ours.append(seconds(lambda other=other: list(backend.score([other]))))
        print(f"{n_characters}: {ours[-1]:.1f} s, bare {plain[-1]:.1f} s", flush=True)
    peaks = []
    for flag in ([], ["--bare"]):
        command = [sys.executable, __file__, "--peak", str(n_characters), "--model", model, *flag]
        lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
        peaks.append("{:.0f} to {:.0f}".format(*json.loads(lines[-1])))
    ratio = statistics.median(a / b for a, b in zip(ours, plain, strict=True))
    return (
        f"| {n_characters:,} | {len(row.context):,} | {first:.1f} | {statistics.median(ours):.1f} | "
        f"{statistics.median(plain):.1f} | {ratio:.2f} | {peaks[0]} | {peaks[1]} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--characters", type=int, nargs="+", default=[10_000, 50_000, 200_000])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--peak", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--bare", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(2)
    if options.peak:
        peak(options.peak, options.model, options.bare)
        return
    lines = [measured(n, options.model, options.rounds) for n in options.characters]
    text = (
        "# Long texts\n\n"
        f"{options.model}, float32, two labels, 2 threads, the default `batch_tokens`. Median of {options.rounds} rounds, in "
        f"turn; peak memory of fresh processes in MB, from before the text to after it. {os.cpu_count()} cores, torch "
        f"{torch.__version__}, transformers {version('transformers')}, Python {platform.python_version()}. Written by "
        "`long_texts.py`.\n\n"
        "| characters | tokens read | first call, s | later calls, s | bare pass, s | ratio | peak, MB | of a bare pass, MB |\n"
        "|--:|--:|--:|--:|--:|--:|--:|--:|\n" + "\n".join(lines) + "\n"
    )
    (HERE / "long_texts.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
