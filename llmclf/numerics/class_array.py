"""Classes, which may be any objects of the caller, as an array."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray


def class_array(classes: Iterable[Any]) -> NDArray[Any]:
    """Classes as a 1-D array: typed if numpy gives back equal objects of the same types, otherwise an array of objects.

    Examples
    --------
    >>> class_array(["a", "b"]).dtype.kind, class_array([1, "b"]).dtype.kind
    ('U', 'O')
    """
    values = classes.tolist() if isinstance(classes, np.ndarray) else list(classes)
    objects = np.empty(len(values), dtype=object)
    objects[:] = values
    scalars = [value.item() if isinstance(value, np.generic) else value for value in values]
    if not all(type(value) in (str, bool, int, float) for value in scalars):
        return objects
    typed: NDArray[Any] = np.asarray(scalars)
    is_lossless = [(type(value), value) for value in typed.tolist()] == [(type(value), value) for value in scalars]
    return typed if is_lossless else objects
