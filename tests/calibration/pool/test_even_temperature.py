"""A bias that makes classes equally probable, and a temperature."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmclf.calibration import AutoCalibrator, TemperatureCalibrator
from llmclf.calibration.pool.even_temperature import EvenTemperature
from llmclf.logits import log_softmax, softmax


def drawn(seed, n, k):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, k, n)
    return log_softmax(rng.normal(size=(n, k)) + 1.5 * np.eye(k)[y] + 3 * rng.normal(size=k)), y


@given(st.integers(0, 10**6), st.integers(20, 60), st.integers(2, 6))
@settings(max_examples=40, deadline=None)
def test_classes_are_even(seed, n, k):
    """With the bias each class has the same share of all rows, whatever the labels; another preference changes no answer."""
    scores, y = drawn(seed, n, k)
    fitted = EvenTemperature().fit(scores, y, classes=range(k))
    assert softmax(scores + fitted.bias_).mean(axis=0) == pytest.approx(np.full(k, 1 / k), abs=1e-9)
    moved = log_softmax(scores + np.linspace(0, 5, k))
    again = EvenTemperature().fit(moved, y, classes=range(k))
    assert again.predict_proba(moved) == pytest.approx(fitted.predict_proba(scores), abs=1e-6)
    assert fitted.predict_proba(scores).sum(axis=1) == pytest.approx(np.ones(n))


def test_it_is_read_back():
    """The description has everything that predictions depend on."""
    scores, y = drawn(0, 40, 3)
    fitted = EvenTemperature().fit(scores, y)
    again = EvenTemperature.from_dict(fitted.to_dict())
    assert (again.predict_proba(scores) == fitted.predict_proba(scores)).all()


def test_many_classes_and_few_labels():
    """Where labels cannot tell the model's preference for 30 classes from 30 rows, the scores themselves can: so can a pool."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 30, 1030)
    scores = log_softmax(3 * rng.normal(size=(1030, 30)) + 9 * np.eye(30)[y] + 8 * rng.normal(size=30))
    test = np.arange(30, 1030)

    def loss(calibrator):
        fitted = calibrator.fit(scores[:30], y[:30], classes=range(30))
        return -fitted.predict_log_proba(scores[test])[np.arange(1000), y[test]].mean()

    assert loss(AutoCalibrator()) < loss(TemperatureCalibrator()) - 0.5
