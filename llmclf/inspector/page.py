"""An explanation as one HTML file: what is there to read, and sliders that compute the whole distribution again in the page."""

from __future__ import annotations

import base64
import math
import unicodedata
from collections.abc import Mapping
from importlib import resources
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..pages import render_page
from .distribution import N_SHOWN, NextTokens, plain_value

_N_TEXTS = 60  # tokens outside the context with a text, so that some of them may be pushed down
_N_OTHERS = 5  # sliders for tokens that begin no label
_MOST_CLASSES = 6
_SHADES = 8
_ORDER = (
    "logit_bias",
    "repetition_penalty",
    "presence_penalty",
    "frequency_penalty",
    "temperature",
    "top_k",
    "top_p",
    "min_p",
)
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
    payload, logits = (None, "") if next_tokens is None else _live(next_tokens)
    order: list[int] = []
    if "path" in values:
        order = np.argsort(-np.array(values["path"]["probabilities"]), kind="stable").tolist()
    return render_page(
        resources.files(__package__) / "templates",
        "inspector.html.j2",
        style="inspector.css",
        script="inspector.js",
        data=values,
        labels=sorted(values.get("labels", ()), key=lambda line: -line["sum"]),
        columns=[order] if len(order) <= _MOST_CLASSES else [order[:_MOST_CLASSES], order],
        payload=payload,
        logits=logits,
        visible=visible,
        nats=lambda value, sign="": "−∞" if value is None else f"{value:{sign}.4f}",
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
        _MARKS.get(own) or (f"⟨U+{ord(own):04X}⟩" if unicodedata.category(own) in _UNSEEN else own) for own in text
    )


def _live(found: NextTokens) -> tuple[dict[str, Any], str]:
    """What the script needs: the settings it starts from, the texts of all tokens that may be listed; and the logits."""
    likeliest = np.argsort(-found.logits, kind="stable").tolist()
    always = [*dict.fromkeys([*found.named, *found.offsets])]
    others = [token for token in likeliest[: _N_OTHERS + len(always)] if token not in always][:_N_OTHERS]
    counts = dict(zip(*(own.tolist() for own in np.unique(found.context, return_counts=True)), strict=True))
    # A penalty can push down all that is in the context, and one below 1 raises it.
    outside = [token for token in likeliest[: _N_TEXTS + len(counts)] if token not in counts][:_N_TEXTS]
    ids = [*dict.fromkeys([*always, *likeliest[:_N_TEXTS], *outside, *counts])]
    dtype, numbers = _numbers(found.logits)
    texts = zip(ids, found.texts(ids), strict=True)
    payload = {
        "dtype": dtype,
        "shown": N_SHOWN,
        "context": list(counts.items()),
        "texts": {token: [visible(text), list(found.named.get(token, ()))] for token, text in texts},
        "biased": always + others,
        "always": always,
        "chain": {step.name: plain_value(step.value) for step in found.processors},
    }
    return payload, numbers


def _numbers(logits: NDArray[np.float64]) -> tuple[str, str]:
    """Little-endian numbers as base64, in half the room where that loses nothing."""
    with np.errstate(over="ignore"):
        single = logits.astype("<f4")
    if np.array_equal(single.astype(np.float64), logits):
        return "float32", base64.b64encode(single.tobytes()).decode("ascii")
    return "float64", base64.b64encode(logits.astype("<f8").tobytes()).decode("ascii")
