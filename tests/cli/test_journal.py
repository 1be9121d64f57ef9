"""`llmclf journal`: what a person sees of a journal, and how a damaged one is rescued."""

from __future__ import annotations

import shutil
import sys

import pytest
from killed_journal import N_BEFORE, N_ROWS, TABLE, kill_a_job

import llmclf.cli
from llmclf.tables.files import read_table, write_table


@pytest.fixture(scope="session")
def killed_once(tmp_path_factory):
    return kill_a_job(tmp_path_factory.mktemp("killed")).parent


@pytest.fixture
def killed(killed_once, tmp_path):
    shutil.copytree(killed_once, tmp_path / "copy")
    return tmp_path / "copy" / "out.csv.journal"


@pytest.fixture
def llmclf_journal(monkeypatch, capsys):
    """A function: arguments -> exit code, standard output and standard error."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["llmclf", "journal", *map(str, arguments)])
        code = 0
        try:
            llmclf.cli.main()
        except SystemExit as stop:
            code = stop.code or 0
        shown = capsys.readouterr()
        return code, shown.out, shown.err

    return run


def test_check_shows_what_a_journal_holds(llmclf_journal, killed):
    """Questions, runs, the model and all settings of the job, and that it is sound; exit code 0."""
    code, text, _ = llmclf_journal("check", killed)
    assert code == 0
    assert f"{N_BEFORE} questions, {N_BEFORE} answered, 0 failed" in text
    assert "runs: 1, the last one at" in text
    assert "which did not end in order" in text
    assert "job: labels = [['bad', ['bad']], ['good', ['good', 'great']]]" in text
    assert "model: backend = 'fake'" in text
    assert text.rstrip().endswith("sound: every answer is whole")


def test_a_damaged_journal_is_rescued(llmclf_journal, killed, tmp_path):
    """check ends with 1 and names the command that salvages; what that makes is sound, and is exported and merged."""
    killed.with_name("out.csv.journal-wal").write_bytes(killed.with_name("out.csv.journal-wal").read_bytes()[:400_000])
    code, _, errors = llmclf_journal("check", killed)
    assert code == 1
    assert f"llmclf journal salvage {killed} -o NEW" in errors
    rescued = tmp_path / "rescued"
    code, text, _ = llmclf_journal("salvage", killed, "-o", rescued)
    assert code == 0
    n = int(text.split()[1])
    assert 0 < n < N_BEFORE
    assert f"{N_BEFORE - n} that were there cannot be read" in text
    assert llmclf_journal("check", rescued)[0] == 0
    write_table(TABLE, tmp_path / "in.csv")
    code, text, _ = llmclf_journal(
        "export",
        rescued,
        "-o",
        tmp_path / "rows.csv",
        "--rows",
        tmp_path / "in.csv",
        "--text-column",
        "text",
        "--id-column",
        "id",
    )
    assert (code, text) == (0, f"wrote {N_ROWS} rows to {tmp_path / 'rows.csv'}\n")
    assert (read_table(tmp_path / "rows.csv")["error"] == "").sum() == n
    code, text, _ = llmclf_journal("merge", rescued, rescued, "-o", tmp_path / "all")
    assert code == 0
    assert f"{n} questions; {n} answers were there more than once" in text


def test_a_journal_with_damaged_answers_is_not_sound(llmclf_journal, killed, tmp_path):
    """The file is whole and an answer is not: exit code 1, and what asks it again."""
    from llmclf.jobs.journal.journal import Journal

    with Journal(killed, resume=True) as journal, journal.transaction():
        journal.connection.execute("UPDATE answers SET value = x'00' WHERE n = 3")
    code, text, _ = llmclf_journal("check", killed)
    assert code == 1
    assert "damaged answers: 1; llmclf label ... --retry-failed asks them again" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["check", "none"], "does not exist"),
        (["salvage", "none", "-o", "new"], "is not a file"),
        (["export", "none", "-o", "rows.csv"], "does not exist"),
        (["export", "none", "-o", "rows.txt"], "ends with '.txt'"),
        (["merge", "none", "-o", "new"], "does not exist"),
    ],
)
def test_wrong_arguments_end_with_2(llmclf_journal, tmp_path, monkeypatch, arguments, message):
    """And one line that says what is wrong."""
    monkeypatch.chdir(tmp_path)
    code, _, errors = llmclf_journal(*arguments)
    assert code == 2
    assert message in " ".join(errors.split())
