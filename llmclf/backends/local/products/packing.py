"""A model's linear layers replaced by those of another product."""

from __future__ import annotations

from typing import Any

import torch

from .gated import gated_layer, join_products
from .packed import PackedLinear
from .processor import has_packed_float32


def pack_linear_layers(model: Any, dtype: str = "float32") -> int:
    """Replace the linear layers of a model on a CPU by packed ones, in place, and join those of gated layers; returns how many.

    Layers that are more than a plain `Linear` stay as they are; a float32 model stays as it is where nothing can be packed. With
    another `dtype` than float32, all else that the model has is float32 afterwards.

    Parameters
    ----------
    model : transformers model
    dtype : str
        In which they multiply: ``"float32"`` or ``"bfloat16"``.
    """
    if model.device.type != "cpu" or (
        dtype == "float32" and (model.dtype != torch.float32 or not has_packed_float32())
    ):
        return 0
    # Weights read from a file are a memory map of it, which is freed with its last weight: so this goes layer by layer, and
    # copies what it does not pack.
    n_packed, gated = 0, []
    for name in [name for name, _ in model.named_modules()]:
        layer = model.get_submodule(name)
        if type(layer) is torch.nn.Linear and (dtype != "float32" or layer.weight.dtype == torch.float32):
            model.set_submodule(name, PackedLinear(layer.weight.to(getattr(torch, dtype)), layer.bias))
            n_packed += 1
            continue
        if (how := gated_layer(layer)) is not None:
            gated.append((layer, how))
        for tensor in (*layer.parameters(recurse=False), *layer.buffers(recurse=False)):
            if dtype == "float32":
                if isinstance(tensor, torch.nn.Parameter):
                    tensor.data = tensor.data.clone()
            elif tensor.is_floating_point():
                tensor.data = tensor.data.clone() if tensor.dtype == torch.float32 else tensor.data.float()
    for layer, how in gated:
        join_products(layer, how)
    return n_packed


def unplain_layers(model: Any) -> list[str]:
    """Names of the layers of a model that hold a matrix and are neither a plain `Linear` nor an embedding."""
    return [
        name
        for name, module in model.named_modules()
        if type(module) is not torch.nn.Linear
        and not isinstance(module, torch.nn.Embedding)
        and any(parameter.dim() > 1 for parameter in module.parameters(recurse=False))
    ]
