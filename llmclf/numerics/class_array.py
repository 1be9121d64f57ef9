"""Classes are the caller's own objects; this is how they stand in an array."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray


def class_array(classes: Iterable[Any]) -> NDArray[Any]:
    """Classes as a 1-D array: typed where numpy gives the same objects back, else an array of objects.

    Examples
    --------
    >>> class_array(["a", "b"]).dtype.kind, class_array([1, "b"]).dtype.kind
    ('U', 'O')
    """
    values = classes.tolist() if isinstance(classes, np.ndarray) else list(classes)
    as_given = np.empty(len(values), dtype=object)
    as_given[:] = values
    plain = [value.item() if isinstance(value, np.generic) else value for value in values]
    if not all(type(value) in (str, bool, int, float) for value in plain):
        return as_given
    compact: NDArray[Any] = np.asarray(plain)
    faithful = [(type(value), value) for value in compact.tolist()] == [(type(value), value) for value in plain]
    return compact if faithful else as_given
