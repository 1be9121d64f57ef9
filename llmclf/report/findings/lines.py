"""Values with their intervals, from the lines of a result's data frame."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..measures import entry


def ends(line: Mapping[str, Any], name: str) -> dict[str, Any]:
    """A value with its interval; the ends of the estimate itself have no name before theirs."""
    prefix = "" if name in ("share", "estimate") else f"{name}_"
    return entry(float(line[name]), float(line[f"{prefix}low"]), float(line[f"{prefix}high"]))


def finite(value: Any) -> float | None:
    """A number for JSON: None for NaN and infinity."""
    return float(value) if np.isfinite(value) else None
