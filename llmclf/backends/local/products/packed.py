"""Linear layers whose weights are laid out once for the processor's matrix product.

PyTorch's ordinary float32 product rearranges the weights at every call. With weights arranged beforehand, oneDNN's product is a
quarter faster on x86 processors, and several times as fast where few rows meet the large output layer. The sums are the same,
added in another order.

In bfloat16, weights and the states that meet them are rounded to 8 bits, and so is each product's result, the logits among them;
sums within a product are float32, and so is all between two products: norms, attention, and the states that layers add up.
"""

from __future__ import annotations

from typing import NamedTuple, cast

import torch

from ..plain_calls import is_exact


class Activation(NamedTuple):
    """A function of each number of a product, as oneDNN names it: attribute and algorithm."""

    name: str = "none"
    algorithm: str = ""


_NONE = Activation()


class PackedLinear(torch.nn.Module):
    """The product of a `torch.nn.Linear`, float32 in and out, for inference alone; its weights exist only in the packed form.

    Parameters
    ----------
    weight : float32 or bfloat16 tensor (out_features, in_features)
        The type in which it multiplies.
    bias : float32 tensor (out_features,), optional

    Attributes
    ----------
    dtype : torch.dtype
        The type in which it multiplies.

    Examples
    --------
    >>> weight, states = torch.randn(3, 4), torch.randn(2, 4)
    >>> torch.allclose(PackedLinear(weight)(states), states @ weight.T, atol=1e-5)
    True
    """

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None = None) -> None:
        super().__init__()
        self.out_features, self.in_features = weight.shape
        # No parameters: nothing may move or convert them.
        self.bias = None if bias is None else bias.detach().float()
        self.dtype = weight.dtype
        self._packed = torch.ops.mkldnn._reorder_linear_weight(weight.detach())

    @property
    def weight(self) -> torch.Tensor:
        """The weights as they were: some architectures read those of a layer instead of calling it."""
        return cast(torch.Tensor, self._packed.to_dense())

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        if self.dtype != torch.float32 and is_exact():
            return torch.nn.functional.linear(states.float(), self.weight.float(), self.bias)
        if self.dtype == torch.float32 or self.bias is None:
            return self.product(states.to(self.dtype)).float()
        # The bias is added in float32: it would be rounded to 8 bits before the sum.
        return self._multiply(states.to(self.dtype), None, _NONE).float().add_(self.bias)

    def product(self, states: torch.Tensor, activation: Activation = _NONE) -> torch.Tensor:
        """An activation of the product with states of `dtype`, of the same type."""
        return self._multiply(states, self.bias, activation)

    def product_times(self, states: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
        """The product with states of `dtype`, times other numbers of its own shape and type."""
        return cast(
            torch.Tensor, torch.ops.mkldnn._linear_pointwise.binary(states, factor, self._packed, self.bias, "mul")
        )

    def _multiply(self, states: torch.Tensor, bias: torch.Tensor | None, activation: Activation) -> torch.Tensor:
        name, algorithm = activation
        return cast(torch.Tensor, torch.ops.mkldnn._linear_pointwise(states, self._packed, bias, name, [], algorithm))

    def extra_repr(self) -> str:
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}, "
            f"dtype={str(self.dtype).removeprefix('torch.')}"
        )
