"""A tiny random model of every causal architecture that the installed transformers has, and the route that each takes.

Sizes are small, and so are the lengths at which a configuration changes something (a window, a chunk, the length from which
positions are stretched): 50 tokens reach past all of them.
"""

from __future__ import annotations

import copy
import re
from typing import Any, NamedTuple

import numpy as np

VOCABULARY = 96
N_LAYERS = 4
WINDOW = 8
STRETCH = 40
"""Tokens from which positions are counted differently, in the variants that do so."""

LENGTHS = (5, 12, 50)
"""Tokens of the prompts that are scored, short beside long."""

BATCHES = (40, 5000)

_MOST_PARAMETERS = 7_000_000


def _all(value: Any, names: str) -> dict[str, Any]:
    return dict.fromkeys(names.split(), value)


# By the name of a value, whatever the architecture; only values that a configuration has are changed.
_SIZES: dict[str, Any] = {
    **_all(VOCABULARY, "vocab_size vocab_size_per_layer_input"),
    **_all(
        32,
        "hidden_size d_model n_embd dim embed_dim dim_model embedding_size word_embed_proj_dim emb_dim embedding_dim "
        "input_embedding_size output_embedding_size lru_width attention_hidden_size",
    ),
    **_all(
        48,
        "intermediate_size ffn_dim d_ff n_inner ffn_hidden_size d_inner dff dim_ff decoder_ffn_dim encoder_ffn_dim "
        "feed_forward_size intermediate_size_mlp dense_intermediate_size moe_intermediate_size expert_ffn_hidden_size "
        "shared_expert_intermediate_size shared_intermediate_size",
    ),
    **_all(
        N_LAYERS,
        "num_hidden_layers n_layer n_layers num_layers decoder_layers encoder_layers num_decoder_layers num_encoder_layers",
    ),
    **_all(
        4,
        "num_attention_heads n_head n_heads num_heads decoder_attention_heads encoder_attention_heads attention_heads "
        "num_decoder_attention_heads num_encoder_attention_heads num_experts num_local_experts n_routed_experts moe_num_experts",
    ),
    **_all(2, "num_key_value_heads n_head_kv num_kv_heads num_experts_per_tok moe_topk num_experts_per_token moe_k"),
    **_all(
        8,
        "head_dim dim_head attention_head_dim global_head_dim d_kv d_head kv_channels qk_rope_head_dim qk_nope_head_dim "
        "v_head_dim attention_head_size rotary_dim",
    ),
    **_all(16, "qk_head_dim q_lora_rank kv_lora_rank"),
    **_all(1, "n_group num_expert_group topk_group first_k_dense_replace"),
    **_all(256, "max_position_embeddings n_positions max_seq_len n_ctx model_max_length"),
    **_all(WINDOW, "sliding_window attention_chunk_size window_size attention_window_size index_topk floor_scale"),
    "original_max_position_embeddings": 16,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}

_MAMBA = {"mamba_n_heads": 4, "mamba_d_head": 16, "mamba_d_state": 8, "mamba_chunk_size": 16}
_ZAMBA = {
    "attention_hidden_size": 64,
    "attention_head_dim": 16,
    "num_key_value_heads": 4,
    "layers_block_type": ["linear_attention", "hybrid"] * 2,
}
_ROPES = {kind: {"rope_type": "default", "rope_theta": 1e4} for kind in ("full_attention", "sliding_attention")}

# What an architecture needs besides.
_MORE: dict[str, dict[str, Any]] = {
    **_all(
        {"num_key_value_heads": 4},
        "axk1 axk2 bailing_hybrid deepseek_v3 deepseek_v32 glm4_moe_lite glm_moe_dsa minicpm3 youtu kimi_linear longcat_flash",
    ),
    # Encoders that transformers also makes decoders of.
    **_all(
        {"is_decoder": True},
        "bert bert-generation big_bird camembert data2vec-text electra ernie megatron-bert rembert roberta "
        "roberta-prelayernorm roformer xlm-roberta xlm-roberta-xl",
    ),
    **_all({"num_key_value_heads": 2, "head_dim": 8}, "hunyuan_v1_dense hunyuan_v1_moe ministral nemotron"),
    **_all({"logit_scale": 1.0}, "cohere cohere2 cohere2_moe"),
    "bamba": _MAMBA,
    "granitemoehybrid": _MAMBA,
    "falcon_h1": {**_MAMBA, "mamba_d_ssm": 32, "mamba_d_head": 8},
    "cohere_compass_text": {"rope_parameters": _ROPES},
    "deepseek_v2": {"num_key_value_heads": 4, "num_experts_per_tok": 2},
    "dots1": {"n_shared_experts": 1, "n_routed_experts": 4, "num_experts_per_tok": 2, "norm_topk_prob": True},
    "gemma3n_text": {
        "num_kv_shared_layers": 0,
        "layer_types": ["sliding_attention", "full_attention"] * 2,
        "intermediate_size": 48,
        "activation_sparsity_pattern": None,
        "hidden_size_per_layer_input": 8,
        "laurel_rank": 8,
    },
    "gpt_neo": {"attention_types": [[["global", "local"], 2]]},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"] * 2},
    "mamba2": {"num_heads": 8, "head_dim": 8, "n_groups": 2, "state_size": 8},
    "reformer": {
        "is_decoder": True,
        "attn_layers": ["local", "lsh"] * 2,
        "axial_pos_shape": [16, 16],
        "axial_pos_embds_dim": [16, 16],
        "local_attn_chunk_length": 8,
        "lsh_attn_chunk_length": 8,
        "num_buckets": 8,
    },
    "roc_bert": {
        "is_decoder": True,
        "pronunciation_vocab_size": 9,
        "shape_vocab_size": 9,
        "pronunciation_embed_dim": 8,
        "shape_embed_dim": 8,
    },
    "xlm": {"causal": True},
    "xmod": {"is_decoder": True, "default_language": "en_XX"},
    "zamba": {**_ZAMBA, "mamba_dt_rank": 4},
    "zamba2": {**_ZAMBA, "mamba_d_state": 8, "n_mamba_heads": 4, "mamba_headdim": 16, "adapter_rank": 4},
    "zaya": {"num_experts_per_tok": 1, "router_hidden_size": 16},
}

_LONGROPE = {"rope_type": "longrope", "short_factor": [1.0] * 4, "long_factor": [4.0] * 4, "factor": 8.0}
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "phi3, longrope": (
        "phi3",
        {
            "original_max_position_embeddings": STRETCH,
            "rope_parameters": {**_LONGROPE, "rope_theta": 1e4, "original_max_position_embeddings": STRETCH},
        },
    ),
    **{
        f"llama, {values['rope_type']}": (
            "llama",
            {"rope_parameters": {"rope_theta": 1e4, "original_max_position_embeddings": STRETCH, **values}},
        )
        for values in (
            {"rope_type": "yarn", "factor": 4.0},
            {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0},
            _LONGROPE,
        )
    },
}
"""Positions that are stretched: name, architecture and what its configuration says besides."""


class NotBuiltError(Exception):
    """transformers has the architecture, and a tiny model of it was not made here."""


def architectures() -> list[str]:
    """The model types for which transformers has a causal language model."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    return list(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)


def tiny_model(name: str, **more: Any) -> Any:
    """A random float32 model of one architecture, whose answers are far from uniform.

    Raises
    ------
    NotBuiltError
        It cannot be made of a few numbers; the message says why.
    """
    import torch
    from transformers import CONFIG_MAPPING, AutoModelForCausalLM

    name, values = VARIANTS.get(name, (name, {}))
    torch.manual_seed(0)
    try:
        kind = CONFIG_MAPPING[name]
        config = kind(**{**_tiny_values(kind, _MORE.get(name, {})), **copy.deepcopy(values), **more})
        with torch.device("meta"):
            n_parameters = sum(p.numel() for p in AutoModelForCausalLM.from_config(config).parameters())
        if n_parameters > _MOST_PARAMETERS:
            raise NotBuiltError("the sizes of its parts are not known to this test")
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    except ImportError as error:
        package = re.search(r"the (\S+) library", str(error))
        raise NotBuiltError(f"needs the package {package[1] if package else error}") from error
    except NotBuiltError:
        raise
    except Exception as error:  # an architecture refuses sizes in whatever way it likes
        raise NotBuiltError("the sizes of its parts are not known to this test") from error
    with torch.no_grad():
        for parameter in model.parameters():
            # Matrices as they are drawn give almost uniform answers; larger ones make every error visible.
            if parameter.dim() > 1 and 0.005 < (scale := float(parameter.std())) < 0.06:
                parameter.mul_(0.25 / scale)
    return model


def _tiny_values(kind: Any, more: dict[str, Any]) -> dict[str, Any]:
    """What makes a configuration of a class tiny."""
    default = kind()
    values = default.to_dict()
    counts = (values.get(name) for name in ("num_hidden_layers", "n_layer", "n_layers", "num_layers"))
    n_layers = next((count for count in counts if isinstance(count, int)), None)
    chosen: dict[str, Any] = {}
    for name, value in values.items():
        if name in default.sub_configs:
            part = getattr(default, name)
            part_kind = default.sub_configs[name] if part is None else type(part)
            if name in ("text_config", "vision_config") or part is not None:
                try:
                    chosen[name] = _tiny_values(part_kind, _MORE.get(part_kind.model_type, {}))
                except Exception:
                    continue
        elif name in _SIZES and value is not None:
            chosen[name] = _SIZES[name]
        elif isinstance(value, list) and len(value) == n_layers and all(isinstance(one, str | int) for one in value):
            kinds = list(dict.fromkeys(value))  # one layer of each kind
            chosen[name] = [kinds[i % len(kinds)] for i in range(N_LAYERS)]
    return {**chosen, **more}


class Characters:
    """A tokenizer of as much as the check of routes needs."""

    def __call__(self, text: str, add_special_tokens: bool = False) -> dict[str, list[int]]:
        return {"input_ids": [3 + ord(character) % (VOCABULARY - 3) for character in text]}


def loaded(model: Any) -> Any:
    """A model as a local backend holds it."""
    from llmclf.backends.local.loaded_model import LoadedModel

    return LoadedModel(model, Characters(), "")


def rows(lengths: tuple[int, ...] = LENGTHS) -> list[Any]:
    """Rows with prompts of some lengths, and four completions that partly begin alike."""
    from llmclf.backends.tokens.codec import TokenRow

    random = np.random.default_rng(0)
    draw = lambda n: tuple(random.integers(3, VOCABULARY, n).tolist())  # noqa: E731
    head = draw(3)
    made = []
    for length in lengths:
        a, b, c, d = draw(3), draw(1), draw(2), draw(1)
        made.append(TokenRow((*head, *draw(length - 3)), (a, (*a[:2], *b), c, d)))
    return made


def plain(model: Any, row: Any) -> list[np.ndarray]:
    """Log-probabilities of a row's completions by plain calls of transformers, one pair at a time."""
    import torch

    from llmclf.logits import log_softmax

    answers = []
    for target in row.targets:
        with torch.inference_mode():
            logits = model(input_ids=torch.tensor([[*row.context, *target]]), use_cache=False).logits[0]
        logprobs = log_softmax(logits[len(row.context) - 1 : -1].double().numpy())
        answers.append(logprobs[np.arange(len(target)), list(target)])
    return answers


def farthest(answers: list[list[np.ndarray]], expected: list[list[np.ndarray]]) -> float:
    """The largest difference between two lists of answers; infinite where one is not a number."""
    differences = [
        np.abs(a - b).max()
        for one, other in zip(answers, expected, strict=True)
        for a, b in zip(one, other, strict=True)
    ]
    return float(np.nan_to_num(np.array(differences), nan=np.inf).max())


class Finding(NamedTuple):
    """What became of one architecture: the route of each length, or why there is none; and the largest error seen."""

    routes: tuple[str, ...]
    why_not: str = ""
    reads_on: bool = False
    error: float = 0.0


def finding(name: str) -> Finding:
    """Score rows of mixed lengths in batches of several sizes by a model's own routes, and compare them with plain calls."""
    from llmclf.errors import ModelError

    try:
        model = tiny_model(name)
    except NotBuiltError as error:
        return Finding((), f"not tried: {error}")
    try:
        engine = loaded(model)
    except ModelError as error:
        return Finding((), f"refused: {str(error).split(',')[0].split(' (')[0]}")
    asked = rows()
    expected = [plain(model, row) for row in asked]
    error = 0.0
    for batch_tokens in BATCHES:
        try:
            answers = dict(engine.score(asked, batch_tokens))
        except ModelError as reason:
            return Finding((), f"refused: {str(reason).split(',')[0].split(' (')[0]}")
        error = max(error, farthest([answers[i] for i in range(len(asked))], expected))
    return Finding(tuple(map(engine.route_of, asked)), "", engine.reads_on(LENGTHS[-1]), error)
