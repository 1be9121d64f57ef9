"""The score cache: one key per question, exact answers, and nothing lost or believed that should not be."""

from __future__ import annotations

import json
import math
import multiprocessing
import os
import re
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
import time
import unicodedata
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import llmclf
from llmclf import Prompt, answer_cache
from llmclf.backends import Request, RowScores
from llmclf.errors import InputError, StoreError
from llmclf.prompts.rendered import RenderedPrompt, Span, Turn
from llmclf.scoring import score_cache
from llmclf.scoring.score_cache import ScoreCache, request_key

IDENTITY = {"backend": "fake", "seed": 0}


def request(
    spans=(("Review: ", False), ("fine", True)), completions=(" a", " b"), terminator="auto", role=None
) -> Request:
    turn = Turn(role, tuple(Span(text, is_data) for text, is_data in spans))
    return Request(RenderedPrompt((turn,)), completions, terminator)


def scores(*values: float) -> RowScores:
    return RowScores(tuple((value,) for value in values))


@pytest.fixture
def cache(tmp_path) -> ScoreCache:
    return ScoreCache(tmp_path / "scores.sqlite")


def execute(cache: ScoreCache, statement: str, *values) -> None:
    with closing(sqlite3.connect(cache.path)) as connection, connection:
        connection.execute(statement, values)


# Keys

TEXT = st.text(max_size=8)
SPANS = st.lists(st.tuples(TEXT, st.booleans()), min_size=1, max_size=3).map(tuple)
REQUEST = st.tuples(
    SPANS,
    st.lists(TEXT, min_size=1, max_size=3).map(tuple),
    st.sampled_from(["auto", "eos", None]),
    st.sampled_from([None, "user"]),
)


@given(REQUEST)
def test_same_question_same_key(parts):
    """A key depends on the question alone, not on the objects that ask it or the order of the identity's parts."""
    turned = dict(reversed(IDENTITY.items()))
    assert request_key(IDENTITY, request(*parts)) == request_key(turned, request(*parts))
    assert re.fullmatch("[0-9a-f]{64}", request_key(IDENTITY, request(*parts)))


@given(REQUEST, REQUEST)
def test_different_questions_have_different_keys(first, second):
    """Whatever differs (a piece's text, its border, its origin, a completion, the end, the role) changes the key."""
    assume(first != second)
    assert request_key(IDENTITY, request(*first)) != request_key(IDENTITY, request(*second))


COMPOSED = unicodedata.normalize("NFC", "é")
DECOMPOSED = unicodedata.normalize("NFD", "é")


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"completions": ("a|b", "c")}, {"completions": ("a", "b|c")}),
        ({"completions": ("a", "b")}, {"completions": ("b", "a")}),
        ({"completions": ("ab",)}, {"completions": ("a", "b")}),
        ({"completions": ('a","b',)}, {"completions": ("a", "b")}),
        ({"spans": ((COMPOSED, True),)}, {"spans": ((DECOMPOSED, True),)}),
        ({"spans": (("\ud800", True),)}, {"spans": (("\\ud800", True),)}),
        ({"spans": (("x", True),)}, {"spans": (("x", False),)}),
        ({"spans": (("x", True), ("y", False))}, {"spans": (("x", False), ("y", True))}),
        ({"spans": (("x ", True),)}, {"spans": (("x", True),)}),
        ({"terminator": None}, {"terminator": "None"}),
        ({"terminator": "auto"}, {"terminator": "eos"}),
        ({"role": None}, {"role": "None"}),
    ],
)
def test_look_alikes_have_different_keys(first, second):
    """Separators inside words, composed accents, white space, data or not: look-alikes are different questions."""
    assert request_key(IDENTITY, request(**first)) != request_key(IDENTITY, request(**second))


@pytest.mark.parametrize(
    "identity",
    [{}, {"backend": "fake", "seed": "0"}, {"backend": "fake", "seed": 1}, {"backend": "fake", "seed": False},
     {"backend": "fake", "seed": 0, "dtype": None}, {"backend": "fake", "seed": 0.0}],
)  # fmt: skip
def test_another_model_has_other_keys(identity):
    """Any change of the model's identity, of value or type, changes the key."""
    assert request_key(IDENTITY, request()) != request_key(identity, request())


def test_another_version_of_scores_has_other_keys(monkeypatch):
    """Scores of an older llmclf are not used when the way of scoring has changed."""
    before = request_key(IDENTITY, request())
    monkeypatch.setattr(score_cache, "SCORE_VERSION", 999)
    assert request_key(IDENTITY, request()) != before


def test_what_may_be_shortened_is_part_of_the_question():
    """Prompts that read the same but would be cut in another field when too long are different questions."""
    row = {"a": "long", "b": "short"}
    keys = {
        request_key(
            IDENTITY,
            Request(Prompt("{{ a }} {{ b }}:", text_field=name).renderer(["x"], (), ("a", "b")).render(row), (" x",)),
        )
        for name in (None, "a", "b")
    }
    assert len(keys) == 3


def test_questions_keep_the_keys_that_they_had():
    """What was kept by earlier versions stays known: plain text and chats, with shots, field names and label words as data."""
    template = "{% for n, v in fields.items() %}{{ n }}: {{ v }}; {% endfor %}{{ label_words | join('/') }}:"
    shots = [({"t": "x", "u": 1}, "a")]
    plain = Prompt(template).renderer(["a", "b"], shots, ("t", "u")).render({"t": "y", "u": 2})
    chat = Prompt(chat=True).renderer(["a", "b"], [({"text": "x"}, "a")]).render({"text": "y"})
    keys = (
        request_key(IDENTITY, Request(plain, (" a", " b"))),
        request_key(IDENTITY, Request(chat, ("a", "b"), "longest"), "f"),
    )
    assert [key[:16] for key in keys] == ["64678e7147d19456", "304fff7e865e0552"]


# Answers

LOGPROB = st.floats(min_value=-1e300, max_value=0.0)


@given(
    st.lists(st.lists(LOGPROB, min_size=1, max_size=3), min_size=1, max_size=3), st.booleans(), st.integers(0, 10**6)
)
def test_answers_come_back_exactly(tmp_path_factory, logprobs, flag, n_cut):
    """Every bit of a log-probability survives, and so do bounds, cuts and flags."""
    cache = ScoreCache(tmp_path_factory.getbasetemp() / "exact.sqlite")
    rows = tuple(tuple(tokens) for tokens in logprobs)
    plain = RowScores(rows, characters_cut=n_cut, healed=flag, terminated=not flag)
    bounded = RowScores(rows, (-math.inf,) * len(rows), plain.sums)
    cache.put([("plain", plain), ("bounded", bounded)])
    found = cache.get(["plain", "bounded"])
    assert found == {"plain": plain, "bounded": bounded}
    assert repr(found["plain"]) == repr(plain)


def test_unknown_keys_are_left_out(cache):
    """get gives what is known; nothing asked, nothing found; a later answer replaces an earlier one."""
    cache.put([(f"k{i}", scores(-float(i))) for i in range(1200)])
    assert cache.get([]) == {}
    found = cache.get([*(f"k{i}" for i in range(1200)), "nope"])
    assert len(found) == 1200
    assert found["k1100"].sums == (-1100.0,)
    cache.put([("k0", scores(-7.0))])
    assert cache.get(["k0"])["k0"].sums == (-7.0,)
    assert cache.info()["rows"] == 1200


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_infinite_scores_are_not_stored(cache, value):
    """What is no log-probability is refused, and nothing else of the same call is stored."""
    with pytest.raises(InputError, match="finite log-probabilities"):
        cache.put([("good", scores(-1.0)), ("bad", RowScores(((value,),)))])
    assert cache.info()["rows"] == 0


def stored(key: str, value: str) -> tuple[str, str, str, float]:
    """A row as a healthy cache would have written it, whatever the value."""
    return key, value, answer_cache.checksum_of(key, value), 0.0


@pytest.mark.parametrize(
    "value",
    [
        "",
        "no json",
        "null",
        "[]",
        "[[-1.0]]",
        '{"token_logprobs": []}',
        '{"token_logprobs": [[]]}',
        '{"token_logprobs": [[0.5]]}',
        '{"token_logprobs": [[NaN]]}',
        '{"token_logprobs": [[-Infinity]]}',
        '{"token_logprobs": [["x"]]}',
        '{"token_logprobs": [[-1.0], [-2.0]], "lower": [-3.0], "upper": [-1.0]}',
        '{"logprobs": [[-1.0]]}',
        '{"token_logprobs": [[-1e308, -1e308]]}',
        "[" * 100_000,
    ],
)
def test_values_that_are_no_scores_are_missing(cache, value):
    """Even with a good checksum, only log-probabilities of at most 0 are believed."""
    execute(cache, "INSERT INTO scores VALUES (?, ?, ?, ?)", *stored("bad", value))
    cache.put([("good", scores(-1.0))])
    assert list(cache.get(["bad", "good"])) == ["good"]


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE scores SET value = replace(value, '1', '2')",
        "UPDATE scores SET checksum = 'x'",
        "UPDATE scores SET checksum = x'00'",
        "UPDATE scores SET value = x'ff00'",
        "UPDATE scores SET value = CAST(x'ff' AS TEXT)",
        "UPDATE scores SET checksum = CAST(x'ff' AS TEXT)",
        "UPDATE scores SET value = 5",
        "UPDATE scores SET key = 'other'",
        "UPDATE scores SET key = CAST(x'ff' AS TEXT)",
    ],
)
def test_damaged_rows_are_missing(cache, damage):
    """A row whose value, checksum or key was changed is asked again, and can be stored again."""
    cache.put([("key", scores(-1.0))])
    execute(cache, damage)
    assert cache.get(["key", "other"]) == {}
    cache.put([("key", scores(-1.0))])
    assert cache.get(["key"])["key"].sums == (-1.0,)


# The file


def test_a_cache_is_its_owners_alone(tmp_path):
    """The file may be read by its owner alone, whatever the umask; missing folders are made."""
    before = os.umask(0)
    try:
        cache = ScoreCache(tmp_path / "new" / "scores.sqlite")
        cache.put([("key", scores(-1.0))])
    finally:
        os.umask(before)
    assert stat.S_IMODE(cache.path.stat().st_mode) == 0o600


@pytest.mark.parametrize("content", [b"my notes\n" * 500, b"x", b"SQLite format 3\0" + b"\0\1\2" * 1000])
def test_another_file_is_refused_and_untouched(tmp_path, content):
    """A file that is no cache (a typing error, most likely) is refused and stays as it was."""
    file = tmp_path / "notes.txt"
    file.write_bytes(content)
    with pytest.raises(StoreError, match=r"notes.txt'"):
        ScoreCache(file)
    assert file.read_bytes() == content
    assert os.listdir(tmp_path) == ["notes.txt"]


def test_text_file_is_not_advised_to_be_removed(tmp_path):
    """The message for a file of another kind does not tell the user to delete it."""
    (tmp_path / "notes.txt").write_text("my notes")
    with pytest.raises(StoreError, match="is not a score cache; give cache= another path") as caught:
        ScoreCache(tmp_path / "notes.txt")
    assert "remove" not in str(caught.value)


def test_database_of_another_program_is_refused_and_untouched(tmp_path):
    """Another program's SQLite file keeps every byte, its journal mode among them."""
    file = tmp_path / "other.db"
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("CREATE TABLE scores (x)")
    content = file.read_bytes()
    with pytest.raises(StoreError, match="is a database of another program; give cache= another path"):
        ScoreCache(file)
    assert file.read_bytes() == content
    assert os.listdir(tmp_path) == ["other.db"]


def test_unusable_paths_are_refused(tmp_path):
    """A folder, or a path below a file, is named."""
    (tmp_path / "file").write_text("")
    for path in (tmp_path, tmp_path / "file" / "scores"):
        with pytest.raises(StoreError, match=r"cannot be opened .*; give cache= another path"):
            ScoreCache(path)


def test_info_and_clear(cache):
    """info counts rows and bytes and dates them; clear forgets all and gives the space back."""
    assert {name: cache.info()[name] for name in ("rows", "oldest", "newest")} == {
        "rows": 0,
        "oldest": None,
        "newest": None,
    }
    began = time.time()
    cache.put([(f"{i:064}", scores(*[-1.0] * 20)) for i in range(500)])
    info = cache.info()
    assert info["path"] == str(cache.path)
    assert info["rows"] == 500
    assert began <= info["oldest"] <= info["newest"] <= time.time()
    assert info["bytes"] > 50_000
    assert cache.clear() == 500
    assert cache.clear() == 0
    assert cache.info()["rows"] == 0
    assert cache.info()["bytes"] < 20_000
    assert cache.get([f"{0:064}"]) == {}


# Company


@pytest.mark.slow
def test_threads_lose_nothing(cache):
    """Threads that read and write one cache at once see what was written, and nothing is lost."""
    errors: list[BaseException] = []

    def work(name: int) -> None:
        try:
            for i in range(40):
                cache.put([(f"{name}-{i}", scores(-float(i)))])
                assert cache.get([f"{name}-{i}"])[f"{name}-{i}"].sums == (-float(i),)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert cache.info()["rows"] == 160


WRITER = """
import sys
from llmclf.backends.base import RowScores
from llmclf.scoring.score_cache import ScoreCache

path, name, n = sys.argv[1], sys.argv[2], int(sys.argv[3])
print("ready", flush=True)
sys.stdin.readline()
cache = ScoreCache(path)
for i in range(n):
    cache.put([(f"{name}-{i}", RowScores(((-float(i),),)))])
    print(i, flush=True)
"""


def writer(path: Path, name: str, n: int) -> subprocess.Popen:
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path), name, str(n)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "ready\n"
    return process


def start(process: subprocess.Popen) -> None:
    process.stdin.write("\n")
    process.stdin.flush()


@pytest.mark.slow
def test_processes_lose_nothing(tmp_path):
    """Four processes that make one new cache at the same moment and put 200 answers each leave 800."""
    path = tmp_path / "scores.sqlite"
    processes = [writer(path, str(name), 200) for name in range(4)]
    for process in processes:
        start(process)
    for process in processes:
        process.communicate()
        assert process.returncode == 0
    found = ScoreCache(path).get([f"{name}-{i}" for name in range(4) for i in range(200)])
    assert len(found) == 800
    assert found["3-199"].sums == (-199.0,)


def test_a_cache_can_be_opened_while_another_reads(cache, monkeypatch):
    """Write-ahead logging is an advantage, not a condition: a reader that keeps it from being switched on does not matter."""
    monkeypatch.setattr(answer_cache, "_BUSY_SECONDS", 0.05)
    with closing(sqlite3.connect(cache.path, isolation_level=None)) as reader:
        assert reader.execute("PRAGMA journal_mode=DELETE").fetchone() == ("delete",)
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM scores").fetchone()
        assert ScoreCache(cache.path).info()["rows"] == 0
    again = ScoreCache(cache.path)
    with closing(sqlite3.connect(again.path)) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def _open_and_put(folder: str, barrier, failures, n: int) -> None:
    for i in range(n):
        barrier.wait()
        try:
            ScoreCache(f"{folder}/{i}.sqlite").put([(str(os.getpid()), RowScores(((-1.0,),)))])
        except Exception as error:
            failures.put(repr(error))
    failures.put(None)


@pytest.mark.slow
def test_many_processes_may_make_one_cache(tmp_path):
    """Six processes that open the same new file at once, twenty times over, all get in."""
    context = multiprocessing.get_context("fork")
    barrier, failures = context.Barrier(6), context.Queue()
    processes = [context.Process(target=_open_and_put, args=(str(tmp_path), barrier, failures, 20)) for _ in range(6)]
    for process in processes:
        process.start()
    assert [failures.get() for _ in processes] == [None] * 6
    for process in processes:
        process.join()
    assert {ScoreCache(tmp_path / f"{i}.sqlite").info()["rows"] for i in range(20)} == {6}


def test_a_killed_process_leaves_a_good_cache(tmp_path):
    """A dozen processes killed in the middle of writing lose nothing that they had reported, and damage nothing."""
    path = tmp_path / "scores.sqlite"
    reported: list[str] = []
    for number in range(12):
        process = writer(path, str(number), 10**9)
        start(process)
        for _ in range(5 + number):
            reported.append(f"{number}-{process.stdout.readline().strip()}")
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert set(ScoreCache(path).get(reported)) == set(reported)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


# Safety


def test_nothing_is_ever_unpickled():
    """No module of llmclf reads a pickle, so no cache and no saved classifier can run code."""
    sources = list(Path(llmclf.__file__).parent.rglob("*.py"))
    assert len(sources) > 15
    pattern = re.compile(
        r"^\s*(import|from)\s+(pickle|cPickle|dill|cloudpickle|joblib|shelve|marshal)\b|allow_pickle\s*=\s*True|torch\.load"
        r"|(?<![.\w])(eval|exec)\(",
        re.MULTILINE,
    )
    assert [(source.name, match) for source in sources for match in pattern.findall(source.read_text("utf-8"))] == []


def test_values_are_readable_json(cache):
    """What is stored can be read with any SQLite client and any JSON reader."""
    cache.put([("key", scores(-0.25))])
    with closing(sqlite3.connect(cache.path)) as connection:
        (value,) = connection.execute("SELECT value FROM scores").fetchone()
    assert json.loads(value) == {"token_logprobs": [[-0.25]]}
