"""Whether what transformers loaded is the checkpoint, whole, and a causal language model.

transformers completes a checkpoint that lacks weights with random ones, leaves out weights that the architecture has no place
for, and opens encoders as if they wrote text. Each of these gives scores that look like any others.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from itertools import chain
from typing import Any

from ...errors import ModelError, RowError
from ..tokens.codec import TokenRow
from .model_folder import first_line

_SHOWN = 5  # names in a message
_TEXT = "The old cat sat on the mat near the door, and the dog ran to the park before it came home again."
_N_TOKENS = 16
_ROUNDING, _ROUNDING_OF_HALVES = 1e-4, 1e-2  # standard deviations of the logits by which rounding alone may move them
_FAMILIES = ("CausalLM", "ConditionalGeneration", "ImageTextToText")
"""Heads that write text, as the names of classes in a configuration end."""

_NOT_WEIGHTS = re.compile(
    r"(^|\.)("
    r"rotary_emb\.(original_)?inv_freq|inv_freq|position_ids|causal_mask"
    r"|(attn|attention|self_attn|self_attention)\.(masked_)?bias"
    r")$"
)
"""Tables that earlier versions of transformers saved, and that a model computes."""
_BRANCHES = re.compile(
    r"(^|\.)("
    r"\w*(vision|visual|image|video|audio|speech|multi_?modal|mm_)\w*|talker\w*|code2wav|token2wav|vocoder|\w*projector"
    r"|mtp\w*|nextn\w*|medusa\w*|eagle\w*"
    r"|v_head|value_head|score|classifier|multiple_choice_head|reward_head|regression_head|critic\w*"
    r")(\.|$)"
)
"""Parts beside the language model: what reads pictures and sound, what guesses several tokens at once, other heads."""


def check_loaded(model: Any, info: Mapping[str, Any], source: str) -> None:
    """Refuse a model that is not the whole checkpoint.

    Parameters
    ----------
    model : transformers model
    info : mapping
        What `from_pretrained(output_loading_info=True)` tells, after it has left out what the architecture ties.
    source : str
        How to name the checkpoint.

    Raises
    ------
    ModelError
        Weights are missing, have another shape, or have no place in the model; the message names them.
    """
    mismatched = sorted((str(name), tuple(found), tuple(wanted)) for name, found, wanted in info["mismatched_keys"])
    if mismatched:
        shapes = [f"{name} is {list(found)} and should be {list(wanted)}" for name, found, wanted in mismatched]
        raise ModelError(
            f"the weights in {source} do not fit its config.json: {_listed(shapes)}; take both from the same model, as "
            "save_pretrained writes them"
        )
    missing = {str(name) for name in info["missing_keys"]} | _unfilled(model)
    if missing:
        raise ModelError(
            f"{source} lacks weights that {type(model).__name__} needs: {_listed(sorted(missing))}; they would be random "
            f"numbers{_why_missing(model, missing)}. Download the whole model again, or give the one that has them"
        )
    surplus = sorted(name for name in map(str, info["unexpected_keys"]) if _matters(model, name))
    if surplus:
        raise ModelError(
            f"{source} holds weights for which {type(model).__name__} with its config.json has no place: {_listed(surplus)}; "
            "without them the model is another one. Take config.json and weights from the same model, as save_pretrained writes "
            "them"
        )
    errors = [str(message) for message in info.get("error_msgs", ())]
    if errors:
        raise ModelError(
            f"the weights in {source} could not be used: {_listed(errors)}; download the whole model again"
        )


def check_kind(architectures: Sequence[str] | None, is_encoder_decoder: bool, source: str) -> None:
    """Refuse a checkpoint that, by its configuration, is not a causal language model.

    Raises
    ------
    ModelError
    """
    if is_encoder_decoder:
        raise ModelError(f"{source} is an encoder and a decoder, and not a causal language model; {_CURE}")
    names = [str(name) for name in architectures or ()]
    if names and not any(map(_writes_text, names)):
        raise ModelError(f"{source} is a {' and '.join(names)}, and not a causal language model; {_CURE}")


_CURE = "llmclf reads how probable words are as the continuation of a prompt, which only models that write text can say: give one"


def check_causal(model: Any, tokenizer: Any, source: str) -> None:
    """Refuse a model in which a token's prediction depends on the tokens after it, whatever its configuration says.

    Raises
    ------
    ModelError
    """
    import torch

    ids = list(tokenizer(_TEXT, add_special_tokens=False)["input_ids"])
    if len(set(ids)) < 2:
        raise ModelError(
            f"the tokenizer of {source} makes {ids[:5]} of a sentence, so it does not know its words; it is not the model's, "
            "or its files are incomplete"
        )
    ids = (ids * (_N_TOKENS // len(ids) + 1))[:_N_TOKENS]
    n_kept = _N_TOKENS // 2
    distinct = list(dict.fromkeys(ids))
    after = {token: distinct[(i + 1) % len(distinct)] for i, token in enumerate(distinct)}
    changed = [*ids[:n_kept], *(after[token] for token in ids[n_kept:])]
    try:
        with torch.inference_mode():
            first, second = (
                model(input_ids=torch.tensor([tokens], device=model.device), use_cache=False).logits[0, :n_kept].float()
                for tokens in (ids, changed)
            )
    except Exception as error:  # any model's own code may run here
        raise ModelError(f"{source} does not run on a text alone ({first_line(error)}); {_CURE}") from error
    if first.dim() != 2 or len(first) != n_kept:
        raise ModelError(f"{source} gives no logits for each token of a text; {_CURE}")
    if not (torch.isfinite(first).all() and torch.isfinite(second).all()):
        return  # broken weights are an error of every row that meets them
    allowed = (_ROUNDING if model.dtype == torch.float32 else _ROUNDING_OF_HALVES) * float(first.std())
    if float((first - second).abs().max()) > allowed:
        raise ModelError(
            f"{source} is not a causal language model: what it predicts after a token changes with the tokens that follow, as in "
            f"encoders such as BERT; {_CURE}"
        )


_POOLER = re.compile(r"(^|\.)pooler\.")
"""A layer that some encoders have above the hidden states, and that nobody reads here."""


def check_body_kind(is_encoder_decoder: bool, source: str) -> None:
    """Refuse a checkpoint whose hidden states are not those of one text.

    Raises
    ------
    ModelError
    """
    if is_encoder_decoder:
        raise ModelError(
            f"{source} is an encoder and a decoder, whose states are of two texts; give an encoder or a causal language model, "
            "or serve it and use openai:NAME"
        )


def check_body_loaded(model: Any, info: Mapping[str, Any], source: str) -> None:
    """As `check_loaded`, of a model without its head: weights of the head have no place, and a pooler is not needed.

    Raises
    ------
    ModelError
    """
    missing = [name for name in map(str, info["missing_keys"]) if not _POOLER.search(name)]
    surplus = [name for name in map(str, info["unexpected_keys"]) if _is_inside(model, name)]
    check_loaded(model, {**info, "missing_keys": missing, "unexpected_keys": surplus}, source)


def check_body(model: Any, tokenizer: Any, source: str) -> None:
    """Refuse a model that gives no hidden states of a text alone.

    Raises
    ------
    ModelError
    """
    import torch

    ids = list(tokenizer(_TEXT)["input_ids"])
    try:
        with torch.inference_mode():
            output = model(input_ids=torch.tensor([ids], device=model.device))
        states = output.last_hidden_state
        is_body = states.dim() == 3 and states.shape[1] == len(ids)
    except Exception as error:  # any model's own code may run here
        raise ModelError(
            f"{source} does not give hidden states of a text alone ({first_line(error)}); {_OTHER_BODY}"
        ) from error
    if not is_body:
        raise ModelError(f"{source} does not give a hidden state for each token of a text; {_OTHER_BODY}")


_OTHER_BODY = "give an encoder or a causal language model, or serve it and use openai:NAME"


def _is_inside(model: Any, name: str) -> bool:
    """Whether a weight belongs to a part that the model has: to another layer of it, say, and not to a head above it."""
    prefix = f"{model.base_model_prefix}." if model.base_model_prefix else ""
    return _walk(model, name.removeprefix(prefix).split("."))[0] > 0


def check_vocabulary(model: Any, tokenizer: Any, source: str) -> None:
    """Refuse a tokenizer whose words the model has no embeddings for.

    Tokens that were added to the vocabulary later (a padding token, say) may lack one: they are refused where a text has them.

    Raises
    ------
    ModelError
    """
    n_embeddings = model.get_input_embeddings().num_embeddings
    added = set(tokenizer.added_tokens_decoder)
    beyond = {
        token: text for text, token in tokenizer.get_vocab().items() if token >= n_embeddings and token not in added
    }
    if beyond:
        texts = [repr(beyond[token]) for token in sorted(beyond)]
        raise ModelError(
            f"the tokenizer of {source} has {len(beyond)} words for which the model has no embedding (it has {n_embeddings}): "
            f"{_listed(texts)}; the two are not of one model: take both from the same folder"
        )


def check_embedded(model: Any, tokenizer: Any, rows: Sequence[TokenRow]) -> None:
    """Refuse rows with a token that was added to the vocabulary, and that the model has no embedding for.

    Raises
    ------
    RowError
    """
    n_embeddings = model.get_input_embeddings().num_embeddings
    if len(tokenizer) <= n_embeddings:
        return
    for row in rows:
        top = max(max(row.context), *(max(target) for target in row.targets))
        if top >= n_embeddings:
            raise RowError(
                f"a prompt holds the token {tokenizer.convert_ids_to_tokens(top)!r}, for which the model has no embedding (it "
                f"has {n_embeddings}); leave it out of the template, or give the tokenizer's own model"
            )


def _unfilled(model: Any) -> set[str]:
    """Weights that have a shape and no values."""
    return {name for name, value in chain(model.named_parameters(), model.named_buffers()) if value.is_meta}


def _why_missing(model: Any, missing: Collection[str]) -> str:
    output = model.get_output_embeddings()
    if output is None:
        return ""
    names = {
        name for name, parameter in model.named_parameters() if any(parameter is own for own in output.parameters())
    }
    if names & set(missing):
        return " (among them the output layer: a base model, an embedding model or a classifier, perhaps)"
    return ""


def _matters(model: Any, name: str) -> bool:
    """Whether the language model is another one without a weight that has no place in it."""
    if _NOT_WEIGHTS.search(name):
        return False
    base = getattr(model, model.base_model_prefix, None) if model.base_model_prefix else None
    depths = [_walk(root, name.split(".")) for root in (model, base) if root is not None]
    n_known, module = max(depths, key=lambda depth: depth[0])
    rest = name.split(".")[n_known:]
    if rest and rest[0].isdigit():
        # More layers than the configuration says, but for those that only guess tokens ahead.
        n_ahead = getattr(model.config.get_text_config(), "num_nextn_predict_layers", None) or 0
        return int(rest[0]) >= len(module) + n_ahead
    if getattr(model, "hf_quantizer", None) is not None:
        return False  # scales and zeros go under names of their own
    return not _BRANCHES.search(".".join(rest))


def _walk(root: Any, parts: Sequence[str]) -> tuple[int, Any]:
    """How many parts of a name lead to a module below `root`, and that module."""
    module = root
    for n, part in enumerate(parts):
        children = dict(module.named_children())
        if part not in children:
            return n, module
        module = children[part]
    return len(parts), module


def _writes_text(architecture: str) -> bool:
    head = re.search(r"For([A-Z]\w{0,100})$", architecture)
    if head is None:
        return not architecture.endswith(("RewardModel", "Classifier", "Encoder"))
    return head[1].startswith(_FAMILIES)


def _listed(values: Sequence[str]) -> str:
    more = len(values) - _SHOWN
    return ", ".join(values[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
