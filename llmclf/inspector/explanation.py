"""Why this label: one row of a classifier, or one bare prompt, taken apart."""

from __future__ import annotations

import inspect
import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from ..backends import Backend, Request, RowScores, open_backend
from ..backends.base import ShowsDistributions, View, Written, shown_prompt
from ..backends.nested_labels import longer_labels
from ..checks import is_number
from ..classifier import LLMClassifier
from ..errors import InputError, type_of
from ..logits import Processor, chain, floor_missing, guide, logsumexp
from ..pages import in_notebook, written
from ..pipeline import FittedPipeline
from ..tables.rows import Rows
from ..tables.values import plain
from .distribution import NextTokens
from .labels import alternatives, completion_tokens, label_lines, label_tree
from .page import inspector_page
from .score_steps import path_of
from .terminal import print_explanation

SCHEMA_VERSION = 1
N_ANSWER_TOKENS = 16
"""Tokens of the model's own answer, at most."""
N_ALTERNATIVE_TOKENS = 6
"""How many tokens are shown of each beginning that it finds likelier than a label."""
MAX_TREE_TOKENS = 150
"""The longest label of which a tree is drawn; neither JSON nor a page can nest deeper ones."""


class Explanation:
    """What a model was asked, what it would have said, and how its scores became probabilities.

    Attributes
    ----------
    next_tokens : NextTokens or None
        The distribution at the answer; None where the backend does not show it.

    Examples
    --------
    >>> from llmclf.backends import FakeBackend
    >>> clf = LLMClassifier(FakeBackend(), labels=["good", "bad"]).fit(["any text"])
    >>> path = explain(clf, "A fine film.").to_dict()["path"]
    >>> [step["name"] for step in path["steps"]], [round(p, 3) for p in path["probabilities"]]
    (['raw', 'normalise'], [0.104, 0.896])
    """

    def __init__(self, values: Mapping[str, Any], next_tokens: NextTokens | None) -> None:
        self._values = dict(values)
        self.next_tokens = next_tokens

    def to_dict(self) -> dict[str, Any]:
        """Everything as JSON values.

        ``model``, ``prompt``, ``distribution`` (the next token, see `NextTokens.to_dict`; None where the backend does not show
        it, and ``hidden`` says why), ``answer`` (what the model would say), and for a classifier ``row``, ``labels``,
        ``tree``, ``alternatives`` (the likeliest beginnings other than a label's by the distribution that the labels were scored
        by, and how the model continues after each), ``label_mass``, ``path`` and ``prediction``.
        """
        values: dict[str, Any] = json.loads(json.dumps(self._values))
        return values

    def to_json(self, path: str | os.PathLike[str] | None = None) -> str:
        """`to_dict` as JSON text, also written to a file if `path` is given."""
        return written(json.dumps(self._values, indent=1, allow_nan=False) + "\n", path)

    def to_html(self, path: str | os.PathLike[str] | None = None) -> str:
        """One HTML page that asks nothing of the network, also written to a file if `path` is given.

        Its sliders compute the whole distribution again in the page.
        """
        return written(inspector_page(self._values, self.next_tokens), path)

    def print(self) -> None:
        """Show it in the terminal."""
        print_explanation(self._values)

    def _repr_html_(self) -> str:
        return in_notebook(self.to_html(), "llmclf inspector")

    def __repr__(self) -> str:
        shown = self._values["prediction"] if "prediction" in self._values else self._values["answer"]["text"]
        return f"<Explanation of {self._values['prompt'][-40:]!r}: {shown!r}>"


def explain(classifier: LLMClassifier, row: Any, **processors: Any) -> Explanation:
    """Take one row of a fitted classifier apart.

    Parameters
    ----------
    classifier : LLMClassifier, fitted
    row : str, or mapping or Series of column to value
        As the classifier was fitted on.
    **processors
        ``logit_bias`` (by word, text of a token or id), ``repetition_penalty``, ``presence_penalty``, ``frequency_penalty``,
        ``temperature``, ``top_k``, ``top_p`` and ``min_p``: what the distribution of the next token is shown before and after,
        in this order; see `llmclf.logits.chain`. They change no score. The classifier's own guidance, logit bias and
        temperature come first, and a temperature given here takes the place of its own.

    Returns
    -------
    Explanation

    Raises
    ------
    InputError
        A value cannot be used; or processors are given and the backend does not show a distribution.
    ModelError
        Bias, calibrator or threshold belong to another model.
    """
    if isinstance(row, pd.Series):
        row = row.to_dict()
    pipeline, rows = classifier.pipeline_and_rows([dict(row)] if isinstance(row, Mapping) else [row])
    pipeline.check_model_identity()
    backend, scorer = pipeline.backend, pipeline.scorer
    if _chain(processors, None) and not isinstance(backend, ShowsDistributions):
        raise InputError(f"{backend!r} does not show a whole distribution, which processors act on; use a local model")
    answer = scorer.answers(rows)[0]
    if answer.error is not None:
        raise InputError(f"the row could not be scored: {answer.error}")
    record = rows.records[0]
    request, words = scorer.request(record), scorer.words(record)
    values: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "model": backend.identity(),
        "prompt": shown_prompt(backend, request),
        "row": {name: _shown(record[name]) for name in scorer.shown_fields},
        "distribution": None,
        "answer": None,
        "alternatives": None,
    }
    next_tokens, tokens = None, None
    longer: Sequence[Sequence[int]] = ()
    if isinstance(backend, ShowsDistributions):
        view = backend.view(request)
        values["alternatives"] = _alternatives(backend, view)
        tokens = completion_tokens(view, backend.token_texts)
        longer = longer_labels(view.row.targets) if view.row.excludes_longer else ()
        next_tokens = _of_view(backend, view, pipeline, request, words, processors)
        values["distribution"] = next_tokens.to_dict()
        values["answer"] = _what_it_says(backend, view.row.context, N_ANSWER_TOKENS)
    else:
        values["hidden"] = f"{type(backend).__name__} does not show a whole distribution; a local model does"
    by_class = [_shown(pipeline.labels.classes[k]) for k in scorer.class_of]
    lines = label_lines(answer, words, by_class, tokens, longer)
    longest = max(len(line["tokens"]) for line in lines)
    if longest > MAX_TREE_TOKENS:
        values["hidden"] = (
            f"the tree is left out, since a label has {longest} tokens and it draws at most {MAX_TREE_TOKENS}"
        )
    values |= {
        "scoring": pipeline.scoring,
        "processing": None if pipeline.processing is None else pipeline.processing.to_dict(),
        "healed": answer.healed,
        "terminated": answer.terminated,
        "characters_cut": answer.characters_cut,
        "labels": lines,
        "tree": None if tokens is None or longest > MAX_TREE_TOKENS else label_tree(lines),
        **_verdict(pipeline, rows, answer),
    }
    return Explanation(values, next_tokens)


def _verdict(pipeline: FittedPipeline, rows: Rows, answer: RowScores) -> dict[str, Any]:
    """What becomes of the scores of one row: each step to the probabilities, and the decision."""
    raw = pipeline.scorer.class_scores(rows, "sum", [answer])[0]
    found = pipeline.scores(rows, [answer])
    if found.unread:
        raise InputError(f"the row could not be scored: {found.unread[0]}")
    scores = found.values[0]
    later = [] if pipeline.scoring == "sum" else [(pipeline.scoring, scores)]
    steps = [(name, after[0]) for name, after in pipeline.corrections.steps(scores[None], found.heads)]
    if np.isneginf(scores).any() and steps and np.isfinite(steps[0][1]).all():
        # Corrections of ours take a label that a server did not show to lie at a floor.
        later.append(("floor", floor_missing(scores[None])[0][0]))
    later += steps
    path = path_of(raw, later, [_shown(label) for label in pipeline.labels.classes])
    best = int(np.argmax(later[-1][1] if later else raw))
    confidence = path["probabilities"][best]
    threshold = None if pipeline.threshold is None else pipeline.threshold.threshold
    return {
        "label_mass": float(np.exp(logsumexp(raw))),
        "path": path,
        "prediction": path["classes"][best],
        "confidence": confidence,
        "threshold": threshold,
        "accepted": None if threshold is None else bool(confidence >= threshold),
    }


def explain_prompt(model: str | Backend, prompt: str, **processors: Any) -> Explanation:
    """What comes after a bare prompt, before and after processors; see `explain`.

    Parameters
    ----------
    model : str or LocalBackend
        A local model.
    prompt : str
        The author's own text: control tokens in it act.
    **processors
        As in `explain`.
    """
    if not isinstance(prompt, str):
        raise InputError(f"prompt={prompt!r} is {type_of(prompt)}; expected a text")
    backend = open_backend(model)
    _chain(processors, None)
    if not isinstance(backend, ShowsDistributions):
        raise InputError(
            f"{backend!r} does not show a whole distribution, and without labels there is nothing else to see; use a local model"
        )
    ids, logits = backend.next_logits(prompt)
    steps = _chain(processors, lambda text: backend.token_of(prompt, text))
    next_tokens = NextTokens(logits, steps, ids, {}, backend.token_texts)
    values = {
        "schema_version": SCHEMA_VERSION,
        "model": backend.identity(),
        "prompt": prompt,
        "distribution": next_tokens.to_dict(),
        "answer": _what_it_says(backend, ids, N_ANSWER_TOKENS),
    }
    return Explanation(values, next_tokens)


def _chain(processors: Mapping[str, Any], token_of: Callable[[str], int] | None) -> tuple[Processor, ...]:
    """The chain of what a user gave; without `token_of` only to check it, before a model is opened."""
    given = {name: value for name, value in processors.items() if value is not None}
    known = inspect.signature(chain).parameters
    unknown = [name for name in given if name not in known]
    if unknown:
        raise InputError(f"{unknown[0]}={given[unknown[0]]!r} is not a processor; expected some of {', '.join(known)}")
    offsets = given.get("logit_bias")
    if offsets is not None:
        if not isinstance(offsets, Mapping):
            raise InputError(f"logit_bias={offsets!r}: expected a dict word or token id -> offset")
        by_token: dict[Any, float] = {}
        for place, (key, offset) in enumerate(offsets.items()):
            if not is_number(offset) or not float(offset) < math.inf:
                raise InputError(f"logit_bias={{{key!r}: {offset!r}}}: expected a number of nats; -inf bans the token")
            token = key if not isinstance(key, str) else _NO_TOKEN + place if token_of is None else token_of(key)
            by_token[token] = by_token.get(token, 0.0) + float(offset)
        given["logit_bias"] = by_token
    return chain(**given)


_NO_TOKEN = 1 << 40


def _alternatives(backend: ShowsDistributions, view: View) -> list[dict[str, Any]]:
    """The likeliest first tokens that are not a label's, and how the model continues after each."""
    lines = alternatives(view, backend.token_texts)
    for line in lines:
        ids = [line["id"]]
        room = min(N_ALTERNATIVE_TOKENS - 1, backend.room_after(len(view.row.context) + 1))
        if room > 0 and not backend.ends_answer(line["id"]):  # an answer that has ended does not continue
            ids += backend.generate((*view.row.context, line["id"]), room).token_ids
        if len(ids) > 1 and backend.ends_answer(ids[-1]):
            ids.pop()
        line["text"] = "".join(backend.joined_texts(ids))
    return lines


def _of_view(
    backend: ShowsDistributions,
    view: View,
    pipeline: FittedPipeline,
    request: Request,
    words: list[str],
    given: Mapping[str, Any],
) -> NextTokens:
    """The distribution where a label's first token is predicted; what the classifier does to it comes first."""
    fitted, logits, merged = view.row.processing, view.logits[0], dict(given)
    if fitted is not None:
        if view.unconditional is not None:
            logits = guide(logits, view.unconditional[0], fitted.guidance)
        if merged.get("temperature") is None and fitted.temperature != 1:
            merged["temperature"] = fitted.temperature

    def token_of(key: str) -> int:
        text = pipeline.scorer.as_continued(key)
        assert isinstance(text, str)
        return backend.token_of(request.prompt, text)

    if fitted is not None and fitted.logit_bias:
        # By their ids; an offset given here for the same token is added to the classifier's own.
        offsets = dict(fitted.logit_bias)
        for key, offset in (given.get("logit_bias") or {}).items():
            token = token_of(key) if isinstance(key, str) else key
            offsets[token] = offsets.get(token, 0.0) + offset
        merged["logit_bias"] = offsets
    steps = _chain(merged, token_of)
    firsts: dict[int, list[str]] = {}
    for target, word in zip(view.row.targets, words, strict=True):
        firsts.setdefault(target[0], []).append(word)
    return NextTokens(logits, steps, view.row.context, firsts, backend.token_texts)


def _what_it_says(backend: ShowsDistributions, ids: tuple[int, ...], n_tokens: int) -> dict[str, Any] | None:
    """The likeliest continuation of some tokens; None where the model can read no more."""
    n_tokens = min(n_tokens, backend.room_after(len(ids)))
    if n_tokens < 1:
        return None
    generation = backend.generate(ids, n_tokens)
    return {
        "text": generation.text,
        "tokens": _joined(generation),
        "finish_reason": generation.finish_reason,
    }


def _joined(generation: Written) -> list[dict[str, Any]]:
    """The tokens of an answer; those that write a character together are one line, whose log-probability is their sum."""
    lines: list[dict[str, Any]] = []
    ids: list[int] = []
    logprob = 0.0
    parts = zip(generation.token_ids, generation.pieces, generation.logprobs, generation.perplexities, strict=True)
    for token, piece, value, perplexity in parts:
        ids.append(token)
        logprob += value
        if piece:
            lines.append({"id": token, "ids": ids, "token": piece, "logprob": logprob, "perplexity": float(perplexity)})
            ids, logprob = [], 0.0
    return lines


def _shown(value: Any) -> Any:
    """A value of a row as JSON has it; its `str` where JSON has no form for it."""
    try:
        return plain(value, "a value")
    except InputError:
        return str(value)
