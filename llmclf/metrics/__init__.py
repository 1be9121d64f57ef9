"""How good are the probabilities: proper scores, accuracy, and binned calibration errors.

Every function takes the true classes `y` and the probabilities `proba`, checks both in one place, and works in float64.
Where several columns share the largest probability, the first of them is the predicted class.
"""

from .binned import ReliabilityCurve, binned_calibration, expected_calibration_error, reliability_curve
from .checks import TOLERANCE, checked_predictions, label_columns, row_weights
from .scores import accuracy, brier_score, log_loss

__all__ = [
    "TOLERANCE",
    "ReliabilityCurve",
    "accuracy",
    "binned_calibration",
    "brier_score",
    "checked_predictions",
    "expected_calibration_error",
    "label_columns",
    "log_loss",
    "reliability_curve",
    "row_weights",
]
