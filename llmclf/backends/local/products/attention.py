"""Attention by the products of large layers.

PyTorch's attention for processors multiplies small blocks, at a third of the speed of oneDNN's product. Where many queries meet
the same keys, those of a prefix, all of them can be one product; and the few scores of a query fit into the cache.
"""

from __future__ import annotations

from typing import NamedTuple, cast

import torch

_SMALL = 1 << 15  # numbers: what preparing a product by oneDNN is worth


class Blocks(NamedTuple):
    """B blocks of Q queries and W keys among the columns of a pass.

    Attributes
    ----------
    queries, keys : int tensors (B * Q,) and (B * W,)
    bias : float32 tensor (B, Q, W)
        To be added to scores: minus infinity where a query does not see a key.
    """

    queries: torch.Tensor
    keys: torch.Tensor
    bias: torch.Tensor


def attend(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    blocks: Blocks,
    prefix: tuple[torch.Tensor, torch.Tensor] | None,
    scale: float,
) -> torch.Tensor:
    """What each query of some blocks reads from its block's keys, and from those of a prefix.

    Parameters
    ----------
    query, key, value : float32 tensors (heads, T, d), (key heads, T, d), (key heads, T, e)
    blocks : Blocks
    prefix : pair of float32 tensors (key heads, P, d) and (key heads, P, e), optional
        Keys and values that every query sees.
    scale : float

    Returns
    -------
    float32 tensor (B * Q, heads, e)
    """
    n_blocks, n_queries, n_keys = blocks.bias.shape
    n_heads, n_groups = query.shape[0], key.shape[0]
    n_each = n_heads // n_groups  # query heads that share keys
    # By key head, block, query head and query: so the rows of a product are consecutive.
    asked = _columns(query, blocks.queries).view(n_blocks, n_queries, n_groups, n_each, -1).permute(2, 0, 3, 1, 4)
    asked = asked.mul(scale).reshape(n_groups, n_blocks * n_each * n_queries, -1)
    keys = _columns(key, blocks.keys).view(n_blocks, n_keys, n_groups, -1).permute(2, 0, 3, 1)
    values = _columns(value, blocks.keys).view(n_blocks, n_keys, n_groups, -1).permute(2, 0, 1, 3)
    own = torch.matmul(asked.view(n_groups, n_blocks, n_each * n_queries, -1), keys)
    own.view(n_groups, n_blocks, n_each, n_queries, n_keys).add_(blocks.bias[:, None])
    own = own.view(n_groups, -1, n_keys)
    n_prefix = 0 if prefix is None else prefix[0].shape[1]
    if prefix is not None:
        scores = own.new_empty((*own.shape[:2], n_prefix + n_keys))
        for group in range(n_groups):
            scores[group, :, :n_prefix] = _product(asked[group], prefix[0][group])
        scores[:, :, n_prefix:] = own
        own = scores
    shares = torch.softmax(own, dim=-1)
    of_own = shares[:, :, n_prefix:].reshape(n_groups, n_blocks, n_each * n_queries, n_keys)
    read = torch.matmul(of_own, values).view(n_groups, n_blocks * n_each * n_queries, -1)
    if prefix is not None:
        for group in range(n_groups):
            read[group] += _product(shares[group, :, :n_prefix], prefix[1][group].T.contiguous())
    read = read.view(n_groups, n_blocks, n_each, n_queries, -1).permute(1, 3, 0, 2, 4)
    return read.reshape(n_blocks * n_queries, n_heads, -1)


def _columns(states: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """Of states (heads, T, d), those at some places, (places, heads, d)."""
    return states.transpose(0, 1).index_select(0, places)


def _product(rows: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """The product of rows (n, d) and a transposed matrix (m, d)."""
    if rows.shape[0] * weight.numel() < _SMALL:
        return rows @ weight.T
    return cast(torch.Tensor, torch.ops.mkldnn._linear_pointwise(rows, weight, None, "none", [], ""))


def read_on(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    prefix: tuple[torch.Tensor, torch.Tensor] | None,
    scale: float,
) -> torch.Tensor:
    """What each token of one text reads from those before it and from itself, and from a prefix; without a mask.

    Two readings, of the prefix and of the text itself, are put together by the sums of their exponentials, as in [1]_.

    Parameters
    ----------
    query, key, value : tensors (1, heads, T, d), (1, key heads, T, d) twice
    prefix : pair of tensors (1, key heads, P, d), optional
    scale : float

    Returns
    -------
    tensor (T, heads, d)

    References
    ----------
    .. [1] Milakov, M. and Gimelshein, N. (2018). Online normalizer calculation for softmax. arXiv:1805.02867.
    """
    flash = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    own, of_own = flash(query, key, value, 0.0, True, scale=scale)
    own = own[0].transpose(0, 1)
    if prefix is None:
        return cast(torch.Tensor, own)
    read, of_prefix = flash(query, *prefix, 0.0, False, scale=scale)
    share = torch.sigmoid(of_prefix - of_own)[0].T.unsqueeze(-1)
    read = read[0].transpose(0, 1)
    return torch.lerp(own.float(), read.float(), share.float()).to(own.dtype)
