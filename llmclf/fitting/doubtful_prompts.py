"""Warnings of prompts that can be asked and probably say something else than was meant."""

from __future__ import annotations

from ..errors import PromptWarning, warn
from ..pipeline import FittedPipeline
from ..tables.rows import Row


def warn_of_doubtful_prompt(pipeline: FittedPipeline, record: Row) -> None:
    """Warn, once for each thing, of what is the same for all rows: fields in foreign brackets, spaces that do not fit.

    Parameters
    ----------
    pipeline : FittedPipeline
    record : dict
        Any row.

    Warns
    -----
    PromptWarning
    """
    scorer = pipeline.scorer
    for mistake in (*scorer.renderer.likely_mistakes(), *scorer.doubtful_spaces(record)):
        warn(mistake, PromptWarning)
