"""Estimation: from labels of a model and of people to shares, means and regressions with intervals that hold.

A model labels all rows, people label a few of them, and both together say what is true of all. The package may import
``metrics``, ``numerics``, ``logits`` and what lies below them, and nothing that knows texts or models. Another estimate is a
module that takes a `LabelledSample`, which has checked everything that a caller gave; its name goes into ``__all__``.
"""

from .labelled_sample import LabelledSample
from .means import MeansResult, estimate_means
from .regressions import Coefficients, RegressionResult, estimate_regression
from .share_estimates import PartEstimate, ShareEstimates
from .shares import estimate_shares

__all__ = [
    "Coefficients",
    "LabelledSample",
    "MeansResult",
    "PartEstimate",
    "RegressionResult",
    "ShareEstimates",
    "estimate_means",
    "estimate_regression",
    "estimate_shares",
]
