"""Why this label: the next token's distribution, the labels token by token, and the path from scores to probability."""

from .explanation import Explanation, explain, explain_prompt

__all__ = ["Explanation", "explain", "explain_prompt"]
