"""Calibration: maps from label scores to probabilities that can be trusted.

All calibrators are used in the same way: ``fit(scores, y)`` on the (n, K) log-scores that a language model gave to the K
classes, then ``predict_proba(scores)``. They are scikit-learn classifiers whose features are those scores, and they can be
saved as JSON. The package may import ``metrics``, ``numerics``, ``logits`` and what lies below them, and nothing that knows
texts or models. Another calibrator is a subclass of ``base.BaseCalibrator``; its name goes into ``registry``.
"""

from .affine import MatrixCalibrator, VectorCalibrator
from .auto import AutoCalibrator
from .bias import BiasCorrector, make_bias
from .conformal import ConformalClassifier
from .corrections import Corrections
from .one_vs_rest import BetaCalibrator, IsotonicCalibrator, PlattCalibrator
from .pool.pooled import PooledCalibrator
from .registry import calibrator_from_dict, make_calibrator, pool_of
from .selective import RiskCoverageCurve, SelectedThreshold, risk_coverage_curve, select_threshold
from .stacked import StackedCalibrator
from .temperature import BiasTemperatureCalibrator, IdentityCalibrator, PriorCalibrator, TemperatureCalibrator
from .venn_abers import VennAbersCalibrator

__all__ = [
    "AutoCalibrator",
    "BetaCalibrator",
    "BiasCorrector",
    "BiasTemperatureCalibrator",
    "ConformalClassifier",
    "Corrections",
    "IdentityCalibrator",
    "IsotonicCalibrator",
    "MatrixCalibrator",
    "PlattCalibrator",
    "PooledCalibrator",
    "PriorCalibrator",
    "RiskCoverageCurve",
    "SelectedThreshold",
    "StackedCalibrator",
    "TemperatureCalibrator",
    "VectorCalibrator",
    "VennAbersCalibrator",
    "calibrator_from_dict",
    "make_bias",
    "make_calibrator",
    "pool_of",
    "risk_coverage_curve",
    "select_threshold",
]
