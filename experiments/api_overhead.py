"""What does our client for API servers cost: how much throughput is lost, and how much processor time does a request take?

A server in its own process answers each request after 50 ms with the log-probabilities of 40 tokens. With 64 requests in flight,
it could answer 1280 requests per second. The contenders use it in turn, round after round. Writes api_overhead.md beside itself.
Needs openai[aiohttp], too.

    python experiments/api_overhead.py [--rounds 3] [--requests 4000]
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from waiting_server import server_process

from llmclf.backends.http.async_bridge import AsyncBridge
from llmclf.backends.http.client import Client
from llmclf.backends.http.options import ServerOptions
from llmclf.backends.http.replies import choices, logprob, mapping, sequence

HERE = Path(__file__).resolve().parent
CONCURRENCY, LATENCY, N_TOKENS = 64, 0.05, 40
BODY = {"model": "m", "prompt": list(range(1000, 1000 + N_TOKENS)), "max_tokens": 1, "echo": True, "logprobs": 1}
LOGPROBS = [None, *(-0.37 * i for i in range(N_TOKENS))]
REPLY = {
    "id": "cmpl-0123456789abcdef",
    "object": "text_completion",
    "created": 1795516432,
    "model": "m",
    "choices": [
        {
            "index": 0,
            "text": " word" * (N_TOKENS + 1),
            "logprobs": {
                "text_offset": [5 * i for i in range(N_TOKENS + 1)],
                "token_logprobs": LOGPROBS,
                "tokens": [" word"] * (N_TOKENS + 1),
                "top_logprobs": [None, *({" word": value, " other": -9.5} for value in LOGPROBS[1:])],
            },
            "finish_reason": "length",
        }
    ],
    "usage": {"prompt_tokens": N_TOKENS, "total_tokens": N_TOKENS + 1, "completion_tokens": 1},
}
BODIES = {"/completions": REPLY}


# --- contenders: each sends n requests and returns the sum of all log-probabilities -------------------------------------


def read(reply: Any) -> float:
    """With every check of a reply."""
    (choice,) = choices(reply, 1)
    logprobs = mapping(choice.get("logprobs"), "logprobs")
    return sum(map(logprob, sequence(logprobs.get("token_logprobs"), "token_logprobs", N_TOKENS + 1)[1:]))


async def serve(client: Client, unit: int) -> list[float]:
    return [await client.call("/completions", BODY, read, tokens_in=N_TOKENS, tokens_out=1)]


def with_bridge(url: str, n: int) -> float:
    bridge = AsyncBridge(
        Client(ServerOptions(url, concurrency=CONCURRENCY, price={"input": 1.0, "output": 1.0}, max_cost=1e9))
    )
    return sum(bridge.stream(range(n), serve))


async def workers(n: int, ask: Callable[[], Any]) -> float:
    units, total = iter(range(n)), 0.0

    async def work() -> None:
        nonlocal total
        for _ in units:
            value = await ask()
            total += value

    async with asyncio.TaskGroup() as group:
        for _ in range(CONCURRENCY):
            group.create_task(work())
    return total


def with_openai(url: str, n: int, *, aiohttp: bool) -> float:
    import openai

    async def main() -> float:
        http = openai.DefaultAioHttpClient() if aiohttp else None
        async with openai.AsyncOpenAI(base_url=url, api_key="none", http_client=http) as api:

            async def ask() -> float:
                reply = await api.completions.create(**BODY)
                return sum(reply.choices[0].logprobs.token_logprobs[1:])

            return await workers(n, ask)

    return asyncio.run(main())


@contextlib.asynccontextmanager
async def httpx_client() -> AsyncIterator[Callable[[str], Any]]:
    import httpx2

    limits = httpx2.Limits(max_connections=CONCURRENCY, max_keepalive_connections=CONCURRENCY)
    async with httpx2.AsyncClient(limits=limits, timeout=60.0) as http:

        async def post(url: str) -> bytes:
            return (await http.post(url, json=BODY)).content

        yield post


@contextlib.asynccontextmanager
async def aiohttp_client() -> AsyncIterator[Callable[[str], Any]]:
    import aiohttp

    async with aiohttp.ClientSession() as http:

        async def post(url: str) -> bytes:
            async with http.post(url, json=BODY) as response:
                return await response.read()

        yield post


def with_raw(url: str, n: int, *, client: Callable[[], Any]) -> float:
    async def main() -> float:
        async with client() as post:

            async def ask() -> float:
                reply = json.loads(await post(f"{url}/completions"))
                return sum(reply["choices"][0]["logprobs"]["token_logprobs"][1:])

            return await workers(n, ask)

    return asyncio.run(main())


CONTENDERS: dict[str, Callable[[str, int], float]] = {
    "llmclf, `AsyncBridge.stream`": with_bridge,
    "openai, `completions.create`": lambda url, n: with_openai(url, n, aiohttp=False),
    "openai, `completions.create`, on aiohttp": lambda url, n: with_openai(url, n, aiohttp=True),
    "httpx2 alone, nothing checked": lambda url, n: with_raw(url, n, client=httpx_client),
    "aiohttp alone, nothing checked": lambda url, n: with_raw(url, n, client=aiohttp_client),
}


# --- memory ------------------------------------------------------------------------------------------------------------


def stream_rows(url: str, n: int) -> None:
    """Stream n rows, and print the peak memory of this process, in MB."""
    bridge = AsyncBridge(Client(ServerOptions(url, concurrency=CONCURRENCY)))
    assert sum(1 for _ in bridge.stream(iter(range(n)), serve)) == n
    status = Path("/proc/self/status").read_text(encoding="ascii")
    print(int(status.partition("VmHWM:")[2].split()[0]) / 1024)


def peak_memory(url: str, n: int) -> float:
    command = [sys.executable, __file__, "--memory", str(n), "--url", url]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--requests", type=int, default=4000)
    parser.add_argument("--memory", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--url", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.memory:
        stream_rows(options.url, options.memory)
        return
    n = options.requests
    ideal = CONCURRENCY / LATENCY
    expected = n * sum(LOGPROBS[1:])
    shares: dict[str, list[float]] = {name: [] for name in CONTENDERS}
    costs: dict[str, list[float]] = {name: [] for name in CONTENDERS}
    with server_process(BODIES, LATENCY) as url:
        for contender in CONTENDERS.values():
            contender(url, 2 * CONCURRENCY)  # imports, certificates
        for _ in range(options.rounds):
            for name, contender in CONTENDERS.items():
                begun, used = time.perf_counter(), time.process_time()
                total = contender(url, n)
                used, seconds = time.process_time() - used, time.perf_counter() - begun
                assert abs(total - expected) < 1e-6 * abs(expected)
                shares[name].append(n / seconds / ideal)
                costs[name].append(1000.0 * used / n)
                print(f"{name}: {shares[name][-1]:.1%} of the ideal, {costs[name][-1]:.2f} ms", flush=True)
    lines = []
    for name in CONTENDERS:
        share, cost = statistics.median(shares[name]), statistics.median(costs[name])
        spread = f"{min(shares[name]):.0%} to {max(shares[name]):.0%}"
        lines.append(f"| {name} | {share * ideal:.0f} | {share:.1%} | {spread} | {cost:.2f} |")
    with server_process(BODIES, 0.0) as url:
        peaks = {rows: peak_memory(url, rows) for rows in (10_000, 100_000)}
    print(peaks, flush=True)
    packages = ", ".join(f"{name} {version(name)}" for name in ("openai", "httpx2", "aiohttp"))
    text = (
        "# What the client for API servers costs\n\n"
        f"{n} requests, {CONCURRENCY} in flight, to a local server that answers each after {LATENCY * 1000:.0f} ms with "
        f"the log-probabilities of {N_TOKENS + 1} tokens ({len(json.dumps(REPLY)) / 1000:.1f} kB); "
        f"ideal: {ideal:.0f} requests per second. Median of {options.rounds} interleaved rounds. `AsyncBridge.stream` checks "
        f"every number of the reply and applies limits and budget; the others check nothing. The rate of aiohttp alone is about "
        f"what this server and machine allow. Times include connecting. "
        f"{os.cpu_count()} cores (one of them for the server), Python {platform.python_version()}, {packages}. "
        "Written by `api_overhead.py`.\n\n"
        "| client | requests/s | share of the ideal | range over the rounds | processor time per request, ms |\n"
        "|---|--:|--:|--:|--:|\n"
        + "\n".join(lines)
        + "\n\nPeak memory of a process that streams rows from a generator through `AsyncBridge.stream`, in MB: "
        + ", ".join(f"{peak:.0f} for {rows:,} rows" for rows, peak in peaks.items())
        + ".\n"
    )
    (HERE / "api_overhead.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
