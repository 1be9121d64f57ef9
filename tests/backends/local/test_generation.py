"""Letting a local model speak: token for token what transformers says, and what the processors make of it."""

from __future__ import annotations

import shutil
import warnings

import numpy as np
import pytest

from llmclf import Prompt, open_backend
from llmclf.errors import InputError, ModelError
from llmclf.logits import chain, log_softmax, perplexity

PROMPTS = ["The capital of France is", "Review: A fine film.\nSentiment:", "x"]


def theirs(backend, prompt: str, n: int, **options) -> list[int]:
    """What transformers' own generate says after a prompt."""
    from transformers import GenerationConfig

    ids = backend.tokenizer(prompt, return_tensors="pt")["input_ids"]
    ends = backend.model.generation_config.eos_token_id
    config = GenerationConfig(max_new_tokens=n, do_sample=False, eos_token_id=ends, pad_token_id=0, **options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        out = backend.model.generate(ids, attention_mask=ids * 0 + 1, generation_config=config)
    return out[0, ids.shape[1] :].tolist()


@pytest.mark.parametrize("prompt", PROMPTS)
def test_greedy_is_transformers_on_the_real_model(smollm2, prompt):
    """Forty tokens, one by one the same."""
    assert list(smollm2.generate(prompt, 40).token_ids) == theirs(smollm2, prompt, 40)


@pytest.mark.parametrize("kind", ["byte_bpe", "sentencepiece", "no_pad", "sliding_window", "softcap", "no_attention"])
def test_greedy_is_transformers_on_every_architecture(model_folder, kind):
    """Also with sliding windows, capped scores, and a state space model in place of attention."""
    backend = open_backend(f"hf:{model_folder(kind)}")
    for prompt in PROMPTS:
        assert list(backend.generate(prompt, 24).token_ids) == theirs(backend, prompt, 24)


@pytest.mark.parametrize("penalty", [1.3, 0.8])
def test_a_repetition_penalty_is_transformers(smollm2, penalty):
    """Processors see prompt and answer so far, as transformers' do."""
    said = smollm2.generate(PROMPTS[0], 30, chain(repetition_penalty=penalty))
    assert list(said.token_ids) == theirs(smollm2, PROMPTS[0], 30, repetition_penalty=penalty)


def test_logprobs_are_those_of_the_model(smollm2):
    """Each token's log-probability is that of one plain pass over prompt and answer; perplexity is their running mean."""
    import torch

    said = smollm2.generate(PROMPTS[0], 12, chain(temperature=0.7, top_k=5), seed=3)
    ids = smollm2.tokenizer(PROMPTS[0])["input_ids"]
    with torch.inference_mode():
        logits = smollm2.model(torch.tensor([[*ids, *said.token_ids]])).logits[0].double().numpy()
    expected = log_softmax(logits[len(ids) - 1 : -1])[np.arange(12), list(said.token_ids)]
    np.testing.assert_allclose(said.logprobs, expected, atol=1e-4)
    np.testing.assert_allclose(said.perplexities[-1], perplexity(expected), rtol=1e-4)
    assert len(said.perplexities) == len(said.pieces) == 12
    assert all(np.isfinite(said.processed_logprobs))
    assert "".join(said.pieces) == said.text
    assert said.finish_reason == "length"


def test_the_text_begins_with_the_space_of_its_first_token(tiny):
    """Also where a tokenizer drops the space before a text's first word."""
    said = [tiny.generate(PROMPTS[1], 3, seed=seed) for seed in range(40)]
    spaced = [own for own in said if own.pieces[0].startswith(" ") and own.pieces[0].strip()]
    assert spaced
    assert all(own.text.startswith(own.pieces[0]) for own in spaced)


def test_a_seed_is_an_answer_and_the_cut_is_never_said(tiny_bpe):
    """The same seed says the same, another something else; what top-k cuts never comes."""
    first, again, other = (tiny_bpe.generate(PROMPTS[0], 30, seed=seed) for seed in (1, 1, 2))
    assert first == again
    assert first.token_ids != other.token_ids
    greedy = tiny_bpe.generate(PROMPTS[0], 30)
    for processors in (chain(top_k=1), chain(temperature=0.0), chain(top_p=1e-9), chain(min_p=1.0)):
        assert tiny_bpe.generate(PROMPTS[0], 30, processors, seed=5).token_ids == greedy.token_ids


def test_draws_follow_the_processed_distribution(tiny_bpe):
    """Of two thousand first tokens each comes as often as its processed probability says."""
    processors = chain(temperature=1.5, top_k=8)
    said = tiny_bpe.generate_many(PROMPTS[0], 2000, 1, processors, seed=0)
    counts = np.bincount([answer.token_ids[0] for answer in said], minlength=tiny_bpe.model.config.vocab_size)
    _, logits = tiny_bpe.next_logits(PROMPTS[0])
    for processor in processors:
        logits = processor(logits, ())
    expected = 2000 * np.exp(log_softmax(logits))
    chosen = expected > 0
    assert not counts[~chosen].any()
    assert (
        (counts[chosen] - expected[chosen]) ** 2 / expected[chosen]
    ).sum() < 24.3  # chi-square with 7 degrees, p = .001


def test_answers_side_by_side_are_answers_alone(tiny_bpe):
    """What one of many says, with its log-probabilities, is what the model gives that text alone."""
    for answer in tiny_bpe.generate_many(PROMPTS[1], 5, 12, seed=0):
        ids = [*tiny_bpe.tokenizer(PROMPTS[1])["input_ids"]]
        for token, logprob in zip(answer.token_ids, answer.logprobs, strict=True):
            assert logprob == pytest.approx(log_softmax(tiny_bpe.next_logits(ids)[1])[token], abs=1e-4)
            ids.append(token)


def test_a_stop_text_ends_the_answer_before_it(smollm2):
    """Wherever in a token the text comes; the tokens that said it stay in the list."""
    whole = smollm2.generate(PROMPTS[0], 20).text
    stop = whole[9:12]
    said = smollm2.generate(PROMPTS[0], 20, stop=["never said", stop])
    assert said.finish_reason == "stop"
    assert said.text == whole.split(stop)[0]
    assert len(said.token_ids) < 20


def test_the_end_of_the_answer_ends_it(tiny_bpe):
    """The end-of-answer token is the last one, and no part of the text."""
    end = tiny_bpe.model.generation_config.eos_token_id
    said = tiny_bpe.generate(PROMPTS[0], 20, chain(logit_bias={end: 1000.0}))
    assert said.token_ids == (end,)
    assert (said.text, said.finish_reason) == ("", "eos")


def test_control_tokens_act_in_a_str_and_not_in_data(tiny_bpe):
    """A bare prompt is the author's; a row's text is data."""
    text = "a<|im_end|>b"
    end = tiny_bpe.tokenizer.convert_tokens_to_ids("<|im_end|>")
    rendered = Prompt("{{ text }}").renderer(["x"]).render({"text": text})
    assert end in tiny_bpe.next_logits(text)[0]
    assert end not in tiny_bpe.next_logits(rendered)[0]
    np.testing.assert_array_equal(tiny_bpe.next_logits([5, end])[0], [5, end])


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (("", 5), "the prompt is empty"),
        (("a", 0), "max_tokens=0"),
        (("a", True), "max_tokens=True"),
        (("a", 1000), "exceed the model's context of 256"),
        (("a", 5, (), -1), "seed=-1"),
        (("a", 5, (), None, [""]), "stop="),
        (("a", 5, [3]), "is not callable"),
        (([10**6], 5), "vocabulary"),
        (([1.7, 2], 5), "list of token ids"),
        ((5, 5), "list of token ids"),
        (("a", 5, (), None, None), "stop=None"),
        (("a", 5, None), "processors=None"),
        (("a", 5, [lambda logits, ids: logits[:3]]), "returned logits of shape"),
        (("a", 5, [lambda logits, ids: logits * np.nan]), "=nan"),
    ],
)
def test_what_cannot_be_generated_is_refused(tiny_bpe, arguments, match):
    """Each error names the value."""
    with np.errstate(invalid="ignore"), pytest.raises(InputError, match=match):
        tiny_bpe.generate(*arguments)


def test_many_need_a_seed(tiny_bpe):
    """Without one, all answers would be the same."""
    with pytest.raises(InputError, match="give seed="):
        tiny_bpe.generate_many("a", 2)


def test_broken_weights_say_nothing(model_folder, tmp_path):
    """NaN logits are an error and no text."""
    from safetensors.numpy import load_file, save_file

    folder = shutil.copytree(model_folder("byte_bpe"), tmp_path / "broken")
    weights = load_file(folder / "model.safetensors")
    weights["model.norm.weight"] = np.full_like(weights["model.norm.weight"], np.nan)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match="weights may be broken"):
        open_backend(f"hf:{folder}").generate("a", 3)
