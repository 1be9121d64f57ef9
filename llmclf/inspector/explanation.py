"""Why this label: one row of a classifier, or one bare prompt, taken apart."""

from __future__ import annotations

import inspect
import json
import math
import os
from collections.abc import Callable, Mapping
from numbers import Real
from typing import Any

import numpy as np
import pandas as pd

from ..backends import Backend, LocalBackend, Request, open_backend
from ..backends.local.trie_view import TrieView
from ..classifier import LLMClassifier
from ..errors import InputError
from ..logits import Processor, chain, floor_missing, guide, logsumexp
from ..pages import in_notebook, written
from ..scoring.scorer import Scorer
from ..tables.values import plain
from .distribution import NextTokens
from .labels import alternatives, completion_tokens, label_lines, label_tree
from .page import inspector_page
from .score_steps import path_of
from .terminal import print_explanation

SCHEMA_VERSION = 1
N_ANSWER_TOKENS = 16
"""How many tokens the model is let say by itself."""
N_ALTERNATIVE_TOKENS = 6
"""How many of each beginning that it finds likelier than a label."""


MOST_TREE_TOKENS = 150
"""The longest label of which a tree is drawn; deeper ones neither JSON's nor a page's nesting can hold."""


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
        it, and ``hidden`` says why), ``answer`` (what the model would say by itself), and for a classifier ``row``, ``labels``,
        ``tree``, ``alternatives`` (the likeliest beginnings other than a label's by the distribution that the labels were scored
        by, and how the model itself goes on after each), ``label_mass``, ``path`` and ``prediction``.
        """
        found: dict[str, Any] = json.loads(json.dumps(self._values))
        return found

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
        A value cannot be used; or processors are given and the backend shows no distribution.
    ModelError
        Bias, calibrator or threshold belong to another model.
    """
    if isinstance(row, pd.Series):
        row = row.to_dict()
    rows, scorer, corrections = classifier.parts([dict(row)] if isinstance(row, Mapping) else [row])
    record = rows.records[0]
    given = _chain(processors, None)
    if given and not isinstance(classifier.backend_, LocalBackend):
        raise InputError(
            f"{classifier.backend_!r} shows no whole distribution, which processors act on; use a local model"
        )
    answer = scorer.answers(rows)[0]
    if answer.error is not None:
        raise InputError(f"the row could not be scored: {answer.error}")
    labels, words = scorer.labels, scorer.words(record)
    by_class = [_shown(labels.classes[k]) for k in scorer.class_of]
    request = scorer.request(record)
    backend, tokens = classifier.backend_, None
    values: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "model": backend.identity(),
        "prompt": request.prompt.text,
        "row": {name: _shown(record[name]) for name in scorer.shown_fields},
        "distribution": None,
        "answer": None,
        "alternatives": None,
    }
    next_tokens = None
    if isinstance(backend, LocalBackend):
        view = backend.view(request)
        values["alternatives"] = _alternatives(backend, view)
        tokens = completion_tokens(view, backend.token_texts)
        next_tokens = _of_view(backend, view, scorer, request, words, processors)
        values["distribution"] = next_tokens.to_dict()
        values["answer"] = _what_it_says(backend, view.row.context, N_ANSWER_TOKENS)
    else:
        values["hidden"] = f"{type(backend).__name__} shows no whole distribution; a local model does"
    lines = label_lines(answer, words, by_class, tokens)
    longest = max(len(line["tokens"]) for line in lines)
    if longest > MOST_TREE_TOKENS:
        values["hidden"] = (
            f"the tree is left out, since a label has {longest} tokens and it draws {MOST_TREE_TOKENS} at most"
        )
    raw = scorer.class_scores(rows, "sum", [answer])
    scores = raw if classifier.scoring == "sum" else scorer.class_scores(rows, classifier.scoring, [answer])
    later = [] if classifier.scoring == "sum" else [(classifier.scoring, scores[0])]
    steps = [(name, after[0]) for name, after in corrections.steps(scores)]
    if np.isneginf(scores).any() and steps and np.isfinite(steps[0][1]).all():
        # Corrections of ours take a label that a server did not show to lie at a floor.
        later.append(("floor", floor_missing(scores)[0][0]))
    later += steps
    path = path_of(raw[0], later, [_shown(label) for label in labels.classes])
    best = int(np.argmax(later[-1][1] if later else raw[0]))
    confidence = path["probabilities"][best]
    values |= {
        "scoring": classifier.scoring,
        "processing": None if scorer.processing is None else scorer.processing.to_dict(),
        "healed": answer.healed,
        "terminated": answer.terminated,
        "characters_cut": answer.characters_cut,
        "labels": lines,
        "tree": None if tokens is None or longest > MOST_TREE_TOKENS else label_tree(lines),
        "label_mass": float(np.exp(logsumexp(raw[0]))),
        "path": path,
        "prediction": path["classes"][best],
        "confidence": confidence,
        "threshold": None if classifier.threshold_ is None else classifier.threshold_.threshold,
        "accepted": None if classifier.threshold_ is None else bool(confidence >= classifier.threshold_.threshold),
    }
    return Explanation(values, next_tokens)


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
        raise InputError(f"prompt={prompt!r} is a {type(prompt).__name__}; expected a text")
    backend = open_backend(model)
    _chain(processors, None)
    if not isinstance(backend, LocalBackend):
        raise InputError(
            f"{backend!r} shows no whole distribution, and without labels there is nothing else to see; use a local model"
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
        raise InputError(f"{unknown[0]}={given[unknown[0]]!r} is no processor; expected some of {', '.join(known)}")
    offsets = given.get("logit_bias")
    if offsets is not None:
        if not isinstance(offsets, Mapping):
            raise InputError(f"logit_bias={offsets!r}: expected a dict word or token id -> offset")
        found: dict[Any, float] = {}
        for place, (key, offset) in enumerate(offsets.items()):
            if isinstance(offset, bool) or not isinstance(offset, Real) or not float(offset) < math.inf:
                raise InputError(f"logit_bias={{{key!r}: {offset!r}}}: expected a number of nats; -inf bans the token")
            token = key if not isinstance(key, str) else _NO_TOKEN + place if token_of is None else token_of(key)
            found[token] = found.get(token, 0.0) + float(offset)
        given["logit_bias"] = found
    return chain(**given)


_NO_TOKEN = 1 << 40


def _alternatives(backend: LocalBackend, view: TrieView) -> list[dict[str, Any]]:
    """The likeliest beginnings that are no label's, and how the model would go on after each."""
    found = alternatives(view, backend.token_texts)
    for own in found:
        said = None
        if own["id"] not in backend.end_ids:  # an answer that has ended does not go on
            said = _what_it_says(backend, (*view.row.context, own["id"]), N_ALTERNATIVE_TOKENS - 1)
        own["text"] = own["token"] + ("" if said is None else said["text"])
    return found


def _of_view(
    backend: LocalBackend, view: TrieView, scorer: Scorer, request: Request, words: list[str], given: Mapping[str, Any]
) -> NextTokens:
    """The distribution where a label's first token is predicted; what the classifier does to it comes first."""
    own, logits, merged = view.row.processing, view.logits[0], dict(given)
    if own is not None:
        if view.unconditional is not None:
            logits = guide(logits, view.unconditional[0], own.guidance)
        if merged.get("temperature") is None and own.temperature != 1:
            merged["temperature"] = own.temperature

    def token_of(key: str) -> int:
        text = scorer.as_continued(key)
        assert isinstance(text, str)
        return backend.token_of(request.prompt, text)

    if own is not None and own.logit_bias:
        # By their ids; an offset given here for the same token is added to the classifier's own.
        offsets = dict(own.logit_bias)
        for key, offset in (given.get("logit_bias") or {}).items():
            token = token_of(key) if isinstance(key, str) else key
            offsets[token] = offsets.get(token, 0.0) + offset
        merged["logit_bias"] = offsets
    steps = _chain(merged, token_of)
    firsts: dict[int, list[str]] = {}
    for target, word in zip(view.row.targets, words, strict=True):
        firsts.setdefault(target[0], []).append(word)
    return NextTokens(logits, steps, view.row.context, firsts, backend.token_texts)


def _what_it_says(backend: LocalBackend, ids: tuple[int, ...], n_tokens: int) -> dict[str, Any] | None:
    """The likeliest continuation of some tokens; None where the model can read no more."""
    n_tokens = min(n_tokens, backend.reads - len(ids))
    if n_tokens < 1:
        return None
    said = backend.generate(ids, n_tokens)
    return {
        "text": said.text,
        "tokens": [
            {"id": token, "token": piece, "logprob": logprob, "perplexity": float(perplexity)}
            for token, piece, logprob, perplexity in zip(
                said.token_ids, said.pieces, said.logprobs, said.perplexities, strict=True
            )
        ],
        "finish_reason": said.finish_reason,
    }


def _shown(value: Any) -> Any:
    """A value of a row as JSON has it; what has no such form as it writes itself."""
    try:
        return plain(value, "a value")
    except InputError:
        return str(value)
