"""What is made of a checkpoint: a causal language model, or a body whose hidden states are read; and what is checked of each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from .checkpoint import check_body, check_body_kind, check_body_loaded, check_causal, check_kind, check_loaded
from .model_folder import check_architecture, check_known


@dataclass(frozen=True)
class ModelKind:
    """One of them.

    Attributes
    ----------
    auto_class : str
        The class of transformers that makes it.
    check_config : callable ``f(config, source)``
        Refuses a configuration of another kind, before anything is loaded.
    check_weights : callable ``f(model, info, source)``
        Refuses weights that are not all that the model needs.
    check_model : callable ``f(model, tokenizer, source)``
        Refuses a model that does not do what it should.
    """

    auto_class: str
    check_config: Callable[[Mapping[str, Any], str], None]
    check_weights: Callable[[Any, Mapping[str, Any], str], None]
    check_model: Callable[[Any, Any, str], None]


def _check_causal_config(config: Mapping[str, Any], source: str) -> None:
    check_architecture(config, source)
    check_kind(config.get("architectures"), bool(config.get("is_encoder_decoder")), source)


def _check_body_config(config: Mapping[str, Any], source: str) -> None:
    check_known(config, source)
    check_body_kind(bool(config.get("is_encoder_decoder")), source)


CAUSAL = ModelKind("AutoModelForCausalLM", _check_causal_config, check_loaded, check_causal)
"""A model that writes text, and whose scores are read."""

BODY = ModelKind("AutoModel", _check_body_config, check_body_loaded, check_body)
"""A model without its head, decoder or encoder, whose hidden states are read."""
