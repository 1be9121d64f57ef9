"""Calibration: maps from label scores to probabilities that can be trusted."""

from .affine import MatrixCalibrator, VectorCalibrator
from .calibrators import BiasTemperatureCalibrator, TemperatureCalibrator, calibrator_from_dict, make_calibrator

__all__ = [
    "BiasTemperatureCalibrator",
    "MatrixCalibrator",
    "TemperatureCalibrator",
    "VectorCalibrator",
    "calibrator_from_dict",
    "make_calibrator",
]
