"""What do hidden states cost? Rows per second with and without them, in one process, in interleaved rounds.

The cases are (a) and (b) of throughput.py: SST-2 with 4 shots, TREC with 6. In each round both ways score the same rows, the one
first that was second before; the ratio of a round is seconds with states by seconds without. Seconds of the processor are given
as well, since they say more than those of the clock where other processes are at work. Label scores must be the same to the last
digit. Needs the data folder that LLMCLF_DATA names. Writes states_cost.md beside itself.

    python experiments/states_cost.py [--cases a b] [--rows 96] [--rounds 15] [--threads 1]
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path
from statistics import median

import torch
from throughput_cases import build_task, requests_of

from llmclf import open_backend
from llmclf.backends.requests import STATE_PARTS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--cases", nargs="+", choices=["a", "b"], default=["a", "b"])
    parser.add_argument("--rows", type=int, default=96)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    backend = open_backend("smollm2", device="cpu")
    lines = [
        "# What hidden states cost",
        "",
        f"SmolLM2-135M, {args.threads} thread, {args.rows} rows, {args.rounds} interleaved rounds: medians, and the quartiles of "
        "the ratio over the rounds, by the clock and by the processor's time. Label scores are the same to the last digit. "
        "Written by `states_cost.py`.",
        "",
        "| case | rows/s without | rows/s with states | clock, with / without | processor, the same |",
        "|---|--:|--:|--:|--:|",
    ]
    for name in args.cases:
        task = build_task(name, backend.tokenizer, args.rows)
        plain = requests_of(task.spans, task.completions)
        # What requests_of makes of spans knows no row; here the last piece of data of each prompt is its text.
        asked = [replace(request, prompt=_with_row(request.prompt), states=STATE_PARTS) for request in plain]
        dict(backend.score(plain)), dict(backend.score(asked))  # warm
        clock: dict[bool, list[float]] = {False: [], True: []}
        processor: dict[bool, list[float]] = {False: [], True: []}
        for number in range(args.rounds):
            answers = {}
            for with_states in (number % 2 == 0, number % 2 == 1):
                began = time.perf_counter(), time.process_time()
                answers[with_states] = dict(backend.score(asked if with_states else plain))
                clock[with_states].append(time.perf_counter() - began[0])
                processor[with_states].append(time.process_time() - began[1])
            assert answers[True] == answers[False], "states changed a score"
            assert all(answer.states is not None for answer in answers[True].values())
        without, with_ = (args.rows / median(clock[key]) for key in (False, True))
        lines.append(f"| {task.title} | {without:.1f} | {with_:.1f} | {_ratio(clock)} | {_ratio(processor)} |")
    Path(__file__).with_suffix(".md").write_text("\n".join([*lines, ""]))


def _ratio(seconds: dict[bool, list[float]]) -> str:
    ratios = sorted(a / b for a, b in zip(seconds[True], seconds[False], strict=True))
    quarter = len(ratios) // 4
    return f"{median(ratios):.3f} [{ratios[quarter]:.3f}, {ratios[-1 - quarter]:.3f}]"


def _with_row(prompt):
    start = 0
    ranges = ()
    for span in prompt.turns[-1].spans:
        stop = start + len(span.text)
        ranges = ((start, stop),) if span.is_data else ranges
        start = stop
    return replace(prompt, row_ranges=ranges)


if __name__ == "__main__":
    main()
