"""How much faster is it to compute rows with the same beginning together, such as several questions about each long document?

The documents are film reviews (imdb), each followed by the same few questions. The rows are shuffled; a job sorts them. llmclf
is compared with llmclf without groups, which shares only the beginning of all rows. Both run in turn on the same rows in the same
process, and all scores must agree. Needs the data folder that LLMCLF_DATA names; writes shared_documents.md beside itself.

    python experiments/shared_documents.py [--documents 24] [--rounds 3] [--model smollm2]
"""

from __future__ import annotations

import argparse
import os
import platform
import random
import statistics
import time
from importlib.metadata import version
from pathlib import Path
from unittest import mock

import numpy as np
import pandas as pd
import torch

from llmclf import open_backend
from llmclf.backends.local import backend as local
from llmclf.backends.local import trie_batches as trie
from llmclf.cards import load_card
from llmclf.jobs import label_table

HERE = Path(__file__).resolve().parent
QUESTIONS = [
    "the acting",
    "the story",
    "the pictures",
    "the music",
    "the length",
    "the ending",
    "the jokes",
    "the director",
]
TEMPLATE = "{{ review }}\n\nWhat does this review say about {{ question }}?\nAnswer:"
LABELS = ["good things", "bad things", "nothing"]


def ungrouped(rows: list, least_saving: int) -> list:
    """One group of all rows: what a trie without groups would share."""
    return trie.groups(rows, 1 << 60)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--documents", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--model", default="smollm2")
    options = parser.parse_args()
    reviews = load_card("imdb").load("test", n=options.documents)["text"].tolist()
    pairs = [(review, question) for review in reviews for question in QUESTIONS]
    random.Random(0).shuffle(pairs)
    table = pd.DataFrame(pairs, columns=["review", "question"])
    backend = open_backend(options.model)
    job = {"labels": LABELS, "prompt": TEMPLATE, "model": backend, "logprobs": True}
    label_table(table.head(4), **job)
    contenders = {"in groups": local.groups, "without groups": ungrouped}
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    scores = {}
    for _ in range(options.rounds):
        for name, groups in contenders.items():
            with mock.patch.object(local, "groups", groups):
                begun = time.perf_counter()
                frame = label_table(table, **job).table
                seconds[name].append(time.perf_counter() - begun)
            scores[name] = frame[[f"logprob_{label}" for label in LABELS]].to_numpy()
            print(f"{name}: {seconds[name][-1]:.1f} s", flush=True)
    difference = float(np.abs(scores["in groups"] - scores["without groups"]).max())
    assert difference < 1e-4, difference
    tokens = [len(backend.tokenizer(review)["input_ids"]) for review in reviews]
    base = statistics.median(seconds["without groups"])
    ratios = [slow / fast for slow, fast in zip(seconds["without groups"], seconds["in groups"], strict=True)]
    lines = [
        f"| {name} | {len(pairs) / statistics.median(times):.1f} | {base / statistics.median(times):.2f} |"
        for name, times in seconds.items()
    ]
    text = (
        "# Several questions about each long document\n\n"
        f"{len(QUESTIONS)} questions about each of {len(reviews)} film reviews (imdb) of {min(tokens)} to {max(tokens)} tokens, "
        f"median {statistics.median(tokens):.0f}; {len(pairs)} shuffled rows, {len(LABELS)} labels, {options.model}, float32. "
        f"Median of {options.rounds} rounds, in turn; the ratio ranged from {min(ratios):.2f} to {max(ratios):.2f}. "
        f"Scores differ by at most {difference:.1e}. {os.cpu_count()} cores, torch {torch.__version__}, "
        f"transformers {version('transformers')}, Python {platform.python_version()}. Written by `shared_documents.py`.\n\n"
        "| | rows/s | speed-up |\n|---|--:|--:|\n" + "\n".join(lines) + "\n"
    )
    (HERE / "shared_documents.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
