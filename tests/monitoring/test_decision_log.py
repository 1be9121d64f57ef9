"""The log of decisions: many writers, files that rotate, and what a kill leaves."""

from __future__ import annotations

import contextlib
import copy
import multiprocessing
import os
import pickle
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from monitoring.watched import append_many

from llmclf.errors import InputError, StoreError
from llmclf.monitoring import DecisionLog, DecisionRecord
from llmclf.monitoring.decision_log import logs_in

CLASSES = ("praise", "complaint")


def a_log(folder, **options):
    return DecisionLog(folder, **{"classes": CLASSES, "certificate": "c1", "model": "m", **options})


def record(number, **values):
    return DecisionRecord(
        **{
            "id": f"r{number}",
            "time": 1e9 + number,
            "label": "praise",
            "probabilities": (0.75, 0.25),
            "accepted": True,
            **values,
        }
    )


def test_what_is_appended_is_read_back(tmp_path):
    """Every field comes back as it was, and absent ones as absent."""
    with a_log(tmp_path) as log:
        log.append([record(0, label_mass=0.5, undecided=True), DecisionRecord("x", 2.0, error="RowError")])
        log.append([record(2, label="complaint", probabilities=np.array([0.125, 0.875]), accepted=np.bool_(False))])
        rows = log.read()
    assert rows.ids == ("r0", "x", "r2")
    assert rows.times.tolist() == [1e9, 2.0, 1e9 + 2]
    assert rows.labels.tolist() == [0, -1, 1]
    np.testing.assert_array_equal(rows.probabilities, [[0.75, 0.25], [np.nan, np.nan], [0.125, 0.875]])
    assert rows.accepted.tolist() == [1, -1, 0]
    np.testing.assert_array_equal(rows.label_mass, [0.5, np.nan, np.nan])
    assert rows.undecided.tolist() == [True, False, False]
    assert rows.errors == (None, "RowError", None)
    np.testing.assert_array_equal(rows.confidence, [0.75, np.nan, 0.875])


@settings(max_examples=15, deadline=None)
@given(
    st.lists(
        st.tuples(st.floats(0, 1), st.booleans() | st.none(), st.floats(0, 1) | st.none(), st.booleans()),
        min_size=1,
        max_size=30,
    ),
    st.integers(1, 7),
)
def test_rotation_keeps_every_row_and_its_order(tmp_path_factory, values, max_rows):
    """However small the files are, what is read is what was written, to the last bit."""
    log = a_log(tmp_path_factory.mktemp("log"), max_rows=max_rows)
    with log:
        for number, (p, accepted, mass, undecided) in enumerate(values):
            log.append(
                [record(number, probabilities=(p, 1 - p), accepted=accepted, label_mass=mass, undecided=undecided)]
            )
    rows = log.read()
    assert rows.ids == tuple(f"r{number}" for number in range(len(values)))
    assert rows.probabilities[:, 0].tolist() == [p for p, _, _, _ in values]
    assert [None if one < 0 else bool(one) for one in rows.accepted] == [accepted for _, accepted, _, _ in values]
    assert len(log.files()) == -(-len(values) // max_rows)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"id": ""}, "1 to 256 printable"),
        ({"id": "a\nb"}, "1 to 256 printable"),
        ({"id": "a\ud800"}, "1 to 256 printable"),
        ({"id": 3}, "1 to 256 printable"),
        ({"time": float("nan")}, "seconds since 1970"),
        ({"label": "other"}, "not one of the log's classes"),
        ({"label": ["praise"]}, "not one of the log's classes"),
        ({"probabilities": (0.5,)}, "expected 2 numbers between 0 and 1"),
        ({"probabilities": (0.5, float("nan"))}, "expected 2 numbers between 0 and 1"),
        ({"probabilities": "ab"}, "expected 2 numbers between 0 and 1"),
        ({"probabilities": None}, "without probabilities"),
        ({"label_mass": -1.0}, "label_mass=-1.0"),
        ({"accepted": 1}, "accepted=1"),
        ({"undecided": None}, "undecided=None"),
        ({"error": "the text 'secret' is too long"}, "expected its kind"),
    ],
)
def test_records_that_cannot_be_kept_are_refused_whole(tmp_path, values, message):
    """The error names the value, no row of the batch is written, and the words of an error's message are not repeated."""
    with a_log(tmp_path) as log:
        with pytest.raises(InputError, match=message) as refusal:
            log.append([record(0), record(1, **values)])
        assert "secret" not in str(refusal.value)
        assert len(log.read()) == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"classes": ["one"]}, "two different classes"),
        ({"classes": ["a", "a"]}, "two different classes"),
        ({"classes": [object(), "a"]}, "no JSON form"),
        ({"max_rows": 0}, "max_rows=0"),
        ({"max_files": 0.5}, "max_files=0.5"),
        ({"max_age": -1}, "max_age=-1"),
        ({"model": None}, "model=None"),
        ({"certificate": 5}, "certificate=5"),
    ],
)
def test_options_that_cannot_be_used_are_named(tmp_path, options, message):
    """Before any file is made."""
    with pytest.raises(InputError, match=message):
        a_log(tmp_path / "log", **options)
    assert not (tmp_path / "log").exists()


def test_a_folder_that_is_a_file_or_an_address_is_refused(tmp_path):
    """The message says what is there."""
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="is a file"):
        a_log(tmp_path / "file")
    with pytest.raises(InputError, match="is an address"):
        a_log("s3://bucket/log")
    with pytest.raises(InputError, match="does not exist"):
        logs_in(tmp_path / "none")
    with pytest.raises(InputError, match="holds no decision log"):
        logs_in(tmp_path)
    (tmp_path / "empty").mkdir()
    assert logs_in(tmp_path / "empty") == []


def test_classifiers_share_a_folder(tmp_path):
    """Each reads its own rows, and the folder lists them in the order in which they began."""
    for certificate in ("c2", None, "c1"):
        with a_log(tmp_path, certificate=certificate) as log:
            log.append([record(0, id=f"of {certificate}")])
    assert [(log.certificate, log.read().ids) for log in logs_in(tmp_path)] == [
        ("c2", ("of c2",)),
        (None, ("of None",)),
        ("c1", ("of c1",)),
    ]


def test_readers_go_on_from_where_they_were(tmp_path):
    """The position after a block leads to the next row, across files."""
    log = a_log(tmp_path, max_rows=3)
    with log:
        log.append([record(number) for number in range(4)])
        [*_, (_, position)] = log.chunks()
        assert list(log.chunks(position)) == []
        log.append([record(4)])
        log.append([record(5)])
        ids = [one for part, _ in log.chunks(position) for one in part.ids]
    assert ids == ["r4", "r5"]
    assert log.read(since=1e9 + 4).ids == ("r4", "r5")
    assert log.find(["r5", "r0", "none"]).ids == ("r0", "r5")


def test_old_files_go_when_there_are_too_many(tmp_path):
    """Those that are left are the newest; nothing of the others stays behind."""
    with a_log(tmp_path, max_rows=2, max_files=3) as log:
        for number in range(20):
            log.append([record(number)])
        assert log.read().ids == tuple(f"r{number}" for number in range(14, 20))
    assert len([name for name in os.listdir(tmp_path) if not name.endswith(("-wal", "-shm"))]) == 3


def test_a_file_takes_no_rows_when_it_is_old(tmp_path):
    """The next decision goes into a new file."""
    with a_log(tmp_path, max_age=0.01) as log:
        log.append([record(0)])
        time.sleep(0.02)
        log.append([record(1)])
        assert len(log.files()) == 2


def test_threads_share_a_log(tmp_path):
    """No row is lost or written twice, and each thread's rows stay in order."""
    with a_log(tmp_path, max_rows=17) as log:
        threads = [
            threading.Thread(target=lambda t=t: [log.append([record(0, id=f"{t}.{i:03d}")]) for i in range(50)])
            for t in range(6)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        ids = log.read().ids
    assert sorted(ids) == sorted({f"{t}.{i:03d}" for t in range(6) for i in range(50)})
    for t in range(6):
        own = [one for one in ids if one.startswith(f"{t}.")]
        assert own == sorted(own)


def _asked(path, question):
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return connection.execute(question).fetchone()[0]


@pytest.mark.slow
@pytest.mark.parametrize("how", ["fork", "spawn"])
def test_processes_share_a_log(tmp_path, how):
    """Forked ones have a log whose file is open in their parent, others get a copy; no row is lost or written twice."""
    context = multiprocessing.get_context(how)
    with a_log(tmp_path, max_rows=25) as log:
        log.append([record(0, id="first")])
        workers = [context.Process(target=append_many, args=(log, name)) for name in "abcd"]
        for worker in workers:
            worker.start()
        append_many(log, "parent")
        for worker in workers:
            worker.join()
        assert [worker.exitcode for worker in workers] == [0] * 4
        ids = log.read().ids
    expected = {"first"} | {f"{name}.{number}" for name in ("a", "b", "c", "d", "parent") for number in range(60)}
    assert sorted(ids) == sorted(expected)
    # Closed files take no more rows, so that readers need never go back.
    sizes = [_asked(path, "SELECT count(*) FROM decisions") for _, path in log.files()]
    assert sizes[:-1] == [25] * (len(sizes) - 1)


_KILLED = """
import sys
from llmclf.monitoring import DecisionLog, DecisionRecord
log = DecisionLog(sys.argv[1], classes=("praise", "complaint"), certificate="c1", model="m", max_rows=50)
for number in range(10**9):
    log.append([DecisionRecord(f"{sys.argv[2]}.{number}", 1.0, "praise", (0.75, 0.25))])
    print(number, flush=True)
"""


@pytest.mark.slow
def test_a_kill_loses_nothing_that_was_returned_for(tmp_path):
    """Two writers are killed at any moment, again and again: all their rows are there, and at most one more of each."""
    for attempt in range(4):
        writers = [
            subprocess.Popen([sys.executable, "-c", _KILLED, tmp_path, f"{attempt}{name}"], stdout=subprocess.PIPE)
            for name in "ab"
        ]
        read = [[writer.stdout.readline() for _ in range(30)][-1] for writer in writers]
        time.sleep(0.01 * attempt)
        last = []
        for writer, line in zip(writers, read, strict=True):
            os.kill(writer.pid, signal.SIGKILL)
            # What `communicate` returns lacks what was read ahead.
            last.append(int((line + writer.stdout.read()).split()[-1]))
            writer.wait()
            writer.stdout.close()
        ids = a_log(tmp_path).read().ids
        for name, number in zip("ab", last, strict=True):
            own = [one for one in ids if one.startswith(f"{attempt}{name}.")]
            assert own[: number + 1] == [f"{attempt}{name}.{i}" for i in range(number + 1)]
            assert len(own) <= number + 2
    for _, path in a_log(tmp_path).files():
        assert _asked(path, "PRAGMA integrity_check") == "ok"


def test_memory_does_not_grow_with_the_log(tmp_path):
    """Reading in blocks holds a block at a time, and appending holds nothing."""
    with a_log(tmp_path, max_rows=5000) as log:
        log.append([record(number, id=f"first {number}") for number in range(500)])
        ids = (f"{number:05d}" for number in range(30_000))
        tracemalloc.start()
        for _ in range(60):
            log.append(record(number, id=next(ids)) for number in range(500))
        appended = tracemalloc.get_traced_memory()[1]
        tracemalloc.reset_peak()
        assert sum(len(part) for part, _ in log.chunks()) == 61 * 500
        read = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert appended < 1_000_000
    assert read < 12_000_000


def test_files_are_for_their_owner_alone(tmp_path):
    """And one that others may write is not believed."""
    with a_log(tmp_path) as log:
        log.append([record(0)])
    [(_, path)] = log.files()
    assert path.stat().st_mode & 0o077 == 0
    path.chmod(0o666)
    with pytest.raises(StoreError, match="may be written by every user"):
        log.read()


def test_damage_is_named(tmp_path):
    """A file that is no log, or not whole, stops the reader with its name."""
    with a_log(tmp_path) as log:
        log.append([record(0)])
    [(_, path)] = log.files()
    path.write_bytes(b"no database" * 100)
    path.chmod(0o600)
    with pytest.raises(StoreError, match="is damaged, or was written by another program"):
        log.read()
    with pytest.raises(StoreError, match="is damaged, or was written by another program"):
        log.append([record(1)])


def test_a_log_of_a_newer_format_or_another_classifier_is_named(tmp_path):
    """Its rows are not mixed with ours."""
    with a_log(tmp_path) as log:
        log.append([record(0)])
    [(_, path)] = log.files()
    path.rename(tmp_path / path.name.replace(log.stream, "0" * 12))
    with pytest.raises(StoreError, match="damaged, or was renamed"):
        logs_in(tmp_path)
    path = tmp_path / f"{'0' * 12}-000001.sqlite"
    for version, cure in ((9, "update llmclf"), (1, "clients chose the ids of its decisions.*move it away")):
        with contextlib.closing(sqlite3.connect(path)) as connection:
            connection.execute(f"PRAGMA user_version={version}")
        with pytest.raises(StoreError, match=f"format {version}, .*{cure}"):
            logs_in(tmp_path)


def test_a_file_that_is_removed_under_a_writer_is_made_again(tmp_path):
    """Rows that are appended afterwards are kept."""
    with a_log(tmp_path) as log:
        log.append([record(0)])
        for name in os.listdir(tmp_path):
            (tmp_path / name).unlink()
        log.append([record(1)])
        assert log.read().ids == ("r1",)


def test_readers_of_a_log_that_was_removed_read_what_comes_then(tmp_path):
    """Whether its writer goes on, or another one begins."""
    with a_log(tmp_path, max_rows=2) as log:
        for number in range(5):
            log.append([record(number)])
        [*_, (_, position)] = log.chunks()
        for begins_anew in (False, True):
            for name in os.listdir(tmp_path):
                (tmp_path / name).unlink()
            number = 10 + begins_anew
            with a_log(tmp_path) if begins_anew else contextlib.nullcontext(log) as writer:
                writer.append([record(number)])
                [(rows, position)] = log.chunks(position)
            assert rows.ids == (f"r{number}",)


def test_a_log_that_cannot_be_made_again_at_once_has_another_number_when_it_can(tmp_path):
    """Its folder was removed whole, and comes back later: readers of the removed file pass nothing over."""
    folder = tmp_path / "log"
    with a_log(folder) as log:
        log.append([record(0), record(1)])
        [(_, position)] = log.chunks()
        shutil.rmtree(folder)
        for _ in range(2):
            with pytest.raises(StoreError, match="cannot be written"):
                log.append([record(2)])
        folder.mkdir()
        log.append([record(2)])
        [(rows, position)] = log.chunks(position)
        assert rows.ids == ("r2",)
        assert position.file == 2


def test_files_that_are_removed_while_they_are_read_are_not_made_again(tmp_path, monkeypatch):
    """Between the list of files and the look into them, as the oldest ones go."""
    with a_log(tmp_path, max_rows=1) as log:
        for number in range(3):
            log.append([record(number)])
    listed = log.files()
    monkeypatch.setattr(log, "files", lambda: listed)
    gone = [path for path in tmp_path.iterdir() if "-000001." in path.name]
    for path in gone:
        path.unlink()
    assert log.read().ids == ("r1", "r2")
    assert log.find(["r0", "r2"]).ids == ("r2",)
    assert not any(path.exists() for path in gone)


def test_an_id_is_that_of_one_decision(tmp_path):
    """A second one with it is refused by name, and none of its batch is kept, whoever has logged the first one."""
    with a_log(tmp_path) as log, a_log(tmp_path) as other:
        log.append([record(0), record(1)])
        for writer, batch, name in (
            (log, [record(2), record(1)], "r1"),
            (other, [record(2), record(0, label="complaint")], "r0"),
            (other, [record(2), record(3), record(3)], "r3"),
        ):
            with pytest.raises(InputError, match=f"id='{name}' is that of another decision"):
                writer.append(batch)
        other.append([record(2)])
        assert log.read().ids == ("r0", "r1", "r2")


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="needs a folder that nobody can write")
def test_a_folder_that_cannot_be_written_is_named():
    """By opening as by appending: the folder is what was given, and what can be changed."""
    log = a_log("/proc")
    for write in (log.open, lambda: log.append([record(0)])):
        with pytest.raises(StoreError, match=r"the decision log '/proc' cannot be written \(.*\); give another folder"):
            write()


def test_a_log_can_be_begun_without_rows(tmp_path):
    """Then readers know it."""
    with a_log(tmp_path / "log") as log:
        log.open()
        [found] = logs_in(tmp_path / "log")
        assert (found.stream, len(found.read())) == (log.stream, 0)
        log.open()
        log.append([record(0)])
        assert len(log.files()) == len(found.read()) == 1


def test_copies_and_pickles_open_their_own_files(tmp_path):
    """A copy writes to the same log."""
    with a_log(tmp_path) as log:
        log.append([record(0)])
        for number, other in enumerate((pickle.loads(pickle.dumps(log)), copy.copy(log)), 1):
            with other:
                other.append([record(number)])
        assert log.read().ids == ("r0", "r1", "r2")
