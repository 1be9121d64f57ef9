"""Ten times the rows need no more memory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from llmclf.tables.formats import read_chunks

_JOB = """
from llmclf.backends import FakeBackend
from llmclf.jobs import label_table

class Streamed(FakeBackend):
    "Answers as a server does: a few at a time, in another order."
    def stream(self, requests, *, n_requests=None):
        from itertools import islice
        places = enumerate(requests)
        while part := list(islice(places, 64)):
            answers = dict(self.score([request for _, request in part]))
            yield [(place, answers[i]) for i, (place, _) in reversed(list(enumerate(part)))]

label_table(
    "in.csv", "out.csv", id_column="id", text_column="text", labels=["good", "bad"], resume=True, model=Streamed(),
    if_exists="merge-on-id",
)
print(open("/proc/self/status").read().partition("VmHWM:")[2].split()[0])
"""


def peak(folder: Path) -> float:
    """Megabytes of a job in a process of its own."""
    done = subprocess.run([sys.executable, "-c", _JOB], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return int(done.stdout) / 1024


def table(folder: Path, n: int) -> Path:
    folder.mkdir()
    with (folder / "in.csv").open("w") as stream:
        stream.write("id,text\n")
        stream.writelines(f"row-{i},review number {i}: long enough to fill a line of text\n" for i in range(n))
    return folder


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak of a process is read from Linux's /proc")
def test_two_hundred_thousand_rows_beside_twenty_thousand(tmp_path):
    """Asked as a server is; and again over an output that is there, all of whose rows are replaced."""
    few, many = table(tmp_path / "few", 20_000), table(tmp_path / "many", 200_000)
    for run in ("first", "again"):
        less, more = peak(few), peak(many)
        # Ids that are replaced are known at once: about a hundred bytes each.
        assert more - less < 60, (run, less, more)
    assert sum(map(len, read_chunks(many / "out.csv", ".csv"))) == 200_000
