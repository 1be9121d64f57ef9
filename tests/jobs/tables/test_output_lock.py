"""One output has one writer at a time, however it is spelt and however its writer ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pandas as pd
import pytest

from llmclf.backends import FakeBackend
from llmclf.errors import StoreError
from llmclf.jobs import label_table
from llmclf.tables.files import read_table, write_table

TABLE = pd.DataFrame({"text": ["a", "b"]})
WRITER = """
import sys, time
import pandas as pd
from llmclf.backends import FakeBackend
from llmclf.jobs import label_table

class Slow(FakeBackend):
    def score(self, requests):
        print("asking", flush=True)
        time.sleep(60)
        yield from super().score(requests)

label_table(pd.DataFrame({"text": ["a"]}), sys.argv[1], text_column="text", labels=["x", "y"], model=Slow())
"""


class Meanwhile(FakeBackend):
    """Calls a function while a job is under way."""

    def __init__(self, function) -> None:
        super().__init__()
        self.function = function

    def __deepcopy__(self, memo):
        return self

    def score(self, requests):
        self.function()
        yield from super().score(requests)


def write(output, journal, table=TABLE, model=None):
    options = {"text_column": "text", "labels": ["x", "y"], "model": model or FakeBackend()}
    return label_table(table, output, journal=journal, if_exists="replace", **options)


def meanwhile(output, journal, *others):
    """What each other output gives while one is written: None, or the message."""
    seen = []

    def attempt() -> None:
        for number, (other, table) in enumerate(others):
            try:
                write(other, f"{journal}-{number}", table)
                seen.append(None)
            except StoreError as error:
                seen.append(str(error))

    write(output, journal, model=Meanwhile(attempt))
    return seen


def test_every_spelling_of_one_file_is_one_output(tmp_path, monkeypatch):
    """Links to file and folder, dots, a path from the folder of now; another file beside it is another output."""
    real = tmp_path / "real"
    real.mkdir()
    (tmp_path / "folder-link").symlink_to(real)
    (tmp_path / "file-link.csv").symlink_to(real / "out.csv")
    monkeypatch.chdir(tmp_path)
    spellings = ["real/out.csv", "real/../real/./out.csv", tmp_path / "folder-link" / "out.csv", "file-link.csv"]
    seen = meanwhile(real / "out.csv", tmp_path / "j", *((one, TABLE) for one in spellings), (real / "two.csv", TABLE))
    assert all(
        "another job is writing" in message and "give this one another output" in message for message in seen[:-1]
    )
    assert seen[-1] is None
    assert sorted(file.name for file in real.iterdir()) == ["out.csv", "two.csv"]
    assert not list(tmp_path.glob("j-[0-3]"))  # a refused job leaves no journal
    write(tmp_path / "file-link.csv", tmp_path / "again")  # and is free afterwards


def test_a_folder_is_written_by_one_job_and_by_none_that_writes_a_file_in_it(tmp_path):
    """Either way round; jobs that write different files of a folder go together."""
    source = tmp_path / "in"
    source.mkdir()
    write_table(TABLE, source / "a.csv")
    out = tmp_path / "out"
    (message,) = meanwhile(out / "x.csv", tmp_path / "j", (out, source))
    assert "another job is writing" in message
    (out / "x.csv").unlink()
    seen = []

    def attempt() -> None:
        with pytest.raises(StoreError, match="another job is writing"):
            write(out / "a.csv", tmp_path / "other")
        seen.append(True)

    write(out, tmp_path / "k", source, Meanwhile(attempt))
    assert seen == [True]
    assert [file.name for file in out.iterdir()] == ["a.csv"]


def test_a_folder_that_was_made_for_a_refused_job_is_removed(tmp_path):
    """Nothing is left of a job that fails before it writes."""

    def fail() -> None:
        raise StoreError("no more")

    with pytest.raises(StoreError, match="no more"):
        write(tmp_path / "new" / "out.csv", tmp_path / "j", model=Meanwhile(fail))
    assert not (tmp_path / "new").exists()


def test_an_sql_table_is_locked_too(tmp_path):
    """Two jobs on one table of a database; two tables of it go together, as far as the database lets them."""
    url = f"sqlite:///{tmp_path / 'shop.db'}?table="
    seen = meanwhile(f"{url}labels", tmp_path / "j", (f"{url}labels", TABLE), (f"{url}others", TABLE))
    assert "another job is writing" in seen[0]
    assert seen[1] is None


def test_threads_of_one_process_are_kept_apart(tmp_path):
    """A lock of the process would not see its own threads."""
    seen = []

    def attempt() -> None:
        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()

    def elsewhere() -> None:
        with pytest.raises(StoreError, match="another job is writing"):
            write(tmp_path / "out.csv", tmp_path / "k")
        seen.append(True)

    write(tmp_path / "out.csv", tmp_path / "j", model=Meanwhile(attempt))
    assert seen == [True]


@pytest.mark.kill
@pytest.mark.slow
def test_a_killed_writer_frees_its_output(tmp_path):
    """While it lives another process is refused; after SIGKILL its lock means nothing, and the next job tidies it away."""
    output: Path = tmp_path / "out.csv"
    process = subprocess.Popen([sys.executable, "-c", WRITER, output], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "asking\n"
    with pytest.raises(StoreError, match="another job is writing"):
        write(output, tmp_path / "j")
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert (tmp_path / ".out.csv-lock").exists()
    write(output, tmp_path / "j")
    assert len(read_table(output)) == 2
    assert not [name for name in os.listdir(tmp_path) if name.endswith("-lock")]
