"""Contenders of throughput.py that compute with PyTorch in their own process.

The environments of other packages do not have llmclf, so it is imported only where a contender that needs it is opened.
"""

from __future__ import annotations

import logging
from contextlib import nullcontext
from typing import Any

import torch
from throughput_contenders import Case, Contender, Opening, Sums, grouped

_BATCH = 16  # sequences in one forward pass of pair-by-pair scoring and of lm-eval


class Llmclf(Contender):
    """The token trie, as `LLMClassifier` calls it."""

    packages = ("torch", "transformers", "llmclf")

    def __init__(self, opening: Opening) -> None:
        from llmclf.backends import LocalBackend

        torch.set_num_threads(opening.threads)
        # The variant is the type that it computes in; float32 is what a CPU has by default.
        self.backend = LocalBackend("smollm2", device="cpu", dtype=opening.variant or None)
        self.backend.identity()  # opens the weights
        self.requests: dict[str, list[Any]] = {}

    def prepare(self, case: Case) -> None:
        from throughput_cases import requests_of

        self.requests[case.name] = requests_of(case.spans, case.completions)
        dict(self.backend.score(self.requests[case.name][-1:]))  # The first row of a length is checked at that length.

    def score(self, case: Case, rows: range) -> Sums:
        scores = dict(self.backend.score(self.requests[case.name][rows.start : rows.stop]))
        return [list(scores[row].sums) for row in range(len(rows))]


class Pairs(Contender):
    """Plain transformers: every prompt with every completion is a sequence; similar lengths share a batch."""

    packages = ("torch", "transformers")

    def __init__(self, opening: Opening) -> None:
        self.model, self.tokenizer = load(opening)

    def score(self, case: Case, rows: range) -> Sums:
        pairs: list[tuple[list[int], int]] = []
        for prompt in case.prompts[rows.start : rows.stop]:
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


class Cappr(Contender):
    """CAPPr: keys and values of prompts are cached for their completions, and those of the shared text for all prompts."""

    packages = ("torch", "transformers", "cappr")

    def __init__(self, opening: Opening) -> None:
        import cappr.huggingface.classify as classify

        self.classify = classify
        self.model_and_tokenizer = load(opening)

    def score(self, case: Case, rows: range) -> Sums:
        prompts = case.prompts[rows.start : rows.stop]
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


class LmEval(Contender):
    """The Hugging Face model of lm-evaluation-harness."""

    packages = ("torch", "transformers", "lm_eval")

    def __init__(self, opening: Opening) -> None:
        from lm_eval.api.instance import Instance
        from lm_eval.models.huggingface import HFLM

        logging.getLogger("lm_eval").setLevel(logging.ERROR)
        model, tokenizer = load(opening)
        self.instance = Instance
        self.lm = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=_BATCH)

    def score(self, case: Case, rows: range) -> Sums:
        pairs = [
            (prompt, completion) for prompt in case.prompts[rows.start : rows.stop] for completion in case.completions
        ]
        requests = [self.instance("loglikelihood", {}, pair, index) for index, pair in enumerate(pairs)]
        answers = self.lm.loglikelihood(requests, disable_tqdm=True)
        return grouped([logprob for logprob, _ in answers], len(case.completions))


def load(opening: Opening) -> tuple[Any, Any]:
    """Model and tokenizer of a folder, float32."""
    import transformers

    torch.set_num_threads(opening.threads)
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    tokenizer = transformers.AutoTokenizer.from_pretrained(opening.path)
    # The name of this argument changed between the versions that the contenders need; both still take the old one.
    model = transformers.AutoModelForCausalLM.from_pretrained(opening.path, torch_dtype=torch.float32)
    return model.eval(), tokenizer
