"""Calibration: maps from label scores to probabilities that can be trusted."""

from .affine import MatrixCalibrator, VectorCalibrator
from .bias import BiasCorrector
from .calibrators import BiasTemperatureCalibrator, TemperatureCalibrator, calibrator_from_dict, make_calibrator
from .one_vs_rest import BetaCalibrator, IsotonicCalibrator, PlattCalibrator

__all__ = [
    "BetaCalibrator",
    "BiasCorrector",
    "BiasTemperatureCalibrator",
    "IsotonicCalibrator",
    "MatrixCalibrator",
    "PlattCalibrator",
    "TemperatureCalibrator",
    "VectorCalibrator",
    "calibrator_from_dict",
    "make_calibrator",
]
