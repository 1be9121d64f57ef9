"""The calibration report: one file that says whether probabilities can be trusted, and where to set the threshold.

May import ``display``, ``pages``, ``calibration``, ``metrics`` and what lies below them, but no model and no estimator.
Another section is one more module that computes it, a part of the template, and its lines in ``markdown`` and in the schema.
"""

from .comparison import Comparison, compare
from .report import CalibrationReport

__all__ = ["CalibrationReport", "Comparison", "compare"]
