"""A journal whose writer was killed, with all that lies beside it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from killed_journal import LABELS, TABLE, Counting, kill_a_job

from llmclf.backends import FakeBackend
from llmclf.jobs import label_table
from llmclf.jobs.summary import Summary


@pytest.fixture(scope="session")
def killed_folder(tmp_path_factory) -> Path:
    """A folder with what a killed job has left."""
    return kill_a_job(tmp_path_factory.mktemp("killed")).parent


@pytest.fixture
def killed(killed_folder, tmp_path) -> Path:
    """A copy of that journal to be damaged."""
    shutil.copytree(killed_folder, tmp_path / "copy")
    return tmp_path / "copy" / "out.csv.journal"


@pytest.fixture(scope="session")
def right_labels() -> list[str]:
    return label_table(TABLE, text_column="text", labels=LABELS, model=FakeBackend()).table["label"].tolist()


@pytest.fixture
def go_on() -> Callable[..., tuple[pd.DataFrame, Summary, int]]:
    """A function that resumes a job: journal -> the labelled rows, the summary, and how many questions were asked."""

    def run(journal: Path, **options):
        model = Counting()
        output = journal.with_name("resumed.csv")
        summary = label_table(
            TABLE,
            output,
            id_column="id",
            text_column="text",
            labels=LABELS,
            model=model,
            journal=journal,
            resume=True,
            if_exists="replace",
            **options,
        ).summary
        return pd.read_csv(output, keep_default_na=False), summary, model.n

    return run
