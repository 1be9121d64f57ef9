"""Packed products in float32 and bfloat16: what they round, what they do not, and which processor may use them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from architectures import tiny_model
from contract import TEXTS, assert_same, requests_for, score
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from llmclf import open_backend
from llmclf.backends.local.plain_calls import in_float32
from llmclf.backends.local.products import multiplies_bfloat16, pack_linear_layers, processor
from llmclf.backends.local.products.packed import PackedLinear
from llmclf.backends.local.weights import load
from llmclf.errors import InputError

HAS = {"float32": processor.has_packed_float32(), "bfloat16": processor.has_bfloat16()}
needs = {
    name: pytest.mark.skipif(not there, reason=f"this processor has no {name} product") for name, there in HAS.items()
}


@needs["float32"]
def test_packed_layers_are_the_plain_ones():
    """Packing changes no number beyond rounding: with and without bias, for any number of rows, laid out in any way."""
    generator = torch.Generator().manual_seed(0)
    for shape in ((1, 40), (3, 1, 40), (2, 33, 40), (40,)):
        states = torch.randn(*shape, generator=generator)
        for bias in (None, torch.randn(24, generator=generator)):
            weight = torch.randn(24, 40, generator=generator)
            expected = functional.linear(states.double(), weight.double(), None if bias is None else bias.double())
            with torch.inference_mode():
                found = PackedLinear(weight, bias)(states)
            torch.testing.assert_close(found.double(), expected, rtol=0.0, atol=1e-5)
    torch.testing.assert_close(PackedLinear(weight).weight, weight, rtol=0.0, atol=0.0)
    strided = torch.randn(40, 5, generator=generator).T
    torch.testing.assert_close(PackedLinear(weight)(strided), strided @ weight.T, rtol=0.0, atol=1e-5)


@needs["bfloat16"]
@settings(deadline=None, max_examples=40)
@given(st.integers(1, 70), st.integers(1, 70), st.integers(1, 40), st.booleans(), st.integers(0, 99))
def test_a_bfloat16_product_rounds_its_factors_and_its_result(n_in, n_out, n_rows, has_bias, seed):
    """The sums of rounded weights and rounded states are float32 until the end; the bias is not rounded."""
    generator = torch.Generator().manual_seed(seed)
    weight, states = torch.randn(n_out, n_in, generator=generator), torch.randn(2, n_rows, n_in, generator=generator)
    bias = torch.randn(n_out, generator=generator) if has_bias else None
    layer = PackedLinear(weight.bfloat16(), bias)
    assert torch.equal(layer.weight, weight.bfloat16())
    found = layer(states)
    assert found.dtype == torch.float32
    expected = functional.linear(states.bfloat16().double(), weight.bfloat16().double())
    tolerance = 2**-8 * expected.abs() + 1e-5  # half of the last of 8 bits
    if bias is not None:
        expected = expected + bias
    assert ((found - expected).abs() <= tolerance).all()
    with in_float32():
        torch.testing.assert_close(
            layer(states), functional.linear(states, weight.bfloat16().float(), bias), rtol=0, atol=1e-4
        )


@needs["float32"]
def test_only_plain_float32_layers_are_packed(model_folder):
    """All linear layers of a float32 model, the output layer included, and none of a bfloat16 one."""
    model, _, _ = load(f"hf:{model_folder('byte_bpe')}", "cpu", None)
    n_linear = sum(type(module) is torch.nn.Linear for module in model.modules())
    assert pack_linear_layers(model) == n_linear == 3 * 7 + 1
    assert not any(type(module) is torch.nn.Linear for module in model.modules())
    half, _, _ = load(f"hf:{model_folder('byte_bpe')}", "cpu", "bfloat16")
    assert pack_linear_layers(half) == 0


@needs["bfloat16"]
def test_scores_are_near_those_in_float32_and_the_same_each_time(tiny_bpe):
    """By the trie, whatever was asked before; near the float32 ones, and not the same."""
    backend = open_backend(tiny_bpe.name, dtype="bfloat16")
    requests = requests_for()
    found = score(backend, requests)
    assert backend.route == "trie"
    assert_same(found, score(tiny_bpe, requests), atol=0.1)
    with pytest.raises(AssertionError):
        assert_same(found, score(tiny_bpe, requests), atol=1e-5)
    score(backend, requests[:2])
    assert score(backend, requests) == found
    assert backend.identity() != tiny_bpe.identity()
    assert backend.identity()["dtype"] == "bfloat16 products"


@needs["bfloat16"]
def test_what_a_product_rounds_hides_no_wrong_route(tiny_bpe):
    """Routes are compared in float32, with the weights as they are multiplied: to the last 1e-4."""
    backend = open_backend(tiny_bpe.name, dtype="bfloat16")
    loaded, rows = backend._loaded, backend._codec.encode(requests_for(TEXTS[:3]))
    loaded._prefixes.clear()
    with in_float32():
        found, expected = (dict(score_by(rows, 40)) for score_by in (loaded._score_trie, loaded._score_single))
    loaded._prefixes.clear()
    for place, logprobs in expected.items():
        for ours, theirs in zip(found[place], logprobs, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-4)


@needs["bfloat16"]
def test_the_real_model_keeps_its_mind(smollm2):
    """SmolLM2 by its labels: within some tenths of a nat of float32."""
    requests = requests_for(TEXTS, ["positive", "negative"])
    ours, exact = (
        np.array([[sum(tokens) for tokens in row.token_logprobs] for row in score(backend, requests)])
        for backend in (open_backend("smollm2", dtype="bfloat16"), smollm2)
    )
    assert 0 < np.abs(ours - exact).max() < 0.4


@needs["bfloat16"]
def test_all_but_the_products_is_float32(model_folder):
    """Weights that no product meets are float32, whatever they are stored in; and those in products exist only packed."""
    model, _, _ = load(f"hf:{model_folder('byte_bpe')}", "cpu", "bfloat16")
    assert pack_linear_layers(model, "bfloat16") == 3 * 7 + 1
    assert {tensor.dtype for tensor in (*model.parameters(), *model.buffers()) if tensor.is_floating_point()} == {
        torch.float32
    }


def test_a_processor_that_lacks_the_product_is_named_with_what_it_has(model_folder, tmp_path, monkeypatch):
    """Before anything is loaded."""
    folder = tmp_path / "not_open_yet"
    folder.symlink_to(model_folder("byte_bpe"))
    for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.setattr(torch.cpu, name, lambda: False)
    monkeypatch.setattr(torch.cpu, "_is_avx2_supported", lambda: True)
    monkeypatch.setattr(processor.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr("llmclf.backends.local.loaded_model.load", lambda *_, **__: pytest.fail("loaded"))
    with pytest.raises(InputError, match=r"dtype='bfloat16' needs a .* AVX512-BF16 or AMX, .* has AVX2.*float32"):
        open_backend(f"hf:{folder}", dtype="bfloat16").identity()
    monkeypatch.setattr(processor.platform, "machine", lambda: "arm64")
    assert not multiplies_bfloat16("cpu", "bfloat16")  # there, a bfloat16 model is bfloat16 throughout
    assert not multiplies_bfloat16("cuda", "bfloat16")


@needs["bfloat16"]
def test_bfloat16_takes_a_model_of_other_layers_as_a_whole(model_folder):
    """GPT-2 in bfloat16 throughout, under another identity than where the products alone are."""
    backend = open_backend(f"hf:{model_folder('no_pad')}", dtype="bfloat16")
    assert backend.identity()["dtype"] == "bfloat16"
    assert {parameter.dtype for parameter in backend.model.parameters()} == {torch.bfloat16}


@needs["bfloat16"]
def test_rotary_frequencies_stay_float32_where_the_model_is_bfloat16(model_folder, tmp_path):
    """Mixtral's experts are no plain layers, so all of it is bfloat16, but for what transformers keeps in float32."""
    from transformers import AutoTokenizer

    tiny_model("mixtral", vocab_size=512).save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(model_folder("byte_bpe")).save_pretrained(tmp_path)
    model = open_backend(f"hf:{tmp_path}", dtype="bfloat16").model
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
    assert {tensor.dtype for name, tensor in model.named_buffers() if "inv_freq" in name} == {torch.float32}
