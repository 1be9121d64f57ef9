"""Real journals with bytes flipped, zeroed and cut at hundreds of places: our error or the right rows, never a wrong label."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest
from killed_journal import TABLE

from llmclf.errors import InputError, LlmclfError, StoreError
from llmclf.jobs import check_journal, export_journal, merge_journals, salvage_journal

N_CASES = 24  # of each kind


def damage(data: bytes, kind: str, draw: random.Random) -> bytes:
    """A file after an accident."""
    place = draw.randrange(len(data))
    if kind == "cut":
        return data[:place]
    if kind == "zeros":
        return data[:place] + bytes(len(data[place : place + 512])) + data[place + 512 :]
    if kind == "noise":
        return data[:place] + draw.randbytes(len(data[place : place + 64])) + data[place + 64 :]
    return data[:place] + bytes([data[place] ^ 1 << draw.randrange(8)]) + data[place + 1 :]


def check_rows(labelled, right_labels) -> int:
    """Every row has its right label, or says why it has none."""
    assert labelled["id"].tolist() == TABLE["id"].tolist()
    for found, right, error in zip(labelled["label"], right_labels, labelled["error"], strict=True):
        assert found == right or (found == "" and error)
    return sum(labelled["label"] == "")


@pytest.mark.parametrize("kind", ["flip", "noise", "zeros", "cut"])
@pytest.mark.parametrize("suffix", ["", "-wal", "-commits"])
def test_no_damage_makes_a_wrong_label(killed_folder, tmp_path, go_on, right_labels, suffix, kind):
    """The job goes on rightly or is refused; then what is salvaged goes on rightly, and never with more than there was."""
    draw = random.Random(f"{suffix} {kind}")
    content = (killed_folder / f"out.csv.journal{suffix}").read_bytes()
    n_refused = n_salvaged = 0
    for case in range(N_CASES if suffix != "-commits" else 8):
        folder = tmp_path / str(case)
        shutil.copytree(killed_folder, folder)
        journal = folder / "out.csv.journal"
        journal.with_name(f"out.csv.journal{suffix}").write_bytes(damage(content, kind, draw))
        if case % 4 == 0:  # before a run can have mended anything
            n_salvaged += _goes_on_salvaged(journal, go_on, right_labels)
        looked = _try(check_journal, journal)
        if case % 4 == 1:
            _try(export_journal, journal, folder / "rows.csv")
            _try(merge_journals, [journal], folder / "merged")
        labelled = _try(go_on, journal)
        n_refused += labelled is None
        if labelled is not None:
            check_rows(labelled[0], right_labels)
            assert looked is not None
        shutil.rmtree(folder)
    # A log that is whole also holds the pages that the file has lost.
    assert n_refused or not suffix
    assert n_salvaged


def test_a_finished_journal_is_as_safe(killed_folder, tmp_path, go_on, right_labels):
    """All its answers are in the file itself."""
    draw = random.Random(7)
    whole = tmp_path / "whole"
    shutil.copytree(killed_folder, whole)
    go_on(whole / "out.csv.journal")
    for case in range(N_CASES):
        journal = tmp_path / f"{case}.journal"
        data = (whole / "out.csv.journal").read_bytes()
        journal.write_bytes(damage(data, ("flip", "noise", "zeros", "cut")[case % 4], draw))
        labelled = _try(go_on, journal)
        if labelled is not None:
            check_rows(labelled[0], right_labels)
        if case % 4 == 0:
            _goes_on_salvaged(journal, go_on, right_labels)


def _try(function, *arguments):
    """What a function gives, or None where it raises our error; anything else it raises fails the test."""
    try:
        return function(*arguments)
    except (InputError, StoreError) as error:
        assert isinstance(error, LlmclfError)
        return None


def _goes_on_salvaged(journal: Path, go_on, right_labels) -> int:
    rescued = journal.with_name(f"{journal.name}.rescued")
    kept = _try(salvage_journal, journal, rescued)
    if kept is None:
        return 0
    labelled, summary, n = go_on(rescued)
    assert check_rows(labelled, right_labels) == 0
    assert summary.answered_before + n == len(TABLE)
    return 1
