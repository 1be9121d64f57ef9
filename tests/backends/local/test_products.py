"""Packed products in float32, bfloat16 and int8: what they round, what they do not, and which processor may use them."""

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
from llmclf.backends.local.products import check_processor, pack_linear_layers, processor
from llmclf.backends.local.products.int8 import Int8Linear
from llmclf.backends.local.products.packed import PackedLinear
from llmclf.backends.local.weights import load
from llmclf.errors import InputError

HAS = {"float32": processor.has_packed_float32(), "bfloat16": processor.has_bfloat16(), "int8": processor.has_int8()}
needs = {
    name: pytest.mark.skipif(not there, reason=f"this processor has no {name} product") for name, there in HAS.items()
}
DTYPES = [pytest.param("bfloat16", marks=needs["bfloat16"]), pytest.param("int8", marks=needs["int8"])]


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
def test_a_bfloat16_product_rounds_its_factors_and_nothing_else(n_in, n_out, n_rows, has_bias, seed):
    """Of rounded weights and rounded states, the sums are float32, and so are bias and result."""
    generator = torch.Generator().manual_seed(seed)
    weight, states = torch.randn(n_out, n_in, generator=generator), torch.randn(2, n_rows, n_in, generator=generator)
    bias = torch.randn(n_out, generator=generator) if has_bias else None
    layer = PackedLinear(weight.bfloat16(), bias)
    assert torch.equal(layer.weight, weight.bfloat16())
    found = layer(states)
    assert found.dtype == torch.float32
    expected = functional.linear(states.bfloat16().double(), weight.bfloat16().double())
    tolerance = 2**-7 * expected.abs() + 1e-5
    if bias is not None:
        expected = expected + bias
    assert ((found - expected).abs() <= tolerance).all()
    with in_float32():
        torch.testing.assert_close(
            layer(states), functional.linear(states, weight.bfloat16().float(), bias), rtol=0, atol=1e-4
        )


@needs["int8"]
@settings(deadline=None, max_examples=40)
@given(
    st.integers(1, 70), st.integers(1, 70), st.integers(1, 40), st.booleans(), st.floats(1e-6, 1e6), st.integers(0, 99)
)
def test_an_int8_product_is_that_of_whole_numbers(n_in, n_out, n_rows, has_bias, size, seed):
    """As found with integers: rounded per channel and per token, summed exactly, then scaled; the bias is added as it is."""
    generator = torch.Generator().manual_seed(seed)
    weight, states = (
        torch.randn(n_out, n_in, generator=generator),
        torch.randn(n_rows, n_in, generator=generator) * size,
    )
    bias = torch.randn(n_out, generator=generator) * size if has_bias else None
    layer = Int8Linear(weight, bias)
    of_channel, of_token = (t.abs().amax(dim=1, keepdim=True) / 127 for t in (weight, states))
    sums = (states / of_token).round().long() @ (weight / of_channel).round().long().T
    expected = sums.double() * of_token * of_channel.T + (0 if bias is None else bias)
    off = (layer(states) - expected).abs()
    # A number half-way between two whole ones may be rounded to either.
    assert (off <= 1e-5 * expected.abs() + of_token * of_channel.T * 254).all()
    assert off.double().mean() <= 1e-2 * expected.abs().mean() + 1e-9
    torch.testing.assert_close(layer.weight, (weight / of_channel).round() * of_channel, rtol=1e-6, atol=0)
    with in_float32():
        torch.testing.assert_close(
            layer(states), functional.linear(states, layer.weight, bias), rtol=1e-5, atol=1e-5 * size
        )


@needs["int8"]
def test_int8_depends_on_no_company_and_breaks_no_number_off():
    """A token's result is the same beside any other; what is all zero stays zero, and what is not a number stays none."""
    generator = torch.Generator().manual_seed(0)
    weight, states = torch.randn(24, 40, generator=generator), torch.randn(6, 40, generator=generator)
    weight[3] = 0.0
    layer = Int8Linear(weight)
    whole = layer(states)
    assert (whole[:, 3] == 0).all()
    for i in range(6):
        loud = torch.cat((states[i : i + 1], 1e6 * states))
        assert torch.equal(layer(loud)[:1], whole[i : i + 1])
    assert (layer(torch.zeros(1, 40)) == 0).all()
    for broken in (float("nan"), float("inf")):
        some = states.clone()
        some[0, 0] = broken
        found = layer(some)
        assert not torch.isfinite(found[0]).all()
        assert torch.equal(found[1:], whole[1:])
    assert torch.isnan(Int8Linear(torch.full((1, 40), float("nan")))(states)).all()


@needs["float32"]
def test_only_plain_float32_layers_are_packed(model_folder):
    """All linear layers of a float32 model, the output layer included, and none of a bfloat16 one."""
    model, _, _ = load(f"hf:{model_folder('byte_bpe')}", "cpu", None)
    n_linear = sum(type(module) is torch.nn.Linear for module in model.modules())
    assert pack_linear_layers(model) == n_linear == 3 * 7 + 1
    assert not any(type(module) is torch.nn.Linear for module in model.modules())
    half, _, _ = load(f"hf:{model_folder('byte_bpe')}", "cpu", "bfloat16")
    assert pack_linear_layers(half) == 0


@pytest.mark.parametrize("dtype", DTYPES)
def test_scores_are_near_those_in_float32_and_the_same_each_time(tiny_bpe, dtype):
    """By the trie, whatever was asked before; near the float32 ones, and not the same."""
    backend = open_backend(tiny_bpe.name, dtype=dtype)
    requests = requests_for()
    found = score(backend, requests)
    assert backend.route == "trie"
    assert_same(found, score(tiny_bpe, requests), atol=0.1)
    with pytest.raises(AssertionError):
        assert_same(found, score(tiny_bpe, requests), atol=1e-5)
    score(backend, requests[:2])
    assert score(backend, requests) == found
    assert backend.identity() != tiny_bpe.identity()
    assert backend.identity()["dtype"] == f"{dtype} products"


@pytest.mark.parametrize("dtype", DTYPES)
def test_what_a_product_rounds_hides_no_wrong_route(tiny_bpe, dtype):
    """Routes are compared in float32, with the weights as they are multiplied: to the last 1e-4."""
    backend = open_backend(tiny_bpe.name, dtype=dtype)
    loaded, rows = backend._loaded, backend._codec.encode(requests_for(TEXTS[:3]))
    loaded._prefixes.clear()
    with in_float32():
        found, expected = (dict(score_by(rows, 40)) for score_by in (loaded._score_trie, loaded._score_single))
    loaded._prefixes.clear()
    for place, logprobs in expected.items():
        for ours, theirs in zip(found[place], logprobs, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-4)


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_real_model_keeps_its_mind(smollm2, dtype):
    """SmolLM2 by its labels: within some tenths of a nat of float32."""
    requests = requests_for(TEXTS, ["positive", "negative"])
    ours, exact = (
        np.array([[sum(tokens) for tokens in row.token_logprobs] for row in score(backend, requests)])
        for backend in (open_backend("smollm2", dtype=dtype), smollm2)
    )
    assert 0 < np.abs(ours - exact).max() < (0.4 if dtype == "bfloat16" else 1.0)


@pytest.mark.parametrize("dtype", DTYPES)
def test_all_but_the_products_is_float32(model_folder, dtype):
    """Weights that no product meets are float32, whatever they are stored in; and those in products exist only packed."""
    model, _, _ = load(f"hf:{model_folder('byte_bpe')}", "cpu", "bfloat16")
    assert pack_linear_layers(model, dtype) == 3 * 7 + 1
    assert {tensor.dtype for tensor in (*model.parameters(), *model.buffers()) if tensor.is_floating_point()} == {
        torch.float32
    }


def test_a_processor_that_lacks_the_product_is_named_with_what_it_has(model_folder, monkeypatch):
    """Before anything is loaded."""
    for name in ("bf16", "vnni", "amx"):
        asked = {"bf16": "_is_avx512_bf16_supported", "vnni": "_is_vnni_supported", "amx": "_is_amx_tile_supported"}[
            name
        ]
        monkeypatch.setattr(torch.cpu, asked, lambda: False)
    monkeypatch.setattr(torch.cpu, "_is_avx2_supported", lambda: True)
    monkeypatch.setattr(processor.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr("llmclf.backends.local.loaded_model.load", lambda *_, **__: pytest.fail("loaded"))
    name = f"hf:{model_folder('byte_bpe')}"
    for dtype, lacks in (("bfloat16", "AVX512-BF16 or AMX"), ("int8", "AVX512-VNNI or AMX")):
        with pytest.raises(InputError, match=rf"dtype='{dtype}' needs a processor with {lacks}, .*has .*AVX2.*float32"):
            open_backend(name, dtype=dtype).identity()
    monkeypatch.setattr(processor.platform, "machine", lambda: "arm64")
    with pytest.raises(InputError, match="arm64"):
        check_processor("cpu", "int8")
    check_processor("cpu", "bfloat16")  # there, a bfloat16 model is bfloat16 throughout
    with pytest.raises(InputError, match="dtype='int8' is for a CPU.*device='cuda'"):
        check_processor("cuda", "int8")


@needs["int8"]
def test_int8_refuses_layers_that_are_not_plain(model_folder, tmp_path, monkeypatch):
    """GPT-2 keeps its matrices the other way round; it is refused before its weights are read."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = tiny_model("gpt2")
    model.save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(model_folder("byte_bpe")).save_pretrained(tmp_path)
    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", lambda *_, **__: pytest.fail("loaded"))
    with pytest.raises(InputError, match=r"int8.*GPT2LMHeadModel.*c_attn \(Conv1D\).*float32"):
        open_backend(f"hf:{tmp_path}", dtype="int8").identity()


@needs["bfloat16"]
def test_bfloat16_takes_a_model_of_other_layers_as_a_whole(model_folder):
    """GPT-2 in bfloat16 throughout, under another identity than where the products alone are."""
    backend = open_backend(f"hf:{model_folder('no_pad')}", dtype="bfloat16")
    assert backend.identity()["dtype"] == "bfloat16"
    assert {parameter.dtype for parameter in backend.model.parameters()} == {torch.bfloat16}
