"""Jobs of classifiers that have learned from features: what heads make of a row is kept with its answer, and features are not."""

from __future__ import annotations

import copy
import json
import pickle
import signal
import sqlite3
import subprocess
import sys
import time
from copy import deepcopy
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from faults import FakeServer, Status, backend_for, rows_asked
from hypothesis import given
from hypothesis import strategies as st
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.compose import ColumnTransformer
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.preprocessing import OneHotEncoder

from llmclf import Embeddings, LLMClassifier, Prompt, load
from llmclf.backends import FakeBackend, RowScores
from llmclf.backends.usage import Estimate, Usage
from llmclf.calibration import TemperatureCalibrator
from llmclf.calibration.pool.members import FittedHead
from llmclf.errors import BudgetError, InputError, JobError, ServerError
from llmclf.jobs import estimate_table, label_table
from llmclf.jobs.heads import Heads
from llmclf.jobs.journal.answer_codec import decode_block, encode_answer
from llmclf.numerics.opinion_pools import OpinionPool
from llmclf.tables import read_rows
from llmclf.tables.files import read_table, write_table

pytestmark = pytest.mark.usefixtures("no_waiting")

LABELS = {"good": ["good", "great"], "bad": "bad"}
P = ["p_bad", "p_good"]
FINE, DULL = ["fine", "lovely", "bright", "warm", "clever"], ["dull", "grey", "long", "cold", "tired"]


def texts_of(n: int, seed: int = 0) -> tuple[list[str], list[str]]:
    """Texts whose words tell the class, more or less, and the classes."""
    draw = np.random.default_rng(seed)
    y = draw.choice(["good", "bad"], n).tolist()
    texts = [
        " ".join(draw.choice(FINE if (one == "good") ^ (draw.random() < 0.2) else DULL, 4))
        + f" no {draw.integers(10_000)}"
        for one in y
    ]
    return texts, y


TEXTS, Y = texts_of(40)
NEW = [*texts_of(12, seed=1)[0], TEXTS[0], TEXTS[0], "東京 is fine", TEXTS[0]]


class Stateful(FakeBackend):
    """A backend without weights that shows states, which depend on the text, and counts what it was asked."""

    shows_states = True
    shares_beginnings = True

    def __init__(self, seed: int = 0, failing: str = "\0") -> None:
        super().__init__(seed)
        self.failing = failing
        self.texts: list[str] = []

    def score(self, requests):
        for place, scores in super().score([replace(request, states=()) for request in requests]):
            request = requests[place]
            self.texts.append(request.prompt.text)
            if self.failing in request.prompt.text:
                yield place, RowScores((), error="it failed")
                continue
            states = None
            if request.states:
                draw = np.random.default_rng(list(request.prompt.text.encode()))
                told = sum(word in request.prompt.text for word in FINE)
                states = (draw.normal(size=(len(request.states), 6)) + told).astype(np.float32).reshape(-1)
            yield place, replace(scores, state_parts=request.states, states=states)


def fitted(features="tfidf", backend=None, **options) -> LLMClassifier:
    backend = FakeBackend() if backend is None else backend
    classifier = LLMClassifier(
        backend, labels=LABELS, features=features, calibrator="stacked", random_state=0, on_error="missing", **options
    )
    return classifier.fit(TEXTS, Y)


@pytest.fixture(scope="module")
def words() -> LLMClassifier:
    """A classifier that has learned from words; nothing changes it."""
    return fitted()


def table(texts=NEW) -> pd.DataFrame:
    return pd.DataFrame({"text": list(texts)})


def answering(pipeline, backend):
    """The same pipeline with another backend, which counts or fails."""
    return replace(pipeline, backend=backend)


def with_pool(pipeline, change):
    """The pipeline with a calibrator that was changed after the fit."""
    calibrator = deepcopy(pipeline.corrections.calibrator)
    change(calibrator)
    corrections = deepcopy(pipeline.corrections)
    corrections.calibrator = calibrator
    return replace(pipeline, corrections=corrections)


# --- the same probabilities ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("features", "scoring"),
    [("tfidf", "mean"), ("tfidf", "pmi"), ("states", "sum"), ("auto", "bytes"), (["states", TfidfVectorizer()], "pmi")],
)
def test_a_job_gives_the_probabilities_of_predict(features, scoring):
    """Whatever the features and the scoring; rows that fail, rows that stand twice and blank rows have their usual fate."""
    backend = Stateful()
    clf = fitted(features, backend, scoring=scoring)
    failing = answering(clf.pipeline_, Stateful(failing="東京"))
    found = label_table(table([*NEW, ""]), text_column="text", classifier=failing).table
    expected = clf.predict_proba(NEW)
    expected[NEW.index("東京 is fine")] = np.nan
    np.testing.assert_allclose(found[P][:-1], expected, atol=1e-9, rtol=0)
    assert found["error"].notna().tolist() == [*("東京" in text for text in NEW), True]
    asked = failing.backend.texts
    assert len(asked) == len(set(NEW)) + (scoring == "pmi")


def test_bounds_on_scores_leave_the_same_rows_undecided(words):
    """Where a server knows bounds only, heads take part in what is undecided, as in predict."""
    with FakeServer("openai_chat") as server:
        clf = LLMClassifier(
            backend_for(server), labels=LABELS, features="tfidf", prompt=Prompt("Review: {{ text }}", chat=True)
        ).fit(TEXTS, Y)
        found = label_table(table(), text_column="text", classifier=clf).table
        pipeline = clf.pipeline_
        scores = pipeline.scores(read_rows(NEW))
    assert scores.heads is not None
    np.testing.assert_allclose(found[P], pipeline.probabilities(scores), atol=1e-9, rtol=0)
    assert found["undecided"].tolist() == pipeline.undecided(scores).tolist()


class Wide(FakeBackend):
    """Knows its scores only to within one nat."""

    def score(self, requests):
        for place, scores in super().score(requests):
            lower, upper = ([one + by for one in scores.sums] for by in (-1.0, 1.0))
            yield place, replace(scores, lower=tuple(lower), upper=tuple(min(0.0, one) for one in upper))


def test_wide_bounds_are_kept_beside_heads():
    """An answer may have both; some rows are decided by their features though their scores are wide."""
    clf = fitted(backend=Wide())
    found = label_table(table(), text_column="text", classifier=clf).table
    pipeline = clf.pipeline_
    scores = pipeline.scores(read_rows(NEW))
    np.testing.assert_allclose(found[P], pipeline.probabilities(scores), atol=1e-9, rtol=0)
    assert found["undecided"].tolist() == pipeline.undecided(scores).tolist()


def test_choices_of_each_row_have_heads_too():
    """In pmi, too, where the prompt without a row is asked for each list of choices and has no features."""
    rows = pd.DataFrame({"event": TEXTS, "options": [["it rained", "a pole"], ["it sank", "it broke"]] * 20})
    prompt = Prompt("{{ event }} Most likely:", choices="options", unconditional="Most likely:")
    y = [int(one == "good") for one in Y]
    for scoring in ("pmi", "bytes"):
        clf = LLMClassifier(FakeBackend(), labels=[0, 1], prompt=prompt, scoring=scoring, features="tfidf").fit(rows, y)
        found = label_table(rows[:9], classifier=clf).table
        np.testing.assert_allclose(found[["p_0", "p_1"]], clf.predict_proba(rows[:9]), atol=1e-9, rtol=0)


def test_batches_and_a_saved_folder_give_the_same_labels(run, tmp_path):
    """Through a provider's batches, from a saved classifier, by the command line: one journal serves all, asked once."""
    from batch_server import BatchServer

    from llmclf.jobs.asking.batches import BatchAsking

    out, folder = tmp_path / "out.csv", tmp_path / "folder"
    write_table(table(), tmp_path / "in.csv")
    with BatchServer("openai_chat") as server:
        backend = backend_for(server)
        clf = LLMClassifier(backend, labels=LABELS, prompt=Prompt("Review: {{ text }}", chat=True), features="tfidf")
        clf.fit(TEXTS, Y).save(folder)
        expected = clf.predict_proba(NEW)
        asking = BatchAsking(poll_seconds=0.01)
        label_table(tmp_path / "in.csv", out, text_column="text", classifier=clf, asking=asking)
        written = out.read_bytes()
        server.requests.clear()
        found = label_table(tmp_path / "in.csv", out, text_column="text", classifier=folder, resume=True)
        assert found.summary.asked == 0
        command = ["label", tmp_path / "in.csv", out, "--text-column", "text", "--classifier", folder, "--resume"]
        result = run(*command, "--base-url", server.url, "--api-key-env", "")
        assert result.code == 0, result.err
        assert not rows_asked(server)
    assert out.read_bytes() == written
    np.testing.assert_allclose(read_table(out)[P].astype(float), expected, atol=1e-9, rtol=0)


# --- what may change without asking --------------------------------------------------------------------------------------


def rewarm(calibrator) -> None:
    """Other temperatures, of a map and of heads."""
    calibrator.members_["temperature"].calibrator.temperature_ *= 0.02
    for name, one in calibrator.members_.items():
        if isinstance(one, FittedHead) and isinstance(one.start, TemperatureCalibrator):
            warmer = copy.copy(one.start)
            warmer.temperature_ = 0.02 * one.start.temperature_
            calibrator.members_[name] = replace(one, start=warmer)


def reweigh(calibrator) -> None:
    n = len(calibrator.members_)
    calibrator.pool_ = OpinionPool(np.full(n, 1 / n), np.full(n, 1 / n), 0.5)


@pytest.mark.parametrize("change", [reweigh, rewarm, "prior", "threshold", "without"])
def test_weights_temperatures_prior_and_threshold_change_without_asking(words, tmp_path, change):
    """A resumed job with the same heads asks nothing, and gives what predict gives now."""
    out, pipeline = tmp_path / "out.csv", words.pipeline_
    label_table(table(), out, text_column="text", classifier=pipeline)
    more = {}
    if change == "prior":
        corrections = deepcopy(pipeline.corrections)
        corrections.log_prior = np.log([0.9, 0.1])
        pipeline = replace(pipeline, corrections=corrections)
    elif change == "threshold":
        more["threshold"] = 0.7
    elif change == "without":
        pipeline = replace(pipeline.uncorrected(), on_error="missing")
    else:
        pipeline = with_pool(pipeline, change)
    counting = Stateful()
    found = label_table(table(), out, text_column="text", classifier=answering(pipeline, counting), resume=True, **more)
    assert (counting.texts, found.summary.asked) == ([], 0)
    now = pipeline.decide(pipeline.scores(read_rows(NEW)), 0.7)
    labelled = read_table(out)
    np.testing.assert_allclose(labelled[P].astype(float), now.probabilities, atol=1e-9, rtol=0)
    if change != "threshold":
        assert np.abs(now.probabilities - words.predict_proba(NEW)).max() > 1e-3
    else:
        assert labelled["accepted"].astype(str).tolist() == [str(one) for one in now.accepted]


@pytest.mark.filterwarnings("ignore:these scores say nothing")
def test_another_fit_of_heads_is_refused_before_anything_is_asked(words, tmp_path):
    """Other coefficients, scales, words or sets, or none at all before: one error that says so, with the cure."""
    out, pipeline = tmp_path / "out.csv", words.pipeline_
    label_table(table(), out, text_column="text", classifier=pipeline)
    counting = Stateful()

    def other_coefficients(calibrator) -> None:
        name = calibrator.heads[0]
        one = calibrator.members_[name]
        calibrator.members_[name] = replace(one, coefficients=one.coefficients * (1 + 1e-12))

    refitted = LLMClassifier(FakeBackend(), labels=LABELS, features="tfidf", random_state=0).fit(TEXTS[1:], Y[1:])
    others = [with_pool(pipeline, other_coefficients), refitted.pipeline_, fitted(TfidfVectorizer()).pipeline_]
    for other in others:
        with pytest.raises(
            InputError, match=r"another fit .*go on with the classifier that it was begun with, or give"
        ):
            label_table(table(), out, text_column="text", classifier=answering(other, counting), resume=True)
    plain = tmp_path / "plain.csv"
    label_table(table(), plain, text_column="text", classifier=fitted(None).pipeline_)
    with pytest.raises(InputError, match=r"keeps nothing of features, and .* \(features=\)"):
        label_table(table(), plain, text_column="text", classifier=answering(pipeline, counting), resume=True)
    assert counting.texts == []


def test_the_same_fit_has_the_same_fingerprint(words):
    """In another process, after a pickle and after fitting again on the same rows; the pool's weights are not in it."""
    one = Heads(words.pipeline_, ("text",)).fingerprint()
    again = [pickle.loads(pickle.dumps(words.pipeline_)), fitted().pipeline_, with_pool(words.pipeline_, reweigh)]
    assert [Heads(pipeline, ("text",)).fingerprint() for pipeline in again] == [one] * 3
    assert json.loads(json.dumps(one)) == one


# --- the journal ---------------------------------------------------------------------------------------------------------


def values(path) -> list[bytes]:
    with sqlite3.connect(path) as connection:
        return [value for (value,) in connection.execute("SELECT value FROM answers ORDER BY n")]


def test_the_journal_keeps_a_few_numbers_and_no_states(tmp_path):
    """K numbers a head: 64-bit floats after the scores, and nothing of the states that were read."""
    clf = fitted("auto", Stateful())
    label_table(table(), tmp_path / "out.csv", text_column="text", classifier=clf)
    heads = clf.pipeline_.corrections.calibrator.heads
    assert len(heads) == 5
    for value in values(tmp_path / "out.csv.journal"):
        n, n_tokens = 3, sum(np.frombuffer(value[3:9], "<u2"))
        assert value[0] & 8
        assert len(value) == 3 + 2 * n + 4 + 8 * n_tokens + 8 * len(heads) * 2 + 4


def test_a_damaged_answer_is_asked_again(words, tmp_path):
    """A flipped bit in the logits, and logits that are missing, cost their rows, and retry_failed heals them."""
    out = tmp_path / "out.csv"
    label_table(table(), out, text_column="text", classifier=words)
    whole = out.read_bytes()
    connection = sqlite3.connect(tmp_path / "out.csv.journal")
    rows = connection.execute("SELECT n, key, value FROM answers ORDER BY n LIMIT 2").fetchall()
    flipped = rows[0][2][:-8] + bytes([rows[0][2][-8] ^ 1]) + rows[0][2][-7:]
    bare = encode_answer(rows[1][1], RowScores(((-0.5,), (-1.0,), (-2.0,))))
    for n, value in ((rows[0][0], flipped), (rows[1][0], bare)):
        connection.execute("UPDATE answers SET value = ? WHERE n = ?", (value, n))
    connection.commit()
    connection.close()
    assert label_table(table(), out, text_column="text", classifier=words, resume=True).summary.failed >= 2
    counting = answering(words.pipeline_, Stateful())
    label_table(table(), out, text_column="text", classifier=counting, retry_failed=True)
    assert len(counting.backend.texts) == 2
    assert out.read_bytes() == whole


@given(
    st.lists(st.floats(allow_nan=False, allow_infinity=False, width=64), min_size=1, max_size=8),
    st.booleans(),
)
def test_logits_of_heads_are_read_as_they_were_written(logits, is_bounded):
    """To the last bit, with and without bounds beside them; answers with another number of them are damaged."""
    bounds = ((-1.5, -2.5), (-0.5, -2.0)) if is_bounded else ()
    answer = RowScores(((-0.5, -0.5), (-2.25,)), *bounds)
    data, n = encode_answer(b"k", answer, np.array(logits)), len(logits)
    plain = encode_answer(b"k", answer)
    block = decode_block([b"k"] * 3, [data, plain, data], [None, None, "no"], 2, "damaged", n)
    assert block.heads[0].tolist() == logits
    assert np.isnan(block.heads[1:]).all()
    assert block.errors == [None, "damaged", "no"]
    assert decode_block([b"k"], [data], [None], 2, "damaged", n + 1).errors == ["damaged"]
    unheaded = decode_block([b"k", b"k"], [data, plain], [None, None], 2, "damaged")
    assert unheaded.errors == [None, None]
    assert unheaded.heads.shape == (2, 0)
    for name in ("sums", "lower", "upper", "n_tokens"):
        one, other = getattr(unheaded.scores, name)
        assert one.tolist() == other.tolist() == getattr(block.scores, name)[0].tolist()
    for wrong in (np.nan, np.inf):
        with pytest.raises(InputError, match="finite logits"):
            encode_answer(b"k", answer, np.array([*logits, wrong]))


# --- transformers of the caller ------------------------------------------------------------------------------------------


def of_tables() -> ColumnTransformer:
    """Reads a column that no prompt shows."""
    return ColumnTransformer([("place", OneHotEncoder(handle_unknown="ignore"), ["place"])])


def test_columns_that_the_prompt_does_not_show_reach_a_transformer(tmp_path):
    """Rows that look alike to the model and differ in such a column are told apart; without the column nothing is asked."""
    frame = pd.DataFrame({"note": TEXTS, "place": ["here" if one == "good" else "there" for one in Y]})
    frame.loc[0, "place"] = "there" if frame.loc[0, "place"] == "here" else "here"  # else it would be the answer itself
    clf = LLMClassifier(FakeBackend(), labels=LABELS, prompt=Prompt("{{ note }}"), features=of_tables()).fit(frame, Y)
    rows = pd.DataFrame({"place": ["here", "there", "here", None], "id": list("abcd"), "note": [TEXTS[0]] * 4})
    found = label_table(rows, classifier=clf).table
    np.testing.assert_allclose(found[P], clf.predict_proba(rows), atol=1e-9, rtol=0)
    assert abs(found["p_good"][0] - found["p_good"][1]) > 0.1
    assert found["p_good"][0] == found["p_good"][2]
    counting = answering(clf.pipeline_, Stateful())
    with pytest.raises(InputError, match="the table has no column 'place'"):
        label_table(rows.drop(columns="place"), classifier=counting)
    assert counting.backend.texts == []


class Picky(TransformerMixin, BaseEstimator):
    """The lengths of texts; it cannot read one that holds a forbidden word, or makes NaN of it."""

    def __init__(self, forbidden="\0", gives_nan=False) -> None:
        self.forbidden = forbidden
        self.gives_nan = gives_nan

    def fit(self, X, y=None):
        self.fitted_ = True
        return self

    def transform(self, X):
        bad = [self.forbidden in text for text in X]
        if any(bad) and not self.gives_nan:
            raise ValueError("no such word")
        lengths = np.array([[len(text), text.count("l")] for text in X], dtype=float)
        lengths[bad] = np.nan
        return lengths


@pytest.mark.parametrize("gives_nan", [False, True])
def test_a_row_that_a_transformer_cannot_read_has_an_error(gives_nan):
    """Only that row; where it can read none of the first rows the job is refused before anything is asked."""
    clf = fitted([Picky("東京", gives_nan), "tfidf"])
    counting = answering(clf.pipeline_, Stateful())
    found = label_table(table(), text_column="text", classifier=counting).table
    assert found["error"].notna().tolist() == ["東京" in text for text in NEW]
    fine = ["東京" not in text for text in NEW]
    assert "features cannot be read" in found["error"].dropna().iloc[0]
    texts = [text for text in NEW if "東京" not in text]
    np.testing.assert_allclose(found[P][fine], clf.predict_proba(texts), atol=1e-9, rtol=0)
    counting.backend.texts.clear()
    with pytest.raises(InputError, match=r"transformer 'Picky' cannot read|features 'Picky' hold"):
        label_table(table(["東京", "東京 2"]), text_column="text", classifier=counting)
    assert counting.backend.texts == []


# --- real models, Ray, kills ---------------------------------------------------------------------------------------------


def test_a_real_model_labels_by_its_states(smollm2, tmp_path):
    """With all free features of SmolLM2: the probabilities of predict, and a resumed job needs no model at all."""
    clf = LLMClassifier(smollm2, labels=LABELS, features="auto", random_state=0).fit(TEXTS, Y)
    pipeline = clf.pipeline_
    assert pipeline.corrections.calibrator.feature_sets_ == ("states", "tfidf")
    remembering = Remembering(smollm2)
    label_table(table(), tmp_path / "out.csv", text_column="text", classifier=answering(pipeline, remembering))
    found = read_table(tmp_path / "out.csv")
    rows = read_rows(NEW)
    # Batches of other rows differ in the last digits of 32-bit numbers: the answers themselves are compared to all digits.
    answers = [remembering.answers[pipeline.scorer.request(record).prompt.text] for record in rows.records]
    same = pipeline.probabilities(pipeline.scores(rows, answers))
    np.testing.assert_allclose(found[P].astype(float), same, atol=1e-9, rtol=0)
    np.testing.assert_allclose(found[P].astype(float), clf.predict_proba(NEW), atol=2e-4, rtol=0)
    remembering.answers.clear()
    again = label_table(
        table(), tmp_path / "out.csv", text_column="text", classifier=answering(pipeline, remembering), resume=True
    )
    assert (again.summary.asked, remembering.answers) == (0, {})


class Remembering:
    """A backend whose answers are remembered."""

    shows_states = True
    shares_beginnings = True

    def __init__(self, inner) -> None:
        self.inner = inner
        self.answers: dict[str, RowScores] = {}

    def identity(self):
        return self.inner.identity()

    def score(self, requests):
        for place, scores in self.inner.score(requests):
            self.answers[requests[place].prompt.text] = scores
            yield place, scores


LABELLING = """
import pickle, sys
from llmclf.jobs import label_table
with open(sys.argv[1], "rb") as file:
    classifier = pickle.load(file)
label_table(sys.argv[2], sys.argv[3], text_column="text", classifier=classifier, resume=True)
"""


def test_a_killed_job_goes_on_with_the_heads_that_it_has(tmp_path):
    """SIGKILL in the middle, several times: the output of an undisturbed run, and no more calls than were under way."""
    n_rows, concurrency, n_kills = 150, 4, 4
    rows = table(f"<review {i}> {' '.join(texts_of(1, seed=i)[0])}" for i in range(n_rows))
    write_table(rows, tmp_path / "in.csv")
    out = tmp_path / "out.csv"
    with FakeServer("openai_chat", latency=0.02) as server:
        prompt = Prompt("Review: {{ text }}", chat=True)
        backend = backend_for(server, concurrency=concurrency)
        clf = LLMClassifier(backend, labels=LABELS, prompt=prompt, features="tfidf").fit(TEXTS, Y)
        (tmp_path / "pipeline").write_bytes(pickle.dumps(clf.pipeline_))
        command = [sys.executable, "-c", LABELLING, tmp_path / "pipeline", tmp_path / "in.csv"]
        server.requests.clear()
        for kill in range(n_kills):
            run = subprocess.Popen([*command, out])
            until = time.monotonic() + 60
            while sum(rows_asked(server).values()) < 30 * (kill + 1) and time.monotonic() < until:
                time.sleep(0.005)
            run.send_signal(signal.SIGKILL)
            assert run.wait() == -signal.SIGKILL
        assert not out.exists()
        subprocess.run([*command, out], check=True)
        calls = rows_asked(server)
        subprocess.run([*command, tmp_path / "undisturbed.csv"], check=True)
        expected = clf.predict_proba(rows["text"])
    assert len(calls) == n_rows
    assert sum(calls.values()) - n_rows <= n_kills * concurrency
    assert out.read_bytes() == (tmp_path / "undisturbed.csv").read_bytes()
    np.testing.assert_allclose(read_table(out)[P].astype(float), expected, atol=1e-9, rtol=0)


# --- features that cost --------------------------------------------------------------------------------------------------


class Bought(TransformerMixin, BaseEstimator):
    """Vectors of texts as a server would sell them: one unit of money a character, up to ten texts a request."""

    def __init__(self, price=1.0, failing="\0", limit=None) -> None:
        self.price = price
        self.failing = failing
        self.limit = limit
        self.usage = Usage(cost=0.0)
        self.bought: list[str] = []

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.requires_fit = False
        return tags

    def fit(self, X, y=None):
        return self

    def estimate(self, texts) -> Estimate:
        n = sum(map(len, dict.fromkeys(texts)))
        return Estimate("bought", len(texts), -(-len(texts) // 10), n, 0, self.price * n, is_counted=True)

    def transform(self, X):
        if any(self.failing in text for text in X):
            raise ServerError("the embedding server is gone", status=500)
        asked = self.estimate(X)
        if self.limit is not None and self.usage.cost + asked.cost > self.limit:
            raise BudgetError(f"max_cost={self.limit} is reached")
        self.usage.requests += asked.requests
        self.usage.tokens_in += asked.tokens_in
        self.usage.cost += asked.cost
        self.bought += X
        return np.array([[sum(word in text for word in FINE), len(text)] for text in X], dtype=float)


def of_bought(transformer, backend=None) -> tuple[LLMClassifier, Bought]:
    clf = fitted([transformer], backend, prompt=Prompt("Review: {{ text }}", chat=backend is not None))
    bought = clf.pipeline_.features.readers[0].transformer
    bought.bought.clear()
    return clf, bought


def test_what_is_bought_is_bought_once_and_many_at_a_time(tmp_path):
    """Each distinct text once, in the groups in which the answers come; a resumed job buys nothing."""
    clf, bought = of_bought(Bought())
    before = replace(bought.usage)
    found = label_table(table([*NEW, ""]), tmp_path / "out.csv", text_column="text", classifier=clf)
    assert sorted(bought.bought) == sorted(set(NEW))
    own = bought.usage.since(before)
    assert own.requests == -(-len(set(NEW)) // 10)
    assert found.summary.usage["features"] == own.to_dict()
    assert found.summary.usage["cost"] == found.summary.total_cost == own.cost == sum(map(len, set(NEW)))
    bought.bought.clear()
    again = label_table(table(NEW), tmp_path / "out.csv", text_column="text", classifier=clf, resume=True)
    assert (bought.bought, again.summary.usage, again.summary.total_cost) == ([], {}, None)


def test_an_estimate_counts_what_is_bought(tmp_path):
    """Of distinct texts that are still to be asked, beside the model's own costs; nothing is bought."""
    clf, bought = of_bought(Bought())
    n = sum(map(len, set(NEW)))
    found = estimate_table(table(), text_column="text", classifier=clf)
    assert (found.requests, found.tokens_in, found.cost, found.features.cost) == (2, n, n, n)
    assert "at least 2 requests for features" in found.assumption
    assert clf.dry_run([*NEW, ""]).cost == sum(map(len, set(NEW)))
    label_table(table(NEW[:5]), tmp_path / "out.csv", text_column="text", classifier=clf)
    bought.bought.clear()
    left = estimate_table(table(), text_column="text", classifier=clf, journal=tmp_path / "out.csv.journal")
    assert left.cost == sum(map(len, set(NEW) - set(NEW[:5])))
    assert bought.bought == []
    assert json.loads(json.dumps(left.to_dict()))["features"]["cost"] == left.cost
    with FakeServer("openai_chat") as server:
        paid, _ = of_bought(Bought(), backend_for(server, price={"input": 1.0, "output": 2.0}))
        alone = fitted(backend=paid.model, prompt=paid.prompt)
        of_model, both = (estimate_table(table(), text_column="text", classifier=one) for one in (alone, paid))
        assert both.cost == pytest.approx(of_model.cost + n)
        assert both.requests == of_model.requests + 2
        assert paid.dry_run(NEW).cost == pytest.approx(alone.dry_run(NEW).cost + n)


def test_the_budget_of_a_job_is_for_both(tmp_path):
    """max_cost covers model and features, over all runs: it stops in time, and nothing is spent where it cannot do."""
    rows, out = table(f"a text with some words, number {i}" for i in range(60)), tmp_path / "out.csv"
    of_features = 0.01 * sum(map(len, rows["text"]))
    with FakeServer("openai_chat") as server:
        price = {"input": 1000.0, "output": 1000.0}

        def limited(limit):
            return backend_for(server, price=price, concurrency=2, max_cost=limit)

        clf, bought = of_bought(Bought(price=0.01), limited(1e9))
        pipeline = clf.pipeline_
        before = replace(bought.usage)
        server.requests.clear()
        with pytest.raises(BudgetError, match="the embeddings of the rows alone could cost"):
            label_table(rows, out, text_column="text", classifier=answering(pipeline, limited(of_features / 2)))
        assert (rows_asked(server), bought.bought) == ({}, [])
        for resume in (False, True):
            with pytest.raises((JobError, BudgetError), match="max_cost=.* is (reached|too little)"):
                label_table(
                    rows,
                    out,
                    text_column="text",
                    classifier=answering(pipeline, limited(of_features + 2)),
                    resume=resume,
                )
        counts = [server.personality.reply(r)[1].get("usage", {}) for r in list(server.requests) if r.method == "POST"]
        of_model = sum(c.get("prompt_tokens", 0) + c.get("completion_tokens", 0) for c in counts) / 1000
        assert bought.usage.since(before).cost > 0
        assert of_model + bought.usage.since(before).cost <= of_features + 2
        found = label_table(rows, out, text_column="text", classifier=answering(pipeline, limited(1e9)), resume=True)
        assert found.summary.labelled == 60
        assert sorted(bought.bought) == sorted(rows["text"])
        assert found.summary.total_cost > bought.usage.since(before).cost == pytest.approx(of_features)


@pytest.mark.parametrize("transformer", [Bought(failing="東京"), Bought(limit=sum(map(len, TEXTS)) * 2 + 100)])
def test_a_seller_that_gives_up_stops_the_job_and_what_was_answered_is_kept(tmp_path, transformer):
    """Like a model that gives up: the job says how to go on, and goes on from there."""
    clf, bought = of_bought(transformer)
    texts = [*(f"dull {i}" for i in range(20)), "東京"]
    out = tmp_path / "out.csv"
    label_table(table(texts[:4]), out, text_column="text", classifier=clf)
    bought.limit = None if bought.limit is None else bought.usage.cost + 5
    with pytest.raises(JobError, match=r"(server is gone|max_cost=.* is reached).*continue with resume"):
        label_table(table(texts), out, text_column="text", classifier=clf, resume=True)
    bought.failing, bought.limit = "\0", None
    found = label_table(table(texts), out, text_column="text", classifier=clf, resume=True)
    assert (found.summary.labelled, found.summary.answered_before) == (21, 4)


def test_embeddings_of_a_server_are_asked_once_and_a_refused_text_costs_its_row(tmp_path):
    """Of a real client: each distinct text once, in batches, counted; a text that the server refuses is a row with an error."""
    refused = lambda request: Status(400) if "東京" in json.dumps(request.body, ensure_ascii=False) else None  # noqa: E731
    out = tmp_path / "out.csv"
    with FakeServer("embeddings", refused) as server:
        embeddings = Embeddings("openai:tiny", base_url=server.url, price={"input": 1000.0, "output": 0.0})
        clf = fitted([embeddings, "tfidf"])
        texts = [text for text in NEW if "東京" not in text]
        server.requests.clear()
        estimate = estimate_table(table(texts), text_column="text", classifier=clf)
        assert (server.requests, estimate.requests) == ([], 1)
        found = label_table(table(texts), out, text_column="text", classifier=clf)
        asked = [text for request in server.requests for text in request.body["input"]]
        assert (len(server.requests), sorted(asked)) == (1, sorted(set(texts)))
        used = found.summary.usage["features"]
        assert (used["requests"], used["cost"]) == (1, found.summary.total_cost)
        assert 0 < estimate.cost < 3 * used["cost"]
        again = label_table(table(), out, text_column="text", classifier=clf, resume=True)
        assert again.summary.failed == 1
        expected = clf.predict_proba(texts)
    rows = read_table(out)
    is_fine = np.array(["東京" not in text for text in NEW])
    assert "got no embedding" in rows["error"][np.flatnonzero(~is_fine)[0]]
    np.testing.assert_allclose(rows[P][is_fine].astype(float), expected, atol=1e-9, rtol=0)


@pytest.mark.filterwarnings("ignore:these scores say nothing")
def test_embeddings_of_a_server_that_is_gone_stop_the_job(tmp_path):
    """A fault that is no single text's stops the job with what was answered kept, and its own limit does so, too."""
    is_ill, rows = False, table([*NEW, *(f"dull {i}" for i in range(9))])
    with FakeServer("embeddings", lambda _: Status(500) if is_ill else None) as server:
        price = {"input": 1000.0, "output": 0.0}
        clf = fitted(Embeddings("openai:tiny", base_url=server.url, price=price, max_retries=0, batch_size=2))
        is_ill = True
        with pytest.raises(JobError, match="500"):
            label_table(rows, tmp_path / "out.csv", text_column="text", classifier=clf)
        is_ill = False
        found = label_table(rows, tmp_path / "out.csv", text_column="text", classifier=clf, resume=True)
        assert found.summary.failed == 0
        limited = fitted(Embeddings("openai:tiny", base_url=server.url, price=price, max_cost=3.0))
        left = 3.0 - limited.pipeline_.features.usage.cost
        assert left > 0
        with pytest.raises(JobError, match="max_cost=3 is reached"):
            label_table(
                table(f"long text {i} {'word ' * 300}" for i in range(9)), text_column="text", classifier=limited
            )
        assert limited.pipeline_.features.usage.cost <= 3.0


def test_a_saved_classifier_asks_its_embeddings_by_the_command_line(run, tmp_path):
    """`llmclf estimate` counts them, `llmclf label` asks each distinct text once, and with another address nothing is asked."""
    rows, out = [text for text in NEW if "東京" not in text], tmp_path / "out.csv"
    write_table(table(rows), tmp_path / "in.csv")
    prompt = Prompt("Review: {{ text }}", chat=True)
    with FakeServer("openai_chat") as server, FakeServer("embeddings") as first, FakeServer("embeddings") as second:
        embeddings = Embeddings("openai:tiny", base_url=first.url, price={"input": 1000.0, "output": 0.0})
        clf = LLMClassifier(backend_for(server), labels=LABELS, prompt=prompt, features=[embeddings, "tfidf"]).fit(
            TEXTS, Y
        )
        clf.save(tmp_path / "folder")
        expected = clf.predict_proba(rows)
        first.requests.clear()
        flags = ["--text-column", "text", "--classifier", tmp_path / "folder"]
        estimated = run("estimate", tmp_path / "in.csv", *flags)
        assert "of which embeddings: at least 1 requests, about" in estimated.out, estimated.err
        assert first.requests == []
        assert run("label", tmp_path / "in.csv", out, *flags).code == 0
        asked = [text for request in first.requests for text in request.body["input"]]
        assert sorted(asked) == sorted(set(rows))
        np.testing.assert_allclose(read_table(out)[P].astype(float), expected, atol=1e-9, rtol=0)
        server.requests.clear()
        moved = load(tmp_path / "folder", embedding_options={"base_url": second.url, "rpm": 1000})
        found = label_table(tmp_path / "in.csv", out, text_column="text", classifier=moved, resume=True)
        assert (found.summary.asked, server.requests, second.requests) == (0, [], [])


def test_embeddings_of_a_server_that_has_moved_are_asked_by_the_command_line(run, tmp_path):
    """A flag or the job file says where; a job file alone sends nothing to another machine, and the error has the flag."""
    far = "https://evil.example.test/v1"
    write_table(table(rows := [text for text in NEW if "東京" not in text]), tmp_path / "in.csv")
    with FakeServer("openai_chat") as server, FakeServer("embeddings") as first, FakeServer("embeddings") as second:
        prompt, features = (
            Prompt("Review: {{ text }}", chat=True),
            [Embeddings("openai:tiny", base_url=first.url), "tfidf"],
        )
        clf = LLMClassifier(backend_for(server), labels=LABELS, prompt=prompt, features=features).fit(TEXTS, Y)
        clf.save(tmp_path / "folder")
        expected = clf.predict_proba(rows)
        first.requests.clear()
        flags = ["--text-column", "text", "--classifier", tmp_path / "folder"]
        job = tmp_path / "job.toml"
        job.write_text(f'[embedding_options]\nbase_url = "{second.url}"\nrpm = 10000\n')
        for number, said in enumerate((["--embedding-option", f"base_url={second.url}"], ["--job", job])):
            out = tmp_path / f"out{number}.csv"
            second.requests.clear()
            done = run("label", tmp_path / "in.csv", out, *flags, *said)
            assert done.code == 0, done.err
            assert {text for request in second.requests for text in request.body["input"]} == set(rows)
            np.testing.assert_allclose(read_table(out)[P].astype(float), expected, atol=1e-9, rtol=0)
        assert first.requests == []
        job.write_text(f'[embedding_options]\nbase_url = "{far}"\n')
        for command in (["label", tmp_path / "in.csv", tmp_path / "out.csv"], ["estimate", tmp_path / "in.csv"]):
            refused = run(*command, *flags, "--job", job)
            words = " ".join(refused.err.split())
            assert (refused.code, f"would send texts to {far}" in words) == (2, True)
            assert f"say so: --trust, or --embedding-option base_url={far}" in words
        for word in (["--trust"], ["--embedding-option", f"base_url={far}"]):
            estimated = run("estimate", tmp_path / "in.csv", *flags, "--job", job, *word)
            assert estimated.code == 0, estimated.err
        alone = run("estimate", tmp_path / "in.csv", "--labels", "a,b", "--embedding-option", f"base_url={far}")
        assert (alone.code, "give --classifier FOLDER" in " ".join(alone.err.split())) == (2, True)
