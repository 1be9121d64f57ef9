"""Internal: models that make a vector of a text, behind ``/v1/embeddings`` or in this process.

May import ``backends.http``, ``backends.local``, ``backends.tokens`` and the modules directly in ``backends``. Users meet
these as `llmclf.Embeddings`. Another place where vectors come from is a handle with the methods of
`llmclf.backends.base.Embedder`, and its scheme in `open_embedder`.
"""

from __future__ import annotations

from typing import Any

from ...errors import ModelNameError, type_of
from ..base import Embedder
from ..handle import check_option_names
from ..local.weights import check_name
from ..model_hints import model_hint
from .local import LocalEmbedder
from .server import ServerEmbedder

__all__ = ["LocalEmbedder", "ServerEmbedder", "open_embedder"]


def open_embedder(model: str, **options: Any) -> Embedder:
    """A handle to the model of embeddings that a string names; nothing is loaded or connected to until it is needed.

    Parameters
    ----------
    model : str
        ``"openai:NAME"``, ``"hf:org/name[@revision]"``, ``"hf:folder"``, ``"gguf:path"`` or ``"smollm2"``.
    **options
        Those of `ServerEmbedder` or `LocalEmbedder`.

    Raises
    ------
    ModelNameError
        The string does not name such a model.
    UnknownOptionError
        The model does not have an option.

    Examples
    --------
    >>> open_embedder("openai:my-model", base_url="http://localhost:8000/v1", batch_size=8)
    ServerEmbedder('openai:my-model', base_url='http://localhost:8000/v1', batch_size=8)
    """
    if not isinstance(model, str):
        raise ModelNameError(f"model={model!r} is {type_of(model)}; expected a model string such as 'openai:NAME'")
    scheme = model.partition(":")[0]
    kind: type[ServerEmbedder | LocalEmbedder] = ServerEmbedder if scheme == "openai" else LocalEmbedder
    if kind is LocalEmbedder:
        if scheme not in ("hf", "gguf") and model != "smollm2":
            hint = model_hint(model)
            raise ModelNameError(
                f"model={model!r} does not name a model of embeddings; expected 'openai:NAME', 'hf:org/name[@revision]', "
                f"'hf:folder', 'gguf:path' or 'smollm2'{f'; {hint}' if hint else ''}"
            )
        check_name(model)
    check_option_names(kind, model, options)
    return kind(model, **options)
