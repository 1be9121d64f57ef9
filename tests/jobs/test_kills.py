"""Labelling jobs that die: killed at any instant, interrupted, run against a server that is gone; counted at the server."""

from __future__ import annotations

import random
import signal
import sqlite3
import time
from pathlib import Path

import pandas as pd
import pytest
from faults import FakeServer, Status, rows_asked
from job_zygote import Zygote

from llmclf.tables.files import read_table, write_table

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
N_ROWS, CONCURRENCY = 240, 6


@pytest.fixture(scope="module")
def zygote(tmp_path_factory):
    with Zygote(tmp_path_factory.mktemp("runs")) as running:
        yield running


@pytest.fixture
def table(tmp_path) -> Path:
    frame = pd.DataFrame({"id": [f"row-{i}" for i in range(N_ROWS)], "text": [f"<review {i}>" for i in range(N_ROWS)]})
    write_table(frame, tmp_path / "in.csv")
    return tmp_path / "in.csv"


def command(table: Path, output: Path, server: FakeServer, *more) -> list:
    return [
        "label", table, output, "--id-column", "id", "--text-column", "text", "--labels", "good,bad", "--chat", "--model",
        "openai:tiny", "--base-url", server.url, "--api-key-env", "", "--concurrency", CONCURRENCY, "--quiet", *more,
    ]  # fmt: skip


def test_killed_at_any_instant_nothing_is_lost_and_little_is_repeated(zygote, table, tmp_path):
    """Forty SIGKILLs: one row per id, as without a kill, and per kill at most as many repeated calls as were under way."""
    draw = random.Random(1)
    output = tmp_path / "out.csv"
    with FakeServer("openai_chat", latency=0.02) as server:
        kills = 0
        while kills < 40:
            before = sum(rows_asked(server).values())
            run = zygote.start(command(table, output, server, "--resume"))
            # At an instant of the work: after some more rows have been asked about, and a moment later.
            wanted = before + draw.randrange(0, 12)
            until = time.monotonic() + 20
            while sum(rows_asked(server).values()) < wanted and time.monotonic() < until:
                time.sleep(0.001)
            time.sleep(draw.random() * 0.03)
            run.kill()
            code = run.wait()
            kills += 1
            if code == 0:
                break
            assert code == -signal.SIGKILL, run.output()
            assert not output.exists()
        zygote.succeed(command(table, output, server, "--resume"))
        calls = rows_asked(server)
        assert kills >= 24
        assert len(calls) == N_ROWS
        assert sum(calls.values()) - N_ROWS <= kills * CONCURRENCY
        undisturbed = tmp_path / "undisturbed.csv"
        zygote.succeed(command(table, undisturbed, server))
    labelled = read_table(output)
    assert labelled["id"].tolist() == [f"row-{i}" for i in range(N_ROWS)]
    assert labelled["error"].eq("").all()
    assert output.read_bytes() == undisturbed.read_bytes()
    journal = sqlite3.connect(tmp_path / "out.csv.journal")
    assert journal.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert journal.execute("SELECT count(*), count(DISTINCT key) FROM answers").fetchone() == (N_ROWS, N_ROWS)
    journal.close()
    assert not [file for file in tmp_path.iterdir() if "-plan" in file.name or file.name.startswith(".")]


def test_killed_while_it_writes_leaves_the_old_output_whole(zygote, table, tmp_path):
    """A reader that looks at any time sees the old file or the new one; a killed writer's remains are used by the next."""
    frame = pd.DataFrame(
        {"id": [f"row-{i}" for i in range(60_000)], "text": [f"<review {i % 3}>" for i in range(60_000)]}
    )
    write_table(frame, table)
    output = tmp_path / "out.csv"
    output.write_text("old\n1\n")
    with FakeServer("openai_chat") as server:
        kills = 0
        for step in range(40):
            run = zygote.start(command(table, output, server, "--resume", "--if-exists", "replace"))
            until = time.monotonic() + 30
            while not list(tmp_path.glob(".out.csv.*")) and run.code is None and time.monotonic() < until:
                zygote.collect(run)
            time.sleep(0.05 * step)
            run.kill()
            if run.wait() == 0:
                break
            if output.read_text() != "old\n1\n":  # killed between the new file's coming and the process's end
                assert read_table(output)["id"].tolist() == frame["id"].tolist()
                break
            kills += 1
        assert kills >= 2
        zygote.succeed(command(table, output, server, "--resume", "--if-exists", "replace"))
        assert len(rows_asked(server)) == 3
    assert read_table(output)["id"].tolist() == frame["id"].tolist()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["in.csv", "out.csv", "out.csv.journal"]


def test_a_finished_job_is_written_again_without_the_server(zygote, table, tmp_path):
    """A second run against a server that answers 500 to everything succeeds from the journal, and asks nothing."""
    first, second = tmp_path / "out.csv", tmp_path / "again.csv"
    is_broken = False
    with FakeServer("openai_chat", lambda _: Status(500) if is_broken else None) as server:
        zygote.succeed(command(table, first, server))
        is_broken, n_requests = True, len(server.requests)
        code, text = zygote.run(command(table, second, server, "--resume", "--journal", tmp_path / "out.csv.journal"))
        assert (code, len(server.requests)) == (0, n_requests), text
    assert first.read_bytes() == second.read_bytes()


def test_ctrl_c_keeps_what_was_answered_and_says_how_to_go_on(zygote, table, tmp_path):
    """SIGINT ends with 130, nothing stays under way, and the resumed job asks only for the rest."""
    output = tmp_path / "out.csv"
    with FakeServer("openai_chat", latency=0.03) as server:
        run = zygote.start(command(table, output, server))
        while sum(rows_asked(server).values()) < 60:
            time.sleep(0.005)
        run.kill(signal.SIGINT)
        assert run.wait() == 130, run.output()
        assert "--resume goes on from there" in run.output()
        assert str(tmp_path / "out.csv.journal") in run.output()
        assert not output.exists()
        before = rows_asked(server)
        zygote.succeed(command(table, output, server, "--resume"))
        calls = rows_asked(server)
    assert sum(calls.values()) - N_ROWS <= CONCURRENCY
    assert sum(before.values()) < N_ROWS
    assert len(read_table(output)) == N_ROWS


def test_two_processes_never_share_a_journal(zygote, table, tmp_path):
    """While one runs, another on the same journal is refused, says why, and asks nothing; the first is not disturbed."""
    output, other = tmp_path / "out.csv", tmp_path / "other.csv"
    journal = tmp_path / "shared.journal"
    with FakeServer("openai_chat", latency=0.5) as server:
        run = zygote.start(command(table, output, server, "--journal", journal))
        while sum(rows_asked(server).values()) < 20:
            time.sleep(0.005)
        code, text = zygote.run(command(table, other, server, "--journal", journal, "--resume"))
        server.latency = 0.0  # slow only until the second has been refused, however long that takes to start
        assert code == 1
        assert "in use by another process" in text
        assert run.wait() == 0, run.output()
        assert set(rows_asked(server).values()) == {1}
    assert len(read_table(output)) == N_ROWS
    assert not other.exists()
