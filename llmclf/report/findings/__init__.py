"""What the labels say of all rows: shares of classes, and regressions.

May import ``estimation`` and what a report may import. Another finding is one more module, which reads a result into JSON types;
its part of the page goes into ``templates/findings.html.j2``, and its lines into ``markdown`` and the schema.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .regressions import REGRESSIONS_HEADING, read_regressions
from .shares import SHARES_HEADING, read_shares, shares_alt, weighing_text

__all__ = [
    "REGRESSIONS_HEADING",
    "SHARES_HEADING",
    "findings_section",
    "read_regressions",
    "read_shares",
    "shares_alt",
    "weighing_text",
]


def findings_section(data: Mapping[str, Any]) -> dict[str, Any] | None:
    """What the page shows of both; None where there is neither."""
    if data["shares"] is None and data["regressions"] is None:
        return None
    return {
        "shares_heading": SHARES_HEADING,
        "regressions_heading": REGRESSIONS_HEADING,
        "shares": data["shares"],
        "weighing": weighing_text(data),
        "regressions": data["regressions"] or [],
    }
