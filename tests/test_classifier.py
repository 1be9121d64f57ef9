"""The estimator as a data scientist uses it."""

from __future__ import annotations

import enum
import json
import math
import pickle
import re
import warnings

import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator
from sklearn.naive_bayes import GaussianNB

import llmclf
from llmclf import LLMClassifier, Prompt, load, open_backend
from llmclf.backends import FakeBackend, Request, RowScores
from llmclf.calibration import BiasCorrector, TemperatureCalibrator
from llmclf.calibration.corrections import assumed_prior
from llmclf.errors import (
    CalibrationWarning,
    InputError,
    ModelError,
    PromptError,
    PromptWarning,
    StoreError,
    TerminatorWarning,
    TruncationWarning,
)
from llmclf.logits import log_softmax, softmax
from llmclf.metrics import log_loss
from llmclf.tables.rows import read_rows

TEXTS = ["A fine film.", "A waste of time.", "It was long.", "Superb actors!", "Thin plot, but funny.", "Never again."]
LABELS = ["positive", "negative"]


class CountingBackend(FakeBackend):
    """A fake that counts the prompts it was asked, and can fail on some of them."""

    def __init__(self, seed: int = 0, fails_on: str | None = None) -> None:
        super().__init__(seed)
        self.fails_on = fails_on
        self.asked: list[Request] = []

    def __deepcopy__(self, memo):
        return self

    def score(self, requests):
        self.asked += requests
        for place, answer in super().score(requests):
            failed = self.fails_on is not None and self.fails_on in requests[place].prompt.text
            yield place, (RowScores((), error="it does not want to") if failed else answer)


def labelled(n: int = 40):
    """Texts, and classes that agree with the fake's scores more often than not, so that a calibrator has something to learn."""
    texts = [f"text number {i}" for i in range(n)]
    guesses = LLMClassifier(FakeBackend(), labels=LABELS).fit(texts).predict(texts)
    flipped = np.random.default_rng(0).random(n) < 0.3
    return texts, [
        LABELS[(label == LABELS[0]) ^ bool(flip) ^ True] for label, flip in zip(guesses, flipped, strict=True)
    ]


def test_zero_shot_needs_no_labels_of_rows():
    """With labels given, y may be left out and fit asks the model nothing."""
    backend = CountingBackend()
    clf = LLMClassifier(backend, labels=LABELS).fit(TEXTS)
    assert backend.asked == []
    assert clf.predict(TEXTS).tolist() == [LABELS[k] for k in clf.score_labels(TEXTS).argmax(1) * -1 + 1]
    assert clf.classes_.tolist() == ["negative", "positive"]


def test_scores_are_sums_and_everything_else_follows():
    """score_labels sums the token log-probabilities; probabilities are their softmax; mass is what they add up to."""
    clf = LLMClassifier(FakeBackend(), labels=["a b c", "d"], prompt=Prompt("{{ text }}:")).fit(TEXTS)
    rows = clf.score_rows(TEXTS)
    sums = np.array([[math.fsum(tokens) for tokens in row.token_logprobs] for row in rows])
    scores, lower, upper = clf.score_labels(TEXTS, return_bounds=True)
    np.testing.assert_array_equal(scores, sums)
    np.testing.assert_array_equal(lower, sums)
    np.testing.assert_array_equal(upper, sums)
    np.testing.assert_allclose(clf.predict_proba(TEXTS), softmax(sums))
    np.testing.assert_allclose(clf.predict_log_proba(TEXTS), log_softmax(sums))
    np.testing.assert_allclose(clf.label_mass(TEXTS), np.exp(sums).sum(1))
    np.testing.assert_allclose(clf.decision_function(TEXTS), sums[:, 1] - sums[:, 0])


def test_several_words_of_a_class_add_their_probabilities():
    """The score of a class is the logsumexp of its words' scores."""
    one = LLMClassifier(FakeBackend(), labels=["good", "great", "bad"], prompt="{{ text }}:").fit(TEXTS)
    two = LLMClassifier(FakeBackend(), labels={"pos": ["good", "great"], "neg": "bad"}, prompt="{{ text }}:").fit(TEXTS)
    p = np.exp(one.score_labels(TEXTS))  # classes: bad, good, great
    np.testing.assert_allclose(np.exp(two.score_labels(TEXTS)), np.stack([p[:, 0], p[:, 1] + p[:, 2]], axis=1))
    assert two.label_words_ == [["bad"], ["good", "great"]]


@pytest.mark.parametrize("scoring", ["mean", "bytes", "pmi"])
def test_other_scorings_come_from_the_same_token_logprobs(scoring):
    """Mean divides by tokens, bytes by UTF-8 bytes of the words, PMI subtracts the score without the text."""
    labels = ["yes é", "no"]
    clf = LLMClassifier(FakeBackend(), labels=labels, prompt="{{ text }}\nAnswer:", scoring=scoring).fit(TEXTS)
    order = [labels.index(label) for label in clf.classes_]
    sums = clf.score_labels(TEXTS)
    if scoring == "mean":
        expected = sums / np.array([2, 1])[order]
    elif scoring == "bytes":
        expected = sums / np.array([6, 2])[order]
    else:
        bare = LLMClassifier(FakeBackend(), labels=labels, prompt="{{ text }}").fit(TEXTS)
        expected = sums - bare.score_labels(["Answer:"])
    np.testing.assert_allclose(clf.predict_proba(TEXTS), softmax(expected))


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


@pytest.mark.parametrize(
    "classes", [["a", "b"], [0, 1], [True, False], [Colour.RED, Colour.BLUE], [3, 1, 2], [1.5, 2.5], ["x", 1]]
)
def test_classes_come_back_as_the_callers_objects(classes):
    """str, int, bool, enum members, floats and mixtures: predict returns members of the given labels."""
    words = {label: f"word{i}" for i, label in enumerate(classes)}
    clf = LLMClassifier(FakeBackend(), labels=words).fit(TEXTS)
    predicted = clf.predict(TEXTS).tolist()
    assert set(predicted) <= set(classes)
    assert {type(label) for label in predicted} <= {type(label) for label in classes}
    assert set(clf.classes_.tolist()) == set(classes)


@pytest.mark.parametrize(
    "make",
    [
        list,
        tuple,
        np.array,
        lambda texts: np.array(texts, dtype=object),
        pd.Series,
        lambda texts: pd.Series(texts, dtype=object, index=range(5, 5 + len(texts))),
        pl.Series,
    ],
)
def test_texts_of_every_kind_give_the_same_answers(make):
    """Lists, arrays and Series of pandas and polars are the same texts."""
    clf = LLMClassifier(FakeBackend(), labels=LABELS).fit(make(TEXTS))
    expected = LLMClassifier(FakeBackend(), labels=LABELS).fit(TEXTS).predict_proba(TEXTS)
    np.testing.assert_array_equal(clf.predict_proba(make(TEXTS)), expected)


@pytest.mark.parametrize("make", [pd.DataFrame, pl.DataFrame, lambda data: pd.DataFrame(data).to_dict("records")])
def test_tables_of_every_kind_give_the_same_answers(make):
    """DataFrames of pandas and polars and lists of dicts are the same table; the template names its columns."""
    data = {"premise": TEXTS, "hypothesis": TEXTS[::-1], "unused": [None] * len(TEXTS)}
    prompt = "{{ premise }} So: {{ hypothesis }}? Answer:"
    clf = LLMClassifier(FakeBackend(), labels=["yes", "no"], prompt=prompt).fit(make(data))
    scores = clf.score_labels(make(data))
    one_text = LLMClassifier(FakeBackend(), labels=["yes", "no"], prompt="{{ text }}").fit(TEXTS)
    joined = [f"{a} So: {b}? Answer:" for a, b in zip(TEXTS, TEXTS[::-1], strict=True)]
    np.testing.assert_array_equal(scores, one_text.score_labels(joined))


def test_shots_are_balanced_seeded_and_never_calibrated_on():
    """Shots come from the training rows, evenly by class; the calibrator sees the other rows alone, once each."""
    X, y = labelled()
    backend = CountingBackend()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what the fake answers after other shots has nothing to do with the classes
        clf = LLMClassifier(backend, n_shots=6, calibrator="temperature", random_state=3).fit(X, y)
    words = [word for _, word in clf.shots_]
    assert sorted(words) == ["negative"] * 3 + ["positive"] * 3
    shot_texts = {row["text"] for row, _ in clf.shots_}
    asked = [request.prompt.text.rsplit("Text: ", 1)[1].split("\n")[0] for request in backend.asked]
    assert sorted(asked) == sorted(set(X) - shot_texts)
    for row, word in clf.shots_:
        assert y[X.index(row["text"])] == word
        assert f"{row['text']}\nLabel: {word}\n\n" in backend.asked[0].prompt.text
    again = LLMClassifier(FakeBackend(), n_shots=6, random_state=3).fit(X, y)
    assert again.shots_ == clf.shots_
    assert LLMClassifier(FakeBackend(), n_shots=6, random_state=4).fit(X, y).shots_ != clf.shots_


def test_odd_numbers_of_shots_differ_by_at_most_one():
    """Five shots of two classes are three and two; a class that has run out is passed over."""
    X, y = labelled()
    counts = pd.Series([word for _, word in LLMClassifier(FakeBackend(), n_shots=5, random_state=0).fit(X, y).shots_])
    assert sorted(counts.value_counts()) == [2, 3]
    few = LLMClassifier(FakeBackend(), n_shots=4, random_state=0).fit(TEXTS, ["positive"] + ["negative"] * 5)
    assert sorted(word for _, word in few.shots_) == ["negative"] * 3 + ["positive"]


@pytest.mark.parametrize(
    "calibrator",
    ["auto", "temperature", "bias_temperature", "vector", "matrix", "platt", "beta", "isotonic", "venn_abers"],
)
@pytest.mark.filterwarnings("ignore::llmclf.errors.CalibrationWarning")  # the fake's scores know nothing of the classes
def test_a_calibrator_corrects_the_scores(calibrator):
    """The fitted map is applied to the log-scores of new rows; the ranking by decision_function agrees with predict."""
    X, y = labelled()
    clf = LLMClassifier(FakeBackend(), labels=LABELS, calibrator=calibrator).fit(X, y)
    scores = clf.score_labels(TEXTS)
    np.testing.assert_allclose(clf.predict_proba(TEXTS), clf.calibrator_.predict_proba(scores))
    codes = np.searchsorted(clf.classes_, y)
    alone = clone(clf.calibrator_).fit(clf.score_labels(X), codes)
    np.testing.assert_allclose(alone.predict_proba(scores), clf.calibrator_.predict_proba(scores))
    assert (clf.classes_[(clf.decision_function(TEXTS) > 0).astype(int)] == clf.predict(TEXTS)).all()


def test_a_class_without_calibration_rows_is_allowed():
    """Labels that the calibration rows lack keep their column."""
    X, y = labelled()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the fake's scores know nothing of the classes
        clf = LLMClassifier(FakeBackend(), labels=[*LABELS, "neutral"], calibrator="bias_temperature").fit(X, y)
    assert clf.predict_proba(TEXTS).shape == (6, 3)
    np.testing.assert_allclose(clf.predict_proba(TEXTS).sum(1), 1.0)


def test_sample_weights_reach_the_calibrator():
    """A weight of zero is as if the row were not there."""
    X, y = labelled(60)
    weights = np.r_[np.ones(40), np.zeros(20)]
    weighted = LLMClassifier(FakeBackend(), labels=LABELS, calibrator="temperature").fit(X, y, sample_weight=weights)
    fewer = LLMClassifier(FakeBackend(), labels=LABELS, calibrator="temperature").fit(X[:40], y[:40])
    assert weighted.calibrator_.temperature_ == pytest.approx(fewer.calibrator_.temperature_, rel=1e-6)


def test_a_calibrator_of_scikit_learn_can_be_used():
    """Any classifier of score rows with fit and predict_proba will do."""
    from sklearn.linear_model import LogisticRegression

    X, y = labelled()
    clf = LLMClassifier(FakeBackend(), labels=LABELS, calibrator=LogisticRegression()).fit(X, y)
    np.testing.assert_allclose(clf.predict_proba(TEXTS), clf.calibrator_.predict_proba(clf.score_labels(TEXTS)))


def test_a_prior_multiplies_the_probabilities():
    """Without a calibrator by the prior itself, with one by the prior over the frequencies that its probabilities assume."""
    prior = {"positive": 0.9, "negative": 0.1}
    plain = LLMClassifier(FakeBackend(), labels=LABELS).fit(TEXTS).predict_proba(TEXTS)
    shifted = LLMClassifier(FakeBackend(), labels=LABELS, prior=prior).fit(TEXTS).predict_proba(TEXTS)
    weighted = plain * [0.1, 0.9]
    np.testing.assert_allclose(shifted, weighted / weighted.sum(1, keepdims=True))
    X, y = labelled()
    raw = LLMClassifier(FakeBackend(), labels=LABELS, calibrator="temperature").fit(X, y)
    used = LLMClassifier(FakeBackend(), labels=LABELS, calibrator="temperature", prior=prior).fit(X, y)
    assumed = assumed_prior(raw.predict_log_proba(X), np.searchsorted(raw.classes_, y))
    weighted = raw.predict_proba(TEXTS) * [0.1, 0.9] / assumed
    np.testing.assert_allclose(used.predict_proba(TEXTS), weighted / weighted.sum(1, keepdims=True))


class TestTargetOfABias:
    """Where y is known, a bias that needs no labels aims at its frequencies."""

    @pytest.mark.parametrize("bias", ["ucpa", BiasCorrector("ucpa")], ids=repr)
    def test_the_frequencies_of_y(self, bias):
        """The mean probability over the training rows is the share of each class in y; without y the shares are equal."""
        X = [f"text number {i}" for i in range(60)]
        y = ["positive"] * 45 + ["negative"] * 15
        clf = LLMClassifier(FakeBackend(), labels=LABELS, bias=bias).fit(X, y)
        np.testing.assert_allclose(clf.predict_proba(X).mean(axis=0), [0.25, 0.75], atol=1e-9)
        np.testing.assert_allclose(clf.bias_.prior_, [0.25, 0.75])
        without = LLMClassifier(FakeBackend(), labels=LABELS, bias=bias).fit(X)
        np.testing.assert_allclose(without.predict_proba(X).mean(axis=0), [0.5, 0.5], atol=1e-9)

    @pytest.mark.parametrize("method", ["contextual", "domain", "batch", "batch_logmean", "ucpa"])
    def test_every_method_with_a_target(self, method):
        """Its bias is that for equal frequencies, moved by the logarithm of those of y, wherever it is a difference to them."""
        X = [f"text number {i}" for i in range(60)]
        y = ["positive"] * 45 + ["negative"] * 15
        options = {"labels": LABELS, "bias": method, "random_state": 0}
        moved = LLMClassifier(FakeBackend(), **options).fit(X, y).bias_
        plain = LLMClassifier(FakeBackend(), **options).fit(X).bias_
        np.testing.assert_allclose(moved.prior_, [0.25, 0.75])
        if method != "ucpa":
            np.testing.assert_allclose(np.diff(moved.bias_ - plain.bias_), np.log(3.0))

    def test_em_estimates_the_frequencies(self):
        """EM has no target: its prior is the one that the scores are calibrated for, and y does not change it."""
        X, y = labelled(60)
        em = LLMClassifier(FakeBackend(), labels=LABELS, bias="em")
        np.testing.assert_array_equal(clone(em).fit(X, y).bias_.bias_, clone(em).fit(X).bias_.bias_)

    def test_a_target_of_ones_own_stays(self):
        """A corrector with a target keeps it."""
        X = [f"text number {i}" for i in range(60)]
        bias = BiasCorrector("ucpa", target_prior=[0.4, 0.6])
        clf = LLMClassifier(FakeBackend(), labels=LABELS, bias=bias).fit(X, ["positive"] * 45 + ["negative"] * 15)
        np.testing.assert_allclose(clf.predict_proba(X).mean(axis=0), [0.4, 0.6], atol=1e-9)

    def test_weights_count(self):
        """Weighted rows have weighted frequencies, in the target and in the mean that meets it."""
        X = [f"text number {i}" for i in range(60)]
        y, weights = ["positive"] * 30 + ["negative"] * 30, np.r_[np.full(30, 0.9), np.full(30, 0.1)]
        clf = LLMClassifier(FakeBackend(), labels=LABELS, bias="ucpa").fit(X, y, sample_weight=weights / 1e6)
        np.testing.assert_allclose(np.average(clf.predict_proba(X), axis=0, weights=weights), [0.1, 0.9], atol=1e-9)

    def test_shots_do_not_move_the_frequencies(self):
        """Shots are drawn evenly from the classes and missing from the other rows; the target is that of all of y."""
        X = [f"text number {i}" for i in range(60)]
        y = ["positive"] * 48 + ["negative"] * 12
        clf = LLMClassifier(FakeBackend(), labels=LABELS, bias="ucpa", n_shots=8, random_state=0).fit(X, y)
        np.testing.assert_allclose(clf.bias_.prior_, [0.2, 0.8])
        rest = clf.calibration_rows_
        share = np.mean(np.array(y)[rest] == "negative")
        log_proba = clf.predict_log_proba([X[i] for i in rest]) + np.log([share / 0.2, (1 - share) / 0.8])
        np.testing.assert_allclose(softmax(log_proba).mean(axis=0), [share, 1 - share], atol=1e-9)

    def test_a_class_that_no_row_has(self):
        """It keeps a small share, as if each class had one row more."""
        clf = LLMClassifier(FakeBackend(), labels=["a", "b", "c"], bias="ucpa").fit(["x", "y", "z"], ["a", "b", "a"])
        np.testing.assert_allclose(clf.bias_.prior_, [3 / 6, 2 / 6, 1 / 6])

    def test_a_prior_says_where_it_will_be_used(self):
        """With y, the answers for the rows of y are moved from their frequencies to the expected ones."""
        X = [f"text number {i}" for i in range(60)]
        y, prior = ["positive"] * 45 + ["negative"] * 15, {"positive": 0.4, "negative": 0.6}
        plain = LLMClassifier(FakeBackend(), labels=LABELS, bias="ucpa").fit(X, y).predict_proba(X)
        moved = LLMClassifier(FakeBackend(), labels=LABELS, bias="ucpa", prior=prior).fit(X, y).predict_proba(X)
        expected = plain * [0.6 / 0.25, 0.4 / 0.75]
        np.testing.assert_allclose(moved, expected / expected.sum(axis=1, keepdims=True))


def test_a_bias_transformer_is_fitted_without_labels():
    """bias= is fitted on the training scores and applied before the calibrator."""
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler(with_std=False)
    clf = LLMClassifier(FakeBackend(), labels=LABELS, bias=scaler).fit(TEXTS)
    scores = clf.score_labels(TEXTS)
    np.testing.assert_allclose(clf.predict_proba(TEXTS), softmax(scores - scores.mean(0)))
    assert not hasattr(scaler, "mean_")


def test_a_bias_corrector_evens_out_the_labels():
    """With UCPA the mean probability of every label over the training rows is the target prior."""
    bias = BiasCorrector("ucpa", target_prior=[0.3, 0.7])
    clf = LLMClassifier(FakeBackend(), labels=LABELS, bias=bias).fit(TEXTS)
    np.testing.assert_allclose(clf.predict_proba(TEXTS).mean(axis=0), [0.3, 0.7], atol=1e-9)


@pytest.mark.parametrize("labels", [LABELS, ["one", "two", "three"]])
def test_temperature_is_that_of_scikit_learn(labels):
    """CalibratedClassifierCV on the frozen classifier gives the probabilities of a temperature without prior, to 1e-6."""
    texts = [f"text number {i}" for i in range(60)]
    raw = LLMClassifier(FakeBackend(), labels=labels).fit(texts)
    y = raw.predict(texts)
    y[::3] = np.roll(y, 1)[::3]
    theirs = CalibratedClassifierCV(FrozenEstimator(raw), method="temperature").fit(texts, y)
    ours = LLMClassifier(FakeBackend(), labels=labels, calibrator=TemperatureCalibrator(prior_rows=0)).fit(texts, y)
    np.testing.assert_allclose(ours.predict_proba(TEXTS), theirs.predict_proba(TEXTS), atol=1e-6)


class TestContentFree:
    def test_contextual_asks_about_inputs_without_content(self):
        """The bias comes from the three content-free texts alone, shots and all; the training rows are not asked."""
        backend = FakeBackend()
        clf = LLMClassifier(backend, labels=LABELS, bias="contextual").fit(TEXTS)
        plain = LLMClassifier(backend, labels=LABELS).fit(TEXTS)
        empty = [plain.pipeline_.scorer.class_scores(read_rows([text]), "sum")[0] for text in ("N/A", "", "[MASK]")]
        mean = np.log(np.exp(empty).mean(axis=0))
        np.testing.assert_allclose(clf.bias_.bias_, mean.mean() - mean, atol=1e-12)
        np.testing.assert_allclose(clf.predict_proba(TEXTS), softmax(plain.score_labels(TEXTS) - mean))

    def test_both_fields_of_a_pair_are_without_content(self):
        """Of a table, every field that the prompt shows holds the content-free text."""
        frame = pd.DataFrame({"a": TEXTS, "b": TEXTS[::-1], "unused": 1})
        clf = LLMClassifier(FakeBackend(), labels=LABELS, prompt="{{ a }} {{ b }}:", bias="contextual").fit(frame)
        same = LLMClassifier(FakeBackend(), labels=LABELS, prompt="{{ a }} {{ b }}:").fit(frame)
        assert clf.bias_.method == "contextual"
        assert not np.allclose(clf.predict_proba(frame), same.predict_proba(frame))

    def test_domain_draws_words_of_the_corpus(self):
        """The same seed gives the same bias, another seed another one."""
        biases = [
            LLMClassifier(FakeBackend(), labels=LABELS, bias="domain", random_state=seed).fit(TEXTS).bias_.bias_
            for seed in (0, 0, 1)
        ]
        np.testing.assert_array_equal(biases[0], biases[1])
        assert not np.allclose(biases[0], biases[2])

    def test_the_prior_is_what_a_named_bias_aims_at(self):
        """Without a calibrator the mean probability of the training rows is the prior, exactly for ucpa."""
        prior = {"positive": 0.8, "negative": 0.2}
        clf = LLMClassifier(FakeBackend(), labels=LABELS, bias="ucpa", prior=prior).fit(TEXTS)
        np.testing.assert_allclose(clf.predict_proba(TEXTS).mean(axis=0), [0.2, 0.8], atol=1e-9)

    def test_choices_have_no_content_free_form(self):
        """Where each row brings its own choices, the message says what to do."""
        rows = [{"q": "one", "own": ["a", "b"]}, {"q": "two", "own": ["c", "d"]}]
        clf = LLMClassifier(FakeBackend(), labels=[0, 1], prompt=Prompt("{{ q }}", choices="own"), bias="contextual")
        with pytest.raises(InputError, match="scoring='pmi' does that"):
            clf.fit(rows)


@pytest.mark.parametrize("bias", ["batch", "batch_logmean", "ucpa", "em", "contextual", "domain"])
def test_a_bias_and_a_calibrator_cost_one_pass(bias):
    """Every training text is asked once, whatever is fitted on it and computed from it afterwards."""
    X, y = labelled()
    backend = CountingBackend()
    clf = LLMClassifier(
        backend, labels=LABELS, bias=bias, calibrator="bias_temperature", n_shots=2, random_state=0, prior="uniform"
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the fake's scores know nothing of the classes
        clf.fit(X, y)
        proba = clf.calibration_proba_
    assert len(backend.asked) == len({request.prompt.text for request in backend.asked})
    extra = {"contextual": 3, "domain": 20}.get(bias, 0)
    assert len(X) - 2 + extra * 0.8 <= len(backend.asked) <= len(X) - 2 + extra
    assert proba.shape == (len(X) - 2, 2)


@pytest.mark.filterwarnings("ignore::llmclf.errors.CalibrationWarning")  # the fake's scores know nothing of the classes
def test_out_of_fold_probabilities_are_honest():
    """A row's own label does not move its cross-fitted probability, and shots have none."""
    X, y = labelled(60)
    clf = LLMClassifier(FakeBackend(), labels=LABELS, calibrator="isotonic", n_shots=4, random_state=0).fit(X, y)
    shots = [row["text"] for row, _ in clf.shots_]
    assert sorted(clf.calibration_rows_.tolist()) == [i for i, text in enumerate(X) if text not in shots]
    codes = np.searchsorted(clf.classes_, np.array(y)[clf.calibration_rows_])
    honest = log_loss(codes, clf.calibration_proba_)
    fitted = log_loss(codes, clf.predict_proba([X[i] for i in clf.calibration_rows_]))
    assert honest > np.log(2) > fitted  # the fake knows nothing, which isotonic regression hides in its own rows


def test_out_of_fold_probabilities_need_a_calibrator(tiny_bpe, tmp_path):
    """Without one, and after load, the attribute is not there, and the message says why."""
    clf = LLMClassifier(tiny_bpe, labels=LABELS, bias="ucpa").fit(TEXTS)
    with pytest.raises(AttributeError, match="after a fit with calibrator="):
        clf.calibration_proba_  # noqa: B018
    clf.save(tmp_path / "clf")
    np.testing.assert_array_equal(load(tmp_path / "clf").predict_proba(TEXTS), clf.predict_proba(TEXTS))
    assert not hasattr(load(tmp_path / "clf"), "calibration_proba_")


class TestReport:
    def test_held_out_rows(self):
        """On rows that were not seen the report judges predict_proba beside the raw scores, and nothing is asked twice."""
        X, y = labelled(160)
        backend = CountingBackend()
        clf = LLMClassifier(backend, labels=LABELS, n_shots=4, calibrator="temperature", random_state=0).fit(
            X[:80], y[:80]
        )
        proba, raw = clf.predict_proba(X[80:]), clf.score_labels(X[80:])
        backend.asked.clear()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            report = clf.report(X[80:], y[80:], max_error=0.4, metadata={"owner": "me"})
        assert len(backend.asked) == 80
        metrics = report.to_frame()
        codes = np.searchsorted(clf.classes_, y[80:])
        assert metrics.loc["log_loss", "value"] == pytest.approx(log_loss(codes, proba))
        assert metrics.loc["log_loss", "before"] == pytest.approx(log_loss(codes, softmax(raw)))
        data = report.to_dict()
        assert data["label_mass"]["mean"] == pytest.approx(clf.label_mass(X[80:]).clip(0, 1).mean())
        assert data["examples"]["uncertain"][0]["text"] in X[80:]
        provenance = data["provenance"]
        assert provenance["owner"] == "me"
        assert provenance["judged"] == {"held_out": 80, "cross_fitted": 0, "seen_by_calibrator": 0, "shots": 0}
        assert provenance["calibrator"]["fitted"]["temperature"] == clf.calibrator_.temperature_
        assert provenance["model"] == clf.backend_.identity()
        assert provenance["n_calibration_rows"] == 76

    @pytest.mark.filterwarnings("ignore:.*(scores say nothing|contradict):llmclf.errors.CalibrationWarning")
    def test_rows_that_the_calibrator_saw(self):
        """They are judged by cross-fitted probabilities, and a warning says so."""
        X, y = labelled(120)
        clf = LLMClassifier(FakeBackend(), labels=LABELS, calibrator="isotonic").fit(X, y)
        with pytest.warns(CalibrationWarning, match="fitted on 120 of these 120 rows; they are judged by calibrators"):
            report = clf.report(X, y)
        codes = np.searchsorted(clf.classes_, y)
        assert report.to_frame().loc["log_loss", "value"] == pytest.approx(log_loss(codes, clf.calibration_proba_))
        assert report.to_dict()["provenance"]["judged"]["cross_fitted"] == 120

    def test_after_save_and_load(self, tiny_bpe, tmp_path):
        """A loaded classifier knows the rows that its calibrator saw, and warns that the report is too good."""
        X, y = labelled(40)
        fitted = LLMClassifier(tiny_bpe, labels=LABELS, calibrator="prior", n_shots=2, random_state=0).fit(
            X[:30], y[:30]
        )
        fitted.save(tmp_path / "clf")
        saved = json.loads((tmp_path / "clf" / "classifier.json").read_text())["calibrated_fingerprints"]
        assert all(re.fullmatch("[0-9a-f]{16}", own) for own in saved)
        with (
            pytest.warns(
                CalibrationWarning, match="fitted on 28 of these 40 rows, so the report is better than the truth"
            ),
            pytest.warns(CalibrationWarning, match="2 of these 40 rows stand in the prompt"),
        ):
            judged = load(tmp_path / "clf").report(X, y).to_dict()["provenance"]["judged"]
        assert judged == {"held_out": 10, "cross_fitted": 0, "seen_by_calibrator": 28, "shots": 2}

    @pytest.mark.slow
    def test_without_texts(self):
        """With texts=None no text of any row is in the page, nor in the JSON, the shots' included."""
        X, y = labelled(60)
        clf = LLMClassifier(FakeBackend(), labels=LABELS, n_shots=4, random_state=0).fit(X[:20], y[:20])
        report = clf.report(X[20:], y[20:], texts=None)
        assert "text number" not in report.to_html() + report.to_json()
        assert "text number" in clf.report(X[20:], y[20:]).to_html()

    def test_a_table_names_its_slices(self):
        """Columns of a table are slices by their names; what the prompt shows of a row is its text."""
        table = pd.DataFrame({"a": [f"x{i}" for i in range(60)], "b": "z", "site": ["north", "south"] * 30})
        clf = LLMClassifier(FakeBackend(), labels=LABELS, prompt="{{ a }} and {{ b }}:").fit(table)
        data = clf.report(table, LABELS * 30, groups="site").to_dict()
        assert {(own["partition"], own["slice"]) for own in data["slices"]} == {("site", "north"), ("site", "south")}
        assert data["examples"]["uncertain"][0]["text"].endswith("b: z")
        assert "before" not in data["metrics"]["accuracy"]
        with pytest.raises(InputError, match="groups='nope' is not a column"):
            clf.report(table, LABELS * 30, groups="nope")
        with pytest.raises(InputError, match="texts='all'"):
            clf.report(table, LABELS * 30, texts="all")

    def test_rows_that_could_not_be_scored(self):
        """They are left out of the numbers and counted."""
        X, y = labelled(60)
        backend = CountingBackend(fails_on="number 3")
        clf = LLMClassifier(backend, labels=LABELS, on_error="missing").fit(X)
        rows = clf.report(X, y).to_dict()["rows"]
        assert (rows["n"], rows["n_unscored"]) == (49, 11)


def test_equal_texts_are_asked_once():
    """Each distinct text is one question, and every row gets its answer."""
    backend = CountingBackend()
    clf = LLMClassifier(backend, labels=LABELS).fit(TEXTS)
    scores = clf.score_labels([*TEXTS, *TEXTS[::-1]])
    assert len(backend.asked) == len(TEXTS)
    np.testing.assert_array_equal(scores[:6], scores[6:][::-1])


def test_a_cache_asks_every_text_once_for_ever(tmp_path):
    """With a score cache cross-validation, refits and other scorings ask nothing new."""
    from sklearn.model_selection import cross_val_predict

    X, y = labelled()
    cache = tmp_path / "scores.sqlite"
    backend = CountingBackend()
    clf = LLMClassifier(backend, labels=sorted(LABELS), calibrator="temperature", cache=cache)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        first = cross_val_predict(clf, X, y, cv=4, method="predict_proba")
    assert len(backend.asked) == len(X)
    clf.set_params(calibrator=None, scoring="mean").fit(X, y).predict(X)
    assert len(backend.asked) == len(X)
    other = CountingBackend(seed=1)
    LLMClassifier(other, labels=sorted(LABELS), cache=cache).fit(X).predict(X)
    assert len(other.asked) == len(X), "another model's scores were used"
    assert first.shape == (40, 2)


def test_answers_that_were_paid_for_survive_an_error(tmp_path):
    """When a row fails, the answers before it are in the cache."""
    backend = CountingBackend(fails_on="Never again")
    clf = LLMClassifier(backend, labels=LABELS, cache=tmp_path / "c.sqlite").fit(TEXTS)
    with pytest.raises(ModelError, match=r"row 5 could not be scored: it does not want to"):
        clf.predict(TEXTS)
    backend.asked.clear()
    with pytest.raises(ModelError):
        clf.predict(TEXTS)
    assert len(backend.asked) == 1


def test_missing_answers_stay_missing():
    """on_error='missing': such rows are NaN and None, the others are as ever, and calibration leaves them out."""
    clf = LLMClassifier(CountingBackend(fails_on="waste"), labels=LABELS, on_error="missing").fit(TEXTS)
    assert np.isnan(clf.predict_proba(TEXTS)[1]).all()
    assert np.isfinite(np.delete(clf.predict_proba(TEXTS), 1, axis=0)).all()
    assert clf.predict(TEXTS)[1] is None
    X, y = labelled()
    with_hole = LLMClassifier(
        CountingBackend(fails_on="number 7"), labels=LABELS, on_error="missing", calibrator="temperature"
    )
    whole = LLMClassifier(CountingBackend(), labels=LABELS, calibrator="temperature")
    with pytest.warns(CalibrationWarning, match=r"1 of 40 training rows .* left out .*\(row 7: it does not want to\)"):
        with_hole.fit(X, y)
    whole.fit(X[:7] + X[8:], y[:7] + y[8:])
    assert with_hole.calibrator_.temperature_ == pytest.approx(whole.calibrator_.temperature_)


def test_choices_belong_to_the_row():
    """With Prompt(choices=...) every row brings its own completions, one per class."""
    rows = [{"q": f"q{i}", "choices": [f"first {i}", f"second {i}"]} for i in range(6)]
    prompt = Prompt("{{ q }} Answer:", choices="choices")
    clf = LLMClassifier(FakeBackend(), labels=[0, 1], prompt=prompt, n_shots=2, random_state=0)
    clf.fit(rows, [0, 1] * 3)
    assert all(word in row["choices"] for row, word in clf.shots_)
    shot = clf.pipeline_.scorer.renderer.render(rows[0]).text
    assert all(f"{row['q']} Answer: {word}" in shot for row, word in clf.shots_)
    scores = clf.score_labels(rows)
    turned = [{"q": row["q"], "choices": row["choices"][::-1]} for row in rows]
    np.testing.assert_array_equal(clf.score_labels(turned), scores[:, ::-1])
    with pytest.raises(InputError, match=r"row 2, field 'choices' has 3 choices; expected 2"):
        clf.predict([*rows[:2], {"q": "q", "choices": ["a", "b", "c"]}])
    with pytest.raises(InputError, match=r"row 0, field 'choices' is 'ab'"):
        clf.predict([{"q": "q", "choices": "ab"}])
    frame = pd.DataFrame(rows)[["choices", "q"]]
    np.testing.assert_array_equal(clf.score_labels(frame), scores)


def test_labels_that_begin_others_are_told_of_once(tiny_bpe):
    """'neutral' excludes 'neutral news'; the user is told at fit and not again, and no other label's score moves."""
    labels = ["neutral", "neutral news", "good"]
    with pytest.warns(TerminatorWarning, match="'neutral' begins 'neutral news'") as seen:
        clf = LLMClassifier(tiny_bpe, labels=labels, prompt="{{ text }}:").fit(TEXTS)
    assert len(seen) == 1
    scores = clf.score_labels(TEXTS)  # a warning would be an error
    plain = LLMClassifier(tiny_bpe, labels=labels, prompt=Prompt("{{ text }}:", terminator=None)).fit(TEXTS)
    whole = plain.score_labels(TEXTS)
    columns = {label: k for k, label in enumerate(clf.classes_.tolist())}
    short, longer, other = (columns[label] for label in labels)
    np.testing.assert_array_equal(scores[:, [longer, other]], whole[:, [longer, other]])
    expected = np.log(np.exp(whole[:, short]) - np.exp(whole[:, longer]))
    np.testing.assert_allclose(scores[:, short], expected, atol=1e-4)
    assert (clf.label_mass(TEXTS) <= 1.0).all()


@pytest.mark.filterwarnings("ignore::llmclf.errors.TerminatorWarning")
def test_a_classifier_of_an_earlier_version_keeps_its_scores(tiny_bpe, tmp_path):
    """Its terminator "auto" ended every label where one begins another; in a new folder "auto" means what it does now."""
    labels = ["neutral", "neutral news", "good"]
    now = LLMClassifier(tiny_bpe, labels=labels, prompt="{{ text }}:").fit(TEXTS)
    now.save(tmp_path)
    np.testing.assert_array_equal(load(tmp_path).score_labels(TEXTS), now.score_labels(TEXTS))
    file = tmp_path / "classifier.json"
    values = json.loads(file.read_text())
    assert values["prompt"]["terminator"] == "auto"
    del values["prompt"]["nested"]  # as an earlier version wrote it
    file.write_text(json.dumps(values))
    then = LLMClassifier(tiny_bpe, labels=labels, prompt=Prompt("{{ text }}:", terminator="eos_if_nested")).fit(TEXTS)
    np.testing.assert_array_equal(load(tmp_path).score_labels(TEXTS), then.score_labels(TEXTS))
    assert not np.allclose(then.score_labels(TEXTS), now.score_labels(TEXTS))


def test_shortened_texts_are_reported(tiny_bpe):
    """A text that does not fit is cut, counted and named; the warning says how many and which."""
    backend = open_backend(tiny_bpe.name, context_length=40)
    clf = LLMClassifier(backend, labels=LABELS, prompt="{{ text }}:").fit(TEXTS)
    with pytest.warns(TruncationWarning, match=r"1 of 2 texts .*first: row 1"):
        answers = clf.score_rows(["short", "word " * 100])
    assert [answer.characters_cut > 0 for answer in answers] == [False, True]


@pytest.mark.parametrize(
    ("X", "match"),
    [
        ([], "0 sample"),
        (["a", None], r"missing value \(row 1: None\)"),
        (["a", float("nan")], r"missing value \(row 1: NaN\)"),
        (pd.Series(["a", None]), r"missing value \(row 1"),
        (["a", "  "], r"blank text \(row 1"),
        (["a", 3], r"row 1 of X is 3, an int"),
        ("one text", "single text"),
        ([["a"], ["b"]], "X holds a table"),
    ],
)
def test_bad_texts_are_refused_before_the_model_is_called(X, match):
    """Empty, missing, blank and non-text rows are named by number; nothing is spent."""
    backend = CountingBackend()
    clf = LLMClassifier(backend, labels=LABELS).fit(TEXTS)
    with pytest.raises(InputError, match=match):
        clf.predict(X)
    if "table" not in match:
        with pytest.raises(InputError, match=match):
            LLMClassifier(backend, labels=LABELS, calibrator="temperature").fit(X, ["positive"] * max(len(X), 1))
    assert backend.asked == []


@pytest.mark.parametrize(
    ("params", "y", "match"),
    [
        ({"labels": ["one"]}, None, "at least two classes"),
        ({"labels": ["a", "b", "a"]}, None, "'a' appears twice"),
        ({"labels": ["a", " "]}, None, "empty word"),
        ({"labels": {"a": "x", "b": ["y", "x"]}}, None, "the word 'x' stands for 'a' and for 'b'"),
        ({"labels": "ab"}, None, "expected a list of classes"),
        ({"labels": LABELS}, ["positive"] * 5 + ["neutral"], r"value 'neutral' \(row 5\)"),
        ({"labels": LABELS, "n_shots": 2}, None, "n_shots=2"),
        ({"labels": LABELS, "calibrator": "temperature"}, None, "calibrator='temperature'"),
        ({}, None, "target y is None"),
        ({}, ["positive"] * 6, "has 1 class"),
        ({}, ["positive"] * 5, "6 rows and y has 5"),
        ({}, ["positive", None] * 3, r"y contains NaN or None \(row 1"),
        ({"labels": LABELS, "prompt": "{{ review }}:"}, None, r"uses 'review', which the rows do not have.*'text'"),
        ({"labels": LABELS, "prompt": "{{ text"}, None, "not a valid jinja2 template"),
        ({"labels": LABELS, "prompt": 3}, None, "expected a template or a Prompt"),
        ({"labels": LABELS, "n_shots": -1}, None, "n_shots=-1"),
        ({"labels": LABELS, "n_shots": 7}, LABELS * 3, "only 6 training rows"),
        ({"labels": LABELS, "n_shots": 6, "calibrator": "temperature"}, LABELS * 3, "all 6 rows are shots"),
        ({"labels": LABELS, "scoring": "max"}, None, "scoring='max'"),
        ({"labels": LABELS, "scoring": "pmi", "prompt": "{{ text }}"}, None, "Prompt\\(unconditional=...\\)"),
        ({"labels": LABELS, "on_error": "ignore"}, None, "on_error='ignore'"),
        ({"labels": LABELS, "calibrator": "magic"}, LABELS * 3, "'magic'"),
        ({"labels": LABELS, "bias": "magic"}, LABELS * 3, "bias='magic'"),
        ({"labels": LABELS, "prior": {"positive": 1.0}}, None, "without a probability: .'negative'"),
        ({"labels": LABELS, "prior": {"positive": 0.5, "negative": 0.6}}, None, "sum to 1"),
        ({"labels": LABELS, "model": "gpt-9"}, None, "does not name a model"),
        (
            {"labels": [*LABELS, "new"], "prior": "uniform", "calibrator": "temperature"},
            LABELS * 3,
            "prior= needs calibration rows of every class, and none has the class 'new'",
        ),
        ({"labels": [*LABELS, "new"], "calibrator": GaussianNB()}, LABELS * 3, r"calibrator=GaussianNB\(\) needs"),
    ],
)
def test_bad_parameters_are_refused_before_the_model_is_called(params, y, match):
    """Every wrong parameter is an InputError (a ValueError) that names the value, before anything is spent."""
    backend = CountingBackend()
    with pytest.raises(InputError, match=match):
        LLMClassifier(**{"model": backend, **params}).fit(TEXTS, y)
    assert backend.asked == []


def test_prediction_needs_a_fit():
    """An unfitted classifier says so in scikit-learn's way."""
    from sklearn.exceptions import NotFittedError

    with pytest.raises(NotFittedError):
        LLMClassifier(FakeBackend(), labels=LABELS).predict(TEXTS)


def test_nan_logits_stop_the_work(model_folder, tmp_path):
    """A broken model raises an error that names the row, and no label is invented."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = model_folder("byte_bpe")
    model = AutoModelForCausalLM.from_pretrained(folder)
    with torch.no_grad():
        model.lm_head.weight[7] = float("nan")
    model.save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(folder).save_pretrained(tmp_path)
    clf = LLMClassifier(f"hf:{tmp_path}", labels=LABELS).fit(TEXTS)
    with pytest.raises(ModelError, match=r"row \d could not be scored: .*NaN"):
        clf.predict(TEXTS)


@pytest.mark.filterwarnings("ignore::llmclf.errors.CalibrationWarning")  # a random model knows nothing of the classes
def test_save_and_load_give_the_same_classifier(tiny_bpe, tmp_path):
    """Shots, words, prompt, calibrator and prior come back; the folder is JSON and holds no pickle."""
    X, y = labelled()
    clf = LLMClassifier(
        tiny_bpe,
        labels={"positive": ["good", "great"], "negative": "bad"},
        prompt=Prompt("Text: {{ text }}\nLabel:", instruction="Judge: {{ label_words | join('/') }}."),
        n_shots=3,
        calibrator="bias_temperature",
        prior={"positive": 0.3, "negative": 0.7},
        random_state=0,
    ).fit(X, y)
    clf.save(tmp_path / "clf")
    again = load(tmp_path / "clf")
    np.testing.assert_array_equal(again.predict_proba(TEXTS), clf.predict_proba(TEXTS))
    np.testing.assert_array_equal(again.classes_, clf.classes_)
    assert again.shots_ == clf.shots_
    assert [path.name for path in (tmp_path / "clf").iterdir()] == ["classifier.json"]
    json.loads((tmp_path / "clf" / "classifier.json").read_text())
    again.save(tmp_path / "clf")
    np.testing.assert_array_equal(load(tmp_path / "clf").predict_proba(TEXTS), clf.predict_proba(TEXTS))


def test_saved_tables_keep_their_columns(tiny_bpe, tmp_path):
    """A classifier of tables refuses other columns after loading, as before."""
    frame = pd.DataFrame({"a": TEXTS, "b": TEXTS})
    clf = LLMClassifier(tiny_bpe, labels=[1, 2], prompt="{{ a }} {{ b }}:").fit(frame)
    clf.save(tmp_path / "clf")
    again = load(tmp_path / "clf")
    np.testing.assert_array_equal(again.predict(frame), clf.predict(frame))
    with pytest.raises(ValueError, match="feature names"):
        again.predict(frame.rename(columns={"b": "c"}))


@pytest.mark.parametrize(
    "template", [None, "{{ a }} {{ b }}:", "{% for f in fields %}{{ f }}={{ fields[f] }} {% endfor %}:"]
)
def test_columns_are_found_by_their_names(template):
    """In another order, beside new ones, and without those that the prompt does not show, columns make the same prompts."""
    frame = pd.DataFrame({"a": TEXTS, "b": [f"b of {text}" for text in TEXTS], "c": "x"})
    frame = frame if template is not None and "fields" not in template else frame.drop(columns="c")
    clf = LLMClassifier(FakeBackend(), labels=LABELS, prompt=template).fit(frame)
    expected = clf.predict_proba(frame)
    others = frame.assign(label_words="new", fields="new", z=1)
    for table in (
        frame[frame.columns[::-1]],
        others[others.columns[::-1]],
        frame[["b", "a"]],
        others.to_dict("records"),
    ):
        np.testing.assert_array_equal(clf.predict_proba(table), expected)
    with pytest.raises(InputError, match="X lacks the field 'b' that the prompt uses; its fields: \\['a'\\]"):
        clf.predict(frame[["a"]])


@pytest.mark.filterwarnings("ignore::llmclf.errors.CalibrationWarning")  # a random model knows nothing of the classes
def test_a_calibrator_refuses_another_model(tiny_bpe, model_folder, tmp_path):
    """What was fitted on one model's scores is not applied to another's."""
    X, y = labelled()
    LLMClassifier(tiny_bpe, labels=LABELS, calibrator="temperature").fit(X, y).save(tmp_path / "clf")
    file = tmp_path / "clf" / "classifier.json"
    values = json.loads(file.read_text())
    values["model"] = f"hf:{model_folder('no_pad')}"
    file.write_text(json.dumps(values))
    with pytest.raises(ModelError, match="fit again"):
        load(tmp_path / "clf").predict(TEXTS)


def test_bad_folders_are_refused(tmp_path, tiny_bpe):
    """Missing, foreign and damaged folders are errors; nothing foreign is overwritten or executed."""
    with pytest.raises(StoreError, match="holds no saved classifier"):
        load(tmp_path)
    clf = LLMClassifier(tiny_bpe, labels=LABELS).fit(TEXTS)
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(StoreError, match="is not a saved classifier"):
        clf.save(tmp_path)
    clf.save(tmp_path / "clf")
    file = tmp_path / "clf" / "classifier.json"
    text = file.read_text()
    for damaged in (
        "",
        "[]",
        "{}",
        pickle.dumps(1).decode("latin1"),
        text[:-20],
        text.replace('"classes"', '"klasses"'),
    ):
        file.write_text(damaged)
        with pytest.raises(StoreError):
            load(tmp_path / "clf")


def test_what_has_no_json_form_cannot_be_saved(tiny_bpe, tmp_path):
    """Enum classes and backends of the caller's own are refused with the cure."""
    clf = LLMClassifier(tiny_bpe, labels={Colour.RED: "red", Colour.BLUE: "blue"}).fit(TEXTS)
    with pytest.raises(InputError, match="use str, int, float or bool"):
        clf.save(tmp_path / "a")
    with pytest.raises(InputError, match="made by open_backend"):
        LLMClassifier(FakeBackend(), labels=LABELS).fit(TEXTS).save(tmp_path / "b")


def test_the_public_names_are_there_and_sorted():
    """__all__ is sorted, every name resolves, and an unknown one is an AttributeError."""
    assert llmclf.__all__ == sorted(llmclf.__all__)
    for name in llmclf.__all__:
        assert getattr(llmclf, name)
    assert set(llmclf.__all__) <= set(dir(llmclf))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        llmclf.nothing  # noqa: B018
    assert isinstance(TemperatureCalibrator(), TemperatureCalibrator)
    assert issubclass(PromptError, ValueError)


def test_numbers_mean_the_same_before_and_after_saving(tmp_path):
    """The order in which the labels were named belongs to the saved classifier, and to what is fitted again from it."""
    backend = open_backend("openai:any", base_url="http://127.0.0.1:9/v1")  # never asked
    for labels, is_read in ((["neg", "pos"], True), (["pos", "neg"], False), ({"pos": "good", "neg": "bad"}, False)):
        LLMClassifier(backend, labels=labels).fit(["any"]).save(tmp_path / "clf")
        again = load(tmp_path / "clf")
        assert list(again.labels) == list(labels)
        for labels_now in (again.pipeline_.labels, again.fit(["any"]).pipeline_.labels):
            if is_read:
                assert labels_now.indices([1, 0]).tolist() == [1, 0]
            else:
                with pytest.raises(InputError, match="in the order 'pos' and 'neg'"):
                    labels_now.indices([1, 0])


@pytest.mark.parametrize("method", ["report", "fit_threshold"])
def test_numbers_are_judged_as_they_are_fitted(method):
    """Labelled rows to judge may hold places under the same conditions, and nothing else."""
    y = [0, 1] * 40
    X = [f"text {i}" for i in range(80)]
    options = {"max_error": 0.9} if method == "fit_threshold" else {}
    named = LLMClassifier(FakeBackend(), labels=["neg", "pos"]).fit(X)
    getattr(named, method)(X, y, **options)
    for labels, answers in ((["pos", "neg"], y), (["neg", "pos"], [1] * 80), (["neg", "pos"], [v == 1 for v in y])):
        clf = LLMClassifier(FakeBackend(), labels=labels).fit(X)
        with pytest.raises(InputError, match="y h"):
            getattr(clf, method)(X, answers, **options)


def test_all_rows_without_a_text_are_named():
    """The first ten, and how many there are."""
    texts = ["x", *[None] * 11]
    with pytest.raises(InputError, match=r"missing value \(row 1, .*row 10, \.\.\.: 11 rows: None\); drop these rows"):
        LLMClassifier(FakeBackend(), labels=LABELS).fit(texts)
    with pytest.raises(InputError, match=r"missing value \(row 1, row 2: 2 rows, field 'a': None\)"):
        LLMClassifier(FakeBackend(), labels=LABELS).fit([{"a": "x"}, {"a": None}, {"a": None}])
    with pytest.raises(InputError, match=r"blank text \(row 0, row 2: 2 rows: ' '\)"):
        LLMClassifier(FakeBackend(), labels=LABELS).fit([" ", "x", ""])


def test_numbers_that_could_be_places_of_other_numbers():
    """Of the labels -1, 0 and 1, a y of 0 and 1 alone could be what scikit-learn makes of -1 and 0, so fit refuses it."""
    clf = LLMClassifier(FakeBackend(), labels={-1: "neg", 0: "neu", 1: "pos"})
    with pytest.raises(InputError, match="could also be the places of -1 and 0"):
        clf.fit(["a", "b"] * 10, [0, 1] * 10)
    fitted = clf.fit(["a", "b", "c"] * 10, [-1, 0, 1] * 10)
    assert fitted.score(["a", "b"], fitted.predict(["a", "b"])) == 1.0
    assert LLMClassifier(FakeBackend(), labels={0: "no", 1: "yes", 2: "odd"}).fit(["a", "b"], [0, 1])


@pytest.mark.parametrize(
    ("labels", "y"), [(["bad", "good"], [0, 1] * 5), (["1", "2"], [1, 2] * 5), ({1: "x", 0: "y"}, ["1", "0"] * 5)]
)
def test_score_takes_what_fit_takes(labels, y):
    """A y that fit understands is one that score understands."""
    texts = [f"text {i}" for i in range(10)]
    clf = LLMClassifier(FakeBackend(), labels=labels).fit(texts, y)
    own = clf.pipeline_.labels.indices_by_value(y)
    assert clf.score(texts, y) == pytest.approx(np.mean(clf.classes_[own] == clf.predict(texts)))


def test_labels_of_a_test_set_may_lack_a_class():
    """Labels that judge a fitted classifier are read by their values, also where a class does not occur."""
    texts = [f"text {i}" for i in range(80)]
    clf = LLMClassifier(FakeBackend(), labels=["1", "2", "3"]).fit(texts)
    assert clf.report(texts, [1, 2] * 40).to_dict()["rows"]["n"] == 80


def test_spaces_of_rows_are_warned_of_once():
    """Rows that end with a space in a prompt that ends with the row are named once, not at every call."""
    clf = LLMClassifier(FakeBackend(), labels=["a", "b"], prompt="{{ text }}").fit(["x"])
    with pytest.warns(PromptWarning, match="in 1 of 1 rows"):
        clf.predict(["a "])
    clf.predict(["b "])
