"""Which exact route is faster on vLLM, for which labels: echoes of prompt and label, or named tokens along the label trie?

One vLLM server on this machine's processor (`make servers`) serves the default model in float32. The routes run in interleaved
rounds, and every run has new rows, so that no text is in the server's prefix cache. The scores of both are compared with those of
the local model. Needs the data folder that LLMCLF_DATA names; writes vllm_routes.md beside itself.

    python experiments/vllm_routes.py [--rounds 3] [--cases a,b,c,d]
"""

from __future__ import annotations

import argparse
import importlib
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from throughput_cases import build_task, requests_of

from llmclf import open_backend
from llmclf.backends import OpenAIBackend, Request, RowScores
from llmclf.backends.local.weights import converted
from llmclf.backends.openai.routes.base import RouteOptions
from llmclf.backends.openai.routes.choice import Choice
from llmclf.backends.tokens.codec import TokenCodec
from llmclf.backends.tokens.label_trie import label_trie
from llmclf.backends.tokens.transformers_encoder import TokenizerEncoder
from llmclf.downloads import SMOLLM2

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests"))
servers = importlib.import_module("servers")
vllm_env = importlib.import_module("vllm_env")

ROUTES = ("echo", "named_tokens")
ROWS = {"a": 24, "b": 8, "c": 2, "d": 6}  # per round
CONCURRENCY = 4


def main() -> None:
    arguments = _arguments()
    weights = converted(SMOLLM2.locate())[0]
    local = open_backend("smollm2")
    lines = []
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work)
        with servers.vllm(servers.model_folder(weights, folder / "model"), folder) as url:
            for name in arguments.cases.split(","):
                lines.append(measure(name, arguments.rounds, url, str(weights), local))
                print(lines[-1], flush=True)
    (HERE / "vllm_routes.md").write_text(to_markdown(lines, arguments.rounds), encoding="utf-8")


def measure(name: str, rounds: int, url: str, tokenizer: str, local: Any) -> str:
    """One row of the table."""
    n = ROWS[name]
    task = build_task(name, local.tokenizer, n * (rounds + 1) * len(ROUTES))
    requests = requests_of(task.spans, task.completions)
    backends = {
        route: OpenAIBackend("openai:smol", base_url=url, tokenizer=tokenizer, use_route=route, concurrency=CONCURRENCY)
        for route in ROUTES
    }
    seconds: dict[str, list[float]] = {route: [] for route in ROUTES}
    worst = 0.0
    start = 0
    for number in range(rounds + 1):
        for route in ROUTES if number % 2 else ROUTES[::-1]:
            part = requests[start : start + n]
            start += n
            begun = time.perf_counter()
            answers = score(backends[route], part)
            if number:  # the first round warms up
                seconds[route].append(time.perf_counter() - begun)
            else:
                worst = max(worst, difference(answers, score(local, part)))
    speed = {route: n / median(seconds[route]) for route in ROUTES}
    ratios = [one / other for one, other in zip(seconds["echo"], seconds["named_tokens"], strict=True)]
    rows = list(enumerate(TokenCodec(TokenizerEncoder(local.tokenizer), 8192).encode(requests[:n])))
    n_nodes = sum(label_trie(row.targets).n_nodes + 1 for _, row in rows) / n
    n_tokens = sum(len(row.context) for _, row in rows) / n
    chosen = Choice(RouteOptions(top_calls=1, tolerance=0.0)).settle(rows).name
    return (
        f"| {task.title} | {n_tokens:.0f} | {n_nodes:.0f} | {speed['echo']:.2f} | {speed['named_tokens']:.2f} | "
        f"{median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}) | {chosen} | {worst:.5f} |"
    )


def difference(ours: Sequence[RowScores], expected: Sequence[RowScores]) -> float:
    """The largest difference of a label's score, in nats."""
    pairs = zip(ours, expected, strict=True)
    return max(abs(a - b) for one, other in pairs for a, b in zip(one.sums, other.sums, strict=True))


def score(backend: Any, requests: Sequence[Request]) -> list[RowScores]:
    return [answer for _, answer in sorted(backend.score(requests), key=lambda pair: pair[0])]


def to_markdown(lines: Sequence[str], rounds: int) -> str:
    head = f"""# vLLM: echo or named_tokens

`python experiments/vllm_routes.py`: vLLM {vllm_env.VERSION} on two cores, SmolLM2-135M in float32, {CONCURRENCY} requests at
once, medians of {rounds} interleaved rounds.

| case | prompt tokens | nodes of the label trie | echo, rows/s | named_tokens, rows/s | \
time of echo / time of named_tokens | chosen | largest difference from the local model, nats |
|---|--:|--:|--:|--:|--:|---|--:|
"""
    tail = """
The echo route reads prompt and label again for every label, because vLLM does not use its prefix cache when it returns the
log-probabilities of a prompt. The `named_tokens` route reads each prompt once, and the beginning that all rows share only once;
each further node of the label trie costs another prompt, of which the cache holds all but the last block. The backend counts the
tokens of both routes and takes the cheaper one (the route `choice`).
"""
    return head + "\n".join(lines) + "\n" + tail


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cases", default="a,b,c,d")
    return parser.parse_args()


if __name__ == "__main__":
    main()
