"""Gated layers as three products: which modules they are, and that no number changes beyond rounding."""

from __future__ import annotations

import pytest
import torch
from architectures import tiny_model
from torch import nn

from llmclf.backends.local.plain_calls import in_float32
from llmclf.backends.local.products import pack_linear_layers, processor
from llmclf.backends.local.products.gated import gated_layer, join_products
from llmclf.backends.local.products.packed import PackedLinear

HAS = {"float32": processor.has_packed_float32(), "bfloat16": processor.has_bfloat16()}
needs = {
    name: pytest.mark.skipif(not there, reason=f"this processor has no {name} product") for name, there in HAS.items()
}
ACTIVATIONS = [nn.SiLU(), nn.GELU(), nn.GELU(approximate="tanh"), nn.ReLU()]


class Gated(nn.Module):
    """What most models compute, and variations that are something else."""

    def __init__(self, function=None, bias=False, n_in=24, n_wide=40, change=None):
        super().__init__()
        # Neither the order nor the names are those of Llama.
        self.w2 = nn.Linear(n_wide, n_in, bias=bias)
        self.w3, self.w1 = (nn.Linear(n_in, n_wide, bias=bias) for _ in range(2))
        self.act = nn.SiLU() if function is None else function
        self.change = change

    def forward(self, x):
        wide = self.act(self.w1(x)) * self.w3(x)
        return self.w2(wide if self.change is None else self.change(wide))


def packed(module, dtype=torch.float32):
    how = gated_layer(module)
    for name in (how.gate, how.up, how.down):
        module.set_submodule(name, PackedLinear(module.get_submodule(name).weight.to(dtype)))
    join_products(module, how)
    assert "forward" in vars(module)
    return module


@needs["float32"]
@pytest.mark.parametrize("function", ACTIVATIONS, ids=str)
@pytest.mark.parametrize("shape", [(1, 5, 24), (2, 3, 24), (7, 24), (24,), (1, 0, 24)], ids=str)
def test_joined_products_are_the_plain_ones(function, shape):
    """In float32 to rounding, for any number of rows, none included."""
    torch.manual_seed(0)
    module, states = Gated(function), 3 * torch.randn(shape)
    assert gated_layer(module)[:4] == ("w1", "w3", "w2", "act")
    with torch.inference_mode():
        expected = module(states)
        torch.testing.assert_close(packed(module)(states), expected, rtol=0.0, atol=1e-5)


@needs["bfloat16"]
@pytest.mark.parametrize("function", ACTIVATIONS, ids=str)
def test_bfloat16_rounds_each_product_once(function):
    """Each of the three results is rounded to 8 bits, after the activation and after the factor; float32 comes out."""
    torch.manual_seed(1)
    module, states = Gated(function), torch.randn(1, 9, 24)
    weights = {
        name: layer.weight.detach().bfloat16().double() for name, layer in module.named_children() if name != "act"
    }
    given = states.bfloat16().double()
    with torch.inference_mode():
        found = packed(module, torch.bfloat16)(states)
    assert found.dtype == torch.float32
    gate = function(given @ weights["w1"].T).bfloat16().double()
    wide = (gate * (given @ weights["w3"].T)).bfloat16().double()
    expected = wide @ weights["w2"].T
    # A number in the middle of two may be rounded to either, before the last product.
    torch.testing.assert_close(found.double(), expected, rtol=2**-8, atol=2e-3)


@needs["bfloat16"]
def test_where_nothing_may_be_rounded_nothing_is():
    """As routes are compared: the weights as they are multiplied, all else float32."""
    torch.manual_seed(2)
    module, states = Gated(), torch.randn(1, 9, 24)
    w1, w2, w3 = (getattr(module, name).weight.detach().bfloat16().float() for name in ("w1", "w2", "w3"))
    module = packed(module, torch.bfloat16)
    expected = (nn.functional.silu(states @ w1.T) * (states @ w3.T)) @ w2.T
    with torch.inference_mode(), in_float32():
        torch.testing.assert_close(module(states), expected, rtol=0.0, atol=1e-5)


class TwoInputs(Gated):
    def forward(self, x, more):
        return super().forward(x)


class OwnScale(Gated):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))


@pytest.mark.parametrize(
    "module",
    [
        Gated(bias=True),
        Gated(change=lambda wide: wide.clamp(max=7.0)),
        Gated(change=lambda wide: 1.001 * wide),
        Gated(change=lambda wide: wide * (wide > wide.mean(-1, keepdim=True))),
        Gated(nn.Tanh()),
        Gated(nn.PReLU()),
        Gated(nn.Linear(40, 40, bias=False)),
        Gated(n_wide=24, change=lambda wide: wide.flip(-1)),
        TwoInputs(),
        OwnScale(),
        nn.Sequential(nn.Linear(24, 40), nn.SiLU(), nn.Linear(40, 24)),
    ],
    ids=["biases", "clamp", "factor", "sparse", "tanh", "learned", "layers", "square", "inputs", "scale", "plain"],
)
def test_what_is_something_else_is_left_as_it_is(module):
    """A class can do anything between its layers, so each is tried: small numbers and large ones."""
    assert gated_layer(module) is None


@needs["float32"]
@pytest.mark.parametrize(("kind", "is_gated"), [("llama", True), ("gemma2", True), ("qwen2", True), ("gpt2", False)])
def test_architectures(kind, is_gated):
    """A model's logits stay what they were; its gates are joined where it has any."""
    torch.manual_seed(0)
    model, ids = tiny_model(kind, vocab_size=512).eval(), torch.arange(1, 40)[None]
    with torch.inference_mode():
        expected = model(ids, use_cache=False).logits
        assert pack_linear_layers(model)
        assert any("forward" in vars(module) for module in model.modules()) == is_gated
        torch.testing.assert_close(model(ids, use_cache=False).logits, expected, rtol=0.0, atol=1e-4)
