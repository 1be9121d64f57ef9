"""Diagrams in scikit-learn's Display idiom: `from_estimator`, `from_predictions`, `plot`, `frame`.

Matplotlib and pandas are imported where they are used, and no global setting of matplotlib is changed.
"""

from .reliability import ReliabilityDisplay
from .risk_coverage import RiskCoverageDisplay
from .summary import ReliabilitySummary

__all__ = ["ReliabilityDisplay", "ReliabilitySummary", "RiskCoverageDisplay"]
