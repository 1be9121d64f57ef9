"""How long does a report of 100,000 rows and ten classes take, and how large is its page?

Writes report_speed.md beside itself.

    python experiments/report_speed.py [--rounds 3]
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import time
from pathlib import Path

import numpy as np

from llmclf.logits import softmax
from llmclf.report import CalibrationReport

HERE = Path(__file__).resolve().parent
N_ROWS, N_CLASSES = 100_000, 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    rng = np.random.default_rng(0)
    proba = softmax(rng.normal(size=(N_ROWS, N_CLASSES)) * 2)
    y = (proba.cumsum(axis=1) < rng.random(N_ROWS)[:, None]).sum(axis=1).clip(0, N_CLASSES - 1)
    sharper = softmax(2.0 * np.log(proba))
    texts = ["a message of some length " * 20] * N_ROWS
    cases = {
        "probabilities alone": {},
        "with probabilities before calibration": {"proba_before": sharper},
        "and with five slices and texts": {
            "proba_before": sharper,
            "groups": np.arange(N_ROWS) % 5,
            "texts": texts,
        },
    }
    CalibrationReport(y[:500], proba[:500]).to_html()  # imports and fonts
    lines = []
    for name, options in cases.items():
        numbers, pages = [], []
        for _ in range(rounds):
            began = time.perf_counter()
            report = CalibrationReport(y, proba, **options)
            made = time.perf_counter()
            page = report.to_html()
            numbers.append(made - began)
            pages.append(time.perf_counter() - made)
        first, second = statistics.median(numbers), statistics.median(pages)
        size = len(page.encode()) / 1e6
        lines.append(f"| {name} | {first:.1f} | {second:.1f} | {first + second:.1f} | {size:.2f} |")
        print(lines[-1], flush=True)
    text = (
        "# Speed of the report\n\n"
        f"{N_ROWS:,} rows, {N_CLASSES} classes; median of {rounds} rounds, in seconds, after a warm-up. "
        f"{os.cpu_count()} cores, Python {platform.python_version()}, numpy {np.__version__}. Written by `report_speed.py`.\n\n"
        "| report | numbers | page | total | page, MB |\n|---|--:|--:|--:|--:|\n"
    )
    (HERE / "report_speed.md").write_text(text + "\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
