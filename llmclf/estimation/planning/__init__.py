"""How many labels a wish needs: an interval of a share, a threshold with a guarantee, an interval of a calibration error.

May import the other modules of ``estimation``, ``calibration``, ``metrics`` and what lies below them. Another wish is one more
class in ``goals``, which says what a number of labels would give in a world that is like the pilot.
"""

from .plan import LabelPlan, PlannedSize, plan_labels

__all__ = ["LabelPlan", "PlannedSize", "plan_labels"]
