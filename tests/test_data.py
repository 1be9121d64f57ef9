"""The real model on real data sets: what a user would see, held loosely."""

from __future__ import annotations

import os

import numpy as np
import pytest

from llmclf import LLMClassifier, Prompt
from llmclf.cards import load_card
from llmclf.logits import softmax
from llmclf.metrics import log_loss

pytestmark = [
    pytest.mark.model,
    pytest.mark.slow,
    pytest.mark.skipif("LLMCLF_DATA" not in os.environ, reason="LLMCLF_DATA names no folder of data sets"),
    pytest.mark.filterwarnings("ignore::llmclf.errors.LlmclfWarning"),
]


@pytest.mark.parametrize(("name", "n_shots", "least"), [("sst2", 4, 0.7), ("agnews", 4, 0.33), ("sms_spam", 4, 0.8)])
def test_a_calibrated_small_model_beats_chance_on_real_texts(name, n_shots, least):
    """A hundred labelled rows make SmolLM2 a useful classifier, and calibration lowers its log loss on other rows."""
    card = load_card(name)
    train, test = card.load("train", n=100 + n_shots), card.load("test", n=80)
    clf = LLMClassifier(
        labels=card.labels,
        prompt=Prompt(card.prompt_template, instruction=card.instruction),
        n_shots=n_shots,
        calibrator="bias_temperature",
        random_state=0,
    ).fit(train["text"], train["label"])
    scores = clf.score_labels(test["text"])
    calibrated = clf.calibrator_.predict_proba(scores)
    y = test["label"].tolist()
    accuracy = np.mean(clf.classes_[calibrated.argmax(1)] == np.array(y))
    assert accuracy >= least
    assert log_loss(y, calibrated, classes=clf.classes_) < log_loss(y, softmax(scores), classes=clf.classes_)
    mass = np.exp(scores).sum(axis=1)
    assert ((mass > 0) & (mass <= 1)).all()


def test_choices_of_copa_are_better_than_chance():
    """Per-row choices: SmolLM2 finds the likelier alternative more often than a coin."""
    card = load_card("copa")
    rows = card.load("test", n=120)
    prompt = Prompt(card.prompt_template, choices=card.choices_column)
    clf = LLMClassifier(labels=card.labels, prompt=prompt, scoring="pmi").fit(rows)
    assert np.mean(clf.predict(rows) == rows["label"].to_numpy()) > 0.52


def test_seventy_seven_intents_in_one_pass():
    """banking77: scores of all labels agree with one pair at a time, where they matter and where they do not."""
    from llmclf.backends import ReferenceBackend
    from llmclf.backends.local.weights import load

    card = load_card("banking77")
    texts = card.load("test", n=2)["text"].tolist()
    clf = LLMClassifier(labels=card.labels, prompt=card.prompt_template).fit(texts)
    model, tokenizer, _ = load("smollm2", "cpu", None)
    slow = LLMClassifier(ReferenceBackend(model, tokenizer), labels=card.labels, prompt=card.prompt_template).fit(texts)
    np.testing.assert_allclose(clf.score_labels(texts), slow.score_labels(texts), atol=1e-3)
