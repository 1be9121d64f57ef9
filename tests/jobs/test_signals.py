"""Jobs that a scheduler stops, or whose terminal goes away: real processes, real signals."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
from faults import FakeServer, rows_asked
from job_zygote import Zygote

from llmclf.backends import FakeBackend
from llmclf.jobs import label_table
from llmclf.tables.files import read_table, write_table

N_ROWS, CONCURRENCY = 120, 6
API = """
import sys
from llmclf import Prompt, open_backend
from llmclf.jobs import label_table

if __name__ == "__main__":
    backend = open_backend("openai:tiny", base_url=sys.argv[3], api_key_env="", concurrency=6)
    label_table(sys.argv[1], sys.argv[2], text_column="text", labels=["good", "bad"], model=backend,
                prompt=Prompt("{{ text }}", chat=True))
"""


@pytest.fixture(scope="module")
def zygote(tmp_path_factory):
    with Zygote(tmp_path_factory.mktemp("runs")) as running:
        yield running


@pytest.fixture
def table(tmp_path) -> Path:
    texts = [f"<review {i}>" for i in range(N_ROWS)]
    write_table(pd.DataFrame({"text": texts, "mood": ["good", "bad"] * (N_ROWS // 2)}), tmp_path / "in.csv")
    return tmp_path / "in.csv"


def model(server: FakeServer) -> list:
    return ["--text-column", "text", "--labels", "good,bad", "--chat", "--model", "openai:tiny", "--base-url", server.url,
            "--api-key-env", "", "--model-option", f"concurrency={CONCURRENCY}"]  # fmt: skip


def command(table: Path, output: Path, server: FakeServer, *more) -> list:
    return ["label", table, output, *model(server), "--quiet", *more]


def wait_until_asked(server: FakeServer, n: int) -> None:
    until = time.monotonic() + 60
    while sum(rows_asked(server).values()) < n and time.monotonic() < until:
        time.sleep(0.005)


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_a_job_that_is_told_to_stop_ends_in_good_order(zygote, table, tmp_path, name):
    """One line says how to go on, nothing of the texts is left, the code is that of Ctrl-C, and the rest is all that is asked."""
    output = tmp_path / "out.csv"
    with FakeServer("openai_chat", latency=0.03) as server:
        run = zygote.start(command(table, output, server))
        wait_until_asked(server, 40)
        run.kill(getattr(signal, name))
        assert run.wait() == 130, run.output()
        (line,) = run.output().splitlines()
        assert line.startswith(f"interrupted by {name}; what was answered is in {output}.journal")
        assert "--resume goes on from there" in line
        assert sorted(file.name for file in tmp_path.iterdir()) == ["in.csv", "out.csv.journal"]
        assert b"<review" not in (tmp_path / "out.csv.journal").read_bytes()
        zygote.succeed(command(table, output, server, "--resume"))
        assert sum(rows_asked(server).values()) - N_ROWS <= CONCURRENCY
    assert len(read_table(output)) == N_ROWS


def test_two_signals_at_once_leave_no_text_and_no_damage(zygote, table, tmp_path):
    """As from a terminal that closes, or a supervisor in a hurry; the journal goes on."""
    output = tmp_path / "out.csv"
    with FakeServer("openai_chat", latency=0.03) as server:
        for number in range(3):
            before = sum(rows_asked(server).values())
            run = zygote.start(command(table, output, server, "--resume"))
            wait_until_asked(server, before + 15)
            run.kill(signal.SIGHUP)
            time.sleep(0.002 * number)
            run.kill(signal.SIGTERM)
            assert run.wait() == 130, run.output()
            assert {file.name for file in tmp_path.iterdir()} <= {
                "in.csv", "out.csv.journal", "out.csv.journal-wal", "out.csv.journal-shm", "out.csv.journal-commits",
            }  # fmt: skip
        zygote.succeed(command(table, output, server, "--resume"))
        assert sum(rows_asked(server).values()) - N_ROWS <= 3 * CONCURRENCY
    assert len(read_table(output)) == N_ROWS


@pytest.mark.parametrize("verb", ["predict", "race"])
def test_other_long_commands_end_so_too(zygote, table, tmp_path, verb):
    """predict and race: one line, code 130, no output, and the cache keeps what was scored."""
    output, cache = tmp_path / "out.html", tmp_path / "scores.sqlite"
    with FakeServer("openai_chat", latency=0.03) as server:
        words = {
            "predict": ["predict", table, tmp_path / "out.csv"],
            "race": ["race", table, "--label-column", "mood", "-o", output],
        }[verb]
        run = zygote.start([*words, *model(server), "--cache", cache])
        wait_until_asked(server, 40)
        run.kill(signal.SIGTERM)
        assert run.wait() == 130, run.output()
    assert run.output().splitlines()[-1] == "interrupted by SIGTERM; with --cache, what was scored so far is kept"
    assert not [file for file in tmp_path.iterdir() if file.name.startswith(("out", "."))]
    assert cache.stat().st_size > 0


def test_a_program_that_calls_label_table_ends_by_the_signal(table, tmp_path):
    """Its caller sees SIGTERM, as without llmclf; the journal is closed, and no text is left."""
    with FakeServer("openai_chat", latency=0.03) as server:
        process = subprocess.Popen([sys.executable, "-c", API, table, tmp_path / "out.csv", server.url])
        wait_until_asked(server, 30)
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == -signal.SIGTERM
    assert sorted(file.name for file in tmp_path.iterdir()) == ["in.csv", "out.csv.journal"]


def test_label_table_leaves_the_handlers_of_its_caller():
    """Before, after, and where the caller has his own."""
    mine = lambda *_: None  # noqa: E731
    before = signal.signal(signal.SIGTERM, mine)
    try:
        label_table(pd.DataFrame({"text": ["a"]}), text_column="text", labels=["x", "y"], model=FakeBackend())
        assert signal.getsignal(signal.SIGTERM) is mine
    finally:
        signal.signal(signal.SIGTERM, before)
    label_table(pd.DataFrame({"text": ["a"]}), text_column="text", labels=["x", "y"], model=FakeBackend())
    assert signal.getsignal(signal.SIGTERM) == before


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
@pytest.mark.kill
def test_a_reader_that_goes_away_stops_no_job(table, tmp_path, stream):
    """As in `llmclf label ... | head -0`: the lines are dropped, the table is written, and the code says so."""
    ours, theirs = os.pipe()
    os.close(ours)
    with FakeServer("openai_chat") as server:
        words = [str(word) for word in command(table, tmp_path / "out.csv", server) if word != "--quiet"]
        other = "stderr" if stream == "stdout" else "stdout"
        done = subprocess.run(
            [sys.executable, "-m", "llmclf", *words],
            **{stream: theirs, other: subprocess.PIPE},
            check=False,
            timeout=120,
        )
    os.close(theirs)
    assert done.returncode == 0
    assert b"Error" not in (done.stdout or b"") + (done.stderr or b"")
    assert len(read_table(tmp_path / "out.csv")) == N_ROWS
