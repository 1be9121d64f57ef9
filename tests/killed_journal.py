"""A labelling job that is killed after some answers, and a model that answers as its model does."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pandas as pd

from llmclf.backends import FakeBackend

LABELS = {"good": ["good", "great"], "bad": "bad"}
N_ROWS, N_BEFORE = 240, 150
TABLE = pd.DataFrame({"id": [f"r{i}" for i in range(N_ROWS)], "text": [f"review {i}" for i in range(N_ROWS)]})

_KILLED = """
import os, signal, sys
import pandas as pd
from llmclf.backends import FakeBackend
from llmclf.jobs import label_table

class Killed:
    n = 0
    def identity(self):
        return FakeBackend().identity()
    def score(self, requests):
        for answer in FakeBackend().score(requests):
            self.n += 1
            if self.n > {n}:
                os.kill(os.getpid(), signal.SIGKILL)
            yield answer
    def stream(self, requests, *, n_requests=None):
        for place, request in enumerate(requests):
            yield [(place, next(iter(self.score([request])))[1])]

table = pd.DataFrame({{"id": [f"r{{i}}" for i in range({rows})], "text": [f"review {{i}}" for i in range({rows})]}})
label_table(table, "out.csv", id_column="id", text_column="text", labels={labels!r}, model=Killed(), resume=True)
"""


def kill_a_job(folder: Path) -> Path:
    """A real journal in a folder: each answer was on the disk, in a transaction of its own, when its process got SIGKILL."""
    code = _KILLED.format(n=N_BEFORE, rows=N_ROWS, labels=LABELS)
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert {"out.csv.journal", "out.csv.journal-wal", "out.csv.journal-commits"} <= set(os.listdir(folder))
    return folder / "out.csv.journal"


class Counting:
    """Answers as the killed job's model does, and counts what it is asked."""

    def __init__(self) -> None:
        self.n = 0

    def identity(self):
        return FakeBackend().identity()

    def score(self, requests):
        self.n += len(requests)
        yield from FakeBackend().score(requests)
