"""Which rows a fitted classifier can be judged on honestly: those whose labels its calibrator has not seen."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import CalibrationWarning

Floats = NDArray[np.float64]


def fingerprints(records: Iterable[Mapping[str, Any]], fields: Sequence[str]) -> list[str]:
    """One short hash per row of what the prompt shows of it; the row itself cannot be read from it.

    Examples
    --------
    >>> a, b, c = fingerprints([{"text": "x", "id": 1}, {"text": "x", "id": 2}, {"text": "y", "id": 1}], ["text"])
    >>> a == b, a == c
    (True, False)
    """
    return [
        hashlib.blake2b(
            json.dumps({name: record[name] for name in sorted(fields)}, sort_keys=True, default=repr).encode(),
            digest_size=8,
        ).hexdigest()
        for record in records
    ]


def replace_seen(
    proba: Floats, own: Sequence[str], seen: Sequence[str], cross_fitted: Floats | None, n_shots: int
) -> tuple[Floats, dict[str, int]]:
    """Probabilities of rows to be judged, those that the calibrator saw exchanged for cross-fitted ones where there are any.

    Parameters
    ----------
    proba : ndarray (n, K)
    own : n fingerprints of these rows
    seen : m fingerprints of the rows that the calibrator was fitted on
    cross_fitted : ndarray (m, K) or None
    n_shots : int
        How many of the rows stand in the prompt as examples.

    Returns
    -------
    proba : ndarray (n, K)
    counts : dict
        ``held_out``, ``cross_fitted``, ``seen_by_calibrator`` and ``shots``: numbers of rows.

    Warns
    -----
    CalibrationWarning
        Some rows were seen.
    """
    place = {fingerprint: i for i, fingerprint in enumerate(seen)}
    found = np.array([place.get(fingerprint, -1) for fingerprint in own], dtype=np.int64)
    known = found >= 0
    n_seen, n_rows = int(known.sum()), len(own)
    if n_seen and cross_fitted is not None:
        proba = proba.copy()
        proba[known] = cross_fitted[found[known]]
        warnings.warn(
            f"the calibrator was fitted on {n_seen} of these {n_rows} rows; they are judged by calibrators that did not see them "
            "(calibration_proba_). Rows that no calibrator saw judge the one that you use",
            CalibrationWarning,
            stacklevel=3,
        )
    elif n_seen:
        warnings.warn(
            f"the calibrator was fitted on {n_seen} of these {n_rows} rows, so the report is better than the truth; give rows "
            "that it has not seen",
            CalibrationWarning,
            stacklevel=3,
        )
    if n_shots:
        warnings.warn(
            f"{n_shots} of these {n_rows} rows stand in the prompt as examples, with their answers; give other rows",
            CalibrationWarning,
            stacklevel=3,
        )
    replaced = n_seen if cross_fitted is not None else 0
    counts = {
        "held_out": n_rows - n_seen - n_shots,
        "cross_fitted": replaced,
        "seen_by_calibrator": n_seen - replaced,
        "shots": n_shots,
    }
    return proba, counts
