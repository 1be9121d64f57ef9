"""What share of a label trie's nodes could be left out, if a row may lose a share of its labels' probability?

A node that is not read loses at most the probability of the path to it. So of each row, the nodes with the least probable paths
are left out, as long as what is lost is at most a bound times the probability of all labels together. This is more than any
method could leave out, which does not know the probabilities before it has read the nodes. SmolLM2; Banking77 with its 77
intents, not named and all listed in the instruction, and 1,000 labels of a taxonomy over the same questions. The data set must be
in the folder that LLMCLF_DATA names. Writes label_pruning.md beside itself.

    python experiments/label_pruning.py [--rows 60] [--taxonomy-rows 12]
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from throughput_cases import build_task, requests_of

from llmclf import open_backend
from llmclf.backends.tokens.codec import TokenCodec
from llmclf.backends.tokens.transformers_encoder import TokenizerEncoder, model_context_length

BOUNDS = (1e-6, 1e-4, 1e-3)
N_TAXONOMY = 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, default=60)
    parser.add_argument("--taxonomy-rows", type=int, default=12)
    args = parser.parse_args()
    backend = open_backend("smollm2", device="cpu")
    codec = TokenCodec(TokenizerEncoder(backend.tokenizer), model_context_length(backend.model))
    lines = [
        "# Label nodes that could be left out",
        "",
        "Of each row, the largest share of the trie's inner nodes that could be left out if at most a part of the labels'",
        "probability may be lost: the mean over rows, and the least and the most of any row. Written by `label_pruning.py`.",
        "",
        "| labels | rows | inner nodes | " + " | ".join(f"lost {bound:g}" for bound in BOUNDS) + " |",
        "|---|--:|--:|" + "--:|" * len(BOUNDS),
    ]
    for name, n_rows in (("c", args.rows), ("c2", args.rows), ("e", args.taxonomy_rows)):
        task = build_task(name, backend.tokenizer, n_rows)
        words = task.completions[:: max(1, len(task.completions) // N_TAXONOMY)]
        requests = requests_of(task.spans, words)
        rows, answers = codec.encode(requests), dict(backend.score(requests))
        shares = np.array([left_out(row.targets, answers[i].token_logprobs) for i, row in enumerate(rows)])
        n_nodes = np.mean([len(inner(row.targets)) for row in rows])
        title = task.title if len(words) == len(task.completions) else f"every second label of: {task.title}"
        cells = [f"{of.mean():.0%} [{of.min():.0%}–{of.max():.0%}]" for of in shares.T]
        lines.append(f"| {title} | {n_rows} | {n_nodes:.0f} | " + " | ".join(cells) + " |")
        print(lines[-1], flush=True)
    Path(__file__).with_suffix(".md").write_text("\n".join([*lines, ""]))


def inner(targets: Iterable[tuple[int, ...]]) -> set[tuple[int, ...]]:
    """The paths of the inner nodes."""
    return {target[:j] for target in targets for j in range(1, len(target))}


def left_out(targets: Iterable[tuple[int, ...]], logprobs: Iterable[Iterable[float]]) -> list[float]:
    """The largest share of the inner nodes that may be left out for each bound."""
    paths: dict[tuple[int, ...], float] = {}
    mass = 0.0
    for target, of_tokens in zip(targets, logprobs, strict=True):
        probabilities = np.exp(np.cumsum(list(of_tokens)))
        mass += probabilities[-1]
        paths |= {target[:j]: probabilities[j - 1] for j in range(1, len(target))}
    found = []
    for bound in BOUNDS:
        best = 0
        # What begins with a node that is left out is left out with it: its path is no more probable.
        for least in sorted(set(paths.values())):
            out = {path for path, probability in paths.items() if probability <= least}
            lost = sum(paths[path] for path in out if path[:-1] not in out)
            if lost > bound * mass:
                break
            best = len(out)
        found.append(best / len(paths))
    return found


if __name__ == "__main__":
    main()
