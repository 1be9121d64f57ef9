"""scikit-learn's own checks, and its tools around the classifier."""

from __future__ import annotations

import pickle
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import BaggingClassifier, StackingClassifier, VotingClassifier
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import (
    FixedThresholdClassifier,
    GridSearchCV,
    TunedThresholdClassifierCV,
    cross_val_predict,
    cross_val_score,
    learning_curve,
    permutation_test_score,
)
from sklearn.multiclass import OneVsRestClassifier, OutputCodeClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.estimator_checks import parametrize_with_checks

from llmclf import LLMClassifier, Prompt
from llmclf.backends import FakeBackend
from llmclf.errors import InputError
from llmclf.logits import softmax

TEXTS = [f"text number {i}" for i in range(60)]
Y = np.random.default_rng(0).choice(["neg", "pos"], 60).tolist()


# The checks' classes are numbers, and no model is asked for digits that nobody named.
NUMBERS = Prompt(
    words={-1: "minus", 0: "zero", 1: "single", 2: "double", 3: "triple", "one": "1", "two": "2", "three": "3"}
)


def expected_failures(estimator):
    if not estimator.n_shots:
        return {}
    reason = "a shot is a row drawn at random: a row with weight 2 is not two rows that can both be drawn"
    return {"check_sample_weight_equivalence_on_dense_data": reason}


@parametrize_with_checks(
    [
        LLMClassifier(FakeBackend(), prompt=NUMBERS),
        LLMClassifier(FakeBackend(), prompt=NUMBERS, n_shots=2, scoring="mean", random_state=0),
    ],
    expected_failed_checks=expected_failures,
    xfail_strict=True,
)
def test_scikit_learn_checks(estimator, check):
    """Every check of scikit-learn passes on tables."""
    check(estimator)


def test_the_checks_really_run():
    """The tags let all checks run: more than fifty of them, none expected to fail, none skipped."""
    from sklearn.utils.estimator_checks import estimator_checks_generator

    names = [check.func.__name__ for _, check in estimator_checks_generator(LLMClassifier(FakeBackend()))]
    assert len(names) > 50


def test_clone_and_pickle_keep_parameters_and_answers():
    """A clone has equal parameters; a pickled fitted classifier predicts the same."""
    clf = LLMClassifier(
        FakeBackend(), labels=["neg", "pos"], prompt=Prompt("{{ text }}:", words={"pos": "good"}), n_shots=2
    )
    copy = clone(clf)
    assert copy.get_params()["prompt"] == clf.prompt
    clf.set_params(random_state=0).fit(TEXTS, Y)
    again = pickle.loads(pickle.dumps(clf))
    np.testing.assert_array_equal(again.predict_proba(TEXTS), clf.predict_proba(TEXTS))


def test_pipeline_and_cross_validation():
    """The classifier ends a pipeline of text steps and is cross-validated like any other."""
    upper = FunctionTransformer(lambda texts: [text.upper() for text in texts])
    pipeline = make_pipeline(upper, LLMClassifier(FakeBackend(), labels=["neg", "pos"]))
    proba = cross_val_predict(pipeline, TEXTS, Y, cv=3, method="predict_proba")
    assert proba.shape == (60, 2)
    expected = LLMClassifier(FakeBackend()).fit(TEXTS, Y).predict_proba([text.upper() for text in TEXTS])
    np.testing.assert_allclose(proba, expected)


def test_grid_search_over_prompts_and_models():
    """Prompts, scorings and backends are parameters that a grid search tries."""
    grid = {
        "prompt": ["{{ text }} A:", Prompt("{{ text }} B:", terminator="eos")],
        "scoring": ["sum", "mean"],
        "model": [FakeBackend(0), FakeBackend(1)],
    }
    search = GridSearchCV(LLMClassifier(labels=["neg", "pos"]), grid, cv=2, scoring="neg_log_loss").fit(TEXTS, Y)
    assert len(search.cv_results_["params"]) == 8
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert search.best_estimator_.predict(TEXTS[:3]).shape == (3,)


def test_grid_search_over_a_step_of_a_pipeline_with_a_series():
    """Parameters are reached through a pipeline, with a pandas Series of texts as X."""
    pipeline = Pipeline([("llm", LLMClassifier(FakeBackend()))])
    search = GridSearchCV(pipeline, {"llm__n_shots": [0, 2]}, cv=2).fit(pd.Series(TEXTS), pd.Series(Y))
    assert search.predict(pd.Series(TEXTS)).shape == (60,)


@pytest.mark.parametrize("method", ["sigmoid", "isotonic", "temperature"])
def test_scikit_learns_calibration_of_a_frozen_classifier(method):
    """FrozenEstimator + CalibratedClassifierCV take texts; temperature equals our own calibrator."""
    clf = LLMClassifier(FakeBackend(), labels=["neg", "pos", "neu"]).fit(TEXTS)
    y = np.random.default_rng(1).choice(["neg", "pos", "neu"], 60)
    calibrated = CalibratedClassifierCV(FrozenEstimator(clf), method=method).fit(TEXTS, y)
    proba = calibrated.predict_proba(TEXTS)
    np.testing.assert_allclose(proba.sum(1), 1.0)
    if method == "temperature":
        beta = calibrated.calibrated_classifiers_[0].calibrators[0].beta_
        np.testing.assert_allclose(proba, softmax(beta * clf.decision_function(TEXTS)), atol=1e-6)


TOOL_TEXTS = np.array([f"text number {i}" for i in range(60)])
PLACES = np.random.default_rng(0).integers(0, 3, 60)
TASKS = {
    "words": ({"neg": "bad", "neu": "fair", "pos": "good"}, np.array(["neg", "neu", "pos"])),
    "numbers from 0": ({0: "bad", 1: "fair", 2: "good"}, np.arange(3)),
    "other numbers": ({1: "bad", 2: "fair", 3: "good"}, np.arange(1, 4)),
}
ENCODING = {
    "cross_val_predict": lambda clf, X, y: cross_val_predict(clf, X, y, cv=3, method="predict_proba"),
    "temperature": lambda clf, X, y: CalibratedClassifierCV(clf, cv=2, method="temperature").fit(X, y).predict_proba(X),
    "voting": lambda clf, X, y: VotingClassifier([("a", clf)], voting="soft").fit(X, y).predict_proba(X),
    "stacking": lambda clf, X, y: (
        StackingClassifier([("a", clf)], LogisticRegression(), cv=2).fit(X, y).predict_proba(X)
    ),
    "bagging": lambda clf, X, y: BaggingClassifier(clf, 2, random_state=0).fit(X[:, None], y).predict_proba(X[:, None]),
}
AS_THEY_ARE = {
    "grid": lambda clf, X, y: GridSearchCV(clf, {"scoring": ["sum"]}, cv=2, error_score="raise").fit(X, y).predict(X),
    "cross_val_score": lambda clf, X, y: cross_val_score(clf, X, y, cv=3, scoring="neg_log_loss", error_score="raise"),
    "learning_curve": lambda clf, X, y: learning_curve(clf, X, y, cv=2, train_sizes=[0.5, 1.0], error_score="raise")[
        2
    ].ravel(),
    "permutation_test_score": lambda clf, X, y: permutation_test_score(clf, X, y, cv=2, n_permutations=2)[1],
    "cross_val_predict": lambda clf, X, y: cross_val_predict(clf, X, y, cv=3),
    "sigmoid": lambda clf, X, y: CalibratedClassifierCV(clf, cv=2).fit(X, y).predict_proba(X),
    "isotonic": lambda clf, X, y: CalibratedClassifierCV(clf, cv=2, method="isotonic").fit(X, y).predict_proba(X),
}


def classifier_of(task, order=1):
    labels, classes = TASKS[task]
    labels = dict(list(labels.items())[::order])
    return LLMClassifier(FakeBackend(), labels=labels, n_shots=3, random_state=0), classes[PLACES]


@pytest.mark.parametrize("tool", ENCODING)
def test_tools_that_hand_over_places(tool):
    """Words in sorted order give what the labels 0 to K - 1 give; words in another order are refused."""
    run = ENCODING[tool]
    clf, y = classifier_of("words")
    numbers, places = classifier_of("numbers from 0")
    np.testing.assert_allclose(run(clf, TOOL_TEXTS, y), run(numbers, TOOL_TEXTS, places))
    if tool != "temperature":
        with pytest.raises(InputError, match=r"(?s)not one of the labels \[1, 2, 3\].*BaggingClassifier"):
            run(*[(made := classifier_of("other numbers"))[0], TOOL_TEXTS, made[1]])
    with pytest.raises(InputError, match="in the order 'pos', 'neu' and 'neg'"):
        run(classifier_of("words", -1)[0], TOOL_TEXTS, y)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize("tool", AS_THEY_ARE)
def test_tools_that_hand_over_the_classes(tool, order, task):
    """Every kind of label, named in any order, gives what words in sorted order give."""
    clf, y = classifier_of(task, order)
    words, names = classifier_of("words")
    found, expected = AS_THEY_ARE[tool](clf, TOOL_TEXTS, y), AS_THEY_ARE[tool](words, TOOL_TEXTS, names)
    if found.dtype.kind == "f":
        np.testing.assert_allclose(found, expected)
    else:
        np.testing.assert_array_equal(
            np.searchsorted(TASKS[task][1], found), np.searchsorted(TASKS["words"][1], expected)
        )


@pytest.mark.parametrize("tool", [TunedThresholdClassifierCV, FixedThresholdClassifier])
@pytest.mark.parametrize("labels", [["neg", "pos"], ["pos", "neg"], [1, 2], [2, 1]])
def test_tools_that_move_a_threshold(tool, labels):
    """Two classes of any kind, named in any order."""
    clf = LLMClassifier(FakeBackend(), labels=dict(zip(sorted(labels), ["bad", "good"], strict=True)))
    clf.set_params(labels={label: clf.labels[label] for label in labels})
    y = np.array(sorted(labels))[PLACES % 2]
    options = {"scoring": "accuracy", "cv": 2} if tool is TunedThresholdClassifierCV else {"pos_label": max(labels)}
    found = tool(clf, **options).fit(TOOL_TEXTS, y).predict(TOOL_TEXTS)
    if tool is FixedThresholdClassifier:
        np.testing.assert_array_equal(found, clf.fit(TOOL_TEXTS).predict(TOOL_TEXTS))
    assert set(found) <= set(y)


@pytest.mark.parametrize("tool", [OneVsRestClassifier, OutputCodeClassifier])
@pytest.mark.parametrize("task", TASKS)
def test_tools_that_make_other_tasks_fail_loudly(tool, task):
    """One class against the rest is no question to a model that is asked for one of K labels."""
    clf, y = classifier_of(task)
    with pytest.raises(ValueError, match=r"labels|broadcast"):
        tool(clf).fit(TOOL_TEXTS, y).predict(TOOL_TEXTS)


def test_hard_votes_need_numbers():
    """scikit-learn counts votes for places; words it refuses itself."""
    clf, y = classifier_of("numbers from 0")
    voting = VotingClassifier([("a", clf)]).fit(TOOL_TEXTS, y)
    np.testing.assert_array_equal(voting.predict(TOOL_TEXTS), clf.fit(TOOL_TEXTS, y).predict(TOOL_TEXTS))
    clf, y = classifier_of("words")
    with pytest.raises(TypeError, match="Cannot cast"):
        VotingClassifier([("a", clf)]).fit(TOOL_TEXTS, y).predict(TOOL_TEXTS)


def test_scikit_learns_temperature_takes_other_numbers_for_places():
    """The documents warn of it; when scikit-learn mends it, they can stop."""

    def beta(task):
        clf, y = classifier_of(task)
        frozen = FrozenEstimator(clf.set_params(n_shots=0).fit(TOOL_TEXTS))
        calibrated = CalibratedClassifierCV(frozen, method="temperature").fit(TOOL_TEXTS, y)
        return calibrated.calibrated_classifiers_[0].calibrators[0].beta_

    assert beta("words") == pytest.approx(beta("numbers from 0"))
    assert beta("words") != pytest.approx(beta("other numbers"))


def test_an_absent_class_is_refused_and_not_shifted():
    """Where no row is of the first class, places would begin with the second; where a fold lacks one, likewise."""
    clf, y = classifier_of("words")
    for run in ENCODING.values():
        with pytest.raises((InputError, IndexError)):
            run(clf, TOOL_TEXTS[y != "neg"], y[y != "neg"])
    rare = np.array(["neg", "pos"])[PLACES % 2]
    rare[0] = "neu"
    folds = [(np.arange(30, 60), np.arange(30)), (np.arange(30), np.arange(30, 60))]
    with pytest.raises(InputError, match="an absent class shifts"):
        cross_val_predict(clf, TOOL_TEXTS, rare, cv=folds, method="predict_proba")


def test_threads_of_joblib_share_a_backend():
    """A grid search with two threads gives what one gives."""
    from joblib import parallel_backend

    grid = {"scoring": ["sum", "mean", "bytes"]}
    alone = GridSearchCV(LLMClassifier(FakeBackend()), grid, cv=2).fit(TEXTS, Y)
    with parallel_backend("threading"):
        both = GridSearchCV(LLMClassifier(FakeBackend()), grid, cv=2, n_jobs=2).fit(TEXTS, Y)
    np.testing.assert_array_equal(alone.cv_results_["mean_test_score"], both.cv_results_["mean_test_score"])


@pytest.mark.slow
def test_importing_llmclf_imports_nothing_heavy():
    """torch, transformers and matplotlib come in only where they are used."""
    code = (
        "import sys; import llmclf; assert 'sklearn' not in sys.modules; from llmclf import *; LLMClassifier(); "
        "print([m for m in ('torch', 'transformers', 'matplotlib', 'typer') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
