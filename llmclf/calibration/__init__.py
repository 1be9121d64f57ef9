"""Calibration: maps from label scores to probabilities that can be trusted."""

from .calibrators import BiasTemperatureCalibrator, TemperatureCalibrator, calibrator_from_dict, make_calibrator

__all__ = ["BiasTemperatureCalibrator", "TemperatureCalibrator", "calibrator_from_dict", "make_calibrator"]
