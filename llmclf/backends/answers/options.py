"""The options of routes by answers, for every backend that has them, and what they mean once defaults are filled in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from ...checks import is_number
from ...errors import InputError
from ..options import option, positive_count, whole_number

LARGEST = 1000
"""Draws, orders: at most."""


def _is_effort(name: str, value: Any) -> None:
    if not isinstance(value, str) or not value:
        raise InputError(f"{name}={value!r}: expected a word that the server knows, such as 'none', 'minimal' or 'low'")


def _is_weight(name: str, value: Any) -> None:
    if not (is_number(value) and 0 < value < 1):
        raise InputError(f"{name}={value!r}: expected a number between 0 and 1, or None for 0.5")


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class AnswerOptions:
    """Options of a handle; `answer_settings` has them with defaults, for a route."""

    n_samples: int | None = option(
        None,
        help='On the routes "sampled" and "mixed": answers that are drawn first for a row; None: 5.',
        check=positive_count,
    )
    max_samples: int | None = option(
        None,
        help="On these routes: answers that are drawn at most, while the bounds leave open which label is the most probable "
        "one; None: 20, or n_samples where that is more.",
        check=positive_count,
    )
    n_orders: int | None = option(
        None,
        help='On "verbalized" and "mixed": so many orders of the labels are asked about, and the logarithms of the stated shares '
        'averaged; None: 1. On "sampled": n_samples answers are spread over so many orders; None: each has an order of its own.',
        check=positive_count,
    )
    effort: str | None = option(
        None,
        help="On routes by answers: how much the model may reason, in the server's words (none, minimal, low, ...).",
        check=_is_effort,
    )
    max_answer_tokens: int | None = option(
        None,
        help="On routes by answers: tokens of an answer at most, those of reasoning included. An answer that is cut off is no "
        "label. None: as many as the labels can need, and none for reasoning.",
        check=positive_count,
    )
    seed: int | None = option(
        None,
        help="On routes by answers: seeds the orders of the labels, and the drawing where the server takes a seed; None: 0.",
        check=whole_number(0),
    )
    verbalized_weight: float | None = option(
        None,
        help='On "mixed": the weight of the stated shares, against that of the drawn ones; None: 0.5.',
        check=_is_weight,
    )


@dataclass(frozen=True)
class AnswerSettings:
    """What a route by answers is told; see `AnswerOptions`."""

    n_samples: int = 5
    max_samples: int = 20
    n_orders: int | None = None
    effort: str | None = None
    max_answer_tokens: int | None = None
    seed: int = 0
    verbalized_weight: float = 0.5


USED: Mapping[str, tuple[str, ...]] = {
    "sampled": ("n_samples", "max_samples", "n_orders", "effort", "max_answer_tokens", "seed"),
    "verbalized": ("n_orders", "effort", "max_answer_tokens", "seed"),
    "mixed": (
        "n_samples",
        "max_samples",
        "n_orders",
        "effort",
        "max_answer_tokens",
        "seed",
        "verbalized_weight",
    ),
}
"""The options of each route."""


def answer_settings(options: AnswerOptions, route: str | None) -> AnswerSettings:
    """A handle's options with defaults.

    Raises
    ------
    InputError
        An option does not belong to the route, or two of them do not go together.
    """
    given = {
        name: value for name in AnswerSettings.__dataclass_fields__ if (value := getattr(options, name)) is not None
    }
    for name, value in given.items():
        routes = [one for one, names in USED.items() if name in names]
        if route not in routes:
            asked = "use_route is not given" if route is None else f"use_route is {route!r}"
            raise InputError(
                f"{name}={value!r} belongs to use_route={' or '.join(map(repr, routes))}, and {asked}; leave it out, or name the "
                "route"
            )
        if name in ("n_samples", "max_samples", "n_orders") and value > LARGEST:
            raise InputError(f"{name}={value!r}: expected at most {LARGEST}")
    settings = replace(AnswerSettings(), **given)
    if settings.max_samples < settings.n_samples:
        if options.max_samples is not None:
            raise InputError(
                f"max_samples={options.max_samples!r} is less than n_samples={settings.n_samples}; give at least as many"
            )
        settings = replace(settings, max_samples=settings.n_samples)
    if route == "sampled" and (settings.n_orders or 0) > settings.n_samples:
        raise InputError(
            f"n_orders={settings.n_orders!r} is more than n_samples={settings.n_samples}: each answer has one order; give "
            "fewer, or leave it out"
        )
    return settings
