"""What is kept of a damaged journal: all that its own checksums show to be whole, and nothing else."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import numpy as np
import pytest
from killed_journal import N_BEFORE, N_ROWS

from llmclf.backends import RowScores
from llmclf.errors import InputError, StoreError
from llmclf.jobs import check_journal, salvage_journal
from llmclf.jobs.journal.answer_codec import encode_answer
from llmclf.jobs.journal.journal import Journal
from llmclf.jobs.journal.raw_pages import TABLE_LEAF, RawPages


def test_the_first_page_may_be_gone(killed, go_on, right_labels, tmp_path):
    """Without it SQLite reads nothing at all; the answers and what the job is are on others."""
    go_on(killed)
    data = bytearray(killed.read_bytes())
    data[:4096] = b"\1" * 4096
    killed.write_bytes(data)
    with pytest.raises(StoreError, match="is not a journal, or its beginning is damaged.*salvage"):
        check_journal(killed)
    kept = salvage_journal(killed, tmp_path / "new")
    assert (kept.answers, kept.failed, kept.cost) == (N_ROWS, 0, None)
    labelled, _, n = go_on(tmp_path / "new")
    assert n == 0
    assert labelled["label"].tolist() == right_labels


def test_what_is_missing_is_counted(killed, go_on, tmp_path):
    """Answers on a page that is gone; the job goes on and asks for just these."""
    go_on(killed)
    with closing(sqlite3.connect(killed)) as connection:
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
    data = bytearray(killed.read_bytes())
    leaf = next(i for i in range(1, pages) if data[4096 * i] == TABLE_LEAF and data.count(b"\n", 4096 * i, 4096 * i + 5) == 0
                and int.from_bytes(data[4096 * i + 3 : 4096 * i + 5], "big") > 20)  # fmt: skip
    n_lost = int.from_bytes(data[4096 * leaf + 3 : 4096 * leaf + 5], "big")
    data[4096 * leaf : 4096 * leaf + 4096] = bytes(4096)
    killed.write_bytes(data)
    kept = salvage_journal(killed, tmp_path / "new")
    assert (kept.answers, kept.missing) == (N_ROWS - n_lost, n_lost)
    assert go_on(tmp_path / "new")[2] == n_lost


def test_without_a_log_the_record_tells_how_many_are_missing(killed, tmp_path):
    """Of the answers that were promised none is left; the new journal says which job it is, and goes on from nothing."""
    killed.with_name("out.csv.journal-wal").unlink()
    kept = salvage_journal(killed, tmp_path / "new")
    assert (kept.answers, kept.missing) == (0, N_BEFORE)


def test_failures_batches_and_costs_are_kept_where_the_file_is_whole(tmp_path):
    """There is a log too few, say; what has no checksum of its own is as whole as the file is."""
    from llmclf.backends.openai.batches.store import BatchStore

    path = tmp_path / "j"
    with Journal(path) as journal:
        journal.begin({"a": 1})
        journal.meet({"model": "m"})
        journal.add([(b"k" * 16, RowScores(((-1.0,),))), (b"l" * 16, RowScores((), error="no"))], {"cost": 0.25})
        BatchStore(journal.connection).begin("/completions", {"a": (1, 1)})
    kept = salvage_journal(path, tmp_path / "new")
    assert (kept.answers, kept.failed, kept.missing, kept.cost) == (1, 1, 0, 0.25)
    with Journal(tmp_path / "new", resume=True) as journal:
        assert journal.spent() == 0.25
        assert journal.identity == {"model": "m"}
        assert [record.path for record in BatchStore(journal.connection).unfinished()] == ["/completions"]


def test_long_answers_are_found_across_pages(tmp_path):
    """150 labels of six tokens take two pages and a half; SQLite chains them."""
    path, answers = tmp_path / "j", {}
    draw = np.random.default_rng(0)
    with Journal(path) as journal:
        journal.begin({"a": 1})
        for i in range(7):
            scores = RowScores(tuple(map(tuple, -draw.random((150, 6)))))
            answers[bytes([i]) * 16] = encode_answer(bytes([i]) * 16, scores)
            journal.add([(bytes([i]) * 16, scores)])
    data = bytearray(path.read_bytes())
    data[20:100] = bytes(80)
    path.write_bytes(data)
    records = [values for _, values in RawPages(path, tmp_path / "none").records(TABLE_LEAF)]
    assert {values[1]: values[2] for values in records if len(values) == 4 and isinstance(values[1], bytes)} == answers
    assert salvage_journal(path, tmp_path / "new").answers == 7


def test_nothing_is_kept_if_nothing_says_whose_answers_they_are(killed, tmp_path):
    """A key is a hash of a row alone: under another prompt it would have another answer."""
    data = killed.read_bytes()
    killed.write_bytes(data.replace(b"score version", b"score versios"))
    log = killed.with_name("out.csv.journal-wal")
    log.write_bytes(log.read_bytes().replace(b"score version", b"score versios"))
    with pytest.raises(StoreError, match="nothing can be kept.*the fingerprint. is damaged"):
        salvage_journal(killed, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_places_are_checked(killed, tmp_path):
    """There must be something to read, and nothing where it goes."""
    with pytest.raises(InputError, match="is not a file"):
        salvage_journal(tmp_path / "none", tmp_path / "new")
    with pytest.raises(InputError, match="exists already"):
        salvage_journal(killed, killed)
