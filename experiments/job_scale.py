"""What does a labelling job cost besides the model: time and memory for a hundred thousand and a million rows, journal included?

The model is `FakeBackend`, which answers from a hash. The same rows are also rendered and scored in a plain loop that stores
nothing, in the same run. The extra time of a job is its overhead: reading the table twice, ids, planning, journal, labels,
writing. Each measurement has its own process. Writes job_scale.md beside itself.

    python experiments/job_scale.py [--rows 100000 1000000] [--rounds 3]
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path
from typing import Any

from llmclf import Prompt
from llmclf.backends import FakeBackend, Request
from llmclf.jobs import label_table
from llmclf.tables.files import read_table

HERE = Path(__file__).resolve().parent
LABELS, TEMPLATE = ("good", "bad"), "Review: {{ text }}\nSentiment:"
KINDS = ("plain loop", "job", "job, resumed when done")


def text_of(i: int) -> str:
    return (
        f"review number {i}: the film was quite {('good', 'bad', 'odd')[i % 3]}, and long enough to fill a line of text"
    )


def write_input(path: Path, n: int) -> None:
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["id", "text"])
        writer.writerows((f"row-{i * 7919 % n}", text_of(i)) for i in range(n))


def plain_loop(n: int) -> None:
    """Render and score, and store nothing."""
    prompt = Prompt(TEMPLATE)
    renderer = prompt.renderer(list(LABELS))
    completions = tuple(prompt.completion(label) for label in LABELS)
    backend = FakeBackend()
    requests = (Request(renderer.render({"text": text_of(i)}), completions) for i in range(n))
    n_scored = 0
    while part := list(islice(requests, 4096)):
        n_scored += sum(1 for _ in backend.score(part))
    assert n_scored == n


def job(folder: Path, n: int, *, resume: bool) -> None:
    result = label_table(
        folder / "in.csv",
        folder / "out.csv",
        id_column="id",
        text_column="text",
        labels=list(LABELS),
        prompt=TEMPLATE,
        model=FakeBackend(),
        resume=resume,
    )
    assert (result.summary.labelled, result.summary.asked) == (n, 0 if resume else n)


def measure(kind: str, folder: Path, n: int) -> dict[str, float]:
    """Seconds and peak memory, measured in a new process."""
    command = [sys.executable, __file__, "--measure", kind, "--folder", str(folder), "--rows", str(n)]
    measurement: dict[str, float] = json.loads(
        subprocess.run(command, check=True, capture_output=True, text=True).stdout
    )
    return measurement


def run_one(kind: str, folder: Path, n: int) -> None:
    begun = time.perf_counter()
    if kind == "plain loop":
        plain_loop(n)
    else:
        job(folder, n, resume=kind != "job")
    seconds = time.perf_counter() - begun
    status = Path("/proc/self/status").read_text(encoding="ascii")
    print(json.dumps({"seconds": seconds, "memory": int(status.partition("VmHWM:")[2].split()[0]) / 1024}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        run_one(options.measure, options.folder, options.rows[0])
        return
    lines, sizes = [], []
    for n in options.rows:
        measurements: dict[str, list[dict[str, float]]] = {kind: [] for kind in KINDS}
        for _ in range(options.rounds if n < 500_000 else max(1, options.rounds - 2)):
            with tempfile.TemporaryDirectory(dir=Path.cwd()) as name:
                folder = Path(name)
                write_input(folder / "in.csv", n)
                for kind in KINDS:
                    measurements[kind].append(measure(kind, folder, n))
                    print(n, kind, measurements[kind][-1], flush=True)
                if n < 500_000:
                    assert len(read_table(folder / "out.csv")) == n
                sizes.append(
                    f"{n:,} rows: input {mb(folder / 'in.csv')} MB, journal {mb(folder / 'out.csv.journal')} MB, output "
                    f"{mb(folder / 'out.csv')} MB"
                )
        plain = median(measurements["plain loop"], "seconds")
        for kind in KINDS:
            seconds, memory = median(measurements[kind], "seconds"), max(one["memory"] for one in measurements[kind])
            over = "" if kind == "plain loop" else f"{seconds - (plain if kind == 'job' else 0):.1f}"
            lines.append(f"| {n:,} | {kind} | {seconds:.1f} | {over} | {1e6 * seconds / n:.0f} | {memory:.0f} |")
    text = (
        "# What a labelling job costs besides the model\n\n"
        "A CSV table with an id and a text, two labels, and a model that answers at once, from a hash. *Plain loop*: the same "
        "rows are rendered and scored, but nothing is read, stored or written. *Overhead*: the extra time of the job; for a job "
        "that is resumed when everything is answered, all of its time. Median of the rounds, each in its own process; memory is "
        f"the peak of a process. {os.cpu_count()} cores, Python {platform.python_version()}. Written by `job_scale.py`.\n\n"
        "| rows | | seconds | overhead, s | µs a row | memory, MB |\n|--:|---|--:|--:|--:|--:|\n"
        + "\n".join(lines)
        + "\n\nOn disk: "
        + "; ".join(dict.fromkeys(sizes))
        + ".\n"
    )
    (HERE / "job_scale.md").write_text(text, encoding="utf-8")
    print(text)


def median(measurements: list[dict[str, Any]], name: str) -> float:
    return statistics.median(one[name] for one in measurements)


def mb(file: Path) -> int:
    return round(file.stat().st_size / 1e6)


if __name__ == "__main__":
    main()
