"""Linear layers that multiply 8-bit integers: weights rounded per output channel, states per token.

Both are symmetric: a channel's or a token's largest number becomes 127. The sums of products are exact integers, and the two
scales are multiplied in afterwards, so a token's result does not depend on what stands beside it in the batch.
"""

from __future__ import annotations

import torch

from ..plain_calls import is_exact

_ZERO_POINT = 128  # states are sent as uint8 around it, for which more processors have a fast product than for int8
_SMALLEST = 1e-30  # the scale of a token or a channel that is all zero


class Int8Linear(torch.nn.Module):
    """The product of a `torch.nn.Linear` in 8-bit integers, float32 in and out, for inference alone.

    Parameters
    ----------
    weight : float tensor (out_features, in_features)
    bias : float tensor (out_features,), optional

    Examples
    --------
    >>> weight, states = torch.eye(3, 4), torch.tensor([[1.0, -2.0, 127.0, 0.4]])
    >>> Int8Linear(weight)(states)
    tensor([[  1.,  -2., 127.]])
    """

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None = None) -> None:
        super().__init__()
        self.out_features, self.in_features = weight.shape
        self.bias = None if bias is None else bias.detach().float()
        wide = weight.detach().float()
        scales = (wide.abs().amax(dim=1) / 127.0).clamp_(min=_SMALLEST)
        whole = (wide / scales[:, None]).round_().to(torch.int8).contiguous()
        self._scales = scales
        self._zeros = torch.zeros(self.out_features, dtype=torch.int64)
        self._packed = torch.ops.onednn.qlinear_prepack(whole, None)

    @property
    def weight(self) -> torch.Tensor:
        """The weights as they are multiplied: whole numbers times a scale per output channel."""
        one_hot = torch.full((self.in_features, self.in_features), _ZERO_POINT, dtype=torch.uint8)
        one_hot.fill_diagonal_(_ZERO_POINT + 1)
        return self._product(one_hot).T.contiguous()

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        if is_exact():
            return torch.nn.functional.linear(states.float(), self.weight, self.bias)
        rows = states.reshape(-1, self.in_features).float()
        scales = (rows.abs().amax(dim=1, keepdim=True) / 127.0).clamp_(min=_SMALLEST)
        whole = torch.mul(rows, scales.reciprocal()).round_().add_(_ZERO_POINT).to(torch.uint8)
        sums = self._product(whole).mul_(scales)
        if self.bias is not None:
            sums.add_(self.bias)
        return sums.view(*states.shape[:-1], self.out_features)

    def _product(self, whole: torch.Tensor) -> torch.Tensor:
        """Whole numbers (n, in_features) around the zero point times the weights, in float32: sums below 2**24 are exact."""
        sums: torch.Tensor = torch.ops.onednn.qlinear_pointwise(
            whole, 1.0, _ZERO_POINT, self._packed, self._scales, self._zeros, None, 1.0, 0, torch.float32, "none", [], ""
        )  # fmt: skip
        return sums

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"
