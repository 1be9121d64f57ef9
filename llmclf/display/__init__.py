"""Diagrams in scikit-learn's Display idiom: `from_estimator`, `from_predictions`, `plot`, `frame`.

Matplotlib and pandas are imported where they are used, and no global setting of matplotlib is changed. The package may
import ``calibration``, ``metrics`` and what lies below them, but no report or estimator. Another diagram is one more module
with a display class; what several of them draw goes into ``drawing``.
"""

from .reliability import ReliabilityDisplay
from .risk_coverage import RiskCoverageDisplay
from .summary import ReliabilitySummary

__all__ = ["ReliabilityDisplay", "ReliabilitySummary", "RiskCoverageDisplay"]
