"""How do time and memory grow with the number of labels?

SmolLM2 scores Banking77's questions with 2 to 2,000 labels of the taxonomy of throughput.py, in processes of their own. The rate
is that of the products that the tokens and label nodes of a row need; memory is the peak of the process. The data set must be in
the folder that LLMCLF_DATA names. Writes many_labels.md beside itself.

    python experiments/many_labels.py [--labels 2,20,77,150,500,1000,2000] [--threads 2] [--rounds 3]
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

import torch
from throughput_cases import build_task, requests_of

from llmclf import open_backend
from llmclf.backends.tokens.codec import TokenCodec
from llmclf.backends.tokens.label_trie import n_inner_nodes
from llmclf.backends.tokens.transformers_encoder import TokenizerEncoder, model_context_length

LEAST_COLUMNS = 3000  # of all rows together, so that few labels are measured on many rows


def measured(n_labels: int, rounds: int) -> dict[str, float]:
    """Seconds of a row, nodes, the rate of its products, and the peak memory of this process."""
    backend = open_backend("smollm2", device="cpu")
    task = build_task("e", backend.tokenizer, 200)
    words = task.completions[:: len(task.completions) // n_labels][:n_labels]
    codec = TokenCodec(TokenizerEncoder(backend.tokenizer), model_context_length(backend.model))
    requests = requests_of(task.spans, words)
    (first,) = codec.encode(requests[:1])
    n_rows = max(2, min(len(requests), LEAST_COLUMNS // (n_inner_nodes(first.targets) + 15)))
    requests = requests[:n_rows]
    rows = codec.encode(requests)
    list(backend.score(requests[:1]))
    seconds = []
    for _ in range(rounds):
        began = time.perf_counter()
        list(backend.score(requests))
        seconds.append((time.perf_counter() - began) / n_rows)
    n_nodes = sum(n_inner_nodes(row.targets) for row in rows) / n_rows
    n_columns = sum(len(row.context) for row in rows) / n_rows + n_nodes
    head = backend.model.get_output_embeddings()
    n_head = head.in_features * head.out_features
    # The embedding and the output layer are one matrix, which columns that predict nothing do not meet.
    n_body = sum(
        module.in_features * module.out_features for module in backend.model.modules() if hasattr(module, "in_features")
    )
    n_body -= n_head
    peak = re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())
    assert peak is not None
    return {
        "rows": n_rows,
        "nodes": n_nodes,
        "seconds": median(seconds),
        "gflops": 2e-9 * (n_columns * n_body + (n_nodes + 1) * n_head) / median(seconds),
        "memory": int(peak[1]) / 1e6,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--labels", default="2,20,77,150,500,1000,2000")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--one", type=int, help="print what is measured with one number of labels")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.one:
        print(json.dumps(measured(args.one, args.rounds)))
        return
    lines = [
        "# Many labels",
        "",
        f"SmolLM2-135M, float32, {args.threads} threads, {time.strftime('%Y-%m-%d')}; medians of {args.rounds} rounds. "
        "Written by `many_labels.py`.",
        "",
        "| labels | inner nodes | rows | seconds a row | ms a label | GFLOP/s | peak memory |",
        "|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for n_labels in map(int, args.labels.split(",")):
        command = [sys.executable, __file__, "--one", str(n_labels), "--threads", str(args.threads)]
        found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])
        lines.append(
            f"| {n_labels:,} | {found['nodes']:,.0f} | {found['rows']:.0f} | {found['seconds']:.3f} "
            f"| {1000 * found['seconds'] / n_labels:.1f} | {found['gflops']:.0f} | {found['memory']:.2f} GB |"
        )
        print(lines[-1], flush=True)
    Path(__file__).with_suffix(".md").write_text("\n".join([*lines, ""]))


if __name__ == "__main__":
    main()
