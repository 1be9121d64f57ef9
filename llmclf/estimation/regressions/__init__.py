"""Regressions with a label that a model gave to all rows and people to some.

From `design` (covariates and label, by matrix or formula) over `estimating_equations`, `sandwich` and `fit` to `result`;
`regression` is what users call. The package may import what ``estimation`` may, and of that `LabelledSample` and
`Recalibration`. Another kind of regression adds its mean function to `estimating_equations`.
"""

from .regression import checked_target, checked_tuning, estimate_regression, probabilities
from .result import Coefficients, RegressionResult

__all__ = [
    "Coefficients",
    "RegressionResult",
    "checked_target",
    "checked_tuning",
    "estimate_regression",
    "probabilities",
]
