"""Journals whose log is lost, cut or changed, and files that are none: noticed before anything is asked, and left as they are."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from killed_journal import N_BEFORE, N_ROWS

from llmclf.backends import RowScores
from llmclf.errors import InputError, StoreError
from llmclf.jobs import check_journal, salvage_journal
from llmclf.jobs.journal.commit_record import Promise, read_record
from llmclf.jobs.journal.journal import Journal


def beside(journal: Path, suffix: str) -> Path:
    return journal.with_name(journal.name + suffix)


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_a_killed_run_goes_on_with_all_that_was_answered(killed, go_on, right_labels):
    """With its log nothing is lost, and nothing is left beside the journal after an orderly end."""
    labelled, summary, n = go_on(killed)
    assert (summary.answered_before, n) == (N_BEFORE, N_ROWS - N_BEFORE)
    assert labelled["label"].tolist() == right_labels
    left = {name for name in os.listdir(killed.parent) if "journal" in name}
    assert left == {"out.csv.journal"}


def test_what_a_killed_reader_leaves_goes(killed, go_on, right_labels):
    """A run may be killed while it looks at the journal, before it writes to it."""
    read = "connection.execute('SELECT count(*) FROM answers').fetchone(); os.kill(os.getpid(), 9)"
    code = f"import os, sqlite3, sys; connection = sqlite3.connect(sys.argv[1] + '?mode=ro', uri=True); {read}"
    ended = subprocess.run([sys.executable, "-c", code, killed.absolute().as_uri()], check=False)
    assert (ended.returncode, beside(killed, "-shm").exists()) == (-9, True)
    assert go_on(killed)[0]["label"].tolist() == right_labels
    assert {name for name in os.listdir(killed.parent) if "journal" in name} == {"out.csv.journal"}


def test_a_lost_log_is_noticed_and_can_be_put_back(killed, go_on):
    """The error says how many answers are missing; nothing was changed, so that with the log all is there again."""
    log = beside(killed, "-wal").read_bytes()
    beside(killed, "-wal").unlink()
    before = contents(killed.parent)
    with pytest.raises(
        StoreError, match=rf"{N_BEFORE} answers that were on the disk are missing.*put it back.*salvage"
    ):
        go_on(killed)
    assert contents(killed.parent) == before
    beside(killed, "-wal").write_bytes(log)
    assert go_on(killed)[1].answered_before == N_BEFORE


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_a_cut_log_is_noticed(killed, go_on, share):
    """Also where it is cut between two transactions, which SQLite takes for its end."""
    log = beside(killed, "-wal")
    frame = 24 + 4096
    n_frames = (log.stat().st_size - 32) // frame
    os.truncate(log, 32 + int(n_frames * share) * frame if share else 0)
    before = contents(killed.parent)
    with pytest.raises(StoreError, match="answers that were on the disk are missing"):
        go_on(killed)
    assert contents(killed.parent) == before


def test_a_flipped_bit_in_the_log_is_noticed_and_what_follows_it_is_salvaged(killed, go_on, right_labels, tmp_path):
    """SQLite would end there without a word; all other pages are whole, and so are their answers."""
    log = beside(killed, "-wal")
    data = bytearray(log.read_bytes())
    data[len(data) // 3] ^= 4
    log.write_bytes(data)
    with pytest.raises(StoreError, match="answers that were on the disk are missing"):
        go_on(killed)
    kept = salvage_journal(killed, tmp_path / "new.journal")
    assert (kept.answers, kept.missing) == (N_BEFORE, 0)
    labelled, _, n = go_on(tmp_path / "new.journal")
    assert n == N_ROWS - N_BEFORE
    assert labelled["label"].tolist() == right_labels


@pytest.mark.parametrize("lost", [["-commits"], ["-commits", "-wal"]])
def test_a_journal_that_was_moved_without_its_side_files_is_noticed(killed, go_on, lost):
    """A killed run's journal says by itself that more belongs to it."""
    for suffix in lost:
        beside(killed, suffix).unlink()
    with pytest.raises(
        StoreError, match="did not end in order, and out.csv.journal-commits.*is missing.*along with it"
    ):
        go_on(killed)


def test_a_record_of_another_journal_means_nothing(killed, tmp_path):
    """What was left behind by an earlier journal of the same name neither stops a new one nor is believed."""
    path = tmp_path / "out.csv.journal"
    shutil.copy(beside(killed, "-commits"), beside(path, "-commits"))
    with Journal(path) as journal:
        journal.begin({"a": 1})
        journal.add([(b"k" * 16, RowScores(((-1.0,),)))])
        assert read_record(path, journal.name) == Promise(commits=2, answers=1)
    assert not beside(path, "-commits").exists()
    assert check_journal(path).answered == 1


def test_each_transaction_counts_in_the_journal_and_beside_it(tmp_path):
    """Those of the plan do not, since it is made anew; those of a provider's batches do."""
    from llmclf.backends.openai.batches.store import BatchStore

    path = tmp_path / "j"
    with Journal(path) as journal:
        journal.begin({"a": 1})
        before = read_record(path, journal.name).commits
        store = BatchStore(journal.connection)
        store.begin("/completions", {"a": (1, 1)})
        with journal.transaction(is_counted=False):
            journal.connection.execute("UPDATE runs SET usage = '{}'")
        assert read_record(path, journal.name).commits == before + 2


def test_a_lost_batch_is_noticed(tmp_path):
    """A batch that was paid for is a promise, too."""
    from llmclf.backends.openai.batches.store import BatchStore

    path = tmp_path / "j"
    with Journal(path) as journal:
        journal.begin({"a": 1})
        BatchStore(journal.connection).begin("/completions", {"a": (1, 1)})
        for suffix in ("", "-commits"):
            shutil.copy(beside(path, suffix), tmp_path / f"copy{suffix}")
    with pytest.raises(StoreError, match="0 answers that were on the disk are missing"):
        Journal(tmp_path / "copy", resume=True)


def test_checking_changes_nothing(killed):
    """Neither a killed run's journal nor what lies beside it."""
    before = contents(killed.parent)
    report = check_journal(killed)
    assert (report.answered, report.is_open, report.is_sound) == (N_BEFORE, True, True)
    assert contents(killed.parent) == before


def test_a_journal_in_use_is_said_to_be(tmp_path):
    """To whoever would label with it, check it or export it."""
    path = tmp_path / "j"
    with Journal(path) as journal:
        journal.begin({"a": 1})
        journal.add([(b"k" * 16, RowScores(((-1.0,),)))])
        for look in (check_journal, lambda path: Journal(path, resume=True)):
            with pytest.raises(StoreError, match="is in use by another process; wait until it ends"):
                look(path)
        journal.add([(b"l" * 16, RowScores(((-1.0,),)))])
    assert check_journal(path).answered == 2


@pytest.mark.parametrize("state", ["missing", "empty", "made", "folder", "text"])
def test_what_is_no_journal_is_named(tmp_path, state):
    """One that is missing, was never begun, a folder, a text."""
    path = tmp_path / "j"
    if state == "empty":
        path.touch()
    elif state == "made":
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("PRAGMA journal_mode = WAL")
    elif state == "folder":
        path.mkdir()
    elif state == "text":
        path.write_text("my notes\n" * 500)
    words = {
        "missing": "does not exist",
        "empty": "is empty",
        "made": "is empty",
        "folder": "is a folder",
        "text": "is not a journal",
    }
    with pytest.raises((InputError, StoreError), match=words[state]):
        check_journal(path)


def test_a_journal_of_another_format_is_refused(killed):
    """And says which it is, and what to do."""
    with Journal(killed, resume=True) as journal, journal.transaction():
        journal.connection.execute("UPDATE meta SET value = '7' WHERE name = 'format'")
    with pytest.raises(StoreError, match="is of format 7, and this version of llmclf reads 1; go on with the version"):
        check_journal(killed)


def test_a_changed_fact_is_damage_and_no_other_job(killed, go_on):
    """A letter of the prompt that a disk has changed is not taken for another prompt."""
    with Journal(killed, resume=True) as journal, journal.transaction():
        journal.connection.execute(
            "UPDATE meta SET value = replace(value, 'great', 'graat') WHERE name = 'fingerprint'"
        )
    with pytest.raises(StoreError, match="damaged .its fingerprint cannot be read"):
        go_on(killed)


def test_what_a_run_has_used_may_be_damaged(killed):
    """It is our error, not one of JSON or SQLite."""
    with Journal(killed, resume=True) as journal:
        for value in ("{", "[]", '{"cost": "x"}', "\udcff"):
            with journal.transaction():
                journal.connection.execute(
                    "UPDATE runs SET usage = CAST(? AS TEXT)", (value.encode("utf-8", "surrogatepass"),)
                )
            with pytest.raises(StoreError, match="what its runs have used cannot be read"):
                journal.spent()
