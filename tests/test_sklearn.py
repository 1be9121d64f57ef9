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
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import GridSearchCV, cross_val_predict
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.estimator_checks import parametrize_with_checks

from llmclf import LLMClassifier, Prompt
from llmclf.backends import FakeBackend
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
