"""What becomes of a classifier in use: the log of its decisions, and the tests that say when its certificate no longer holds.

May import whatever lies below ``loading``, but no estimator: it reads decisions, and asks no model. Another statistic of rows
without labels goes into ``statistics``, another question about audited rows into ``audited``, and what follows from an alarm into
``advice``; numbers for Prometheus are made by ``WatchReport.gauges``.
"""

from .audited import AuditedLabels
from .baseline import Baseline
from .decision_log import DecisionLog
from .decisions import DecisionColumns, DecisionRecord
from .watch_report import WatchReport
from .watching import Watch, watch

__all__ = [
    "AuditedLabels",
    "Baseline",
    "DecisionColumns",
    "DecisionLog",
    "DecisionRecord",
    "Watch",
    "WatchReport",
    "watch",
]
