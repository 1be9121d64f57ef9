"""A server that lets another model answer in the middle of a job: the job stops, or goes on and says which model it was."""

from __future__ import annotations

import gc
import json
import threading
from collections.abc import Callable

import pandas as pd
import pytest
from faults import FakeServer, Mutate, backend_for, rows_asked

from llmclf import LLMClassifier, Prompt, open_backend
from llmclf.errors import InputError, JobError, ModelChangedError
from llmclf.jobs import check_journal, label_table, merge_journals, salvage_journal
from llmclf.jobs.asking.batches import BatchAsking
from llmclf.tables.files import read_table

pytestmark = pytest.mark.usefixtures("no_waiting")

TABLE = pd.DataFrame({"id": range(30), "text": [f"<review {i}>" for i in range(30)]})
SERVERS = ["openai_chat", "vllm", "openai_legacy", "llama_server"]
AFTER = {
    "openai_chat": 8,
    "vllm": 1,
    "openai_legacy": 8,
    "llama_server": 8,
}  # replies about rows; vLLM's are about many each


class Names:
    """The names in a server's replies: `of` says them from the number of replies about rows so far."""

    def __init__(self, of: Callable[[int], dict[str, str | None]]) -> None:
        self.of = of
        self.n = 0
        self._has_begun = False
        self._lock = threading.Lock()

    def __call__(self, request):
        with self._lock:
            # Requests about rows may hold their tokens alone; that some row was tokenised shows that the probe is over.
            self._has_begun |= "<review" in json.dumps(request.body)
            self.n += self._has_begun and request.path.endswith("completions")
            said = self.of(self.n)

        def change(reply):
            if "choices" in reply:
                reply = {**reply, **said}
                return {name: value for name, value in reply.items() if value is not None}
            return reply

        return Mutate(change)


@pytest.fixture(autouse=True)
def _new_connections():
    """A connection that an error of an earlier test still holds would know another model at a port that is used again."""
    gc.collect()


def swapped(after: int, **other: str) -> Names:
    first = {"model": "tiny-2026", "system_fingerprint": "fp_1"}
    return Names(lambda n: first if n <= after else {**first, **other})


def chat(server: FakeServer, **more):
    return {
        "text_column": "text",
        "labels": ["good", "bad"],
        "prompt": Prompt("Review: {{ text }}", chat=True),
        "model": backend_for(server, **more),
    }


def options(server: FakeServer, kind: str, **more):
    more = {"concurrency": 2, **more}
    if kind == "openai_chat":
        return chat(server, **more)
    return {"text_column": "text", "labels": ["good", "bad"], "model": backend_for(server, **more)}


def label(server, tmp_path, kind="openai_chat", name="out.csv", resume=False, asking=None, **more):
    return label_table(
        TABLE,
        tmp_path / name,
        id_column="id",
        journal=tmp_path / "j",
        resume=resume,
        asking=asking,
        **options(server, kind, **more),
    )


@pytest.mark.parametrize("kind", SERVERS)
def test_another_model_stops_the_job_and_what_was_answered_is_kept(tmp_path, kind):
    """On every route; the error names both models and the flag, and the journal holds answers of the first alone."""
    names = swapped(AFTER[kind], model="other-model")
    with FakeServer(kind, names) as server:
        with pytest.raises(
            JobError, match=r"'other-model' answered, and 'tiny-2026' did before.*--accept-model-change.*--resume"
        ) as stopped:
            label(server, tmp_path, kind)
        assert isinstance(stopped.value.__cause__, ModelChangedError)
        assert not (tmp_path / "out.csv").exists()
        kept = check_journal(tmp_path / "j")
        assert 0 < kept.answered < 30
        assert kept.models == {}
        assert kept.model["answered_by"] == "tiny-2026"
        # Once the first model is back, the job ends as if nothing had been.
        names.of = lambda n: {"model": "tiny-2026"}
        assert label(server, tmp_path, kind, resume=True).summary.answered_before == kept.answered
        undisturbed = label_table(TABLE, tmp_path / "whole.csv", id_column="id", **options(server, kind))
        assert undisturbed.summary.labelled == 30
    assert (tmp_path / "out.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()


@pytest.mark.parametrize("kind", SERVERS)
def test_accepted_the_job_goes_on_and_its_rows_say_who_has_answered(tmp_path, kind):
    """A column with the server's own names; those of rows with an answer by the first model, too."""
    with FakeServer(kind, swapped(AFTER[kind], model="other-model")) as server:
        result = label(server, tmp_path, kind, accept_model_change=True)
    found = read_table(tmp_path / "out.csv")
    assert result.summary.labelled == 30
    assert list(found.columns)[-2:] == ["error", "model"]
    answered = found["model"].value_counts()
    assert set(found["model"]) <= {"tiny-2026 (fp_1)", "other-model (fp_1)", "tiny-2026 (fp_1) + other-model (fp_1)"}
    assert answered["tiny-2026 (fp_1)"] > 0
    assert answered["other-model (fp_1)"] > 0
    kept = check_journal(tmp_path / "j")
    assert sum(kept.models.values()) == 30 - answered["tiny-2026 (fp_1)"]


def test_another_fingerprint_is_another_version(tmp_path):
    """Of the same name: it stops the job, too, and both are named; a resumed run notices it before it asks about a row."""
    names = swapped(10, system_fingerprint="fp_2")
    with FakeServer("openai_chat", names) as server:
        with pytest.raises(
            JobError, match="'tiny' answered with the system fingerprint 'fp_2', and with 'fp_1' before"
        ):
            label(server, tmp_path)
        before = rows_asked(server)
        # Another connection, as another process has it.
        with pytest.raises(
            InputError, match=r"holds answers of 'tiny-2026 \(fp_1\)', and 'tiny-2026 \(fp_2\)' answers now.*--accept"
        ):
            label(server, tmp_path, resume=True, timeout=50.0)
        assert rows_asked(server) == before
        label(server, tmp_path, resume=True, accept_model_change=True)
    counts = read_table(tmp_path / "out.csv")["model"].value_counts()
    assert set(counts.index) == {"tiny-2026 (fp_1)", "tiny-2026 (fp_2)"}


def test_two_models_by_turns_stop_the_job(tmp_path):
    """Behind one address, whichever answers first; at the latest with the first rows."""
    turns = Names(lambda n: {"model": "one"} if n % 3 else {"model": "two"})
    with (
        FakeServer("openai_chat", turns) as server,
        pytest.raises((JobError, ModelChangedError), match="or for several by turns"),
    ):
        label(server, tmp_path)


@pytest.mark.parametrize("kind", SERVERS)
@pytest.mark.parametrize(
    "said",
    [
        {"model": None},
        {"model": ""},
        {"model": "tiny-2026-11-28"},
        {"model": None, "system_fingerprint": "fp"},
    ],
)
def test_what_stays_the_same_stops_nothing(tmp_path, kind, said):
    """No name, an empty one, a dated one, a fingerprint alone; and a name that is not in every reply."""
    with FakeServer(kind, Names(lambda n: said)) as server:
        assert label(server, tmp_path, kind).summary.labelled == 30
    assert "model" not in read_table(tmp_path / "out.csv").columns


def test_a_name_that_is_not_in_every_reply_stops_nothing(tmp_path):
    """Some servers leave it out at times: that is no other model."""
    with FakeServer("openai_chat", Names(lambda n: {"model": "a" if n % 2 else None})) as server:
        assert label(server, tmp_path).summary.labelled == 30


def test_routes_may_name_a_model_differently(tmp_path):
    """A server's chats say another name than its completions, from the start."""

    def by_path(request):
        name = "tiny-chat" if "chat" in request.path else "tiny-text"
        return Mutate(lambda reply: {**reply, "model": name} if "choices" in reply else reply)

    with FakeServer("vllm", by_path) as server:
        assert label(server, tmp_path, "vllm").summary.labelled == 30


def test_a_resumed_job_of_another_model_is_refused_until_it_is_accepted(tmp_path):
    """By the name that the journal knows; the rows then say which model has answered, in every later run, too."""
    names = Names(lambda n: {"model": "one"})
    with FakeServer("openai_chat", names) as server:
        label_table(TABLE[:10], tmp_path / "part.csv", id_column="id", journal=tmp_path / "j", **chat(server))
        names.of = lambda n: {"model": "two"}
        with pytest.raises(
            InputError, match=r"its answered_by is 'one', and the model's is 'two'.*--accept-model-change"
        ):
            label(server, tmp_path, resume=True)
        label_table(
            TABLE,
            tmp_path / "out.csv",
            id_column="id",
            journal=tmp_path / "j",
            resume=True,
            accept_model_change=True,
            **chat(server),
        )
        expected = ["one"] * 10 + ["two"] * 20
        assert read_table(tmp_path / "out.csv")["model"].tolist() == expected
        label(server, tmp_path, name="again.csv", resume=True)
        assert read_table(tmp_path / "again.csv")["model"].tolist() == expected
    # Whatever is made of the journal keeps it.
    salvage_journal(tmp_path / "j", tmp_path / "salvaged")
    merge_journals([tmp_path / "j"], tmp_path / "merged")
    assert check_journal(tmp_path / "salvaged").models == check_journal(tmp_path / "merged").models == {"two": 20}


def test_a_local_model_cannot_be_swapped(tmp_path):
    """The argument is refused where it would do nothing."""
    from llmclf.backends import FakeBackend

    with pytest.raises(InputError, match="accept_model_change=True: the model .* is not behind a server"):
        label_table(TABLE, text_column="text", labels=["a", "b"], model=FakeBackend(), accept_model_change=True)
    with pytest.raises(InputError, match="accept_model_change='yes': expected True or False"):
        open_backend("openai:tiny", base_url="http://localhost:1/v1", accept_model_change="yes")


def test_batches_are_compared_too(tmp_path):
    """What a provider's batch brings of another model is not taken; accepted, it is, and nothing is paid for twice."""
    from batch_server import BatchServer

    with BatchServer("openai_chat") as server:
        asking = BatchAsking(poll_seconds=0.01, max_requests=10, parallel=1)
        name, finish = "tiny", server.batches.inner.envelope

        def envelope(kind, choices, usage):
            reply = finish(kind, choices, usage)
            is_late = sum(server.batches.paid.values()) > 10
            return {**reply, "model": "tiny-2" if is_late else name}

        server.batches.inner.envelope = envelope
        with pytest.raises(JobError, match="'tiny-2' answered, and 'tiny' did before"):
            label(server, tmp_path, asking=asking)
        kept = check_journal(tmp_path / "j")
        assert 0 < kept.answered <= 20
        result = label(server, tmp_path, resume=True, asking=asking, accept_model_change=True)
        assert result.summary.labelled == 30
        assert set(server.batches.paid.values()) == {1}
    assert set(read_table(tmp_path / "out.csv")["model"]) == {"tiny", "tiny-2"}


def test_predictions_of_two_models_are_not_mixed_either(tmp_path):
    """Outside of jobs as well; and no answer of a model that may change goes into a score cache."""
    names = swapped(5, model="other")
    texts = TABLE["text"].tolist()
    with FakeServer("openai_chat", names) as server:
        prompt = Prompt("Review: {{ text }}", chat=True)
        clf = LLMClassifier(backend_for(server), labels=["good", "bad"], prompt=prompt).fit(texts[:2])
        with pytest.raises(ModelChangedError, match="'other' answered, and 'tiny-2026' did before"):
            clf.predict(texts)
        accepting = backend_for(server, accept_model_change=True)
        clf = LLMClassifier(accepting, labels=["good", "bad"], prompt=prompt, cache=tmp_path / "cache").fit(texts[:2])
        clf.predict(texts)
        clf.predict(texts)
    from llmclf.scoring.score_cache import ScoreCache

    assert ScoreCache(tmp_path / "cache").info()["rows"] == 0
