"""Rows that are long beside rows that are short, on models whose attention or positions depend on length or neighbours."""

from __future__ import annotations

import numpy as np
import pytest
from architectures import LENGTHS, STRETCH, WINDOW, farthest, loaded, plain, rows, tiny_model
from contract import TEXTS, assert_contract, assert_same, reference_for, requests_for, score

from llmclf import open_backend
from llmclf.errors import ModelError
from llmclf.logits import log_softmax

pytestmark = [pytest.mark.model, pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
AROUND = (5, *range(STRETCH - 4, STRETCH + 3), 70)
LONGROPE = "phi3, longrope"


def scored(engine, asked, batch_tokens=512):
    answers = dict(engine.score(asked, batch_tokens))
    return [answers[i] for i in range(len(asked))]


@pytest.fixture(scope="module")
def folder(tmp_path_factory, model_folder):
    """A function: architecture -> folder of a tiny model of it, with a tokenizer."""
    from transformers import AutoTokenizer

    made = {}

    def save(name):
        if name not in made:
            made[name] = tmp_path_factory.mktemp("model")
            tokenizer = AutoTokenizer.from_pretrained(model_folder("byte_bpe"))
            model = tiny_model(name, vocab_size=len(tokenizer), max_position_embeddings=512)
            model.generation_config.eos_token_id = None
            model.config.eos_token_id = None
            model.save_pretrained(made[name])
            tokenizer.save_pretrained(made[name])
        return made[name]

    return save


@pytest.mark.parametrize("name", [LONGROPE, "llama, longrope"])
@pytest.mark.parametrize("batch_tokens", [1, 60, 5000])
def test_positions_that_stretch_are_those_of_each_row_alone(name, batch_tokens):
    """Around the length from which positions are stretched, also where one label of a row passes it and another does not."""
    model = tiny_model(name)
    engine, asked = loaded(model), rows(AROUND)
    assert farthest(scored(engine, asked, batch_tokens), [plain(model, row) for row in asked]) < 1e-4
    # The completions have up to three tokens: rows that stay below keep the trie, those that may pass it do not.
    routes = [engine.route_of(row) for row in asked]
    assert routes == ["trie" if len(row.context) <= STRETCH - 3 else "pairs" for row in asked]


@pytest.mark.parametrize(
    "name", ["llama4_text", "gpt_neo", "lfm2", "recurrent_gemma", "modernbert-decoder", "mpt", "gpt_oss"]
)
def test_attention_that_is_local_or_counts_from_neighbours(name):
    """Chunks, local layers, convolutions, biases by distance, sinks: long rows and short ones are those of plain calls."""
    model = tiny_model(name)
    engine, asked = loaded(model), rows((3, WINDOW - 1, WINDOW, WINDOW + 1, 2 * WINDOW + 1, 40))
    expected = [plain(model, row) for row in asked]
    for batch_tokens in (1, 30, 5000):
        assert farthest(scored(engine, asked, batch_tokens), expected) < 1e-4


def test_the_company_of_a_long_row_moves_no_score():
    """A short row scores the same alone and beside a long one, and a long one in batches of any size."""
    engine = loaded(tiny_model(LONGROPE))
    short, long = rows((6, 60))
    alone = scored(engine, [short]) + scored(engine, [long])
    for batch_tokens in (4, 64, 5000):
        assert farthest(scored(engine, [short, long], batch_tokens), alone) < 1e-5


def test_a_rotary_embedding_that_stays_stretched_is_put_back():
    """Positions that stretch to the longest text read so far do not remember it: each row is that of a fresh model."""
    dynamic = {"rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 4.0}}
    engine = loaded(tiny_model("llama", **dynamic))
    engine.calls.longest = 256  # as a configuration whose positions are stretched before they end
    engine.model.model.rotary_emb.original_max_seq_len = engine.model.model.rotary_emb.max_seq_len_cached = STRETCH
    from llmclf.backends.local.plain_calls import PlainCalls

    engine.calls = PlainCalls(engine.model, 256)
    ids = rows((STRETCH + 20,))[0].context
    texts = [ids, ids[:20], ids[: STRETCH + 5], ids[: STRETCH - 1]]
    first = [engine.next_logits(text) for text in texts]
    again = [engine.next_logits(text) for text in reversed(texts)][::-1]
    np.testing.assert_array_equal(first, again)


@pytest.mark.parametrize("name", [LONGROPE, "llama4_text", "lfm2"])
def test_contract_on_models_that_count_otherwise(folder, name):
    """Shots, guidance, temperature, order and company: as the reference, on whichever route."""
    backend = open_backend(f"hf:{folder(name)}")
    assert_contract(backend, reference_for(backend))
    requests = requests_for()
    for batch_tokens in (16, 4000):
        again = open_backend(backend.name, batch_tokens=batch_tokens)
        assert_same(score(again, requests), score(reference_for(backend), requests))


@pytest.mark.parametrize("name", [LONGROPE, "llama4_text", "lfm2"])
def test_what_the_inspector_sees_is_what_is_scored(folder, name):
    """The view of a request has the scores of its labels in it, short or long."""
    backend = open_backend(f"hf:{folder(name)}")
    requests = requests_for(TEXTS[:1], shots=()) + requests_for(TEXTS[-1:])
    for request, answer in zip(requests, score(backend, requests), strict=True):
        view = backend.view(request)
        logprobs = log_softmax(view.logits)
        for columns, targets, wanted in zip(view.trie.columns, view.trie.targets, answer.token_logprobs, strict=True):
            np.testing.assert_allclose(logprobs[columns, targets], wanted, rtol=0.0, atol=1e-4)
        import torch

        ids, logits = backend.next_logits(request.prompt)
        with torch.inference_mode():
            expected = backend.model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1]
        np.testing.assert_allclose(logits, expected.double().numpy(), rtol=0.0, atol=1e-4)


@pytest.mark.parametrize("name", [LONGROPE, "llama, longrope", "mistral", "llama4_text", "lfm2", "rwkv", "bloom"])
def test_each_token_that_is_written_has_the_logprob_of_a_plain_call(name):
    """Also where the answer passes the length at which something changes."""
    import torch

    model = tiny_model(name)
    engine = loaded(model)
    engine.tokenizer = _Anything()
    ids = list(rows((STRETCH - 8,))[0].context)
    (said,) = engine.generate(ids, 1, 16, (), None, ())
    for token, logprob in zip(said.token_ids, said.logprobs, strict=True):
        with torch.inference_mode():
            logits = model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1]
        assert logprob == pytest.approx(log_softmax(logits.double().numpy())[token], abs=1e-4)
        ids.append(token)


@pytest.mark.parametrize(("name", "expected"), [("llama", "trie"), ("mixtral", "trie"), ("mamba", "pairs")])
def test_half_precision_is_checked_in_float32(name, expected):
    """Rounding does not hide what a route gets wrong, nor make one look wrong; the weights stay as they are."""
    import torch

    model = tiny_model(name).to(torch.bfloat16)
    engine = loaded(model)
    assert [engine.route_of(row) for row in rows(LENGTHS)] == [expected] * len(LENGTHS)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}


def test_positions_that_hardly_stretch_are_seen_in_half_precision():
    """Two percent more are less than bfloat16 rounds to, and still too much."""
    import torch

    rope = {"rope_type": "longrope", "rope_theta": 1e4, "factor": 8.0, "original_max_position_embeddings": STRETCH}
    rope |= {"short_factor": [1.0] * 4, "long_factor": [1.02] * 4}
    engine = loaded(tiny_model("llama", rope_parameters=rope).to(torch.bfloat16))
    assert [engine.route_of(row) for row in rows((20, 60))] == ["trie", "pairs"]


@pytest.mark.parametrize("name", ["bert", "xlnet", "xlm"])
def test_a_model_that_reads_both_ways_is_refused(name):
    """An encoder gives no score of a continuation, whatever numbers it gives."""
    more = {"bert": {"is_decoder": False}, "xlm": {"causal": False}}.get(name, {})
    with pytest.raises(ModelError, match="not a causal language model"):
        loaded(tiny_model(name, **more))


class _Anything:
    """A tokenizer that writes each token as one character."""

    eos_token_id = None
    all_special_tokens = ()

    def __call__(self, text, add_special_tokens=False):
        return {"input_ids": [3]}

    def decode(self, ids, **options):
        return "".join(chr(200 + token) for token in ids)

    def convert_ids_to_tokens(self, ids):
        return [chr(200 + token) for token in ids]
