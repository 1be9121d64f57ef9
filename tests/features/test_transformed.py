"""Transformers of the caller: what models inside of them are asked, and what their output may look like."""

from __future__ import annotations

import pickle
from collections import Counter

import numpy as np
import pandas as pd
import pytest
from faults import FakeServer, backend_for
from features.worlds import X, Y
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import PCA
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.pipeline import FeatureUnion, make_pipeline, make_union
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from llmclf import Embeddings, LLMClassifier, LLMScores, Prompt
from llmclf.backends import FakeBackend
from llmclf.errors import InputError
from llmclf.features.transformed import holders
from llmclf.jobs import estimate_table, label_table

pytestmark = [
    pytest.mark.usefixtures("no_waiting"),
    pytest.mark.filterwarnings("ignore:these scores say nothing"),
]

NEW = ["a lovely film", "grey and slow", "nothing of the kind", "grey and slow"]
PRICE = {"input": 1000.0, "output": 0.0}


def lower(texts):
    return [text.lower() for text in texts]


class Holding(TransformerMixin, BaseEstimator):
    """Keeps the transformers that it uses in a dict, where scikit-learn does not look for them."""

    def __init__(self, inner):
        self.inner = inner

    def fit(self, X, y=None):
        self.fitted_ = {name: one.fit(X, y) for name, one in self.inner.items()}
        return self

    def transform(self, X):
        return np.hstack([one.transform(X) for one in self.fitted_.values()])


def as_table(texts):
    return pd.DataFrame({"text": texts, "length": [len(text) for text in texts]})


NESTED = {
    "pipeline": lambda made: make_pipeline(made(), StandardScaler()),
    "union": lambda made: make_union(made(), TfidfVectorizer(), n_jobs=2),
    "deep": lambda made: make_pipeline(
        FunctionTransformer(lower), FeatureUnion([("a", make_pipeline(made(), PCA(2)))])
    ),
    "two sets": lambda made: [made(), make_pipeline(made(), PCA(2)), "tfidf"],
    "in a dict": lambda made: Holding({"one": made(), "two": made()}),
    "table": lambda made: ColumnTransformer([("e", made(), "text"), ("n", StandardScaler(), ["length"])]),
}


@pytest.mark.parametrize("kind", NESTED)
def test_a_text_is_asked_once_by_a_fit_and_once_by_a_call(kind):
    """However many folds, members and copies of a transformer there are; estimates and counts are those of what is asked."""
    given = as_table if kind == "table" else list
    with FakeServer("embeddings") as server:
        features = NESTED[kind](lambda: Embeddings("openai:tiny", base_url=server.url, price=PRICE))
        prompt = {"prompt": "{{ text }}\nMood:"} if kind == "table" else {}
        clf = LLMClassifier(FakeBackend(), labels=["dull", "fine"], features=features, **prompt).fit(given(X), Y)
        assert clf.calibration_proba_.shape == (40, 2)
        clf.stack_.to_frame()
        counts = Counter(text for request in server.requests for text in request.body["input"])
        assert set(counts.values()) == {1}
        assert len(counts) == 40
        server.requests.clear()
        before = clf.pipeline_.features.usage.requests
        estimate = clf.dry_run(given(NEW))
        assert (estimate.requests, server.requests) == (1, [])
        assert estimate.cost > 0
        clf.predict_proba(given(NEW))
        assert sorted(text for request in server.requests for text in request.body["input"]) == sorted(set(NEW))
        assert clf.pipeline_.features.usage.requests - before == 1
        again = pickle.loads(pickle.dumps(clf))
        assert again.dry_run(given(NEW)) == estimate


@pytest.mark.parametrize("kind", ["pipeline", "two sets", "table"])
def test_jobs_count_what_is_asked_inside_of_a_transformer(kind):
    """`estimate_table`, the summary and the limit on the cost know it; each distinct text is asked once."""
    given = as_table if kind == "table" else list
    rows = as_table(NEW) if kind == "table" else pd.DataFrame({"text": NEW})
    column = {} if kind == "table" else {"text_column": "text"}
    with FakeServer("embeddings") as server:
        features = NESTED[kind](lambda: Embeddings("openai:tiny", base_url=server.url, price=PRICE))
        prompt = {"prompt": "{{ text }}\nMood:"} if kind == "table" else {}
        clf = LLMClassifier(FakeBackend(), labels=["dull", "fine"], features=features, **prompt).fit(given(X), Y)
        server.requests.clear()
        estimate = estimate_table(rows, classifier=clf, **column)
        assert (estimate.requests, estimate.features.requests, server.requests) == (1, 1, [])
        found = label_table(rows, classifier=clf, **column)
        asked = [text for request in server.requests for text in request.body["input"]]
        assert sorted(asked) == sorted(set(NEW))
        used = found.summary.usage
        assert used["features"]["requests"] == 1
        assert 0 < estimate.cost < 3 * used["cost"]


def test_an_estimate_passes_over_rows_that_a_transformer_cannot_read():
    """The others are counted; what a step after the embeddings makes of them does not matter."""

    def picky(texts):
        if "broken" in texts:
            raise ValueError("broken")
        return list(texts)

    with FakeServer("embeddings") as server:
        embeddings = Embeddings("openai:tiny", base_url=server.url, price=PRICE)
        features = make_pipeline(FunctionTransformer(picky), embeddings, PCA(2))
        clf = LLMClassifier(FakeBackend(), labels=["dull", "fine"], features=features).fit(X, Y)
        server.requests.clear()
        assert clf.dry_run([*NEW[:2], "broken", NEW[2]]).tokens_in == sum(-(-len(text) // 4) for text in NEW[:3])
        assert server.requests == []


def test_embeddings_inside_of_a_transformer_use_the_classifiers_cache(tmp_path):
    """Unless they have one of their own; a second fit asks nothing."""
    with FakeServer("embeddings") as server:
        embeddings = Embeddings("openai:tiny", base_url=server.url)
        own = Embeddings("openai:tiny", base_url=server.url, cache=tmp_path / "own.sqlite", prefix="own: ")
        features = make_union(embeddings, make_pipeline(own, StandardScaler()))
        for _ in range(2):
            options = {"labels": ["dull", "fine"], "features": features, "cache": tmp_path / "cache.sqlite"}
            clf = LLMClassifier(FakeBackend(), **options).fit(X, Y)
        asked = [text for request in server.requests for text in request.body["input"]]
        assert sorted(asked) == sorted([*X, *(f"own: {text}" for text in X)])
    assert [one.cache for one in holders(clf.features) if isinstance(one, Embeddings)] == [
        None,
        tmp_path / "own.sqlite",
    ]


@pytest.mark.parametrize("is_same", [True, False])
def test_label_scores_inside_of_a_transformer_are_asked_once(is_same):
    """`LLMScores`, too, of the classifier's own server or another one; both are counted, and nothing twice."""
    price = {"input": 1.0, "output": 1.0}
    with FakeServer("openai_chat") as server, FakeServer("openai_chat") as second:
        model, other = backend_for(server, price=price), backend_for(server if is_same else second, price=price)
        scores = LLMScores(other, labels=["dull", "fine"], prompt=Prompt("Text: {{ text }}", chat=True))
        features = [make_pipeline(scores, StandardScaler()), "tfidf"]
        prompt = Prompt("Review: {{ text }}", chat=True)

        def n_asked():
            bodies = [one.body for one in [*server.requests, *second.requests] if one.method == "POST"]
            texts = [body["messages"][-1]["content"] for body in bodies if "messages" in body]
            return sum(any(f": {text}" in asked for text in (*X, *NEW)) for asked in texts)

        clf = LLMClassifier(model, labels=["dull", "fine"], prompt=prompt, features=features).fit(X, Y)
        assert n_asked() == 80
        estimate = clf.dry_run(NEW)
        assert estimate.requests == 6
        assert n_asked() == 80
        clf.predict_proba(NEW)
        assert n_asked() == 86
        found = label_table(pd.DataFrame({"text": NEW}), text_column="text", classifier=clf)
        assert n_asked() == 92
        assert found.summary.usage["requests"] == 6
        assert estimate_table(pd.DataFrame({"text": NEW}), text_column="text", classifier=clf).cost == estimate.cost


class Flipping(TransformerMixin, BaseEstimator):
    """Words counted in a form that depends on how many rows it gets."""

    def __init__(self, sparse_from=0, sparse_to=1000):
        self.sparse_from = sparse_from
        self.sparse_to = sparse_to

    def fit(self, X, y=None):
        self.counter_ = CountVectorizer(max_features=12).fit(X)
        return self

    def transform(self, X):
        counts = self.counter_.transform(X)
        return counts if self.sparse_from <= len(X) < self.sparse_to else counts.toarray()


@pytest.mark.parametrize(("many", "few"), [((0, 1000), (30, 1000)), ((1000, 0), (0, 30))])
def test_dense_or_sparse_is_a_matter_of_form(many, few):
    """Whether an array of the same numbers is dense in a fold, or in a call, changes no answer."""
    clf, other = (
        LLMClassifier(FakeBackend(), labels=["dull", "fine"], features=Flipping(*bounds)).fit(X, Y)
        for bounds in (many, few)
    )
    assert other.calibration_proba_ == pytest.approx(clf.calibration_proba_, abs=1e-12)
    assert other.predict_proba(NEW) == pytest.approx(clf.predict_proba(NEW), abs=1e-12)
    assert other.predict_proba(X) == pytest.approx(clf.predict_proba(X), abs=1e-12)


def test_a_table_coded_anew_for_each_call_is_refused():
    """Columns of other names than in the fit are no features, and those of the fit count in any order."""
    flags = {"red": "fine", "blue": "dull"}
    table = pd.DataFrame({"text": X, "flag": [next(flag for flag in flags if flags[flag] == y) for y in Y]})
    table.loc[0, "flag"] = "red" if table.loc[0, "flag"] == "blue" else "blue"  # else it would be the answer itself
    dummies = FunctionTransformer(lambda frame: pd.get_dummies(frame["flag"]))
    clf = LLMClassifier(FakeBackend(), labels=["dull", "fine"], prompt="{{ text }}:", features=dummies).fit(table, Y)
    new = pd.DataFrame({"text": NEW[:2], "flag": ["red", "green"]})
    with pytest.raises(InputError, match="rows have a feature 'green' where the fit had others"):
        clf.predict(new)
    assert clf.predict(new.assign(flag=["red", "blue"])).tolist() == ["fine", "dull"]
