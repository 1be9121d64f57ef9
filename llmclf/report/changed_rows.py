"""The rows that two runs predict differently."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..arrays import Floats
from .evidence import Evidence

_MAX_ROWS = 50
_MAX_TEXT_LENGTH = 2000


def changed_rows(a: Evidence, proba: Floats) -> dict[str, Any]:
    """The rows whose prediction is another in the second run.

    Parameters
    ----------
    a : Evidence
        The first run.
    proba : (n, K)
        The second run's probabilities of the same rows, with the first one's columns.

    Returns
    -------
    dict
        ``n``; how many became right (``n_mended``) and wrong (``n_broken``); and at most 50 ``rows``: those that became wrong
        come first, then those that became right, each the surest of its new class first.
    """
    predicted, confidence = proba.argmax(axis=1), proba.max(axis=1)
    right = predicted == a.columns
    changed = np.flatnonzero(predicted != a.predicted)
    broken, mended = a.right & ~right, ~a.right & right
    kind = np.where(broken, 0, np.where(mended, 1, 2))
    order = changed[np.lexsort((-confidence[changed], kind[changed]))][:_MAX_ROWS]
    rows: list[dict[str, Any]] = []
    for i in order:
        text = {} if a.texts is None else {"text": _short(a.texts[i])}
        rows.append(
            {
                "row": int(a.rows[i]),
                **text,
                "true": a.names[a.columns[i]],
                "a": a.names[a.predicted[i]],
                "b": a.names[predicted[i]],
                "confidence_a": float(a.confidence[i]),
                "confidence_b": float(confidence[i]),
            }
        )
    return {"n": int(changed.size), "n_mended": int(mended.sum()), "n_broken": int(broken.sum()), "rows": rows}


def _short(text: str) -> str:
    return text if len(text) <= _MAX_TEXT_LENGTH else f"{text[:_MAX_TEXT_LENGTH]} …"
