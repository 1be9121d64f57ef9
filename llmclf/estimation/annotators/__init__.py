"""Several annotators: what their judgements agree on, how far, and what that leaves for a classifier to reach.

May import ``metrics``, ``tables``, ``numerics`` and what lies below them. Another statistic of agreement goes into
``coincidences``, which computes it for any weights of the rows, so that it has an interval like the others.
"""

from .agreement import AnnotatorAgreement, Statistic, annotator_agreement
from .judgements import CombinedLabels, combine_labels

__all__ = ["AnnotatorAgreement", "CombinedLabels", "Statistic", "annotator_agreement", "combine_labels"]
