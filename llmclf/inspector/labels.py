"""The labels of one row, token by token: what each was worth, and what the model would rather have said."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..backends.base import View
from ..backends.requests import RowScores
from ..logits import log_softmax

N_ALTERNATIVES = 5


def label_lines(
    answer: RowScores,
    words: Sequence[str],
    classes: Sequence[Any],
    tokens: Sequence[Sequence[dict[str, Any]]] | None,
    longer: Sequence[Sequence[int]] = (),
) -> list[dict[str, Any]]:
    """Each label word with its tokens and its scores.

    Parameters
    ----------
    answer : RowScores
    words, classes : sequences of C
        The word of each completion and the class that it belongs to.
    tokens : per completion, ``id`` and ``token`` of each of its tokens; None where they are not known
    longer : per completion, the places of those that begin with it and that it excludes
        What this does to its score then stands apart, as a token of its own.
    """
    lines = []
    for place, (word, label, logprobs) in enumerate(zip(words, classes, answer.token_logprobs, strict=True)):
        total = answer.sums[place]
        named = tokens[place] if tokens is not None else [{}] * len(logprobs)
        lines.append(
            {
                "class": label,
                "word": word,
                "tokens": [
                    {**token, "logprob": finite(logprob)} for token, logprob in zip(named, logprobs, strict=True)
                ],
                "sum": finite(total),
                "mean": finite(total / len(logprobs)),
                "bytes": finite(total / len(word.encode("utf-8", "surrogatepass"))),
                "probability": math.exp(total),
            }
        )
    for place, others in enumerate(longer):
        if others:
            own = lines[place]["tokens"]
            # The longer label has the same token at this place, and goes on from it.
            plain = answer.token_logprobs[others[0]][len(own) - 1]
            end = {"id": -1, "token": "(no longer label)", "is_terminator": True, "logprob": own[-1]["logprob"] - plain}
            lines[place]["tokens"] = [*own[:-1], {**own[-1], "logprob": plain}, end]
    return lines


def finite(value: float) -> float | None:
    """A number as JSON has it; None for minus infinity, the score of a label that a server did not show."""
    return value if math.isfinite(value) else None


def completion_tokens(view: View, texts: Callable[[Sequence[int]], list[str]]) -> list[list[dict[str, Any]]]:
    """Id and text of every token of every completion; the last is the terminator where the row has one."""
    completions = []
    for target in view.row.targets:
        tokens: list[dict[str, Any]] = [
            {"id": token, "token": text} for token, text in zip(target, texts(target), strict=True)
        ]
        if view.row.terminated:
            tokens[-1]["is_terminator"] = True
        completions.append(tokens)
    return completions


def label_tree(lines: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The trie of the labels' tokens as nested nodes.

    Each node has ``id``, ``token``, ``logprob``, the ``sum`` from the root to it, the ``words`` that end there and its
    ``children``; siblings stand in the order of their probability.
    """
    root: dict[str, Any] = {"children": {}, "sum": 0.0}
    for line in lines:
        node = root
        for token in line["tokens"]:
            node = node["children"].setdefault(
                token["id"],
                {
                    **token,
                    "probability": math.exp(token["logprob"]),
                    "sum": node["sum"] + token["logprob"],
                    "words": [],
                    "children": {},
                },
            )
        node["words"].append({"class": line["class"], "word": line["word"]})
    return _listed(root)


def _listed(node: dict[str, Any]) -> list[dict[str, Any]]:
    children = sorted(node["children"].values(), key=lambda child: -child["logprob"])
    return [{**child, "children": _listed(child)} for child in children]


def alternatives(view: View, texts: Callable[[Sequence[int]], list[str]]) -> list[dict[str, Any]]:
    """The likeliest next tokens with which no label begins."""
    logprobs = log_softmax(view.processed[0])
    firsts = {target[0] for target in view.row.targets}
    order = np.argsort(-logprobs, kind="stable")[: N_ALTERNATIVES + len(firsts)].tolist()
    others = [token for token in order if token not in firsts][:N_ALTERNATIVES]
    return [
        {"id": token, "token": text, "logprob": float(logprobs[token]), "probability": float(np.exp(logprobs[token]))}
        for token, text in zip(others, texts(others), strict=True)
    ]
