"""What becomes of a classifier in use: the log of its decisions, and the tests that say when its certificate no longer holds.

May import whatever lies below ``loading``, but no classifier: it reads decisions, and asks no model. Another statistic of rows
without labels goes into ``statistics``, another question about audited rows into ``audited``; a number for Prometheus is a line
of ``WatchReport.gauges``.
"""

from .decision_log import DecisionLog
from .decisions import DecisionColumns, DecisionRecord

__all__ = ["DecisionColumns", "DecisionLog", "DecisionRecord"]
