"""The fitted pipeline: one object that never changes, shared by threads, written as it was by earlier versions."""

from __future__ import annotations

import json
import pickle
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import FrozenInstanceError, replace
from hashlib import sha256
from itertools import chain
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from faults import FakeServer
from sklearn.preprocessing import FunctionTransformer

from llmclf import LLMClassifier, Prompt, load, open_backend
from llmclf.backends import FakeBackend, RowScores
from llmclf.calibration import SelectedThreshold
from llmclf.errors import CalibrationWarning, InputError
from llmclf.inspector import explain
from llmclf.jobs import label_table
from llmclf.jobs.recipe import Recipe
from llmclf.labels import label_set
from llmclf.loading import load_pipeline
from llmclf.logits import log_softmax
from llmclf.pipeline import FittedPipeline
from llmclf.scoring.class_scores import ClassScores
from llmclf.tables.rows import read_rows

pytestmark = pytest.mark.usefixtures("no_waiting")

OLD = Path(__file__).parent / "old_formats"
LABELS = ["good", "bad"]
TEXTS = [f"text number {i}" for i in range(40)]


class BoundedBackend(FakeBackend):
    """A fake that knows some scores only between bounds, and cannot score some rows."""

    def score(self, requests):
        for place, answer in super().score(requests):
            text = requests[place].prompt.text
            if "unscorable" in text:
                yield place, RowScores((), error="it does not want to")
                continue
            width = sha256(text.encode()).digest()[0] % 3
            sums = answer.sums
            yield (
                place,
                replace(
                    answer, lower=tuple(value - width for value in sums), upper=tuple(min(0.0, v + width) for v in sums)
                ),
            )


@pytest.fixture
def fitted() -> LLMClassifier:
    clf = LLMClassifier(BoundedBackend(), labels=LABELS, calibrator="temperature", random_state=0)
    # Classes that agree with the fake's scores more often than not, so that there is something to learn.
    y = LLMClassifier(BoundedBackend(), labels=LABELS).fit(TEXTS).predict(TEXTS)
    y[::4] = np.where(y[::4] == "good", "bad", "good")
    return clf.fit(TEXTS, y).set_params(on_error="missing")


METHODS = {
    "predict": lambda clf, X: clf.predict(X),
    "predict with mask": lambda clf, X: clf.predict(X, return_undecided=True),
    "predict_proba": lambda clf, X: clf.predict_proba(X),
    "predict_proba with mask": lambda clf, X: clf.predict_proba(X, return_undecided=True),
    "predict_log_proba": lambda clf, X: clf.predict_log_proba(X),
    "decision_function": lambda clf, X: clf.decision_function(X),
    "score_labels": lambda clf, X: clf.score_labels(X),
    "score_labels with bounds": lambda clf, X: clf.score_labels(X, return_bounds=True),
    "label_mass": lambda clf, X: clf.label_mass(X),
    "score_rows": lambda clf, X: clf.score_rows(X),
    "parts": lambda clf, X: clf.parts(X)[0].records,
    "explain": lambda clf, X: explain(clf, X[0]).to_json(),
}


class Stateful(FakeBackend):
    """A fake whose hidden states depend on the text."""

    shows_states = True

    def score(self, requests):
        for place, answer in super().score([replace(request, states=()) for request in requests]):
            request = requests[place]
            if "unscorable" in request.prompt.text:
                yield place, RowScores((), error="it does not want to")
                continue
            draw = np.random.default_rng(list(request.prompt.text.encode()))
            states = draw.normal(size=3 * len(request.states)).astype(np.float32) if request.states else None
            yield place, replace(answer, state_parts=request.states, states=states)


@pytest.mark.parametrize(
    "features",
    [None, "tfidf", "states", FunctionTransformer(lambda X: [[len(x)] for x in X])],
    ids=["none", "tfidf", "states", "transformer"],
)
def test_the_parts_make_what_predict_makes(features):
    """Scores of the scorer and corrections of the rows give the log-probabilities, whatever the pool learned from."""
    options = {"calibrator": "temperature"} if features is None else {"features": features, "bias": "batch"}
    clf = LLMClassifier(Stateful(), labels=LABELS, on_error="missing", random_state=0, **options)
    clf.fit(TEXTS[:24], LABELS * 12)
    X = [*TEXTS[20:30], "unscorable", "new words"]
    expected = clf.predict_log_proba(X)
    rows, scorer, corrections = clf.parts(X)
    scores = scorer.class_scores(rows, clf.scoring)
    np.testing.assert_array_equal(log_softmax(corrections.apply(scores)), expected)
    *_, (name, last) = corrections.steps(scores)
    assert name == "calibrator"
    np.testing.assert_array_equal(log_softmax(last), expected)
    assert np.isnan(expected[-2]).all()
    assert np.isfinite(expected[-1]).all()
    wider = scores - 1.0, scores + 1.0
    pipeline = clf.pipeline_
    bounded = bounded_scores(pipeline, rows, scores, *wider)
    np.testing.assert_array_equal(corrections.undecided(scores, *wider), pipeline.undecided(bounded))
    if features is not None:
        with pytest.raises(
            InputError, match="scores have 3 rows, and these corrections read the features of 12 certain"
        ):
            corrections.apply(scores[:3])


def bounded_scores(pipeline, rows, scores, lower, upper) -> ClassScores:
    bounded = ClassScores(scores, lower, upper)
    return bounded.with_heads(pipeline.scores(rows).heads) if pipeline.has_heads else bounded


def same(one, other) -> bool:
    if isinstance(one, tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and np.array_equal(one, other, equal_nan=one.dtype.kind == "f")
    return bool(one == other)


@pytest.mark.parametrize("cached", [False, True], ids=["plain", "cache"])
@pytest.mark.parametrize("knobs", [{}, {"scoring": "pmi"}], ids=["fitted", "changed"])
@pytest.mark.filterwarnings("ignore::llmclf.errors.CalibrationWarning")
@pytest.mark.slow
def test_sixteen_threads_get_what_one_thread_gets(fitted, cached, knobs, tmp_path):
    """Each thread asks about its own rows by every method, many times; nothing of another thread's rows is in its answers."""
    fitted.set_params(cache=tmp_path / "scores.sqlite" if cached else None, **knobs)
    methods = {name: method for name, method in METHODS.items() if not cached or name.startswith("predict")}
    pieces = [[f"row {i} of {n}" for i in range(n % 5 + 1)] + ["unscorable"] * (n % 2) for n in range(16)]
    expected = [{name: method(fitted, piece) for name, method in methods.items()} for piece in pieces]
    masks = {answers["predict with mask"][1].tobytes() for answers in expected}
    assert len(masks) > 4
    before = dict(vars(fitted))

    def ask(n: int) -> list[str]:
        wrong = []
        for _ in range(2 if cached else 5):
            wrong += [
                name for name, method in methods.items() if not same(method(fitted, pieces[n]), expected[n][name])
            ]
        return wrong

    switch = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with ThreadPoolExecutor(16) as pool:
            assert list(chain.from_iterable(pool.map(ask, range(16)))) == []
    finally:
        sys.setswitchinterval(switch)
    assert vars(fitted) == before


def test_threads_see_their_own_last_call_by_the_old_name(fitted):
    """`undecided_` is the mask of the calling thread's last call, however many threads share the classifier."""
    pieces = [[f"row {i} of {n}" for i in range(n % 5 + 1)] for n in range(16)]
    expected = [fitted.predict(piece, return_undecided=True)[1] for piece in pieces]

    def ask(n: int) -> bool:
        for _ in range(20):
            fitted.predict(pieces[n])
            if not np.array_equal(fitted.undecided_, expected[n]):
                return False
        return True

    with pytest.warns(FutureWarning, match="return_undecided=True"), ThreadPoolExecutor(16) as pool:
        assert all(pool.map(ask, range(16)))


@pytest.mark.parametrize("name", [*METHODS, "report", "save", "current_pipeline", "failing"])
def test_no_method_changes_the_classifier(name, model_folder, tmp_path):
    """After any method but fit, fit_threshold and set_params every attribute is the same object as before."""
    backend = open_backend(f"hf:{model_folder('byte_bpe')}")
    clf = LLMClassifier(backend, labels=LABELS, bias="batch").fit(TEXTS)
    before = dict(vars(clf))
    if name == "report":
        clf.report([f"held out {i}" for i in range(30)], LABELS * 15)
    elif name == "save":
        clf.save(tmp_path / "folder")
    elif name == "current_pipeline":
        clf.current_pipeline()
    elif name == "failing":
        with pytest.raises(InputError):
            clf.predict([3])
    else:
        METHODS[name](clf, TEXTS[:2])
    after = vars(clf)
    assert list(after) == list(before)
    assert all(after[attribute] is value for attribute, value in before.items())


def test_changed_knobs_act_at_once_and_change_nothing(fitted):
    """set_params derives another pipeline in every call; the fitted one stays, and comes back with its parameters."""
    first = fitted.set_params(on_error="raise").current_pipeline()
    assert first is fitted.pipeline_
    expected = fitted.predict_proba(TEXTS)
    fitted.set_params(scoring="mean", on_error="missing")
    with pytest.warns(CalibrationWarning, match="scoring='sum'"):
        assert fitted.current_pipeline().scoring == "mean"
    assert fitted.pipeline_ is first
    assert first.scoring == "sum"
    fitted.set_params(scoring="sum")
    np.testing.assert_array_equal(fitted.predict_proba(TEXTS), expected)
    with pytest.raises(InputError, match="on_error='ignore'"):
        fitted.set_params(on_error="ignore").predict(TEXTS)
    with pytest.raises(InputError, match="guidance=True"):
        fitted.set_params(on_error="raise", guidance=True).predict(TEXTS)


def test_a_threshold_for_changed_scores_belongs_to_them():
    """fit_threshold keeps the pipeline that it judged; going back to the old parameters warns, and scores as before."""
    clf = LLMClassifier(FakeBackend(), labels=LABELS).fit(TEXTS)
    expected = clf.predict_proba(TEXTS)
    clf.set_params(scoring="mean")
    clf.fit_threshold(TEXTS, clf.predict(TEXTS), max_error=0.2)
    assert clf.pipeline_.scoring == "mean"
    clf.set_params(scoring="sum")
    with pytest.warns(CalibrationWarning, match="scoring='mean'"):
        np.testing.assert_array_equal(clf.predict_proba(TEXTS), expected)


def test_a_pipeline_cannot_be_changed_and_can_be_pickled(fitted):
    """Its attributes are read-only; a copy from a pickle decides the same."""
    pipeline = fitted.current_pipeline()
    with pytest.raises(FrozenInstanceError):
        pipeline.scoring = "mean"
    rows = read_rows(TEXTS[:5])
    copy = pickle.loads(pickle.dumps(pipeline))
    np.testing.assert_array_equal(copy.predict(rows).probabilities, pipeline.predict(rows).probabilities)


def test_decisions_of_rows(fitted):
    """Label, confidence, acceptance, open and missing rows of one call belong together, and are the estimator's."""
    X = [*TEXTS[:8], "unscorable"]
    threshold = SelectedThreshold(0.55, 0.5, 0.1, 0.2, 20, 40, 0.2, 0.95)
    pipeline = replace(fitted.current_pipeline(), threshold=threshold)
    scores = pipeline.scores(read_rows(X))
    decisions = pipeline.decide(scores)
    np.testing.assert_array_equal(decisions.label, fitted.predict(X))
    np.testing.assert_array_equal(pipeline.probabilities(scores), fitted.predict_proba(X))
    np.testing.assert_array_equal(decisions.undecided, fitted.predict(X, return_undecided=True)[1])
    assert decisions.missing.tolist() == [False] * 8 + [True]
    assert decisions.label[-1] is None
    np.testing.assert_array_equal(decisions.confidence[:-1], fitted.predict_proba(X).max(axis=1)[:-1])
    assert decisions.accepted.tolist() == [bool(value >= 0.55) for value in decisions.confidence]
    assert pipeline.decide(scores, threshold=0.0).accepted.tolist() == [True] * 8 + [False]
    assert pipeline.uncorrected().decide(scores).accepted is None


def test_rows_of_the_other_form_are_refused():
    """A pipeline of texts refuses a table, and one of a table refuses texts."""
    texts = FittedPipeline(FakeBackend(), Prompt("{{ text }}:"), label_set(LABELS))
    with pytest.raises(InputError, match="X holds a table, but the classifier was fitted on texts"):
        texts.predict(read_rows([{"text": "a"}]))
    with pytest.raises(InputError, match="X holds texts, but the classifier was fitted on a table"):
        replace(texts, is_table=True).predict(read_rows(["a"]))


def test_a_job_takes_a_pipeline_and_says_what_the_classifier_says(fitted):
    """label_table with a classifier, its pipeline and the rows of predict agree in every column; nonsense is refused."""
    X = [*TEXTS, *(f"row {i}" for i in range(20))]
    frame = pd.DataFrame({"text": X})
    table = label_table(frame, text_column="text", classifier=fitted.current_pipeline()).table
    pd.testing.assert_frame_equal(label_table(frame, text_column="text", classifier=fitted).table, table)
    labels, undecided = fitted.predict(X, return_undecided=True)
    assert table["label"].tolist() == labels.tolist()
    assert table["undecided"].tolist() == undecided.tolist()
    assert 0 < undecided.sum() < len(X)
    np.testing.assert_allclose(table[["p_bad", "p_good"]], fitted.predict_proba(X), rtol=1e-12)
    with pytest.raises(InputError, match="classifier=3 is an int; expected a fitted LLMClassifier, its pipeline"):
        label_table(frame, text_column="text", classifier=3)


@pytest.mark.slow
def test_a_fit_does_not_load_the_report():
    """Fitting, predicting and choosing a threshold import neither the report nor what draws it."""
    program = """
import sys
from llmclf import LLMClassifier
from llmclf.backends import FakeBackend
X = [f"text {i}" for i in range(80)]
clf = LLMClassifier(FakeBackend(), labels=["a", "b"], calibrator="prior").fit(X[:40], ["a", "b"] * 20)
clf.fit_threshold(X[40:], clf.predict(X[40:]), max_error=0.2)
assert not [name for name in sys.modules if name.startswith(("llmclf.report", "llmclf.display", "matplotlib"))]
clf.report(X[40:], ["a", "b"] * 20)
assert "llmclf.report" in sys.modules
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", program], check=True)


# --- what earlier versions wrote -----------------------------------------------------------------------------------------


@pytest.fixture
def expected() -> dict:
    return json.loads((OLD / "expected.json").read_text(encoding="utf-8"))


def test_an_old_folder_gives_the_same_numbers(expected):
    """A folder that an earlier version saved loads, and scores, probabilities, labels and threshold are those of then."""
    with FakeServer("vllm") as server:
        clf = load(OLD / "classifier", model_options={"base_url": server.url})
        np.testing.assert_array_equal(clf.score_labels(expected["texts"]), expected["score_labels"])
        np.testing.assert_array_equal(clf.predict_proba(expected["texts"]), expected["proba"])
        assert clf.predict(expected["texts"]).tolist() == expected["labels"]
        assert clf.threshold_.to_dict() == expected["threshold"]


def test_a_new_folder_is_written_as_an_old_one(tmp_path):
    """Saving what was loaded writes the same values, so that earlier versions can read it."""
    load(OLD / "classifier").save(tmp_path / "new")
    old, new = (
        json.loads((folder / "classifier.json").read_text()) for folder in (OLD / "classifier", tmp_path / "new")
    )
    assert new == old


def test_an_old_folder_without_later_values_loads(tmp_path):
    """Threshold, processing and the kind of scores are absent in folders of still earlier versions."""
    values = json.loads((OLD / "classifier" / "classifier.json").read_text())
    for name in ("threshold", "processing", "fitted_on_scores"):
        del values[name]
    (tmp_path / "classifier.json").write_text(json.dumps(values))
    pipeline = load_pipeline(tmp_path)
    assert (pipeline.threshold, pipeline.processing) == (None, None)
    assert pipeline.fitted_on_scores == pipeline.kind_of_scores


def test_an_old_journal_is_gone_on_with(expected, tmp_path):
    """A finished job of an earlier version is written again from its journal alone; no server is asked."""
    shutil.copy(OLD / "labels.journal", tmp_path / "labels.journal")
    frame = pd.DataFrame({"text": [*expected["texts"], ""]})
    result = label_table(
        frame,
        tmp_path / "labels.csv",
        text_column="text",
        classifier=OLD / "classifier",
        journal=tmp_path / "labels.journal",
        resume=True,
        logprobs=True,
    )
    assert result.summary.asked == 0
    assert (tmp_path / "labels.csv").read_text() == expected["table"]
    assert result.summary.fingerprint == expected["summary_fingerprint"]


@pytest.mark.filterwarnings("ignore::llmclf.errors.CalibrationWarning")  # the fake's scores know nothing of the classes
def test_the_fingerprints_of_jobs_are_those_of_then(expected):
    """What a journal knows its job by is the same, byte for byte and in the same order, for every kind of pipeline."""
    server = open_backend("openai:tiny", base_url="http://127.0.0.1:9/v1", concurrency=3)
    table = [{"q": f"q{i}", "n": i, "c": [f"a {i}", f"b {i}"]} for i in range(6)]
    calibrated = LLMClassifier(
        FakeBackend(),
        n_shots=2,
        calibrator="temperature",
        random_state=0,
        prompt=Prompt("{{ text }}:", words={"a": ["x", "y"]}),
    )
    own_choices = LLMClassifier(
        server,
        labels=[0, 1],
        n_shots=2,
        random_state=1,
        scoring="pmi",
        prompt=Prompt("{{ q }} {{ n }}\nAnswer:", choices="c", chat=True),
    )
    processed = LLMClassifier(
        "hf:org/any",
        labels=["a", "b"],
        guidance=1.5,
        logit_bias={"a": 1.0, 7: -2.0},
        temperature=2.0,
        unconditional_prompt="Label:",
    )
    texts = [f"text {i}" for i in range(40)]
    pipelines = {
        "78ac1dcd52694b3e": calibrated.fit(texts, ["a", "b"] * 20).pipeline_,
        "6b5a2a7a9da483b7": Recipe.zero_shot(
            server, {"pos": ["good", "great"], "neg": "bad"}, None, ["body"], "body"
        ).pipeline,
        "fa387cf60dea664c": own_choices.fit(table, [0, 1] * 3).pipeline_,
        "261fe395db77ff2c": processed.fit(texts).pipeline_,
    }
    for digest, pipeline in pipelines.items():
        assert sha256(json.dumps(pipeline.fingerprint()).encode()).hexdigest()[:16] == digest
    assert json.dumps(load_pipeline(OLD / "classifier").fingerprint()) == json.dumps(expected["fingerprint"])
