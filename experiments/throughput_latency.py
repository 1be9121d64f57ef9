"""How long one row takes alone, with 0, 4 and 8 shots, beside a plain pass over the same tokens: a part of throughput.py."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from throughput_contenders import Case, Contender, Opening
from throughput_local import load

from llmclf import LLMClassifier, Prompt
from llmclf.backends import LocalBackend
from llmclf.cards import load_card
from llmclf.errors import InputError

SHOTS = (0, 4, 8)
ROWS_PER_ROUND = 20
WORDS = ("negative", "positive")


class Latency(Contender):
    """One row at a time through `LLMClassifier.score_labels`, and the same tokens through the transformers model.

    The plain pass reads the whole prompt and computes the logits of its last token alone: what SST-2's labels of one token need.
    """

    packages = ("torch", "transformers", "llmclf")

    def __init__(self, opening: Opening) -> None:
        model, self.tokenizer = load(opening)
        self.bare = {"float32": model, "bfloat16": load(opening)[0].to(torch.bfloat16)}
        train, test = load_card("sst2").load("train", n=200), load_card("sst2").load("test")
        self.texts = test["text"].tolist()
        self.prompt = Prompt("Review: {{ text }}\nSentiment:")
        self.classifiers: dict[tuple[str, int], LLMClassifier] = {}
        self.refused: dict[str, str] = {}
        labels = dict(zip(sorted(set(train["label"])), WORDS, strict=True))
        for dtype in opening.variant.split(","):
            try:
                backend = LocalBackend("smollm2", device="cpu", dtype=dtype)
                backend.identity()
            except InputError as error:
                self.refused[dtype] = str(error)
                continue
            for n_shots in SHOTS:
                classifier = LLMClassifier(backend, labels=labels, prompt=self.prompt, n_shots=n_shots, random_state=0)
                self.classifiers[dtype, n_shots] = classifier.fit(train["text"].tolist(), train["label"])

    def run(self, case: Case, rows: range, warm_up: Case, n_checked: int) -> dict[str, Any]:
        settings = {
            key: {"dtype": key[0], "shots": key[1], "tokens": [], "seconds": [], "bare_seconds": []}
            for key in self.classifiers
        }
        for number, text in enumerate(self.texts[rows.start : rows.stop]):
            for (dtype, n_shots), classifier in self.classifiers.items():
                tokens = self._tokens(classifier, text)
                calls: list[tuple[str, Callable[[], Any]]] = [
                    ("seconds", lambda classifier=classifier, text=text: classifier.score_labels([text])),
                    ("bare_seconds", lambda dtype=dtype, tokens=tokens: self._bare_pass(dtype, tokens)),
                ]
                setting: Any = settings[dtype, n_shots]
                setting["tokens"].append(tokens.shape[1])
                if number == 0:  # what is done once is done now
                    classifier.score_labels([self.texts[-1]])
                    self._bare_pass(dtype, tokens)
                for name, call in calls if number % 2 else calls[::-1]:
                    began = time.perf_counter()
                    call()
                    setting[name].append(time.perf_counter() - began)
        return {"seconds": 0.0, "settings": list(settings.values()), "refused": self.refused}

    def _tokens(self, classifier: LLMClassifier, text: str) -> torch.Tensor:
        rendered = self.prompt.renderer(WORDS, classifier.shots_).render({"text": text})
        return torch.tensor([self.tokenizer(rendered.text)["input_ids"]])

    def _bare_pass(self, dtype: str, tokens: torch.Tensor) -> torch.Tensor:
        with torch.inference_mode():
            logits: torch.Tensor = self.bare[dtype](input_ids=tokens, use_cache=False, logits_to_keep=1).logits
        return logits


def summarise(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The settings with the calls of all rounds together, and the types that are refused, with the reason."""
    settings = []
    for same in zip(*(run["settings"] for run in runs), strict=True):
        ours, bare = (np.concatenate([setting[name] for setting in same]) for name in ("seconds", "bare_seconds"))
        settings.append(
            {
                "dtype": same[0]["dtype"],
                "shots": same[0]["shots"],
                "calls": len(ours),
                "tokens": float(np.mean(np.concatenate([setting["tokens"] for setting in same]))),
                "p50": float(np.quantile(ours, 0.5)),
                "p95": float(np.quantile(ours, 0.95)),
                "bare_p50": float(np.quantile(bare, 0.5)),
                "bare_p95": float(np.quantile(bare, 0.95)),
                "ratio": [float(np.median(np.divide(one["seconds"], one["bare_seconds"]))) for one in same],
                # Of each round, to compare settings of the same round.
                "round_p50": [float(np.median(one["seconds"])) for one in same],
            }
        )
    return {"settings": settings, "refused": runs[0]["refused"] if runs else {}}


def to_lines(latency: Mapping[str, Any], spread: Callable[[Sequence[float]], str]) -> list[str]:
    """The section of throughput.md."""
    settings = latency["settings"]
    n_calls = settings[0]["calls"] if settings else 0
    lines = [
        "## One row at a time",
        "",
        f"{n_calls} calls of `LLMClassifier.score_labels` with one SST-2 review each (2 labels of one token), beside a forward",
        "pass of the plain transformers model over the same tokens: the whole prompt, and the logits of its last token alone.",
        "Medians (p50) and 95 % quantiles of all calls; ratios are the median [smallest–largest] of the rounds'.",
        "",
        "| llmclf's type | shots | prompt tokens | p50 | p95 | plain pass in | p50 | p95 | llmclf / plain pass |",
        "|---|--:|--:|--:|--:|---|--:|--:|--:|",
    ]
    lines += [
        f"| {one['dtype']} | {one['shots']} | {one['tokens']:.0f} | {_ms(one['p50'])} | {_ms(one['p95'])} | "
        f"{one['dtype']} | {_ms(one['bare_p50'])} | {_ms(one['bare_p95'])} | {spread(one['ratio'])} |"
        for one in settings
    ]
    lines += [f"| {dtype} | not run: {why} | | | | | | | |" for dtype, why in latency["refused"].items()]
    by_key = {(one["dtype"], one["shots"]): one for one in settings}
    sentences = []
    for dtype in dict.fromkeys(one["dtype"] for one in settings):
        few, many = by_key[dtype, SHOTS[0]]["round_p50"], by_key[dtype, SHOTS[-1]]["round_p50"]
        ratios = [more / less for more, less in zip(many, few, strict=True)]
        sentences.append(f"{spread(ratios)} in {dtype}")
    if sentences:
        lines += ["", f"Time with {SHOTS[-1]} shots / time without: {'; '.join(sentences)}."]
    return lines


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:.1f} ms"
