"""Why this label: the next token's distribution, the labels token by token, and the path from scores to probability.

May import ``classifier``, ``pages`` and what lies below them, but neither ``jobs`` nor ``cli``. Another thing to show is one
more module that `explain` calls; how the page and the terminal show it goes into ``page`` and ``terminal``.
"""

from .explanation import Explanation, explain, explain_prompt

__all__ = ["Explanation", "explain", "explain_prompt"]
