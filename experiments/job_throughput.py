"""How near does a labelling job come to what its server allows: 64 requests in flight, 50 ms each?

A server in its own process answers each chat after 50 ms with the 20 likeliest tokens of one place. `llmclf label` labels a CSV
file with it, as a command of its own, so start-up, planning, journal and the writing of the output count; then the same command
runs again with --resume, when all is answered. Between them, a process that only imports what the command imports, and aiohttp
alone, which sends the same requests and checks nothing. Writes job_throughput.md beside itself.

    python experiments/job_throughput.py [--rows 20000] [--rounds 3]
"""

from __future__ import annotations

import argparse
import csv
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from waiting_server import server_process

HERE = Path(__file__).resolve().parent
CONCURRENCY, LATENCY = 64, 0.05
TOP = [{"token": token, "logprob": -0.7 - i, "bytes": list(token.encode())} for i, token in enumerate(
    ["good", "bad", *(f"word{i}" for i in range(18))])]  # fmt: skip
REPLY = {
    "id": "chatcmpl-0123456789abcdef",
    "object": "chat.completion",
    "created": 1795516432,
    "model": "m",
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "good"},
            "logprobs": {"content": [{**TOP[0], "top_logprobs": TOP}]},
            "finish_reason": "length",
        }
    ],
    "usage": {"prompt_tokens": 40, "completion_tokens": 1, "total_tokens": 41},
}
BODIES = {"/chat/completions": REPLY, "/models": {"object": "list", "data": [{"id": "m", "object": "model"}]}}


def text_of(i: int) -> str:
    return (
        f"review number {i}: the film was quite {('good', 'bad', 'odd')[i % 3]}, and long enough to fill a line of text"
    )


BARE = """
import asyncio, json, sys
import aiohttp

url, n, concurrency = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
units = iter(range(n))

async def main():
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=concurrency)) as session:
        async def work():
            for i in units:
                body = {"model": "m", "messages": [{"role": "user", "content": f"Review: {i} " + "x" * 90}], "logprobs": True}
                async with session.post(f"{url}/chat/completions", json=body) as reply:
                    json.loads(await reply.read())
        await asyncio.gather(*(work() for _ in range(concurrency)))

asyncio.run(main())
"""


def measured(command: list[str]) -> tuple[float, float]:
    """Seconds and processor seconds of a command."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    seconds, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    return seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def one_round(url: str, rows: int, folder: Path) -> dict[str, tuple[float, float]]:
    table, output = folder / "in.csv", folder / "out.csv"
    for file in folder.glob("out.csv*"):
        file.unlink()
    if not table.exists():
        with table.open("w", encoding="utf-8", newline="") as stream:
            writer = csv.writer(stream)
            writer.writerow(["id", "text"])
            writer.writerows((i, text_of(i)) for i in range(rows))
    label = [
        sys.executable, "-m", "llmclf", "label", str(table), str(output), "--id-column", "id", "--text-column", "text",
        "--labels", "good,bad", "--chat", "--model", "openai:m", "--base-url", url, "--api-key-env", "", "--concurrency",
        str(CONCURRENCY), "--quiet", "--resume",
    ]  # fmt: skip
    contenders: dict[str, Callable[[], tuple[float, float]]] = {
        "aiohttp alone": lambda: measured([sys.executable, "-c", BARE, url, str(rows), str(CONCURRENCY)]),
        "job": lambda: measured(label),
        "job, resumed when done": lambda: measured(label),
        "imports alone": lambda: measured([sys.executable, "-c", "import llmclf.jobs.api, llmclf.cli"]),
    }
    return {name: run() for name, run in contenders.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    ideal = args.rows / CONCURRENCY * LATENCY
    with tempfile.TemporaryDirectory() as folder, server_process(BODIES, LATENCY) as url:
        rounds = [one_round(url, args.rows, Path(folder)) for _ in range(args.rounds)]
    lines = [
        "# How near a job comes to what its server allows",
        "",
        f"{args.rows:,} rows of a CSV file, {CONCURRENCY} requests in flight, each answered after {LATENCY * 1000:.0f} ms with "
        f"the 20 likeliest tokens; ideal: {ideal:.1f} s. Each line is a process of its own, start-up included; median of "
        f"{args.rounds} interleaved rounds. *aiohttp alone* sends as many requests and checks nothing. *imports alone*: what the "
        f"command imports, and nothing done. {os.cpu_count()} cores (one of them for the server), Python "
        f"{platform.python_version()}. Written by `job_throughput.py`.",
        "",
        "| | seconds | of the ideal | processor time, ms a row |",
        "|---|--:|--:|--:|",
    ]
    for name in rounds[0]:
        seconds = statistics.median(one[name][0] for one in rounds)
        busy = statistics.median(one[name][1] for one in rounds)
        is_by_row = name in ("aiohttp alone", "job")
        share = f"{seconds / ideal:.2f}" if is_by_row else ""
        per_row = f"{1000 * busy / args.rows:.3f}" if is_by_row else f"({busy:.2f} s)"
        lines.append(f"| {name} | {seconds:.1f} | {share} | {per_row} |")
    (HERE / "job_throughput.md").write_text("\n".join([*lines, ""]))


if __name__ == "__main__":
    main()
