"""An explanation as one HTML file: what is there to read, and sliders that compute the whole distribution again in the page."""

from __future__ import annotations

import base64
import inspect
import math
import unicodedata
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

import numpy as np

from ..arrays import Floats
from ..logits import Processor, apply_chain, chain
from ..pages import render_page
from .distribution import N_SHOWN, NextTokens, plain_value

_N_TEXTS = 60  # tokens outside the context with a text, so that some of them may be pushed down
_N_OTHERS = 5  # sliders for tokens that begin no label
_MOST_CLASSES = 6
_MOST_LABELS = 3  # named at the token with which they begin
_SHADES = 8
_ORDER = tuple(inspect.signature(chain).parameters)
_MARKS = {" ": "␣", "\n": "↵", "\r": "␍", "\t": "⇥"}
_UNSEEN = ("Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp", "Zs")


def inspector_page(values: Mapping[str, Any], next_tokens: NextTokens | None) -> str:
    """The page of an explanation.

    Parameters
    ----------
    values : dict
        See `Explanation.to_dict`.
    next_tokens : NextTokens or None
        None: the page has no sliders.
    """
    live: dict[str, Any] = (
        {"payload": None, "blocks": {}, "fixed": (), "unslid": {}} if next_tokens is None else _live(next_tokens)
    )
    lines = {(repr(line["class"]), line["word"]): line for line in values.get("labels", ())}
    order: list[int] = []
    if "path" in values:
        order = np.argsort(-np.array(values["path"]["probabilities"]), kind="stable").tolist()
    return render_page(
        resources.files(__package__) / "templates",
        "inspector.html.j2",
        style="inspector.css",
        script="inspector.js",
        data=values,
        labels=sorted(values.get("labels", ()), key=lambda line: -line["probability"]),
        columns=[order] if len(order) <= _MOST_CLASSES else [order[:_MOST_CLASSES], order],
        **live,
        line_of=lambda label: lines[repr(label["class"]), label["word"]],
        most=_MOST_LABELS,
        visible=visible,
        nats=lambda value, sign="": "−∞" if value is None else f"{round(value, 4) or 0.0:{sign}.4f}",
        share=lambda value: f"{value:.4f}" if value >= 1e-4 or value == 0 else f"{value:.1e}",
        factor=lambda value: "∞" if value is None else f"{value:.4g}",
        shade=lambda share: math.ceil(_SHADES * share) if share >= 0.01 else 0,
    )


def visible(text: str) -> str:
    """A token whose spaces and line breaks can be seen; what would steer the text around it is shown by its number.

    Examples
    --------
    >>> visible(" yes\\n"), visible("\\u202e")
    ('␣yes↵', '⟨U+202E⟩')
    """
    return "".join(
        _MARKS.get(character)
        or (f"⟨U+{ord(character):04X}⟩" if unicodedata.category(character) in _UNSEEN else character)
        for character in text
    )


def _live(tokens: NextTokens) -> dict[str, Any]:
    """What the script needs: the settings it starts from, the texts of all tokens that may be listed; and the logits."""
    fixed, settings = _split(tokens.processors)
    start = apply_chain(tokens.logits, fixed, tokens.context)
    likeliest = np.argsort(-tokens.logits, kind="stable")[:_N_TEXTS].tolist()
    always = [*dict.fromkeys([*tokens.named, *tokens.offsets])]
    others = [token for token in likeliest if token not in always][:_N_OTHERS]
    counts = dict(zip(*(part.tolist() for part in np.unique(tokens.context, return_counts=True)), strict=True))
    # A penalty can push down all that is in the context, and one below 1 raises it.
    outside = np.argsort(-start, kind="stable")[: _N_TEXTS + len(counts)].tolist()
    outside = [token for token in outside if token not in counts][:_N_TEXTS]
    ids = [int(token) for token in dict.fromkeys([*always, *likeliest, *outside, *counts])]
    texts = zip(ids, tokens.texts(ids), strict=True)
    return {
        "fixed": fixed,
        "unslid": {name: value for name, value in settings.items() if name.startswith(("presence", "frequency"))},
        "blocks": {
            name: _numbers(x) for name, x in (("logits", tokens.logits), ("start", start)) if fixed or name == "logits"
        },
        "payload": {
            "shown": N_SHOWN,
            "most": _MOST_LABELS,
            "context": list(counts.items()),
            "texts": {token: [visible(text), list(tokens.named.get(token, ()))] for token, text in texts},
            "biased": always + others,
            "always": always,
            "chain": {name: plain_value(value) for name, value in settings.items()},
        },
    }


def _split(processors: Sequence[Processor]) -> tuple[Sequence[Processor], dict[str, Any]]:
    """The steps before the sliders, and the settings that are sliders: the end of the chain that is in their order."""
    place, last = len(processors), len(_ORDER)
    while place and processors[place - 1].name in _ORDER[:last]:
        place -= 1
        last = _ORDER.index(processors[place].name)
    return processors[:place], {step.name: step.value for step in processors[place:]}


def _numbers(logits: Floats) -> tuple[str, str]:
    """Little-endian numbers as base64, in half the room where that loses nothing."""
    with np.errstate(over="ignore"):
        single = logits.astype("<f4")
    if np.array_equal(single.astype(np.float64), logits):
        return "float32", base64.b64encode(single.tobytes()).decode("ascii")
    return "float64", base64.b64encode(logits.astype("<f8").tobytes()).decode("ascii")
