"""How good the probabilities are: proper scores, calibration errors, tests of calibration, and confidence intervals.

Every function takes the true classes `y` and the probabilities `proba`, checks both in the same way, and computes in
float64. If several columns share the largest probability, the first of them is the predicted class. The package may import
``numerics``, ``logits`` and what lies below them. Another metric goes into the module of its kind, checks its input with
``checks``, and adds its name to ``__all__``.
"""

from .binned import (
    classwise_calibration_error,
    debiased_calibration_error,
    expected_calibration_error,
    maximum_calibration_error,
    sweep_calibration_error,
    top_label_calibration_error,
)
from .bins import ReliabilityCurve, binned_calibration, reliability_curve
from .checks import (
    TOLERANCE,
    checked_event,
    checked_predictions,
    checked_probability_rows,
    inclusion_weights,
    label_columns,
    row_weights,
)
from .corp import CorpDecomposition, corp_decomposition, recalibrated
from .intervals import CalibrationInterval, calibration_interval
from .means import (
    MeanInterval,
    check_confidence_level,
    check_n_resamples,
    exact_bounds,
    mean_interval,
    proportion_interval,
)
from .paired import PairedDifference, paired_difference
from .ranking import Aurc, aurc
from .refinement import refinement_error
from .scorers import neg_ece, neg_refinement
from .scores import accuracy, brier_score, log_loss, skill_score
from .significance import CalibrationTest, calibration_test, spiegelhalter_test
from .slope import CalibrationSlope, calibration_slope
from .smooth import smooth_calibration_error, smooth_curve

__all__ = [
    "TOLERANCE",
    "Aurc",
    "CalibrationInterval",
    "CalibrationSlope",
    "CalibrationTest",
    "CorpDecomposition",
    "MeanInterval",
    "PairedDifference",
    "ReliabilityCurve",
    "accuracy",
    "aurc",
    "binned_calibration",
    "brier_score",
    "calibration_interval",
    "calibration_slope",
    "calibration_test",
    "check_confidence_level",
    "check_n_resamples",
    "checked_event",
    "checked_predictions",
    "checked_probability_rows",
    "classwise_calibration_error",
    "corp_decomposition",
    "debiased_calibration_error",
    "exact_bounds",
    "expected_calibration_error",
    "inclusion_weights",
    "label_columns",
    "log_loss",
    "maximum_calibration_error",
    "mean_interval",
    "neg_ece",
    "neg_refinement",
    "paired_difference",
    "proportion_interval",
    "recalibrated",
    "refinement_error",
    "reliability_curve",
    "row_weights",
    "skill_score",
    "smooth_calibration_error",
    "smooth_curve",
    "spiegelhalter_test",
    "sweep_calibration_error",
    "top_label_calibration_error",
]
