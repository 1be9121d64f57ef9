"""Internal: rows go in, class scores come out. The scorer asks a backend; the cache keeps what was answered.

May import ``backends``, ``labels``, ``prompts``, ``tables`` and what lies below them; it does not use calibrators. Another
way from token log-probabilities to a class score goes into ``class_scores``.
"""

from .class_scores import SCORINGS, ClassScores, ScoreTable, class_scores
from .score_cache import ScoreCache
from .scorer import Scorer

__all__ = ["SCORINGS", "ClassScores", "ScoreCache", "ScoreTable", "Scorer", "class_scores"]
