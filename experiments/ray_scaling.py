"""Is a labelling job faster with more Ray actors, and what does Ray cost compared with one process?

A server in its own process takes half a second for each request, so the number of requests in flight sets the speed. The same
rows are labelled by one process and by 1, 2 and 4 actors, each with the same number of requests in flight. Ray and its workers
are started beforehand; only the asking is timed, from the first request that the server receives to the last. Writes
ray_scaling.md beside itself.

    python experiments/ray_scaling.py [--rows 800] [--concurrency 8] [--rounds 3]
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import statistics
import sys
import threading
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd

from llmclf import Prompt, open_backend
from llmclf.jobs import label_table
from llmclf.jobs.asking.ray import RayAsking

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests"))
LATENCY = 0.5
PAGE = 100  # questions that an actor receives together; its last requests wait for no others


def serve(pipe: Any) -> None:
    """The server: sends its address and, on request, when it received the rows of one run."""
    from faults import FakeServer

    with FakeServer("openai_chat", latency=LATENCY) as server:
        pipe.send(server.url)
        while pipe.recv():
            times = [(r.time, r.done) for r in list(server.requests) if "Review: row" in json.dumps(r.body)]
            server.requests.clear()
            pipe.send((len(times), max(done or 0.0 for _, done in times) - min(time for time, _ in times)))


def run(url: str, rows: int, concurrency: int, actors: int | None) -> float:
    """Label the rows and return the total time, everything included."""
    begun = time.perf_counter()
    result = label_table(
        pd.DataFrame({"text": [f"row {i} of the table" for i in range(rows)]}),
        text_column="text",
        labels=["good", "bad"],
        prompt=Prompt("Review: {{ text }}", chat=True),
        model=open_backend("openai:tiny", base_url=url, concurrency=concurrency, api_key_env=""),
        asking=None if actors is None else RayAsking("auto", actors=actors, page=PAGE, num_cpus=0.5),
    )
    assert result.summary.labelled == rows
    return time.perf_counter() - begun


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, default=800)
    parser.add_argument("--concurrency", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    import ray

    ours, theirs = multiprocessing.get_context("spawn").Pipe()
    process = multiprocessing.get_context("spawn").Process(target=serve, args=(theirs,), daemon=True)
    process.start()
    url = ours.recv()
    ray.init(num_cpus=8, log_to_driver=False, logging_level="ERROR", include_dashboard=False)
    contenders: dict[str, int | None] = {"one process": None, "1 actor": 1, "2 actors": 2, "4 actors": 4}
    asking: dict[str, list[float]] = {name: [] for name in contenders}
    whole: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(options.rounds):
        for name, actors in contenders.items():
            seconds = run(url, options.rows, options.concurrency, actors)
            ours.send(True)
            n_seen, spent = ours.recv()
            assert n_seen == options.rows
            asking[name].append(spent)
            whole[name].append(seconds)
            print(f"{name}: {spent:.1f} s of asking, {seconds:.1f} s in all", flush=True)
    ours.send(False)
    ray.shutdown()
    base = statistics.median(asking["1 actor"])
    lines = []
    for name, actors in contenders.items():
        seconds = statistics.median(asking[name])
        ideal = options.concurrency * (actors or 1) / LATENCY
        lines.append(
            f"| {name} | {options.rows / seconds:.0f} | {options.rows / seconds / ideal:.0%} | {base / seconds:.2f} | "
            f"{min(asking[name]):.1f} to {max(asking[name]):.1f} | {statistics.median(whole[name]) - seconds:.1f} |"
        )
    text = (
        "# A labelling job on Ray\n\n"
        f"{options.rows} rows, one request each, to a local server that takes {LATENCY * 1000:.0f} ms for a request; "
        f"{options.concurrency} requests in flight per process or actor, so the ideal is {options.concurrency / LATENCY:.0f} "
        f"rows per second for each; pages of {PAGE} questions. Asking: from the first row that the server receives to "
        "the last answer. Rest: starting the actors (each imports llmclf and probes the server), planning, writing. Median of "
        f"{options.rounds} interleaved rounds. {os.cpu_count()} cores for Ray, the actors, the server and the driver together; "
        f"Python {platform.python_version()}, ray {version('ray')}. Written by `ray_scaling.py`.\n\n"
        "| | rows/s | share of the ideal | speed-up over 1 actor | seconds of asking | seconds of the rest |\n"
        "|---|--:|--:|--:|--:|--:|\n" + "\n".join(lines) + "\n"
    )
    (HERE / "ray_scaling.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    # Threads of an earlier fork would hang in the server's process.
    assert threading.active_count() == 1
    main()
