"""`llmclf probe`: what a server does, for people and for programs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from faults import FakeServer

pytestmark = pytest.mark.usefixtures("no_waiting")


def test_the_command_line_probes(tmp_path):
    """`llmclf probe` says what the server does and the route; --json gives the same to programs; a lack is exit code 1."""
    program = str(Path(sys.executable).with_name("llmclf"))

    def run(server, *arguments, model="openai:tiny"):
        named = [model] if model else []
        return subprocess.run(
            [program, "probe", *named, "--base-url", server.url, *arguments],
            capture_output=True,
            text=True,
            timeout=120,
        )

    with FakeServer("llama_server") as server:
        said = run(server).stdout
        assert "the server ignores echo" in said
        assert "route: grammar (exact" in said
        listed = run(server, model=None).stdout  # the only model that it lists
        assert listed.splitlines()[:-1] == said.splitlines()[:-1]
    with FakeServer("vllm") as server:
        import json

        found = json.loads(run(server, "--json", "--model-option", "use_route=named_tokens").stdout)
        assert found["route"] == "named_tokens"
        assert found["probe"]["echo"] == "exact"
        assert found["usage"]["requests"] == len(server.requests)
    with FakeServer("no_logprobs") as server:
        done = run(server)
        assert done.returncode == 1
        assert "gives no log-probabilities" in done.stderr
