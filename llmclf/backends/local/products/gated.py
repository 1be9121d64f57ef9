"""Gated layers, ``down(activation(gate(x)) * up(x))``, whose products do on their way what stands between them.

As a model writes them, activation, multiplication and (in bfloat16) conversions pass over its widest numbers five times and more,
at the speed of the memory. oneDNN applies the activation, and multiplies by another product, before it writes a result.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from itertools import permutations
from typing import NamedTuple

import torch
from torch.nn import functional

from ..plain_calls import is_exact
from .packed import Activation, PackedLinear

_ACTIVATIONS: dict[Activation, Callable[[torch.Tensor], torch.Tensor]] = {
    Activation("swish"): functional.silu,
    Activation("gelu", "none"): functional.gelu,
    Activation("gelu", "tanh"): partial(functional.gelu, approximate="tanh"),
    Activation("relu"): functional.relu,
}
_SCALES = (0.1, 1.0, 30.0)
"""Of the states on which a module is tried: some clamp large ones."""


class GatedLayer(NamedTuple):
    """The names of a module's three layers, and its activation.

    Attributes
    ----------
    gate, up, down, function : str
        Names of children.
    activation : Activation
        What the child `function` computes.
    """

    gate: str
    up: str
    down: str
    function: str
    activation: Activation


def gated_layer(module: torch.nn.Module) -> GatedLayer | None:
    """How a module is a gated layer, or None where it is none; it is tried, since a class can do anything between its layers.

    Parameters
    ----------
    module : Module
        With its linear layers as they were loaded.
    """
    children = dict(module.named_children())
    linear = {name: child for name, child in children.items() if isinstance(child, torch.nn.Linear)}
    if any(child.bias is not None for child in linear.values()):
        return None
    dtypes = {child.weight.dtype for child in linear.values()}
    functions = [name for name in children if name not in linear]
    if (len(linear), len(dtypes), len(functions)) != (3, 1, 1) or any(True for _ in module.parameters(recurse=False)):
        return None
    function = module.get_submodule(functions[0])
    if any(True for _ in (*function.parameters(), *function.buffers())) or not _takes_one(module, function):
        return None
    activation = _activation(function)
    if activation is None:
        return None
    for gate, up, down in permutations(linear):
        if linear[gate].weight.shape == linear[up].weight.shape == linear[down].weight.T.shape and _is_gated(
            module, linear[gate], linear[up], linear[down], function
        ):
            return GatedLayer(gate, up, down, functions[0], activation)
    return None


def join_products(module: torch.nn.Module, layer: GatedLayer) -> None:
    """Let a gated layer compute as three products, in place, if its linear layers are packed ones."""
    gate, up, down = (module.get_submodule(name) for name in (layer.gate, layer.up, layer.down))
    if not (isinstance(gate, PackedLinear) and isinstance(up, PackedLinear) and isinstance(down, PackedLinear)):
        return
    plain = module.forward

    def forward(states: torch.Tensor) -> torch.Tensor:
        if is_exact() and gate.dtype != torch.float32:
            found: torch.Tensor = plain(states)
            return found
        given = states.to(gate.dtype)
        return down.product(up.product_times(given, gate.product(given, layer.activation))).float()

    module.forward = forward


def _takes_one(*modules: torch.nn.Module) -> bool:
    """Whether each is a function of one tensor."""
    return all(len(inspect.signature(module.forward).parameters) == 1 for module in modules)


def _activation(function: torch.nn.Module) -> Activation | None:
    points = torch.linspace(-12.0, 12.0, 4801)
    with torch.inference_mode():
        found = function(points.clone())
        for activation, expected in _ACTIVATIONS.items():
            if torch.allclose(found, expected(points), rtol=1e-5, atol=1e-6):
                return activation
    return None


def _is_gated(
    module: torch.nn.Module,
    gate: torch.nn.Linear,
    up: torch.nn.Linear,
    down: torch.nn.Linear,
    function: torch.nn.Module,
) -> bool:
    dtype = gate.weight.dtype
    scales = torch.tensor(_SCALES).repeat(2)[:, None]
    states = scales * torch.randn(1, len(scales), gate.in_features, generator=torch.Generator().manual_seed(0))
    states = states.to(dtype)
    with torch.inference_mode():
        found = module(states.clone())
        expected = down(function(gate(states)) * up(states))
    if found.shape != expected.shape:
        return False
    tolerance = 4 * torch.finfo(dtype).eps * expected.abs().amax(dim=-1, keepdim=True)
    return bool(((found - expected).abs() <= tolerance).all())
