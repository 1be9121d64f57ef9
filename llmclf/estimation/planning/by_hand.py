"""How many labels a share needs where nothing is known of a classifier: the labels alone, of rows drawn at random."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.stats import binom

from ...arrays import Floats
from ...errors import InputError
from ...metrics import exact_bounds
from .search import sizes_between


class ByHand(NamedTuple):
    """A number of labels, what it is for, and what numbers around it give, as `LabelPlan` has it."""

    goal: str
    n_labels: int
    sizes: tuple[tuple[int, float, float, float, float], ...]
