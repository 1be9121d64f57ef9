"""Journals of the parts of a job as one."""

from __future__ import annotations

import pytest
from killed_journal import LABELS, N_ROWS, TABLE, Counting

from llmclf.backends import FakeBackend, RowScores
from llmclf.errors import InputError
from llmclf.jobs import check_journal, label_table, merge_journals
from llmclf.jobs.journal.journal import Journal


def test_parts_become_one_job_that_asks_nothing_more(tmp_path, go_on, right_labels):
    """Three machines had a part of the rows each, some rows twice; the whole table is then labelled from the journal."""
    for i, part in enumerate((TABLE[:100], TABLE[90:200], TABLE[200:])):
        label_table(part, tmp_path / f"{i}.csv", id_column="id", text_column="text", labels=LABELS, model=Counting())
    journals = [tmp_path / f"{i}.csv.journal" for i in range(3)]
    before = [journal.read_bytes() for journal in journals]
    merged = merge_journals(journals, tmp_path / "all.journal")
    assert (merged.questions, merged.equal, merged.replaced, merged.damaged) == (N_ROWS, 10, 0, 0)
    assert [journal.read_bytes() for journal in journals] == before
    labelled, _, n = go_on(tmp_path / "all.journal")
    assert n == 0
    assert labelled["label"].tolist() == right_labels


def journal_with(path, answers, *, job=None, model=None, cost=0.0):
    with Journal(path) as journal:
        journal.begin(job or {"prompt": "a", "labels": [["x", ["x"]]]})
        journal.meet(model or {"model": "m"})
        journal.add([(key * 16, scores) for key, scores in answers.items()], {"cost": cost})
    return path


def answer(value: float) -> RowScores:
    return RowScores(((value,),))


def scores(path) -> dict[bytes, float | str]:
    from llmclf.jobs.journal.inspection import opened_journal

    with opened_journal(path) as stored:
        rows = [row for part in stored.answers() for row in part]
        block = stored.decoded(rows)
        return {
            key[:1]: error or value
            for (key, _, error), value in zip(rows, block.scores.sums[:, 0].tolist(), strict=True)
        }


def test_different_answers_to_one_question(tmp_path):
    """The journal named last counts, but no error replaces an answer; how often is counted, and costs are added."""
    failed = RowScores((), error="no")
    one = journal_with(tmp_path / "1", {b"a": answer(-1.0), b"b": answer(-1.0), b"c": failed, b"d": failed}, cost=0.5)
    two = journal_with(
        tmp_path / "2", {b"a": answer(-2.0), b"b": failed, b"c": answer(-2.0), b"e": answer(-1.0)}, cost=0.25
    )
    merged = merge_journals([one, two], tmp_path / "all")
    assert (merged.questions, merged.equal, merged.replaced) == (5, 0, 1)
    assert scores(tmp_path / "all") == {b"a": -2.0, b"b": -1.0, b"c": -2.0, b"d": "no", b"e": -1.0}
    assert merge_journals([two, one], tmp_path / "other").replaced == 1
    assert scores(tmp_path / "other")[b"a"] == -1.0
    assert check_journal(tmp_path / "all").cost == 0.75


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"job": {"prompt": "b", "labels": [["x", ["x"]]]}},
            "is of another job than .*: its prompt is 'b', and there it is 'a'",
        ),
        ({"model": {"model": "n"}}, "is of another model than .*: its model's model is 'n', and there it is 'm'"),
    ],
)
def test_journals_of_another_job_or_model_are_refused(tmp_path, options, message):
    """The difference is named, and nothing is made."""
    one = journal_with(tmp_path / "1", {b"a": answer(-1.0)})
    two = journal_with(tmp_path / "2", {b"b": answer(-1.0)}, **options)
    with pytest.raises(InputError, match=message):
        merge_journals([one, two], tmp_path / "all")
    assert not (tmp_path / "all").exists()


def test_what_cannot_be_merged_is_named(tmp_path):
    """No journal, one that is not there, one that waits for a batch, a place that is taken."""
    from llmclf.backends.openai.batches.store import BatchStore

    one = journal_with(tmp_path / "1", {b"a": answer(-1.0)})
    with pytest.raises(InputError, match="no journals are named"):
        merge_journals([], tmp_path / "all")
    with pytest.raises(InputError, match="does not exist"):
        merge_journals([one, tmp_path / "2"], tmp_path / "all")
    with pytest.raises(InputError, match="exists already"):
        merge_journals([one], one)
    with Journal(one, resume=True) as journal:
        BatchStore(journal.connection).begin("/completions", {"a": (1, 1)})
    with pytest.raises(InputError, match="waits for batches of a provider"):
        merge_journals([one], tmp_path / "all")


def test_damaged_answers_are_left_out(tmp_path):
    """They are asked again."""
    one = journal_with(tmp_path / "1", {b"a": answer(-1.0), b"b": answer(-1.0)})
    with Journal(one, resume=True) as journal, journal.transaction():
        journal.connection.execute("UPDATE answers SET value = x'00' WHERE n = 1")
    merged = merge_journals([one], tmp_path / "all")
    assert (merged.questions, merged.damaged) == (1, 1)


def test_a_journal_of_a_fake_model_is_its_own(tmp_path):
    """Another seed is another model."""
    for seed in (0, 1):
        label_table(TABLE[:5], tmp_path / f"{seed}.csv", text_column="text", labels=LABELS, model=FakeBackend(seed))
    with pytest.raises(InputError, match="its seed is 1, and there it is 0"):
        merge_journals([tmp_path / "0.csv.journal", tmp_path / "1.csv.journal"], tmp_path / "all")
