"""Members of a pool judged on rows that they have not seen."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from llmclf.calibration import StackedCalibrator


@pytest.mark.slow
def test_a_fitted_pool_can_be_sent_away():
    """As joblib and processes do; the copy says the same of new rows and of its own, cross-fitted anew."""
    draw = np.random.default_rng(0)
    y = draw.integers(0, 2, 60)
    scores, features = draw.normal(size=(60, 2)) + np.eye(2)[y], {"a": draw.normal(size=(60, 3)) + y[:, None]}
    stacked = StackedCalibrator().fit(scores, y, features=features)
    again = pickle.loads(pickle.dumps(stacked))
    assert np.array_equal(again.predict_proba(scores, features), stacked.predict_proba(scores, features))
    assert np.array_equal(again.cross_fitted(), stacked.cross_fitted())
    assert again.to_frame().equals(stacked.to_frame())
