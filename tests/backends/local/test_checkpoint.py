"""A model is opened only if it is the whole checkpoint, and a causal language model."""

from __future__ import annotations

import json
import shutil

import pytest

from llmclf import Prompt, open_backend
from llmclf.backends import Request
from llmclf.backends.local.checkpoint import check_kind
from llmclf.backends.local.weights import load
from llmclf.errors import ModelError, RowError


@pytest.fixture
def edited(model_folder, tmp_path):
    """A function: a copy of a model with other weights and another configuration."""
    from safetensors.torch import load_file, save_file

    def edit(kind="byte_bpe", change=lambda weights: weights, **config):
        folder = tmp_path / f"copy{len(list(tmp_path.iterdir()))}"
        shutil.copytree(model_folder(kind), folder)
        save_file(
            change(load_file(folder / "model.safetensors")), folder / "model.safetensors", metadata={"format": "pt"}
        )
        values = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**values, **config}))
        return folder

    return edit


def without(part):
    return lambda weights: {name: value for name, value in weights.items() if part not in name}


def plus(name, *shape):
    import torch

    return lambda weights: {**weights, name: torch.ones(*shape)}


@pytest.mark.parametrize(
    ("part", "named"),
    [
        ("layers.1.", "model.layers.1.input_layernorm.weight.* and 4 more"),
        ("layers.0.mlp.up_proj", "model.layers.0.mlp.up_proj.weight"),
        ("model.norm", "model.norm.weight"),
        ("lm_head", "lm_head.weight.*output layer"),
        ("embed_tokens", "model.embed_tokens.weight"),
    ],
)
def test_a_checkpoint_that_lacks_weights_is_refused(edited, part, named):
    """One weight, a layer, the output layer: nothing is completed with random numbers, and the names are told."""
    with pytest.raises(ModelError, match=f"lacks weights .*: .*{named}"):
        load(f"hf:{edited(change=without(part))}", "cpu", None)


def test_more_or_fewer_layers_than_the_configuration_says_are_refused(edited):
    """The one would be random, the other left out."""
    with pytest.raises(ModelError, match=r"lacks weights .*model\.layers\.3\."):
        load(f"hf:{edited(num_hidden_layers=4)}", "cpu", None)
    with pytest.raises(ModelError, match=r"has no place: model\.layers\.2\."):
        load(f"hf:{edited(num_hidden_layers=2)}", "cpu", None)


def test_other_shapes_are_refused_with_both(edited):
    """A vocabulary that was resized, a width that is another."""
    with pytest.raises(ModelError, match=r"lm_head\.weight is \[\d+, 32\] and should be \[999, 32\]"):
        load(f"hf:{edited(vocab_size=999)}", "cpu", None)
    with pytest.raises(ModelError, match="do not fit its config.json.* and 4 more"):
        load(f"hf:{edited(intermediate_size=64)}", "cpu", None)


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("model.layers.0.self_attn.q_proj.bias", (32,)),
        ("model.layers.0.self_attn.q_norm.weight", (8,)),
        ("model.layers.0.self_attn.q_proj.lora_A.weight", (2, 32)),
        ("model.layers.0.mlp.up_proj.weight_scale", (1,)),
        ("model.embed_positions.weight", (9, 32)),
        ("lm_head.bias", (5,)),
    ],
)
def test_weights_that_the_model_would_leave_out_are_refused(edited, name, shape):
    """A bias, a norm, an adapter, a scale: the model without them is another one."""
    with pytest.raises(ModelError, match=f"has no place: {name}"):
        load(f"hf:{edited(change=plus(name, *shape))}", "cpu", None)


@pytest.mark.parametrize(
    ("kind", "name", "shape"),
    [
        ("byte_bpe", "model.layers.0.self_attn.rotary_emb.inv_freq", (4,)),
        ("no_pad", "transformer.h.0.attn.bias", (1, 1, 4, 4)),
        ("no_pad", "transformer.h.0.attn.masked_bias", (1,)),
        ("byte_bpe", "v_head.summary.weight", (1, 32)),
        ("byte_bpe", "model.vision_tower.layers.0.weight", (4, 4)),
        ("byte_bpe", "mtp.layers.0.weight", (4, 4)),
    ],
)
def test_what_an_architecture_does_not_need_is_no_fault(edited, kind, name, shape):
    """Tables that it computes, other heads, what reads pictures, what guesses ahead."""
    load(f"hf:{edited(kind, plus(name, *shape))}", "cpu", None)


def test_what_an_architecture_ties_is_no_fault(edited):
    """GPT-2's output layer is its embedding; with neither, there is nothing to tie."""
    load(f"hf:{edited('no_pad', without('lm_head'))}", "cpu", None)
    with pytest.raises(ModelError, match=r"lm_head\.weight, transformer\.wte\.weight"):
        load(f"hf:{edited('no_pad', without('wte'))}", "cpu", None)


def kinds(n):
    """Models that are no causal language models, and what is said of each; the last ones are."""
    import transformers as tf

    small = {
        "vocab_size": n,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 48,
    }
    llama = tf.LlamaConfig(**small)
    gpt2 = tf.GPT2Config(vocab_size=n, n_embd=32, n_layer=2, n_head=4)
    bart = {"vocab_size": n, "d_model": 32, "encoder_layers": 1, "decoder_layers": 1}
    bart |= {"encoder_attention_heads": 4, "decoder_attention_heads": 4}
    decoder = {**small, "is_decoder": True}
    refused = [
        (tf.BertForMaskedLM(tf.BertConfig(**small)), "is a BertForMaskedLM"),
        (tf.BertForMaskedLM(tf.BertConfig(**decoder)), "is a BertForMaskedLM"),
        (tf.BertLMHeadModel(tf.BertConfig(**small)), "changes with the tokens that follow"),
        (tf.BertModel(tf.BertConfig(**small)), "lacks weights"),
        (tf.RobertaForCausalLM(tf.RobertaConfig(**small)), "changes with the tokens that follow"),
        (tf.XLNetLMHeadModel(tf.XLNetConfig(vocab_size=n, d_model=32, n_layer=2, n_head=4, d_inner=48)), "that follow"),
        (tf.LlamaForSequenceClassification(llama), "is a LlamaForSequenceClassification"),
        (tf.GPT2ForSequenceClassification(gpt2), "is a GPT2ForSequenceClassification"),
        (tf.LlamaModel(llama), "lacks weights .*lm_head.*base model"),
        (tf.BartForConditionalGeneration(tf.BartConfig(**bart)), "is an encoder and a decoder"),
    ]
    allowed = [
        tf.BertLMHeadModel(tf.BertConfig(**decoder)),
        tf.BartForCausalLM(tf.BartConfig(**bart)),
        tf.GPT2Model(gpt2),
    ]
    return refused, allowed


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_what_is_no_causal_language_model_is_refused(model_folder, tmp_path):
    """By the configuration where it says so, else by what the model does; decoders and tied base models are opened."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model_folder("byte_bpe"))
    refused, allowed = kinds(len(tokenizer))
    for number, (model, expected) in enumerate([*refused, *((model, None) for model in allowed)]):
        folder = tmp_path / str(number)
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        if expected is None:
            load(f"hf:{folder}", "cpu", None)
            continue
        with pytest.raises(ModelError, match=expected):
            load(f"hf:{folder}", "cpu", None)


@pytest.mark.parametrize(
    ("names", "is_causal"),
    [
        (None, True),
        (["LlamaForCausalLM"], True),
        (["GPT2LMHeadModel"], True),
        (["Gemma3ForConditionalGeneration"], True),
        (["Qwen2ForRewardModel"], False),
        (["DistilBertForTokenClassification"], False),
        (["RobertaForMaskedLM"], False),
        (["BertForPreTraining"], False),
        (["MistralForSequenceClassification", "MistralForCausalLM"], True),
    ],
)
def test_the_names_of_classes_say_what_a_checkpoint_is(names, is_causal):
    """Heads that write text may be opened, others not."""
    if is_causal:
        check_kind(names, False, "it")
    else:
        with pytest.raises(ModelError, match="not a causal language model"):
            check_kind(names, False, "it")


def test_a_tokenizer_with_more_words_than_the_model_is_refused(edited):
    """They are of two models; a token that was added later is refused only where a text has it."""
    from transformers import AutoTokenizer

    def cut(weights):
        n = weights["lm_head.weight"].shape[0] - 20
        return {
            name: value[:n].clone() if "lm_head" in name or "embed" in name else value
            for name, value in weights.items()
        }

    n = json.loads((edited() / "config.json").read_text())["vocab_size"]
    with pytest.raises(ModelError, match="has 20 words for which the model has no embedding"):
        load(f"hf:{edited(change=cut, vocab_size=n - 20)}", "cpu", None)
    folder = edited()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(["<added>"], special_tokens=True)
    tokenizer.save_pretrained(folder)
    backend = open_backend(f"hf:{folder}")
    renderer = Prompt("{{ text }}<added>:").renderer(["good", "bad"])
    with pytest.raises(RowError, match="'<added>'.* no embedding"):
        list(backend.score([Request(renderer.render({"text": "fine"}), (" good", " bad"))]))
