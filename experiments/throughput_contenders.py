"""One contender of throughput.py in its own process: ``python throughput_contenders.py NAME MODEL_FOLDER THREADS``.

So each contender has its own environment and its own peak memory. The process reads commands and writes answers, one JSON
object per line: a case (prompts and completions) is sent once, then run as often as requested. The other environments do
not have llmclf, so this module imports it only when a contender that needs it is opened.
"""

from __future__ import annotations

import gc
import json
import logging
import os
import platform
import resource
import sys
import time
from collections import Counter
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from functools import partial
from importlib import metadata
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch.nn import functional

_BATCH = 16  # sequences in one forward pass of pair-by-pair scoring and of lm-eval
_REPEATS = 5  # timings of one matrix product, of which the median counts


@dataclass
class Case:
    """Prompts as lists of (text, is data), and what every contender derives from them outside of the measured time.

    `shared` is the text that all prompts begin with, where instruction or shots give them one.
    """

    name: str
    spans: list[list[tuple[str, bool]]]
    completions: list[str]
    shared: str
    cappr_batch: int
    prompts: list[str] = field(init=False)

    def __post_init__(self) -> None:
        self.prompts = ["".join(text for text, _ in spans) for spans in self.spans]


Sums = list[list[float]]
"""The summed log-probability of every completion, for every row."""


class Llmclf:
    """The token trie, as `LLMClassifier` calls it."""

    packages = ("torch", "transformers", "llmclf")

    def __init__(self, folder: str) -> None:
        from llmclf.backends import LocalBackend

        self.backend = LocalBackend("smollm2", device="cpu")
        self.backend.identity()  # opens the weights
        self.requests: dict[str, list[Any]] = {}

    def prepare(self, case: Case) -> None:
        self.requests[case.name] = requests_of(case.spans, case.completions)

    def score(self, case: Case, n_rows: int) -> Sums:
        scores = dict(self.backend.score(self.requests[case.name][:n_rows]))
        return [list(scores[row].sums) for row in range(n_rows)]


class Pairs:
    """Plain transformers: every prompt with every completion is a sequence; similar lengths share a batch."""

    packages = ("torch", "transformers")

    def __init__(self, folder: str) -> None:
        self.model, self.tokenizer = load(folder)

    def prepare(self, case: Case) -> None:
        pass

    def score(self, case: Case, n_rows: int) -> Sums:
        pairs: list[tuple[list[int], int]] = []
        for prompt in case.prompts[:n_rows]:
            start = len(self.tokenizer(prompt)["input_ids"])
            joint = self.tokenizer([prompt + completion for completion in case.completions])["input_ids"]
            pairs += [(ids, start) for ids in joint]
        sums = [0.0] * len(pairs)
        order = sorted(range(len(pairs)), key=lambda i: -len(pairs[i][0]))
        for first in range(0, len(order), _BATCH):
            indices = order[first : first + _BATCH]
            # The last token is predicted, never read.
            tokens = torch.zeros(len(indices), len(pairs[indices[0]][0]) - 1, dtype=torch.long)
            for row, index in zip(tokens, indices, strict=True):
                ids = pairs[index][0]
                row[: len(ids) - 1] = torch.tensor(ids[:-1])
            # No mask: padding is to the right of all that is read, where causal attention does not look.
            with torch.inference_mode():
                logits = self.model(input_ids=tokens, use_cache=False).logits
            for row, index in zip(logits, indices, strict=True):
                ids, start = pairs[index]
                logprobs = torch.log_softmax(row[start - 1 : len(ids) - 1].float(), dim=-1)
                sums[index] = logprobs.gather(1, torch.tensor(ids[start:])[:, None]).sum().item()
        return grouped(sums, len(case.completions))


class Cappr:
    """CAPPr: keys and values of prompts are cached for their completions, and those of the shared text for all prompts."""

    packages = ("torch", "transformers", "cappr")

    def __init__(self, folder: str) -> None:
        import cappr.huggingface.classify as classify

        self.classify = classify
        self.model_and_tokenizer = load(folder)

    def prepare(self, case: Case) -> None:
        pass

    def score(self, case: Case, n_rows: int) -> Sums:
        prompts = case.prompts[:n_rows]
        opened = nullcontext(self.model_and_tokenizer)
        if case.shared:
            # CAPPr puts a space between what is cached and what follows, so the texts are cut at one.
            prompts = [prompt.removeprefix(f"{case.shared} ") for prompt in prompts]
            opened = self.classify.cache(self.model_and_tokenizer, case.shared, logits_all=False)
        with opened as model_and_tokenizer:
            logprobs = self.classify.log_probs_conditional(
                prompts,
                [completion.removeprefix(" ") for completion in case.completions],
                model_and_tokenizer,
                end_of_prompt=" ",
                show_progress_bar=False,
                batch_size=case.cappr_batch,
            )
        return [[sum(tokens) for tokens in row] for row in logprobs]


class LmEval:
    """The Hugging Face model of lm-evaluation-harness."""

    packages = ("torch", "transformers", "lm_eval")

    def __init__(self, folder: str) -> None:
        from lm_eval.api.instance import Instance
        from lm_eval.models.huggingface import HFLM

        logging.getLogger("lm_eval").setLevel(logging.ERROR)
        model, tokenizer = load(folder)
        self.instance = Instance
        self.lm = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=_BATCH)

    def prepare(self, case: Case) -> None:
        pass

    def score(self, case: Case, n_rows: int) -> Sums:
        pairs = [(prompt, completion) for prompt in case.prompts[:n_rows] for completion in case.completions]
        requests = [self.instance("loglikelihood", {}, pair, index) for index, pair in enumerate(pairs)]
        answers = self.lm.loglikelihood(requests, disable_tqdm=True)
        return grouped([logprob for logprob, _ in answers], len(case.completions))


class Limit:
    """Not a contender: how long this machine needs for the trie's matrix products alone.

    Every distinct product of the batches that llmclf plans is timed separately, with weights and activations in the cache as
    far as they fit; padding is not counted. There are two rates: that of PyTorch's ordinary product, and that of the
    product with packed weights where that is faster. Attention is counted by its operations, at the rate of the products.
    """

    packages = ("torch", "transformers", "llmclf")

    def __init__(self, folder: str) -> None:
        from llmclf.backends.tokens.codec import TokenCodec
        from llmclf.backends.tokens.transformers_encoder import TokenizerEncoder, model_context_length

        model, tokenizer = load(folder)
        self.codec = TokenCodec(TokenizerEncoder(tokenizer), model_context_length(model))
        modules = dict(model.named_modules())
        head = modules.pop("lm_head")
        self.head_shape = tuple(head.weight.shape)
        linear = [module for module in modules.values() if isinstance(module, torch.nn.Linear)]
        self.shapes = Counter(tuple(module.weight.shape) for module in linear)
        self.weights = {tuple(module.weight.shape): module.weight.detach() for module in (*linear, head)}
        config = model.config
        # Scores and mixture: two products of two operations per query, key and dimension.
        self.attention_flops = 4 * config.num_hidden_layers * config.num_attention_heads * config.head_dim
        self.requests: dict[str, list[Any]] = {}

    def prepare(self, case: Case) -> None:
        self.requests[case.name] = requests_of(case.spans, case.completions)

    def measure(self, case: Case, n_rows: int) -> dict[str, float]:
        from llmclf.backends.local.loaded_model import BATCH_TOKENS
        from llmclf.backends.local.trie_batches import plan, shared_prefix
        from llmclf.backends.tokens.label_trie import label_trie

        rows = self.codec.encode(self.requests[case.name][:n_rows])
        budget, n_prefix = BATCH_TOKENS["cpu"], len(shared_prefix(rows))
        self.timed: dict[tuple[int, tuple[int, ...]], tuple[float, float]] = {}
        ordinary = fastest = flops = 0.0
        # (columns of the product, columns that are needed, shape, how many such layers)
        products: list[tuple[int, int, tuple[int, ...], int]] = []
        for start in range(0, n_prefix, budget):
            size = min(budget, n_prefix - start)
            products += [(size, size, shape, count) for shape, count in self.shapes.items()]
        visible = n_prefix * (n_prefix + 1) // 2
        for indices in plan(rows, n_prefix, budget):
            context_lengths = [len(rows[i].context) - n_prefix for i in indices]
            tries = [label_trie(rows[i].targets) for i in indices]
            nodes = [trie.n_nodes for trie in tries]
            columns, needed = len(indices) * (max(context_lengths) + max(nodes)), sum(context_lengths) + sum(nodes)
            products += [(columns, needed, shape, count) for shape, count in self.shapes.items()]
            products.append((len(indices) * (max(nodes) + 1), sum(nodes) + len(indices), self.head_shape, 1))
            for n_context, trie in zip(context_lengths, tries, strict=True):
                visible += n_context * n_prefix + n_context * (n_context + 1) // 2
                visible += trie.n_nodes * (n_prefix + n_context) + int(trie.visible.sum())
        for columns, needed, shape, count in products:
            times = self._time(columns, shape)
            ordinary += times[0] * count * needed / columns
            fastest += min(times) * count * needed / columns
            flops += 2.0 * needed * shape[0] * shape[1] * count
        attention = float(visible * self.attention_flops)
        return {
            "limit_seconds": fastest + attention * fastest / flops,
            "ordinary_limit_seconds": ordinary + attention * ordinary / flops,
            "gflops_per_second": flops / fastest / 1e9,
            "ordinary_gflops_per_second": flops / ordinary / 1e9,
            "gflops": (flops + attention) / 1e9,
            "attention_gflops": attention / 1e9,
            "prefix_tokens": n_prefix,
            "own_tokens": sum(len(row.context) - n_prefix for row in rows) / n_rows,
            "label_nodes": sum(label_trie(row.targets).n_nodes for row in rows) / n_rows,
        }

    def _time(self, columns: int, shape: tuple[int, ...]) -> tuple[float, float]:
        key = (columns, shape)
        if key not in self.timed:
            self.timed[key] = self._time_product(self.weights[shape], columns)
        return self.timed[key]

    @staticmethod
    def _time_product(weight: torch.Tensor, columns: int) -> tuple[float, float]:
        """Seconds for PyTorch's ordinary product, and for the one with packed weights."""
        from llmclf.backends.local.packed_linear import PackedLinear, can_pack

        states = torch.randn(columns, weight.shape[1])
        ordinary = partial(functional.linear, weight=weight)
        products = (ordinary, PackedLinear(weight) if can_pack() else ordinary)
        seconds: tuple[list[float], list[float]] = ([], [])
        with torch.inference_mode():
            for _ in range(_REPEATS + 1):
                for product, times in zip(products, seconds, strict=True):
                    began = time.perf_counter()
                    product(states)
                    times.append(time.perf_counter() - began)
        return median(seconds[0][1:]), median(seconds[1][1:])


CONTENDERS = {"llmclf": Llmclf, "pairs": Pairs, "cappr": Cappr, "lm-eval": LmEval, "limit": Limit}


def requests_of(spans: list[list[tuple[str, bool]]], completions: list[str]) -> list[Any]:
    """llmclf's requests; without a terminator, so that all contenders score the same text."""
    from llmclf.backends import Request
    from llmclf.prompts.rendered import RenderedPrompt, Span, Turn

    prompts = [RenderedPrompt((Turn(None, tuple(Span(text, bool(data)) for text, data in row)),)) for row in spans]
    return [Request(prompt, tuple(completions), None) for prompt in prompts]


def load(folder: str) -> tuple[Any, Any]:
    """Model and tokenizer of a folder, float32."""
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    # The name of this argument changed between the versions that the contenders need; both still take the old one.
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, torch_dtype=torch.float32)
    return model.eval(), tokenizer


def grouped(values: list[float], size: int) -> Sums:
    return [values[start : start + size] for start in range(0, len(values), size)]


def reset_peak() -> None:
    """Reset the peak memory, where the system can (Linux); elsewhere it is that of the whole process."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_bytes() -> int:
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if platform.system() == "Darwin" else peak * 1024


def run(contender: Any, case: Case, n_rows: int, n_checked: int) -> dict[str, Any]:
    if isinstance(contender, Limit):
        return contender.measure(case, n_rows)
    reset_peak()
    began = time.perf_counter()
    sums = contender.score(case, n_rows)
    seconds = time.perf_counter() - began
    return {"rows": n_rows, "seconds": seconds, "peak_bytes": peak_bytes(), "scores": sums[:n_checked]}


def main() -> None:
    name, folder, threads = sys.argv[1:]
    # Libraries that print must not write between the answers.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    torch.set_num_threads(int(threads))
    contender = CONTENDERS[name](folder)
    cases: dict[str, Case] = {}
    versions = {package: metadata.version(package) for package in contender.packages}
    print(json.dumps({"versions": versions}), file=answers, flush=True)
    for line in sys.stdin:
        command = json.loads(line)
        try:
            if "case" in command:
                case = Case(**command["case"])
                cases[case.name] = case
                contender.prepare(case)
                answer: dict[str, Any] = {}
            else:
                # One row with another prompt: wakes idle threads, and displaces what an earlier run left in the cache.
                if not isinstance(contender, Limit):
                    contender.score(cases["warm-up"], 1)
                gc.collect()
                answer = run(contender, cases[command["run"]], command["rows"], command["checked"])
        except Exception as error:  # a contender that fails is a result, and must not end the others
            answer = {"error": type(error).__name__}
            print(f"{name}: {error!r}", file=sys.stderr, flush=True)
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
