"""Features of many rows of which some cannot be read: these rows are named, and the others stay."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from faults import FakeServer, Mutate, Status
from features.worlds import Counting, X, Y
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from llmclf import Embeddings, LLMClassifier
from llmclf.backends import FakeBackend
from llmclf.errors import CalibrationWarning, EmbeddingError, InputError, ModelError, ServerError
from llmclf.features.reading import read_parts
from llmclf.jobs import label_table

pytestmark = [
    pytest.mark.usefixtures("no_waiting"),
    pytest.mark.filterwarnings("ignore:these scores say nothing"),
]

NEW = ["a lovely film", "a bad one", "grey and slow", "nothing of the kind", "bad again"]
IS_BAD = np.array(["bad" in text for text in NEW])


def gives_nan(texts):
    return np.array([[len(text), np.nan if "bad" in text else text.count("l")] for text in texts])


def gives_none(texts):
    return [[len(text), None if "bad" in text else 1] for text in texts]


def gives_infinity(texts):
    return np.array([[len(text), np.inf if "bad" in text else 1.0] for text in texts])


def gives_masked(texts):
    return np.ma.array([[len(text)] for text in texts], mask=[["bad" in text] for text in texts], dtype=float)


def fails(texts):
    if any("bad" in text for text in texts):
        raise KeyError("bad")
    return np.array([[len(text)] for text in texts])


def is_wider(texts):
    return np.ones((len(texts), 3 if any("bad" in text for text in texts) else 2))


def is_text(texts):
    return np.array([["a" if "bad" in text else len(text)] for text in texts], dtype=object)


class Learning(TransformerMixin, BaseEstimator):
    """Has to be fitted."""

    def __init__(self, function=gives_nan):
        self.function = function

    def fit(self, X, y=None):
        self.n_ = len(X)
        return self

    def transform(self, X):
        return self.function(X)


FAULTY = (gives_nan, gives_none, gives_infinity, gives_masked, fails, is_wider, is_text)
TRANSFORMERS = {
    **{function.__name__: FunctionTransformer(function) for function in FAULTY},
    **{f"learning, {function.__name__}": Learning(function) for function in FAULTY},
    "pipeline": make_pipeline(FunctionTransformer(gives_nan), StandardScaler()),
}


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_a_row_whose_features_cannot_be_read(name):
    """It is missing with its reason, and the others are as they are alone; or one error names all such rows and the set."""
    one = TRANSFORMERS[name]
    clf = LLMClassifier(FakeBackend(), labels=["dull", "fine"], features=["tfidf", one], on_error="missing").fit(X, Y)
    proba = clf.predict_proba(NEW)
    assert np.isnan(proba).all(axis=1).tolist() == IS_BAD.tolist()
    fine = [text for text in NEW if "bad" not in text]
    assert proba[~IS_BAD] == pytest.approx(clf.predict_proba(fine), abs=1e-12)
    assert [label is None for label in clf.predict(NEW)] == IS_BAD.tolist()
    reasons = [row.error for row in clf.score_rows(NEW)]
    assert [reason is not None for reason in reasons] == IS_BAD.tolist()
    assert f"its features cannot be read: features {type(one).__name__!r}" in reasons[1] or "transformer" in reasons[1]
    clf.set_params(on_error="raise")
    named = (
        r"row 1: its features cannot be read: .*(FunctionTransformer|Learning|Pipeline).*; row 4: .*on_error='missing'"
    )
    with pytest.raises(InputError, match=named):
        clf.predict(NEW)
    assert clf.predict_proba(fine) == pytest.approx(proba[~IS_BAD], abs=1e-12)
    with pytest.raises(InputError, match=r"the features of these rows cannot be read: .*(Function|Learning|Pipeline)"):
        clf.predict(["bad", "bad too"])
    assert np.isnan(clf.set_params(on_error="missing").predict_proba(["bad"])).all()


def test_a_job_goes_on_without_such_rows():
    """Whatever `on_error` says of a call: each of them has its reason, and the others have their labels."""
    for on_error in ("raise", "missing"):
        clf = LLMClassifier(
            FakeBackend(), labels=["dull", "fine"], features=FunctionTransformer(gives_nan), on_error=on_error
        ).fit(X, Y)
        found = label_table(pd.DataFrame({"text": NEW}), text_column="text", classifier=clf).table
        assert found["error"].notna().tolist() == IS_BAD.tolist()
        assert found["label"].isna().tolist() == IS_BAD.tolist()


NO_VECTOR = Mutate(lambda reply: {**reply, "data": [{**one, "embedding": [float("nan")] * 8} for one in reply["data"]]})


@pytest.mark.parametrize("fault", [Status(400), Status(413), NO_VECTOR], ids=["400", "413", "NaN"])
@pytest.mark.parametrize("is_nested", [False, True])
def test_a_text_without_an_embedding_costs_its_row_alone(fault, is_nested):
    """Refused by the server or answered with what is no vector; the other texts get theirs, also in a job."""
    with FakeServer("embeddings", lambda request: fault if "bad" in json.dumps(request.body) else None) as server:
        embeddings = Embeddings("openai:tiny", base_url=server.url, max_retries=0)
        features = make_pipeline(embeddings, StandardScaler()) if is_nested else embeddings
        clf = LLMClassifier(FakeBackend(), labels=["dull", "fine"], features=features, on_error="missing").fit(X, Y)
        proba = clf.predict_proba(NEW)
        assert np.isnan(proba).all(axis=1).tolist() == IS_BAD.tolist()
        assert proba[~IS_BAD] == pytest.approx(clf.predict_proba([t for t in NEW if "bad" not in t]), abs=1e-12)
        found = label_table(pd.DataFrame({"text": NEW}), text_column="text", classifier=clf).table
        assert found["error"].notna().tolist() == IS_BAD.tolist()
        name = "Pipeline" if is_nested else "embeddings"
        with pytest.raises(InputError, match=f"row 1: its features cannot be read: features '{name}': .*; row 4: "):
            clf.set_params(on_error="raise").predict(NEW)


@pytest.mark.parametrize("fault", [Status(500), Status(401), Status(404)], ids=str)
def test_a_server_that_fails_is_no_fault_of_rows(fault):
    """It is an error, whatever `on_error` says, and no row is tried alone."""
    is_ill = False
    with FakeServer("embeddings", lambda request: fault if is_ill else None) as server:
        embeddings = Embeddings("openai:tiny", base_url=server.url, max_retries=0)
        clf = LLMClassifier(FakeBackend(), labels=["dull", "fine"], features=embeddings, on_error="missing").fit(X, Y)
        server.requests.clear()
        is_ill = True
        with pytest.raises(ServerError):
            clf.predict(NEW)
        assert len(server.requests) == 1


def test_a_server_that_refuses_every_text_is_given_up():
    """After ten texts alone, where it took none."""
    is_ill = False
    with FakeServer("embeddings", lambda request: Status(400) if is_ill else None) as server:
        embeddings = Embeddings("openai:tiny", base_url=server.url, max_retries=0)
        clf = LLMClassifier(FakeBackend(), labels=["dull", "fine"], features=embeddings, on_error="missing").fit(X, Y)
        is_ill = True
        with pytest.raises(ServerError, match="got no embedding"):
            clf.predict([f"text {i}" for i in range(50)])
        assert len(server.requests) < 100
        assert len({text for one in server.requests[-30:] for text in one.body["input"]}) < 20


def test_an_explanation_says_why_a_row_has_no_score():
    """Instead of explaining NaN."""
    from llmclf.inspector import explain

    clf = LLMClassifier(
        FakeBackend(), labels=["dull", "fine"], features=FunctionTransformer(gives_nan), on_error="missing"
    ).fit(X, Y)
    with pytest.raises(InputError, match="could not be scored: its features cannot be read"):
        explain(clf, "bad")


def test_such_rows_are_left_out_of_thresholds_and_reports():
    """As other rows that could not be scored."""
    clf = LLMClassifier(
        FakeBackend(), labels=["dull", "fine"], features=["tfidf", FunctionTransformer(gives_nan)], on_error="missing"
    ).fit(X, Y)
    rows = [f"{'lovely' if y == 'fine' else 'slow'} film {i}" for i, y in enumerate(Y)]
    rows[3] = "bad"
    with pytest.warns(UserWarning, match="1 of these 40 rows could not be scored"):
        clf.fit_threshold(rows, Y, max_error=0.3)
    report = clf.report(rows, Y).to_dict()
    assert report["metrics"]["accuracy"]["after"]["value"] > 0.5


def test_parts_are_read_together_where_they_can():
    """Rows come in their order, each once; an error that is no row's stops the work."""
    for bad in ([], [0], [5], [0, 1, 6], list(range(7))):
        sizes = []

        def read(rows, bad=bad, sizes=sizes):
            sizes.append(len(rows))
            if set(rows) & set(bad):
                raise InputError("bad")
            return list(rows)

        found = list(read_parts(read, 7))
        assert [row for rows, _ in found for row in rows] == list(range(7))
        assert [rows[0] for rows, one in found if isinstance(one, InputError)] == bad
        assert sizes[0] == 7
    for error in (
        ModelError("another model"),
        ServerError("gone", status=503),
        ServerError("no", status=400, is_final=True),
    ):

        def broken(rows, error=error):
            raise error

        with pytest.raises(type(error)):
            list(read_parts(broken, 3))

    def refusing(rows):
        raise EmbeddingError("NaN")

    assert len(list(read_parts(refusing, 9))) == 9
    with pytest.raises(EmbeddingError):
        list(read_parts(refusing, 10))
    assert list(read_parts(refusing, 0)) == []


SPOILT = [*X[:5], "a bad one", *X[6:30], "bad again", *X[31:]]
UNFITTING = {name: one for name, one in TRANSFORMERS.items() if "is_wider" not in name}


@pytest.mark.parametrize("name", UNFITTING)
def test_a_fit_leaves_such_rows_out(name):
    """With a warning that says why; the rest is as if they had not been there. Or one error names them by their own numbers."""
    options = {"labels": ["dull", "fine"], "features": ["tfidf", UNFITTING[name]], "random_state": 0}
    backend = Counting()
    with pytest.raises(InputError, match=r"row 5: its features cannot be read: .*; row 30: .*on_error='missing'"):
        LLMClassifier(backend, **options).fit(SPOILT, Y)
    assert backend.n == 0
    with pytest.warns(CalibrationWarning, match=r"2 of 40 training rows could not be scored .*row 5: its features"):
        clf = LLMClassifier(FakeBackend(), **options, on_error="missing").fit(SPOILT, Y)
    kept = np.delete(np.arange(40), [5, 30])
    assert clf.calibration_rows_.tolist() == kept.tolist()
    alone = LLMClassifier(FakeBackend(), **options).fit([SPOILT[i] for i in kept], Y[kept])
    assert clf.predict_proba(X) == pytest.approx(alone.predict_proba(X), abs=1e-2)


@pytest.mark.parametrize("is_nested", [False, True])
def test_a_fit_leaves_out_texts_without_embeddings(is_nested):
    """Of a nested transformer that cannot be fitted with such a text nobody can tell which it is: its own error says so."""
    refused = lambda request: Status(400) if "bad" in json.dumps(request.body) else None  # noqa: E731
    with FakeServer("embeddings", refused) as server:
        embeddings = Embeddings("openai:tiny", base_url=server.url, max_retries=0)
        features = make_pipeline(embeddings, StandardScaler()) if is_nested else embeddings
        clf = LLMClassifier(FakeBackend(), labels=["dull", "fine"], features=features, on_error="missing")
        if is_nested:
            with pytest.raises(ServerError, match="features 'Pipeline': the text 'a bad one' got no embedding"):
                clf.fit(SPOILT, Y)
            return
        with pytest.warns(CalibrationWarning, match="2 of 40 training rows could not be scored"):
            clf.fit(SPOILT, Y)
        assert clf.calibration_rows_.size == 38
