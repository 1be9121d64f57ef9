"""Label scores and states as a transformer of scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline, make_union

from llmclf import LLMClassifier, LLMScores
from llmclf.backends import FakeBackend
from llmclf.errors import InputError

TEXTS = ["A fine film.", "A bore.", "Grand and slow."]


def test_the_scores_are_the_classifiers():
    """Column k is the log-score of class k."""
    scores = LLMScores(FakeBackend(), labels={"good": ["good", "fine"], "bad": "bad"}).fit(TEXTS)
    clf = LLMClassifier(FakeBackend(), labels={"good": ["good", "fine"], "bad": "bad"}).fit(TEXTS)
    assert (scores.transform(TEXTS) == clf.score_labels(TEXTS)).all()
    assert scores.get_feature_names_out().tolist() == [f"score_{name}" for name in clf.classes_]
    assert scores.classes_.tolist() == clf.classes_.tolist()


def test_in_a_union_and_a_pipeline():
    """Beside somebody's own features, cloned and fitted anew."""
    texts, y = TEXTS * 10, ["good", "bad", "bad"] * 10
    union = make_union(LLMScores(FakeBackend(), labels=["good", "bad"]), TfidfVectorizer())
    learner = make_pipeline(union, LogisticRegression()).fit(texts, y)
    assert clone(learner).fit(texts, y).predict(TEXTS).tolist() == learner.predict(TEXTS).tolist()


def test_rows_that_cannot_be_scored():
    """NaN, where that is wished; else an error that names them."""
    scores = LLMScores(FakeBackend(), labels=["good", "bad"], on_error="missing").fit(TEXTS)
    assert np.isnan(scores.transform([TEXTS[0], None])[1]).all()
    with pytest.raises(InputError, match="row 1"):
        LLMScores(FakeBackend(), labels=["good", "bad"]).fit(TEXTS).transform([TEXTS[0], None])


def test_a_model_that_shows_no_states():
    """Refused with what can be used instead."""
    with pytest.raises(InputError, match="shows no hidden states"):
        LLMScores(FakeBackend(), labels=["good", "bad"], states=True).fit(TEXTS)


@pytest.mark.model
def test_states():
    """Beside the scores, of the same pass; their names are there after the fit."""
    scores = LLMScores("smollm2", labels=["good", "bad"], states=True).fit(TEXTS)
    table = scores.transform(TEXTS)
    assert table.shape == (3, 2 + 2 * 576)
    assert len(scores.get_feature_names_out()) == table.shape[1]
    plain = LLMScores("smollm2", labels=["good", "bad"]).fit(TEXTS).transform(TEXTS)
    assert table[:, :2] == pytest.approx(plain, abs=1e-9)
    assert np.isfinite(table).all()


@pytest.mark.parametrize(
    "y", [["late"] * 20 + ["soon"] * 20, list(range(40)), np.linspace(0, 1, 40)], ids=["words", "codes", "numbers"]
)
def test_labels_need_no_y(y):
    """The question may be another than the one that y answers: what is learned from the scores is up to the next step."""
    X = [f"text {i}" for i in range(40)]
    asked = LLMScores(FakeBackend(), labels=["urgent", "calm"])
    assert (asked.fit(X, y).transform(X) == clone(asked).fit(X).transform(X)).all()
    assert make_pipeline(asked, Ridge()).fit(X, np.linspace(0, 1, 40)).predict(X).shape == (40,)


def test_as_features_of_a_classifier():
    """Another question beside the classifier's own, with other labels in any order."""
    X, y = [f"text {i}" for i in range(40)], ["pos", "neg"] * 20
    other = LLMScores(FakeBackend(), labels=["urgent", "calm", "neither"])
    clf = LLMClassifier(FakeBackend(), labels=["pos", "neg"], features=other).fit(X, y)
    assert "LLMScores" in clf.stack_.members_


def test_without_labels_or_y():
    """The cure is named."""
    with pytest.raises(InputError, match="give labels=, or y"):
        LLMScores(FakeBackend()).fit(["a text"])
