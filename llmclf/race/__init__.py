"""The race: what labelled rows buy, contestant by contestant, and whether a language model is worth its price.

May import ``fitting``, ``pipeline``, ``report``, ``display``, ``calibration``, ``metrics`` and what lies below them. The report's
page shows a race, so it knows its form as JSON values, and not this package. Another contestant is a line of `contestants`.
"""

from .race import Race

__all__ = ["Race"]
