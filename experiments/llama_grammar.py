"""How far class probabilities over llama.cpp's server (`grammar`) are from those of the local model with the same file.

The server computes the 4-bit file with 8-bit integers, the local model in float32. Both get the same rows. Needs the data folder
that LLMCLF_DATA names; writes llama_grammar.md beside itself.

    python experiments/llama_grammar.py [--rows 500]
"""

from __future__ import annotations

import argparse
import importlib
import sys
import tempfile
from pathlib import Path

import numpy as np

from llmclf import LLMClassifier, Prompt
from llmclf.backends import OpenAIBackend
from llmclf.cards import load_card
from llmclf.downloads import SMOLLM2

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests"))
servers = importlib.import_module("servers")

REVIEW = "Review: {{ text }}\nSentiment:"
TASKS = {"sst2, 2 labels, no shots": ("sst2", REVIEW, {0: "negative", 1: "positive"}, 0)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=500)
    rows = parser.parse_args().rows
    lines = []
    with tempfile.TemporaryDirectory() as work, servers.llama_server(SMOLLM2.locate(), Path(work)) as url:
        for name, task in TASKS.items():
            lines.append(f"| {name} | {' | '.join(measure(url, rows, *task))} |")
            print(lines[-1], flush=True)
    (HERE / "llama_grammar.md").write_text(to_markdown(lines, rows), encoding="utf-8")


def measure(url: str, n: int, name: str, template: str, words: dict | None, n_shots: int) -> list[str]:
    """One row of the table: how the largest difference of a row's class probabilities is distributed."""
    card = load_card(name)
    train, test = card.load("train", n=200), card.load("test", n=n)
    labels = card.labels if words is None else dict(zip(sorted(set(train["label"])), words.values(), strict=True))
    prompt = Prompt(template, terminator="eos_if_nested")
    options = {"labels": labels, "prompt": prompt, "n_shots": n_shots, "random_state": 0}
    remote = OpenAIBackend("openai:smol", base_url=url, use_route="grammar", concurrency=2)
    ours, theirs = (
        LLMClassifier(model, **options).fit(train[["text"]], train["label"]).predict_proba(test[["text"]])
        for model in ("smollm2", remote)
    )
    difference = np.abs(ours - theirs).max(axis=1)
    differ = int((ours.argmax(axis=1) != theirs.argmax(axis=1)).sum())
    quantiles = np.quantile(difference, [0.5, 0.95, 0.99, 1.0])
    return [str(len(test)), *(f"{value:.3f}" for value in quantiles), f"{(difference > 0.05).mean():.1%}", str(differ)]


def to_markdown(lines: list[str], rows: int) -> str:
    return "\n".join(
        [
            "# llama.cpp's server beside the local model",
            "",
            "The default model's GGUF file (4 bits), computed by llama.cpp's server (route `grammar`) and by the local model,",
            f"with the same prompts and labels, on {rows} test rows. A row's difference is the largest of its classes'",
            "probabilities.",
            "Written by `llama_grammar.py`.",
            "",
            "| task | rows | median | 95 % | 99 % | largest | rows beyond .05 | other predictions |",
            "|---|--:|--:|--:|--:|--:|--:|--:|",
            *lines,
            "",
        ]
    )


if __name__ == "__main__":
    main()
