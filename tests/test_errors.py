"""Warnings point at the line of the user's own code."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.model_selection import cross_val_score

from llmclf import LLMClassifier
from llmclf.backends import FakeBackend
from llmclf.calibration import BiasCorrector, TemperatureCalibrator
from llmclf.errors import CalibrationWarning, LabelWordWarning

X = [f"text {i}" for i in range(12)]
Y = ["a", "b"] * 6
UNSEEN = np.array([[-1.0, -np.inf], [-2.0, -1.0]])


def classifier(**params) -> LLMClassifier:
    return LLMClassifier(FakeBackend(), labels=["a", "b"], calibrator="temperature", **params)


def fitted() -> LLMClassifier:
    with pytest.warns(CalibrationWarning):
        return classifier().fit(X, Y)


def changed() -> LLMClassifier:
    return fitted().set_params(scoring="mean")


@pytest.mark.filterwarnings("always")
@pytest.mark.parametrize(
    ("make", "act"),
    [
        (classifier, lambda clf: clf.fit(X, Y)),
        (
            lambda: LLMClassifier(FakeBackend(), labels={"a": "a text that says what is meant", "b": "no"}),
            lambda clf: clf.fit(X),
        ),
        (changed, lambda clf: clf.predict(X)),
        (changed, lambda clf: clf.predict_proba(X)),
        (changed, lambda clf: clf.score(X, Y)),
        (changed, lambda clf: clf.report(X, Y)),
        (fitted, lambda clf: clf.report(X, Y)),
        (classifier, lambda clf: cross_val_score(clf, X, Y, cv=2)),
        (TemperatureCalibrator, lambda calibrator: calibrator.fit([[0.0, 1.0], [2.0, 0.0]], ["b", "a"])),
        (BiasCorrector, lambda corrector: corrector.fit(UNSEEN)),
        (BiasCorrector, lambda corrector: corrector.fit_transform(UNSEEN)),
    ],
)
def test_a_warning_points_at_the_users_line(make, act):
    """However many calls of llmclf and of scikit-learn lie between."""
    subject = make()
    with pytest.warns((CalibrationWarning, LabelWordWarning)) as caught:
        act(subject)
    ours = [own for own in caught if issubclass(own.category, (CalibrationWarning, LabelWordWarning))]
    assert {own.filename for own in ours} == {__file__}
    assert {own.lineno for own in ours} == {act.__code__.co_firstlineno}
