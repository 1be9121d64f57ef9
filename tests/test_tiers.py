"""The tiers of tests: no test is in one that it does not belong to."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import tiers
from faults import FakeServer
from proxy_server import Proxy

TESTS = Path(__file__).parent


def ask(server: FakeServer) -> str:
    return server.url


def served() -> str:
    with FakeServer("vllm") as server:
        return ask(server)


def in_two_steps() -> str:
    def inner() -> str:
        return served()

    return inner()


class Based(Proxy):
    """A helper whose base listens."""


def by_inheritance() -> None:
    Based()


def test_what_a_helper_needs_the_test_needs():
    """A server that a helper of a helper starts is seen; a name that only looks like one is not."""
    assert tiers.needs(in_two_steps) == {"server"}
    assert tiers.needs(by_inheritance) == {"server"}
    assert tiers.needs(test_make_leaves_out_every_marker) == frozenset()


def test_make_leaves_out_every_marker():
    """`make quick` deselects what has any of the markers."""
    makefile = (TESTS.parent / "Makefile").read_text(encoding="utf-8")
    assert f'-m "{tiers.QUICK}"' in makefile


def test_the_longest_files_are_there():
    """The files that are begun first are files."""
    assert [name for name in tiers.LONGEST if not (TESTS / name).is_file()] == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("import torch", "this test imports PyTorch: give it @pytest.mark.model"),
        ("import socket; socket.socket().bind(('127.0.0.1', 0))", "this test listens on a port: give it"),
        ("pass", ""),
    ],
)
def test_a_test_in_the_wrong_tier_fails(body, message, tmp_path):
    """Whoever forgets a marker that no name shows is told which."""
    (tmp_path / "conftest.py").write_text(
        "import tiers\ndef pytest_configure(config):\n    config.pluginmanager.register(tiers.Watch())\n"
    )
    (tmp_path / "test_it.py").write_text(f"def test_it():\n    {body}\n")
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", str(tmp_path)]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])}
    ran = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert (ran.returncode == 0) == (not message), ran.stdout
    assert message in ran.stdout
