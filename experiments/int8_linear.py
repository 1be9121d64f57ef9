"""Linear layers that multiply 8-bit integers, as number_types.py judges them; the package does not use them.

Weights are rounded per output channel, states per token, both symmetrically: the largest number becomes 127. The sums of
products are exact integers, and the two scales are multiplied in afterwards, so a token's result does not depend on what stands
beside it in the batch. Columns of states that are far larger than the others may be multiplied in float32 instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

_ZERO_POINT = 128  # states are sent as uint8 around it, for which more processors have a fast product than for int8
_SMALLEST = 1e-30  # the scale of a token or a channel that is all zero


class Int8Linear(torch.nn.Module):
    """The product of a `torch.nn.Linear` in 8-bit integers, float32 in and out.

    Parameters
    ----------
    weight : float tensor (out_features, in_features)
    bias : float tensor (out_features,), optional
    outliers : sequence of int
        Columns of the states that are multiplied in float32.
    """

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None = None, outliers: Sequence[int] = ()) -> None:
        super().__init__()
        self.bias = bias
        self._outliers = torch.tensor(outliers, dtype=torch.int64)
        self._in_float = weight[:, self._outliers].T.contiguous()
        rest = weight.float().index_fill(1, self._outliers, 0.0)
        self._scales = (rest.abs().amax(dim=1) / 127.0).clamp_(min=_SMALLEST)
        self._zeros = torch.zeros(len(rest), dtype=torch.int64)
        whole = (rest / self._scales[:, None]).round_().to(torch.int8).contiguous()
        self._packed = torch.ops.onednn.qlinear_prepack(whole, None)

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        rows = states.reshape(-1, states.shape[-1])
        rest = rows.index_fill(1, self._outliers, 0.0) if len(self._outliers) else rows
        scales = (rest.abs().amax(dim=1, keepdim=True) / 127.0).clamp_(min=_SMALLEST)
        whole = torch.mul(rest, scales.reciprocal()).round_().add_(_ZERO_POINT).to(torch.uint8)
        sums: torch.Tensor = torch.ops.onednn.qlinear_pointwise(
            whole, 1.0, _ZERO_POINT, self._packed, self._scales, self._zeros, None, 1.0, 0, torch.float32, "none", [], ""
        )  # fmt: skip
        sums.mul_(scales)
        if len(self._outliers):
            sums.addmm_(rows[:, self._outliers], self._in_float)
        if self.bias is not None:
            sums.add_(self.bias)
        return sums.view(*states.shape[:-1], -1)


def quantise(model: Any, ids: torch.Tensor, n_outliers: int) -> None:
    """Replace the linear layers of a model, in place; those columns are outliers that are largest in some text."""
    for module in model.modules():
        vars(module).pop("forward", None)  # gated layers, which call the packed layers that they were made of
    largest: dict[str, torch.Tensor] = {}
    layers = {
        name: module for name, module in model.named_modules() if type(module).__name__ in ("Linear", "PackedLinear")
    }
    handles = [
        layer.register_forward_pre_hook(
            lambda _, args, name=name: largest.update({name: args[0].abs().flatten(0, -2).amax(dim=0)})
        )
        for name, layer in layers.items()
    ]
    with torch.inference_mode():
        model(input_ids=ids, use_cache=False)
    for handle in handles:
        handle.remove()
    for name, layer in layers.items():
        outliers = largest[name].topk(n_outliers).indices.tolist() if n_outliers else ()
        model.set_submodule(name, Int8Linear(layer.weight, layer.bias, outliers))
