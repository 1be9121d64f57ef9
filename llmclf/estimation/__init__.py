"""From labels to findings: estimates about all rows from probabilities of all and labels of some, with intervals that hold.

May import ``calibration``, ``metrics``, ``numerics``, ``tables`` and what lies below them, but nothing that knows texts or
models. Another estimate is one more module, which takes its rows checked from ``labelled_sample`` and adds its name to
``__all__``.
"""

from .agreement import AnnotatorAgreement, Statistic, annotator_agreement
from .judgements import CombinedLabels, combine_labels

__all__ = ["AnnotatorAgreement", "CombinedLabels", "Statistic", "annotator_agreement", "combine_labels"]
