"""What do bfloat16 and 8-bit products gain, and what do they change in scores, accuracy and calibration?

SmolLM2 scores labelled and test rows of eight data sets in each type; the calibrator "auto" is fitted on the labelled rows of
each type and judged on the same test rows. Speed is that of cases (a) and (b) of throughput.py, all types in one process, in
interleaved rounds; memory that of a process of its own that loads the model and scores case (a). A type that the processor lacks
is left out, with its reason. 8-bit integers are no option of the package: their layers are in int8_linear.py, once as they are,
and once with the 32 largest columns of the states of each layer in float32. The data sets must be in the folder that LLMCLF_DATA
names. Writes number_types.md beside itself.

    python experiments/number_types.py [--labelled 200] [--test 400] [--rounds 3] [--rows 96] [--threads 2]
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from statistics import mean, median
from typing import Any

import numpy as np
import torch
from int8_linear import quantise
from throughput_cases import build_task, requests_of
from throughput_table import machine_facts

from llmclf import LLMClassifier, Prompt, open_backend
from llmclf.calibration import AutoCalibrator
from llmclf.cards import load_card
from llmclf.downloads import SMOLLM2
from llmclf.errors import InputError
from llmclf.logits import softmax
from llmclf.metrics import accuracy, expected_calibration_error, log_loss

HERE = Path(__file__).resolve().parent
TYPES = ("float32", "bfloat16", "int8", "int8, 32 columns float32")
DATA_SETS = ("sst2", "mr", "subj", "agnews", "trec", "snips", "sms_spam", "rte")
CASES = ("a", "b")
N_OUTLIERS = 32
WARM = "The plot is thin, but the actors were superb, and what a delight the music was from start to finish! " * 40


def opened(dtype: str) -> Any:
    """A backend on the model in one type."""
    if not dtype.startswith("int8"):
        backend = open_backend("smollm2", device="cpu", dtype=dtype)
        backend.identity()
        return backend
    # By its file's name it is another model than "smollm2", so its layers can be replaced; which way of scoring is exact for long
    # rows is found before, since rounding would hide it.
    link = Path(tempfile.mkdtemp()) / "model.gguf"
    link.symlink_to(SMOLLM2.locate())
    backend = open_backend(f"gguf:{link}", device="cpu", memory="decoded")
    list(backend.score(requests_of([[(WARM, False)]], [" good", " bad"])))
    ids = torch.tensor([backend.tokenizer(WARM)["input_ids"][:256]])
    quantise(backend.model, ids, N_OUTLIERS if "columns" in dtype else 0)
    return backend


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--labelled", type=int, default=200)
    parser.add_argument("--test", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rows", type=int, default=96)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--sets", nargs="+", default=list(DATA_SETS))
    parser.add_argument(
        "--memory-of", choices=TYPES, help="print the memory of this process after some rows in one type"
    )
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.memory_of:
        backend = opened(args.memory_of)
        task = build_task("a", backend.tokenizer, 32)
        list(backend.score(requests_of(task.spans, task.completions)))
        status = Path("/proc/self/status").read_text()
        print(json.dumps({name: int(re.search(rf"{name}:\s+(\d+)", status)[1]) / 1e6 for name in ("VmHWM", "VmRSS")}))
        return
    backends, absent = {}, []
    for dtype in TYPES:
        try:
            backends[dtype] = opened(dtype)
        except InputError as error:
            absent.append(str(error))
    results = {name: judged(name, backends, args.labelled, args.test) for name in args.sets}
    speeds = {case: speed(case, backends, args.rows, args.rounds) for case in CASES}
    memory = {dtype: memory_of(dtype, args.threads) for dtype in backends}
    (HERE / "number_types.md").write_text("\n".join(table(args, backends, absent, results, speeds, memory)))


def judged(name: str, backends: dict, n_labelled: int, n_test: int) -> dict[str, dict[str, float]]:
    """Of each type: how far its scores are from float32, and what they are worth before and after calibration."""
    card = load_card(name)
    labelled, test = card.load("train", n=n_labelled), card.load("test", n=n_test)
    columns = list(card.text_columns)
    found: dict[str, dict[str, float]] = {}
    exact = None
    for dtype, backend in backends.items():
        clf = LLMClassifier(
            model=backend, labels=card.labels, prompt=Prompt(card.prompt_template, instruction=card.instruction)
        )
        scores = [
            clf.fit(X).score_labels(X)
            for X in (rows[columns] if len(columns) > 1 else rows[columns[0]] for rows in (labelled, test))
        ]
        order = {label: k for k, label in enumerate(clf.classes_.tolist())}
        y_labelled, y = (np.array([order[label] for label in rows["label"]]) for rows in (labelled, test))
        exact = scores[1] if exact is None else exact
        raw = softmax(scores[1])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            calibrated = AutoCalibrator().fit(scores[0], y_labelled).predict_proba(scores[1])
        found[dtype] = {
            "largest": float(np.abs(scores[1] - exact).max()),
            "mean": float(np.abs(scores[1] - exact).mean()),
            "accuracy raw": accuracy(y, raw),
            "accuracy": accuracy(y, calibrated),
            "log loss": log_loss(y, calibrated),
            "ECE raw": expected_calibration_error(y, raw),
            "ECE": expected_calibration_error(y, calibrated),
        }
        print(name, dtype, {key: round(value, 4) for key, value in found[dtype].items()}, flush=True)
    return found


def speed(case: str, backends: dict, n_rows: int, n_rounds: int) -> dict[str, list[float]]:
    """Rows per second in each round."""
    task = build_task(case, next(iter(backends.values())).tokenizer, n_rows)
    requests = requests_of(task.spans, task.completions)
    rates: dict[str, list[float]] = {dtype: [] for dtype in backends}
    for number in range(n_rounds + 1):
        for dtype, backend in backends.items():
            began = time.perf_counter()
            list(backend.score(requests))
            if number:  # the first round warms up
                rates[dtype].append(n_rows / (time.perf_counter() - began))
    print(case, rates, flush=True)
    return rates


def memory_of(dtype: str, n_threads: int) -> dict[str, float]:
    """Gigabytes of a process that has scored some rows: now, and at most."""
    words = [sys.executable, __file__, "--memory-of", dtype, "--threads", str(n_threads)]
    return json.loads(subprocess.run(words, check=True, capture_output=True, text=True).stdout.splitlines()[-1])


def table(args, backends: dict, absent: list[str], results: dict, speeds: dict, memory: dict) -> list[str]:
    def average(dtype: str, key: str) -> float:
        return mean(of_set[dtype][key] for of_set in results.values())

    machine = machine_facts(args.threads)
    lines = [
        "# Types of numbers",
        "",
        (__doc__ or "").partition("\n")[0],
        "",
        f"{machine['date']}. {machine['processor']} ({', '.join(machine['flags'])}), {args.threads} threads. SmolLM2-135M; "
        f"{len(results)} data sets ({', '.join(results)}), {args.labelled} labelled and up to {args.test} test rows each; "
        f"speed: {args.rows} rows, medians of {args.rounds} interleaved rounds. Score differences from float32 in nats. "
        'Accuracy, log loss and calibration error after the calibrator "auto" but where they are called raw. '
        "Written by `number_types.py`.",
        "",
        *(f"Left out: {reason}." for reason in absent),
        *([""] if absent else []),
        "| dtype | rows/s (a) | rows/s (b) | times float32 (a) | (b) | largest difference | mean difference "
        "| accuracy raw | accuracy | log loss | ECE raw | ECE | memory at most | memory at the end |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for dtype in backends:
        rates = [median(speeds[case][dtype]) for case in CASES]
        ratios = [
            median(ours / plain for ours, plain in zip(speeds[case][dtype], speeds[case]["float32"], strict=True))
            for case in CASES
        ]
        lines.append(
            f"| {dtype} | {rates[0]:.1f} | {rates[1]:.1f} | {ratios[0]:.2f} | {ratios[1]:.2f} "
            f"| {max(of_set[dtype]['largest'] for of_set in results.values()):.2f} | {average(dtype, 'mean'):.3f} "
            + "".join(
                f"| {average(dtype, key):.4f} " for key in ("accuracy raw", "accuracy", "log loss", "ECE raw", "ECE")
            )
            + f"| {memory[dtype]['VmHWM']:.2f} GB | {memory[dtype]['VmRSS']:.2f} GB |"
        )
    lines += ["", "By data set: accuracy / log loss / ECE after calibration, and the mean score difference.", ""]
    lines += ["| data set | " + " | ".join(backends) + " |", "|---|" + "---|" * len(backends)]
    for name, of_set in results.items():
        cells = [
            f"{of['accuracy']:.3f} / {of['log loss']:.3f} / {of['ECE']:.3f}, {of['mean']:.3f}" for of in of_set.values()
        ]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return [*lines, ""]


if __name__ == "__main__":
    main()
