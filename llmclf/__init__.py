"""llmclf: any language model as a scikit-learn classifier whose probabilities can be trusted.

The modules directly here are the estimator, the fitted pipeline, and what several packages share. Imports go down only, in
the order that ``pyproject.toml`` states, and this module imports nothing until a name is used. Another public name goes into
``__all__`` and ``_HOMES``; another module or package gets its layer in ``pyproject.toml``.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .backends import open_backend
    from .classifier import LLMClassifier
    from .errors import LlmclfError, LlmclfWarning
    from .features import Embeddings
    from .llm_scores import LLMScores
    from .loading import load, verify
    from .prompts.prompt import Prompt

__all__ = [
    "Embeddings",
    "LLMClassifier",
    "LLMScores",
    "LlmclfError",
    "LlmclfWarning",
    "Prompt",
    "load",
    "open_backend",
    "verify",
]
__version__ = "0.1.0"

_HOMES = {
    "Embeddings": "features",
    "LLMClassifier": "classifier",
    "LLMScores": "llm_scores",
    "LlmclfError": "errors",
    "LlmclfWarning": "errors",
    "Prompt": "prompts",
    "load": "loading",
    "open_backend": "backends",
    "verify": "loading",
}


def __getattr__(name: str) -> Any:
    # scikit-learn takes a second to import; the command line's help need not wait for it.
    if name not in _HOMES:
        raise AttributeError(f"module 'llmclf' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f".{_HOMES[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
