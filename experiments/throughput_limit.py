"""The machine's limit for throughput.py: how long the matrix products of a trie take alone, in one type of numbers."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from statistics import median
from typing import Any, NamedTuple

import torch
from throughput_cases import requests_of
from throughput_contenders import Case, Contender, Opening
from throughput_local import load
from torch.nn import functional

from llmclf.backends.local.loaded_model import BATCH_TOKENS, LOGITS_BYTES
from llmclf.backends.local.products.processor import has_packed_float32
from llmclf.backends.local.trie_batches import Budget, groups, in_parts, plan
from llmclf.backends.tokens.codec import TokenCodec, TokenRow
from llmclf.backends.tokens.label_trie import label_trie
from llmclf.backends.tokens.transformers_encoder import TokenizerEncoder, model_context_length

_REPEATS = 5  # timings of one matrix product, of which the median counts
_LOGITS_ROWS = 64  # that meet the output layer at once
_GROUP_SHARE = 8  # a group of rows has to save this part of a batch's columns

Product = Callable[[], torch.Tensor]


class Work(NamedTuple):
    """A pass over some columns, of which some meet the output layer.

    `visible` counts the pairs of a column and a column that it attends to.
    """

    columns: int
    predicted: int
    visible: int


class Limit(Contender):
    """Not a contender: how long this machine needs for the trie's matrix products alone; the variant is their type.

    Every distinct product of the batches that llmclf plans is timed separately, with weights and activations in the cache as
    far as they fit. There are two rates: that of PyTorch's ordinary product, and that of the
    product with packed weights where that is faster. Attention is counted by its operations, at the rate of the products.
    """

    packages = ("torch", "transformers", "llmclf")

    def __init__(self, opening: Opening) -> None:
        self.products = PRODUCTS[opening.variant or "float32"]
        model, tokenizer = load(opening)
        self.codec = TokenCodec(TokenizerEncoder(tokenizer), model_context_length(model))
        modules = dict(model.named_modules())
        head = modules.pop("lm_head")
        self.head_shape = tuple(head.weight.shape)
        linear = [module for module in modules.values() if isinstance(module, torch.nn.Linear)]
        of_place = head.out_features * getattr(torch, opening.variant or "float32").itemsize
        self.budget = Budget(BATCH_TOKENS["cpu"], LOGITS_BYTES["cpu"] // of_place)
        self.shapes = Counter(tuple(module.weight.shape) for module in linear)
        self.weights = {tuple(module.weight.shape): module.weight.detach() for module in (*linear, head)}
        config = model.config
        # Scores and mixture: two products of two operations per query, key and dimension.
        self.attention_flops = 4 * config.num_hidden_layers * config.num_attention_heads * config.head_dim
        self.requests: dict[str, list[Any]] = {}
        self.products(torch.ones(2, 64), 2)  # what this processor or version refuses is said now

    def prepare(self, case: Case) -> None:
        self.requests[case.name] = requests_of(case.spans, case.completions)

    def run(self, case: Case, rows: range, warm_up: Case, n_checked: int) -> dict[str, Any]:
        token_rows = self.codec.encode(self.requests[case.name][rows.start : rows.stop])
        timed: dict[tuple[int, tuple[int, ...]], tuple[float, float]] = {}
        ordinary = fastest = flops = attention = 0.0
        parts = [part for _, _, part in in_parts(token_rows, self.budget.nodes)]
        for work in passes(parts, self.budget):
            products = [(work.columns, shape, count) for shape, count in self.shapes.items()]
            # A whole batch's logits would be more memory than it is worth asking the system for at once.
            for first in range(0, work.predicted, _LOGITS_ROWS):
                products.append((min(_LOGITS_ROWS, work.predicted - first), self.head_shape, 1))
            for columns, shape, count in products:
                if (columns, shape) not in timed:
                    timed[columns, shape] = self._time(self.weights[shape], columns)
                one, other = timed[columns, shape]
                ordinary += one * count
                fastest += min(one, other) * count
                flops += 2.0 * columns * shape[0] * shape[1] * count
            attention += float(work.visible * self.attention_flops)
        n_prefix, n_rows = n_shared(token_rows), len(token_rows)
        return {
            "limit_seconds": fastest + attention * fastest / flops,
            "ordinary_limit_seconds": ordinary + attention * ordinary / flops,
            "gflops_per_second": flops / fastest / 1e9,
            "ordinary_gflops_per_second": flops / ordinary / 1e9,
            "gflops": (flops + attention) / 1e9,
            "attention_gflops": attention / 1e9,
            "prefix_tokens": n_prefix,
            "own_tokens": sum(len(row.context) - n_prefix for row in token_rows) / n_rows,
            "label_nodes": sum(label_trie(row.targets).n_nodes for row in token_rows) / n_rows,
        }

    def _time(self, weight: torch.Tensor, columns: int) -> tuple[float, float]:
        """Seconds for PyTorch's ordinary product, and for the one with packed weights."""
        with torch.inference_mode():
            products = self.products(weight, columns)
            seconds: tuple[list[float], list[float]] = ([], [])
            for _ in range(_REPEATS + 1):
                for product, times in zip(products, seconds, strict=True):
                    began = time.perf_counter()
                    product()
                    times.append(time.perf_counter() - began)
        return median(seconds[0][1:]), median(seconds[1][1:])


def n_shared(rows: list[TokenRow]) -> int:
    """How many tokens all contexts begin with, short of the last one of each."""
    first, last = min(row.context for row in rows), max(row.context for row in rows)
    limit = min(len(row.context) for row in rows) - 1
    return next((i for i in range(limit) if first[i] != last[i]), limit)


def passes(rows: list[TokenRow], budget: Budget) -> Iterator[Work]:
    """The passes that llmclf makes over some rows: beginnings once each, then batches of rows."""
    known: set[tuple[int, ...]] = set()
    for group in groups(rows, budget.columns // _GROUP_SHARE):
        context, start = rows[group.places[0]].context, 0
        for step in group.steps:
            if context[:step] not in known:
                known.add(context[:step])
                for first in range(start, step, budget.columns):
                    last = min(first + budget.columns, step)
                    visible = (last * (last + 1) - first * (first + 1)) // 2
                    yield Work(last - first, 0, visible)
            start = step
        for places in plan(rows, group.places, start, budget):
            yield _batch_work([rows[place] for place in places], start)


def _batch_work(rows: list[TokenRow], n_prefix: int) -> Work:
    lengths = [len(row.context) - n_prefix for row in rows]
    tries = [label_trie(row.targets) for row in rows]
    nodes = [trie.n_nodes for trie in tries]
    visible = 0
    for length, trie in zip(lengths, tries, strict=True):
        visible += length * n_prefix + length * (length + 1) // 2
        visible += trie.n_nodes * (n_prefix + length) + int(trie.visible.sum())
    return Work(sum(lengths) + sum(nodes), sum(nodes) + len(rows), visible)


def floating(dtype: torch.dtype, weight: torch.Tensor, columns: int) -> tuple[Product, Product]:
    """The ordinary product and the packed one in a floating-point type."""
    weight, states = weight.to(dtype), torch.randn(columns, weight.shape[1]).to(dtype)
    ordinary = partial(functional.linear, states, weight)
    if not has_packed_float32():
        return ordinary, ordinary
    packed = torch.ops.mkldnn._reorder_linear_weight(weight)
    return ordinary, partial(torch.ops.mkldnn._linear_pointwise, states, packed, None, "none", [], "")


PRODUCTS = {
    "float32": partial(floating, torch.float32),
    "bfloat16": partial(floating, torch.bfloat16),
}
