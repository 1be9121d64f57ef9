"""The calibration report: one file that says whether probabilities can be trusted, and where to set the threshold."""

from .comparison import Comparison, compare
from .report import CalibrationReport

__all__ = ["CalibrationReport", "Comparison", "compare"]
