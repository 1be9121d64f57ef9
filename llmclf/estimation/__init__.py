"""Estimation: from labels of a model and of people to shares, means and regressions with intervals that hold.

A model labels all rows, people label a few of them, and both together say what is true of all. The package may import
``calibration``, ``metrics``, ``tables``, ``numerics``, ``logits`` and what lies below them, and nothing that knows texts or
models. Another estimate is a module that takes a `LabelledSample`, which has checked everything that a caller gave; its name goes
into ``__all__``.
"""

from .annotation_files import Annotations, label_studio_config, read_annotations, write_annotation_file
from .annotators import AnnotatorAgreement, CombinedLabels, Statistic, annotator_agreement, combine_labels
from .labelled_sample import LabelledSample
from .mean_estimates import MeanEstimate, MeansResult, PartMeans
from .means import estimate_means
from .next_rows import NextRows, next_rows
from .planning import LabelPlan, PlannedSize, plan_labels
from .regressions import Coefficients, RegressionResult, estimate_regression
from .share_estimates import PartEstimate, ShareEstimates
from .shares import estimate_shares

__all__ = [
    "Annotations",
    "AnnotatorAgreement",
    "Coefficients",
    "CombinedLabels",
    "LabelPlan",
    "LabelledSample",
    "MeanEstimate",
    "MeansResult",
    "NextRows",
    "PartEstimate",
    "PartMeans",
    "PlannedSize",
    "RegressionResult",
    "ShareEstimates",
    "Statistic",
    "annotator_agreement",
    "combine_labels",
    "estimate_means",
    "estimate_regression",
    "estimate_shares",
    "label_studio_config",
    "next_rows",
    "plan_labels",
    "read_annotations",
    "write_annotation_file",
]
