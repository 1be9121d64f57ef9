"""Attention by products, and that of a text without a mask, beside plain attention over each row by itself."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from llmclf.backends.local.products.attention import Blocks, attend, read_on
from llmclf.backends.local.products.processor import has_packed_float32
from llmclf.backends.local.trie_batches import lay_out
from llmclf.backends.tokens.codec import TokenRow
from llmclf.backends.tokens.label_trie import label_trie

HEAD = 8

completions = st.lists(
    st.lists(st.integers(0, 3), min_size=1, max_size=5).map(tuple), min_size=1, max_size=9, unique=True
)
rows = st.lists(
    st.builds(TokenRow, st.integers(1, 40).map(lambda n: (1,) * n), completions.map(tuple)), min_size=1, max_size=9
)


def drawn(seed: int, *shapes: tuple[int, ...]) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator) for shape in shapes]


def plainly(query: np.ndarray, keys: np.ndarray, values: np.ndarray, scale: float) -> np.ndarray:
    """What one query (d,) reads from keys (n, d) and values (n, e)."""
    scores = keys @ query * scale
    shares = np.exp(scores - scores.max())
    return shares @ values / shares.sum()


@pytest.mark.skipif(not has_packed_float32(), reason="this processor has no packed product")
@settings(max_examples=60, deadline=None)
@given(rows, st.integers(0, 50), st.sampled_from([(2, 2), (6, 2)]), st.sampled_from([4, 64]), st.integers(0, 9))
def test_products_read_what_each_column_sees(some, n_prefix, heads, longest, seed):
    """Every column of every row: its own past and the prefix, whatever the blocks."""
    n_heads, n_groups = heads
    batch = lay_out(some, range(len(some)), 0, longest)
    n_columns = len(batch.tokens)
    query, key, value, before, before_value = drawn(
        seed,
        (n_heads, n_columns, HEAD),
        (n_groups, n_columns, HEAD),
        (n_groups, n_columns, HEAD + 2),
        (n_groups, n_prefix, HEAD),
        (n_groups, n_prefix, HEAD + 2),
    )
    found = []
    for tile in batch.tiles:
        bias = torch.zeros(tile.mask.shape).masked_fill_(~torch.from_numpy(tile.mask), float("-inf"))
        blocks = Blocks(torch.from_numpy(tile.queries.ravel()), torch.from_numpy(tile.keys.ravel()), bias)
        read = attend(query, key, value, blocks, (before, before_value) if n_prefix else None, 0.4)
        found.append(read if tile.real is None else read[torch.from_numpy(tile.real)])
    ours = torch.cat(found).double().numpy()
    query, key, value, before, before_value = (x.double().numpy() for x in (query, key, value, before, before_value))
    for start, n_text, row in zip(batch.starts, batch.n_texts, some, strict=True):
        trie = label_trie(row.targets)
        for column in range(start, start + n_text + trie.n_nodes):
            nodes = trie.visible[column - start - n_text] if column >= start + n_text else np.zeros(trie.n_nodes, bool)
            sees = [*range(start, min(column + 1, start + n_text)), *(np.flatnonzero(nodes) + start + n_text)]
            for head in range(n_heads):
                group = head // (n_heads // n_groups)
                keys = np.concatenate((before[group], key[group][sees]))
                values = np.concatenate((before_value[group], value[group][sees]))
                wanted = plainly(query[head, column], keys, values, 0.4)
                np.testing.assert_allclose(ours[column, head], wanted, rtol=0.0, atol=1e-5)


@pytest.mark.skipif(not has_packed_float32(), reason="this processor has no packed product")
def test_a_row_that_is_not_finite_spoils_no_other():
    """Blocks of several rows are one product, but no row meets the numbers of another."""
    some = [TokenRow((1,) * n, ((5,), (6, 7), (6, 8))) for n in (3, 9, 5)]
    batch = lay_out(some, range(3), 0, 64)
    query, key, value = drawn(0, *[(2, len(batch.tokens), HEAD)] * 3)
    second = slice(batch.starts[1], batch.starts[2])
    for states in (query, key, value):
        states[:, second] = float("nan")
    (tile,) = batch.tiles
    bias = torch.zeros(tile.mask.shape).masked_fill_(~torch.from_numpy(tile.mask), float("-inf"))
    blocks = Blocks(torch.from_numpy(tile.queries.ravel()), torch.from_numpy(tile.keys.ravel()), bias)
    read = attend(query, key, value, blocks, None, 1.0)[torch.from_numpy(tile.real)]
    is_finite = torch.isfinite(read).all(dim=2).all(dim=1)
    assert not is_finite[second].any()
    assert is_finite[: second.start].all()
    assert is_finite[second.stop :].all()


@pytest.mark.parametrize("n_prefix", [0, 1, 300])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_text_is_read_without_a_mask(n_prefix, dtype):
    """Two readings put together are one reading of both."""
    query, key, value, before, before_value = drawn(
        1, (1, 4, 70, HEAD), *[(1, 2, 70, HEAD)] * 2, *[(1, 2, n_prefix, HEAD)] * 2
    )
    query, key, value, before, before_value = (x.to(dtype) for x in (query, key, value, before, before_value))
    ours = read_on(query, key, value, (before, before_value) if n_prefix else None, 0.5)
    assert ours.dtype == dtype
    mask = torch.ones(70, n_prefix + 70).tril_(n_prefix).bool()
    keys, values = torch.cat((before, key), 2).float(), torch.cat((before_value, value), 2).float()
    wanted = torch.nn.functional.scaled_dot_product_attention(
        query.float(), keys, values, attn_mask=mask, scale=0.5, enable_gqa=True
    )
    torch.testing.assert_close(
        ours.float(), wanted[0].transpose(0, 1), rtol=0.0, atol=1e-5 if dtype == torch.float32 else 0.05
    )
